//! Sources of one request: about who served it, and about both ends of the call.

use std::sync::Arc;

use super::entities::{End, RequestEntities};
use super::{Analyzer, Fact, Facts};
use crate::model::entity::Entity;
use crate::model::source::{Names, Request, Source, Values};

impl Analyzer {
    /// Relations of services, and of instances and endpoints where both ends have one.
    pub(super) fn push_relation(
        &mut self,
        source: End<'_>,
        dest: End<'_>,
        minute: u64,
        request: Request,
        facts: &mut Facts,
    ) {
        let set = self.entities.relation(source, dest);
        let others = set.instance.iter().chain(&set.endpoint);
        for entity in std::iter::once(&set.service).chain(others) {
            let names = Names::Call(Arc::clone(&set.names));
            push_source(entity, names, minute, request, facts);
        }
    }
}

/// All, service, instance and endpoint.
pub(super) fn push_served(set: &RequestEntities, minute: u64, request: Request, facts: &mut Facts) {
    for entity in [&set.all, &set.service, &set.instance, &set.endpoint] {
        let names = Names::Request(Arc::clone(&set.names));
        push_source(entity, names, minute, request, facts);
    }
}

/// One of them.
pub(super) fn push_source(
    entity: &Arc<Entity>,
    names: Names,
    minute: u64,
    request: Request,
    facts: &mut Facts,
) {
    facts.push(Fact::Source(Source {
        entity: Arc::clone(entity),
        names,
        minute,
        values: Values::Request(request),
    }));
}

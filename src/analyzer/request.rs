//! Sources of one request: about who served it, and about both ends of the call.

use std::sync::Arc;

use super::entities::{End, RequestEntities};
use super::{Analyzer, Fact, Facts};
use crate::model::entity::Entity;
use crate::model::source::{Request, RequestNames, Source, Values};

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
        push_source(&set.service, None, minute, request, facts);
        for entity in set.instance.iter().chain(&set.endpoint) {
            push_source(entity, None, minute, request, facts);
        }
    }
}

/// All, service, instance and endpoint.
pub(super) fn push_served(set: &RequestEntities, minute: u64, request: Request, facts: &mut Facts) {
    for entity in [&set.all, &set.service, &set.instance, &set.endpoint] {
        push_source(entity, Some(&set.names), minute, request, facts);
    }
}

/// One of them.
pub(super) fn push_source(
    entity: &Arc<Entity>,
    names: Option<&Arc<RequestNames>>,
    minute: u64,
    request: Request,
    facts: &mut Facts,
) {
    facts.push(Fact::Source(Source {
        entity: Arc::clone(entity),
        names: names.cloned(),
        minute,
        values: Values::Request(request),
    }));
}

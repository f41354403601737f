//! What unit tests of the analyzer share: an analyzer at a known time, and a look at what it found.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use super::{Analyzer, AnalyzerSettings, Facts};
use crate::model::fact::Fact;
use crate::model::id;
use crate::model::schema::Schema;
use crate::model::scope::Scope;
use crate::model::source::Source;
use crate::model::time_bucket::Zone;
use crate::stream::AddressBook;
use crate::util::clock::Clock;

/// What the clock says, 2020-09-15 10:59:31 UTC in epoch milliseconds, ...
pub(super) const NOW_MS: i64 = 1_600_167_571_000;
/// ... and its minute bucket.
pub(super) const MINUTE: u64 = 2020_0915_1059;

/// One with default settings.
pub(super) fn analyzer() -> Analyzer {
    Analyzer::new(
        Arc::new(AnalyzerSettings::default()),
        &Schema::build(&[], &[], &[], false),
        Zone::utc(),
        Clock::Fixed(Arc::new(AtomicI64::new(NOW_MS))),
        Arc::new(AddressBook::new(1)),
    )
}

/// Takes the facts, all of which are sources.
pub(super) fn sources(facts: &mut Facts) -> Vec<Source> {
    let facts: Vec<Fact> = facts.take_shards().flatten().collect();
    let sources = facts.into_iter().map(|fact| match fact {
        Fact::Source(source) => source,
        other => panic!("no source but {other:?}"),
    });
    sources.collect()
}

/// Scope and id of what sources are about.
pub(super) fn about(sources: &[Source]) -> Vec<(Scope, String)> {
    let about = sources
        .iter()
        .map(|s| (s.entity.scope, s.entity.id.to_string()));
    about.collect()
}

/// What a server tells about itself.
pub(super) fn served(service: &str, instance: &str, endpoint: &str) -> Vec<(Scope, String)> {
    let service_id = id::service_id(service, true);
    vec![
        (Scope::All, String::new()),
        (Scope::Service, service_id.clone()),
        (
            Scope::ServiceInstance,
            id::instance_id(&service_id, instance),
        ),
        (Scope::Endpoint, id::endpoint_id(&service_id, endpoint)),
    ]
}

/// Relations of two services and of one instance of each.
pub(super) fn relations(source: (&str, &str), dest: (&str, &str)) -> Vec<(Scope, String)> {
    let (source_id, dest_id) = (id::service_id(source.0, true), id::service_id(dest.0, true));
    let service = id::relation_id(&source_id, &dest_id);
    let instance = id::relation_id(
        &id::instance_id(&source_id, source.1),
        &id::instance_id(&dest_id, dest.1),
    );
    vec![
        (Scope::ServiceRelation, service),
        (Scope::ServiceInstanceRelation, instance),
    ]
}

//! What a shard gives up: counted by reason and scope, and said in the log.

use std::collections::BTreeMap;

use super::Shard;
use crate::model::fact::Fact;
use crate::model::id;
use crate::model::scope::Scope;
use crate::stream::rows::NoRoom;

impl<S> Shard<S> {
    /// Counts values that do not fit to what their bucket of time has already.
    pub(super) fn unfit(&self, count: u64) {
        if count > 0 {
            let shed = &self.deps.metrics.shed;
            shed.with_label_values(&["unfit", ""]).inc_by(count);
            if let Some(held_back) = self.unfit_log.admit() {
                tracing::warn!(
                    count,
                    held_back,
                    "values of meters given up, their buckets, ranks or number of labels do not fit to earlier ones"
                );
            }
        }
    }

    /// Counts rows that found no room, and says whose endpoints take most of it.
    pub(super) fn shed_rows(&self, shed: &BTreeMap<(NoRoom, Scope), u64>) {
        for ((reason, scope), count) in shed {
            let counter = &self.deps.metrics.shed;
            let scope = format!("{scope:?}");
            let labels = [reason.reason(), &scope];
            counter.with_label_values(&labels).inc_by(*count);
        }
        if let Some((reason, _)) = shed.keys().next()
            && let Some(held_back) = self.shed_log.admit()
        {
            let count: u64 = shed.values().sum();
            let (service, rows) = self.rows.largest_service().unzip();
            let service = service.and_then(|id| id::parse_service_id(id).ok());
            tracing::warn!(
                reason = reason.reason(),
                count,
                held_back,
                largest.service = service.map(|(name, _)| name),
                largest.endpoint_rows = rows,
                "values given up, the memory budget (-Xmx) is too small for so many services and endpoints; if those of one \
                 service have no end, group them in endpoint-name-grouping.yml"
            );
        }
    }

    /// Counts metadata that found no room, by scope; without one it is an address.
    pub(super) fn shed_metadata(&self, shed: &BTreeMap<Option<Scope>, u64>) {
        for (scope, count) in shed {
            let scope = scope.map_or_else(|| "Address".to_owned(), |scope| format!("{scope:?}"));
            let counter = &self.deps.metrics.shed;
            let labels = ["metadata_full", &scope];
            counter.with_label_values(&labels).inc_by(*count);
        }
        if !shed.is_empty()
            && let Some(held_back) = self.shed_log.admit()
        {
            let count: u64 = shed.values().sum();
            tracing::warn!(
                reason = "metadata_full",
                count,
                held_back,
                "services, instances, endpoints or addresses given up, the memory budget (-Xmx) is too small for so many"
            );
        }
    }
}

/// What a fact is about; `None` for an address.
pub(super) fn scope_of(fact: &Fact) -> Option<Scope> {
    match fact {
        Fact::Source(source) => Some(source.entity.scope),
        Fact::Meter(value) => Some(value.entity.scope),
        Fact::Service { entity, .. }
        | Fact::Endpoint { entity, .. }
        | Fact::Instance { entity, .. } => Some(entity.scope),
        Fact::Address { .. } => None,
    }
}

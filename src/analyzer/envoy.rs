//! Metrics that Envoy proxies report about themselves (8.1.0 spec, A.8). They create no service.

use std::sync::Arc;

use bytes::Bytes;
use oap_proto::envoy::metric_family::Type;
use oap_proto::envoy::{Identifier, Metric, MetricFamily, Node, StreamMetricsMessage};
use prost::Message as _;

use super::trace::{MAX_ID_BYTES, check_name};
use super::{Analyzer, Fact, Facts, Reject};
use crate::model::entity::{Entity, EntityField as F};
use crate::model::scope::{NodeType, Scope};
use crate::model::source::{Names, Source, Values};

/// What is larger cannot be milliseconds, for some versions of Envoy send nanoseconds.
const MAX_MS: i64 = 1_000_000_000_000_000_000;

impl Analyzer {
    pub(super) fn envoy_metrics(
        &mut self,
        identifier: &Bytes,
        body: &Bytes,
        facts: &mut Facts,
    ) -> Result<(), Reject> {
        let node = node(identifier)?;
        let message =
            StreamMetricsMessage::decode(body.clone()).map_err(|_| Reject::Undecodable)?;
        let (service, instance) = match (&*node.cluster, &*node.id) {
            ("", "") => return Err(Reject::MissingId),
            ("", id) => (id, id),
            (cluster, "") => (cluster, cluster),
            both => both,
        };
        if service.len() > MAX_ID_BYTES || instance.len() > MAX_ID_BYTES {
            return Err(Reject::IdTooLong);
        }
        let is_gauge = |family: &&MetricFamily| family.r#type() == Type::Gauge;
        let gauges: Vec<&MetricFamily> = message.envoy_metrics.iter().filter(is_gauge).collect();
        gauges.iter().try_for_each(|f| check_name(&f.name))?;
        let times = gauges.iter().flat_map(|f| f.metric.iter().map(epoch_ms));
        let minutes = self.minutes(times)?;
        let Some(of) = self.entities.instance(service, instance) else {
            return Ok(());
        };
        let mut minutes = minutes.into_iter();
        let mut is_alive = false;
        for family in gauges {
            let entity = Arc::new(metric_entity(&of, &family.name));
            let mut last = None;
            for (metric, minute) in family.metric.iter().zip(&mut minutes) {
                let value = metric.gauge.map_or(0.0, |gauge| gauge.value);
                // What is no number would make the value of its whole day one that no store takes.
                if value.is_finite() {
                    facts.push(Fact::Source(Source {
                        entity: Arc::clone(&entity),
                        names: Names::None,
                        minute,
                        values: Values::Envoy { value },
                    }));
                }
                last = Some(minute);
            }
            if let Some(minute) = last.filter(|_| !is_alive) {
                is_alive = true;
                facts.push(Fact::Instance {
                    entity: Arc::clone(&of),
                    minute,
                    last_ping: minute,
                    properties: None,
                });
            }
        }
        Ok(())
    }
}

/// Who sent the messages of a stream; empty names if it does not say.
pub(super) fn node(identifier: &Bytes) -> Result<Node, Reject> {
    let identifier = Identifier::decode(identifier.clone()).map_err(|_| Reject::Undecodable)?;
    Ok(identifier.node.unwrap_or_default())
}

fn epoch_ms(metric: &Metric) -> i64 {
    match metric.timestamp_ms {
        nanoseconds if nanoseconds > MAX_MS => nanoseconds / 1_000_000,
        ms => ms,
    }
}

/// An instance as the subject of one of its metrics. Not kept: proxies have a thousand metrics, and scripts name a few.
fn metric_entity(instance: &Entity, metric: &str) -> Entity {
    let shared = |field| {
        let value = instance.shared_field(field).cloned();
        (field, value.unwrap_or_default())
    };
    let fields = vec![
        shared(F::ServiceId),
        shared(F::Name),
        (F::MetricName, metric.into()),
    ];
    Entity::new(
        Scope::EnvoyInstanceMetric,
        NodeType::Normal,
        Arc::clone(&instance.id),
        fields,
    )
}

#[cfg(test)]
mod tests;

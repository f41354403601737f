//! How often values were merged, by metric, for `metrics_aggregation` (8.1.0 spec, J). Collected in plain numbers, as it
//! happens for every value.

use super::StreamOptions;
use super::plan::Plan;
use super::shard_metrics::ShardMetrics;
use crate::model::metrics::Value;
use crate::model::scope::Scope;

/// Merges since they were last told, by scope and place in the plan.
#[derive(Debug, Default)]
pub(super) struct Merged(Vec<Vec<u64>>);

impl Merged {
    /// Increments of an entity are merged.
    pub(super) fn count(&mut self, scope: Scope, increments: &[Option<Value>]) {
        let at = scope as usize;
        if self.0.len() <= at {
            self.0.resize_with(at + 1, Vec::new);
        }
        let Some(counts) = self.0.get_mut(at) else {
            return;
        };
        counts.resize(increments.len(), 0);
        for (count, increment) in counts.iter_mut().zip(increments) {
            *count += u64::from(increment.is_some());
        }
    }

    /// Adds them to the counters. What is merged into a minute is merged into its hour and day, too.
    pub(super) fn tell(&mut self, plan: &Plan, options: &StreamOptions, metrics: &ShardMetrics) {
        let coarse = [("hour", options.with_hours), ("day", options.with_days)];
        for (scope, counts) in plan.scopes().zip(&mut self.0) {
            for (item, count) in scope.iter().zip(counts) {
                let merges = std::mem::take(count);
                if merges == 0 {
                    continue;
                }
                let add = |level, dimensionality| {
                    let labels = [item.model.name.as_str(), level, dimensionality];
                    let counter = metrics.aggregation.with_label_values(&labels);
                    counter.inc_by(merges);
                };
                add("1", "minute");
                add("2", "minute");
                for (dimensionality, _) in coarse.iter().filter(|(_, is_made)| *is_made) {
                    add("2", dimensionality);
                }
            }
        }
    }
}

//! What to compute for a source: the metrics of its scope, ready to run.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::attr::Attr;
use crate::model::fact::MeterValue;
use crate::model::metrics::{
    CompareOp, Entrance, Filter, Function, Input, Literal, MeterDefinition, MetricDefinition, Value,
};
use crate::model::schema::{Model, Schema};
use crate::model::scope::{DetectPoint, Scope};
use crate::model::source::{AttrValue, Source, Values};

/// Latency up to which a request satisfies, by service (8.1.0 spec, D.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApdexThresholds {
    by_service: HashMap<String, i64>,
    default_ms: i64,
}

impl ApdexThresholds {
    /// Milliseconds by service name; the entry `default` is for all others, 500 without one. Negative entries do not count.
    pub fn new(entries: impl IntoIterator<Item = (String, i64)>) -> ApdexThresholds {
        let by_service: HashMap<String, i64> =
            entries.into_iter().filter(|(_, ms)| *ms >= 0).collect();
        let default_ms = by_service.get("default").copied().unwrap_or(500);
        ApdexThresholds {
            by_service,
            default_ms,
        }
    }

    fn of(&self, service: &str) -> i64 {
        self.by_service
            .get(service)
            .copied()
            .unwrap_or(self.default_ms)
    }
}

/// One metric or relation stream of a scope.
#[derive(Debug)]
pub struct Item {
    pub model: Arc<Model>,
    pub function: Function,
    /// Whether its minute values are handed on as they change.
    is_watched: AtomicBool,
    /// The side of a call that it is about. Filters by it are the most frequent ones, so they are not among `filters`.
    detect_point: Option<DetectPoint>,
    filters: Vec<Filter>,
    entrance: Entrance,
}

impl Item {
    fn new(
        model: &Arc<Model>,
        function: Function,
        filters: &[Filter],
        entrance: &Entrance,
    ) -> Item {
        let point = |filter: &Filter| match filter.literal {
            Literal::DetectPoint(point) => Some(point),
            _ => None,
        };
        let detect_point = filters.iter().find_map(point);
        // Sides can only be compared for equality: a second one that is another can never hold, and stays.
        let rest = |filter: &&Filter| point(filter).is_none() || point(filter) != detect_point;
        Item {
            model: Arc::clone(model),
            function,
            is_watched: AtomicBool::new(false),
            detect_point,
            filters: filters.iter().filter(rest).cloned().collect(),
            entrance: entrance.clone(),
        }
    }

    /// Whether its minute values are handed on as they change.
    pub fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    fn wants(&self, source: &Source) -> bool {
        let is_of_point = self.detect_point.is_none_or(|wanted| match &source.values {
            Values::Request(request) => request.detect_point == wanted,
            _ => false,
        });
        is_of_point && self.filters.iter().all(|f| matches(f, source))
    }
}

/// All metrics by scope. What is computed stays as it is; the thresholds and what is watched can be changed at any time.
#[derive(Debug)]
pub struct Plan {
    by_scope: Vec<Vec<Item>>,
    /// Whether a scope has watched items.
    watched: Vec<AtomicBool>,
    /// Metrics that are watched whatever else is.
    always: HashSet<String>,
    /// Places of meters among the items of their scope, by name.
    meters: HashMap<String, usize>,
    thresholds: RwLock<Arc<ApdexThresholds>>,
}

impl Plan {
    /// Metrics, meters and the relation streams of `schema`. A metric without a model is left out; the schema is built from
    /// the same definitions, so there is none.
    pub fn build(
        metrics: &[MetricDefinition],
        meters: &[MeterDefinition],
        schema: &Schema,
        thresholds: ApdexThresholds,
    ) -> Plan {
        let mut by_scope: Vec<Vec<Item>> = Vec::new();
        let mut add = |scope: Scope, item: Item| {
            let at = scope as usize;
            if by_scope.len() <= at {
                by_scope.resize_with(at + 1, Vec::new);
            }
            let Some(items) = by_scope.get_mut(at) else {
                return 0;
            };
            items.push(item);
            items.len() - 1
        };
        for metric in metrics {
            if let Some(model) = schema.model(&metric.name) {
                let (filters, entrance) = (&metric.filters, &metric.entrance);
                let item = Item::new(model, metric.function, filters, entrance);
                add(metric.scope, item);
            }
        }
        for relation in schema.relations() {
            let side = if relation.is_server_side {
                DetectPoint::Server
            } else {
                DetectPoint::Client
            };
            let of_side = Filter {
                attr: Attr::DetectPoint,
                op: CompareOp::Equal,
                literal: Literal::DetectPoint(side),
            };
            let component = Entrance::Long(Attr::ComponentId);
            let item = Item::new(&relation.model, Function::Component, &[of_side], &component);
            add(relation.scope, item);
        }
        let mut places = HashMap::new();
        for meter in meters {
            if let Some(model) = schema.model(&meter.name) {
                // Meters do not come from sources.
                let item = Item::new(model, meter.function, &[], &Entrance::One);
                let place = add(meter.scope.scope(), item);
                places.insert(meter.name.clone(), place);
            }
        }
        Plan {
            watched: by_scope.iter().map(|_| AtomicBool::new(false)).collect(),
            always: HashSet::new(),
            by_scope,
            meters: places,
            thresholds: RwLock::new(Arc::new(thresholds)),
        }
    }

    /// Has the minute values of these metrics handed on whatever [`Plan::watch`] says.
    pub fn always_watching(mut self, names: HashSet<String>) -> Plan {
        self.always = names;
        self.watch(&HashSet::new());
        self
    }

    /// Has the minute values of these metrics handed on from their next change on, and those of no others but
    /// [`Plan::always_watching`].
    pub fn watch(&self, names: &HashSet<String>) {
        for (items, watched) in self.by_scope.iter().zip(&self.watched) {
            let mut is_any = false;
            for item in items {
                let name = &item.model.name;
                let is_watched = names.contains(name) || self.always.contains(name);
                item.is_watched.store(is_watched, Ordering::Relaxed);
                is_any |= is_watched;
            }
            watched.store(is_any, Ordering::Relaxed);
        }
    }

    /// Whether a scope has items that are watched.
    pub(super) fn watches(&self, scope: Scope) -> bool {
        let watched = self.watched.get(scope as usize);
        watched.is_some_and(|is| is.load(Ordering::Relaxed))
    }

    /// The thresholds that count now: ask once for many sources.
    pub fn thresholds(&self) -> Arc<ApdexThresholds> {
        let thresholds = self.thresholds.read();
        Arc::clone(&thresholds.unwrap_or_else(PoisonError::into_inner))
    }

    /// Others count from now on; what was computed stays.
    pub fn set_thresholds(&self, thresholds: Arc<ApdexThresholds>) {
        let known = self.thresholds.write();
        *known.unwrap_or_else(PoisonError::into_inner) = thresholds;
    }

    /// The models of all items.
    pub(super) fn models(&self) -> Vec<Arc<Model>> {
        let items = self.by_scope.iter().flatten();
        items.map(|item| Arc::clone(&item.model)).collect()
    }

    /// The items of every scope, by its number.
    pub(super) fn scopes(&self) -> impl Iterator<Item = &[Item]> {
        self.by_scope.iter().map(Vec::as_slice)
    }

    /// The items of a scope; values of its rows are in this order.
    pub fn items(&self, scope: Scope) -> &[Item] {
        self.by_scope.get(scope as usize).map_or(&[], Vec::as_slice)
    }

    /// Feeds a source to every item that wants it. `values` has one place per item.
    pub fn apply(
        &self,
        source: &Source,
        thresholds: &ApdexThresholds,
        values: &mut [Option<Value>],
    ) {
        for (item, value) in self.items(source.entity.scope).iter().zip(values) {
            if item.wants(source)
                && let Some(input) = input(&item.entrance, source, thresholds)
            {
                let value = value.get_or_insert_with(|| item.function.empty());
                item.function.accept(value, input);
            }
        }
    }

    /// Feeds the value of a meter to its item. False if it was left out because it does not fit to what is there.
    pub fn apply_meter(&self, meter: &MeterValue, values: &mut [Option<Value>]) -> bool {
        let place = self.meters.get(&*meter.name).copied();
        let items = self.items(meter.entity.scope);
        let (Some(item), Some(value)) = (
            place.and_then(|at| items.get(at)),
            place.and_then(|at| values.get_mut(at)),
        ) else {
            return false;
        };
        let value = value.get_or_insert_with(|| item.function.empty());
        item.function.accept_meter(value, &meter.input)
    }
}

fn input(entrance: &Entrance, source: &Source, thresholds: &ApdexThresholds) -> Option<Input> {
    Some(match entrance {
        Entrance::Int(attr) => Input::Long(as_int(source.attr(*attr)?)?.into()),
        Entrance::Long(attr) => Input::Long(as_long(source.attr(*attr)?)?),
        Entrance::Double(attr) => Input::Double(as_double(source.attr(*attr)?)?),
        Entrance::Match(filter) => Input::Match(matches(filter, source)),
        Entrance::Apdex {
            service,
            latency,
            status,
        } => {
            let (AttrValue::Text(service), AttrValue::Bool(is_ok)) =
                (source.attr(*service)?, source.attr(*status)?)
            else {
                return None;
            };
            Input::Apdex {
                latency: as_int(source.attr(*latency)?)?.into(),
                is_ok,
                threshold: thresholds.of(service),
            }
        }
        Entrance::One => Input::One,
    })
}

/// Java's narrowing: a long wraps, a double stops at the ends.
fn as_int(value: AttrValue<'_>) -> Option<i32> {
    match value {
        AttrValue::Long(n) => Some(n as i32),
        AttrValue::Double(n) => Some(n as i32),
        _ => None,
    }
}

fn as_long(value: AttrValue<'_>) -> Option<i64> {
    match value {
        AttrValue::Long(n) => Some(n),
        AttrValue::Double(n) => Some(n as i64),
        _ => None,
    }
}

fn as_double(value: AttrValue<'_>) -> Option<f64> {
    match value {
        AttrValue::Long(n) => Some(n as f64),
        AttrValue::Double(n) => Some(n),
        _ => None,
    }
}

fn matches(filter: &Filter, source: &Source) -> bool {
    let Some(value) = source.attr(filter.attr) else {
        return false;
    };
    match (value, &filter.literal) {
        (AttrValue::Text(a), Literal::Text(b)) => a == b,
        (AttrValue::Bool(a), Literal::Bool(b)) => a == *b,
        (AttrValue::RequestType(a), Literal::RequestType(b)) => a == *b,
        (AttrValue::DetectPoint(a), Literal::DetectPoint(b)) => a == *b,
        (AttrValue::GcPhrase(a), Literal::GcPhrase(b)) => a == *b,
        (AttrValue::MemoryPool(a), Literal::MemoryPool(b)) => a == *b,
        (AttrValue::Long(a), Literal::Long(b)) => compare(filter.op, a.cmp(b)),
        (value, Literal::Double(b)) => as_double(value)
            .and_then(|a| a.partial_cmp(b))
            .is_some_and(|order| compare(filter.op, order)),
        (AttrValue::Double(a), Literal::Long(b)) => a
            .partial_cmp(&(*b as f64))
            .is_some_and(|order| compare(filter.op, order)),
        _ => false,
    }
}

fn compare(op: CompareOp, order: std::cmp::Ordering) -> bool {
    match op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::Less => order.is_lt(),
        CompareOp::GreaterEqual => order.is_ge(),
        CompareOp::LessEqual => order.is_le(),
    }
}

#[cfg(test)]
mod tests;

//! Compares a GraphQL answer with the recorded one.
//!
//! Absent is null. Order counts only where it means something: points, heat maps, tags, logs, refs, spans within a segment.
//! Sorted lists may permute equal sort keys, and at the cut of a page another recorded item with the same key may stand.
//! Of errors only the presence counts. Time of the server is masked.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::json::{canon, multiset, quote, same};
use super::recording::{Document, Question};

/// What may stand at the cut of a list: (statement or `segment`, sort key, trace or segment id).
type Known = HashSet<(Value, Value, Value)>;

/// Fields with time of the server.
const MASKED: [&str; 1] = ["currentTimestamp"];
/// Lists without order inside the elements of other lists.
const SETS: [&str; 3] = ["detectPoints", "sourceComponents", "targetComponents"];
const INNER_SETS: [&str; 5] = ["attributes", "args", "fields", "inputFields", "enumValues"];

/// The recorded segments and statements, by what a list shows of them, and the names of entities.
pub fn known_records<'a>(documents: impl Iterator<Item = &'a Document>) -> Known {
    let mut known = Known::new();
    for document in documents {
        if document.index.contains("_traffic") {
            let name = document.source.get("name").cloned();
            known.insert((json!("entity"), Value::Null, name.unwrap_or_default()));
            continue;
        }
        let is_segment = document.index.contains("_segment-2");
        if !is_segment && !document.index.contains("_top_n") {
            continue;
        }
        let field = |name: &str| document.source.get(name).cloned().unwrap_or(Value::Null);
        known.insert((field("statement"), field("latency"), field("trace_id")));
        if document.source.contains_key("segment_id") {
            known.insert((json!("segment"), field("latency"), field("segment_id")));
        }
    }
    known
}

/// Differences; none if the answer is as recorded.
pub fn compare(question: &Question, status: u16, text: &str, known: &Known) -> Vec<String> {
    let mut differences = vec![];
    if status != question.status {
        differences.push(format!(
            "HTTP status expected {} got {status}",
            question.status
        ));
    }
    let is_failed_http = question.http.is_some() && status >= 400;
    if !question.response.is_null() && !is_failed_http {
        match serde_json::from_str::<Value>(text) {
            Ok(got) => differences.extend(compare_bodies(question, &got, known)),
            Err(_) if status < 400 => {
                differences.extend(compare_bodies(question, &json!({"_text": text}), known));
            }
            Err(_) => differences.push(format!("no JSON: {text:.100}")),
        }
    }
    differences
}

fn compare_bodies(question: &Question, got: &Value, known: &Known) -> Vec<String> {
    let (Value::Object(mut want), Value::Object(mut got)) =
        (normalised(&question.response), normalised(got))
    else {
        return vec![format!("not an object: {}", quote(Some(got)))];
    };
    let mut differences = vec![];
    let (want_errors, got_errors) = (want.remove("errors"), got.remove("errors"));
    if has_items(want_errors.as_ref()) != has_items(got_errors.as_ref()) {
        differences.push(format!(
            "errors expected {} got {}",
            quote(want_errors.as_ref()),
            quote(got_errors.as_ref())
        ));
    }
    for side in [&mut want, &mut got] {
        if side
            .get("data")
            .is_some_and(|d| d.as_object().is_none_or(Map::is_empty))
        {
            side.remove("data");
        }
    }
    if question.is_count_only {
        let (want, got) = (list_lengths(&want), list_lengths(&got));
        if want != got {
            differences.push(format!("counts expected {want:?} got {got:?}"));
        }
    } else {
        let comparison = Comparison { question, known };
        differences.extend(comparison.objects(&want, &got, "", ""));
    }
    differences
}

fn has_items(errors: Option<&Value>) -> bool {
    errors
        .and_then(Value::as_array)
        .is_some_and(|e| !e.is_empty())
}

fn list_lengths(answer: &Map<String, Value>) -> HashMap<&str, usize> {
    let data = answer.get("data").and_then(Value::as_object);
    data.into_iter()
        .flatten()
        .filter_map(|(k, v)| Some((k.as_str(), v.as_array()?.len())))
        .collect()
}

/// Without nulls and server time, whole numbers as integers.
fn normalised(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| {
                let is_masked = MASKED.contains(&k.as_str());
                (
                    k.clone(),
                    if is_masked {
                        json!("{MASKED}")
                    } else {
                        normalised(v)
                    },
                )
            })
            .collect(),
        Value::Array(items) => items.iter().map(normalised).collect(),
        Value::Number(n) => match n.as_f64() {
            Some(f) if n.is_f64() && f.fract() == 0.0 && f.abs() < 9e18 => json!(f as i64),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

struct Comparison<'a> {
    question: &'a Question,
    known: &'a Known,
}

/// Whether the first or the last group of equal sort keys may be cut.
struct Cut {
    first: bool,
    last: bool,
}

impl Comparison<'_> {
    fn values(&self, want: &Value, got: &Value, path: &str, key: &str) -> Vec<String> {
        match (want, got) {
            (Value::Object(w), Value::Object(g)) => self.objects(w, g, path, key),
            (Value::Array(w), Value::Array(g)) => self.lists(w, g, path, key),
            _ if same(want, got) => vec![],
            _ => vec![format!(
                "{path}: expected {} got {}",
                quote(Some(want)),
                quote(Some(got))
            )],
        }
    }

    fn objects(
        &self,
        want: &Map<String, Value>,
        got: &Map<String, Value>,
        path: &str,
        key: &str,
    ) -> Vec<String> {
        let keys: BTreeSet<&String> = want.keys().chain(got.keys()).collect();
        let mut differences = vec![];
        for k in keys {
            let path = format!("{path}.{k}");
            match (want.get(k), got.get(k)) {
                (Some(_), Some(_)) if key.is_empty() && k == "configuration" => {}
                (Some(w), Some(g)) => differences.extend(self.values(w, g, &path, k)),
                (w, g) => {
                    differences.push(format!("{path}: expected {} got {}", quote(w), quote(g)))
                }
            }
        }
        differences
    }

    fn lists(&self, want: &[Value], got: &[Value], path: &str, key: &str) -> Vec<String> {
        let (Some(first), false) = (want.first(), got.is_empty()) else {
            if want.len() == got.len() {
                return vec![];
            }
            let (w, g) = (want.len(), got.len());
            return vec![format!("{path}: expected {w} elements got {g}")];
        };
        match first {
            Value::Array(_) => multiset(want, got, path),
            Value::Object(fields) => self.records(want, got, path, key, fields),
            _ if SETS.contains(&key) => multiset(want, got, path),
            _ if want == got => vec![],
            _ => {
                let (w, g) = (Value::from(want), Value::from(got));
                vec![format!(
                    "{path}: expected {} got {}",
                    quote(Some(&w)),
                    quote(Some(&g))
                )]
            }
        }
    }

    /// Lists of objects; `fields` are those of the first, which tell what the list is.
    fn records(
        &self,
        want: &[Value],
        got: &[Value],
        path: &str,
        key: &str,
        fields: &Map<String, Value>,
    ) -> Vec<String> {
        let has = |name: &str| fields.contains_key(name);
        let only = |names: &[&str]| fields.keys().all(|f| names.contains(&f.as_str()));
        if has("spanId") {
            return spans(want, got, path);
        }
        let limit = self.limit();
        let is_full = limit.is_some_and(|limit| want.len() as i64 >= limit);
        if has("endpointNames") || has("segmentId") {
            return self.traces(want, got, path, has("start"));
        }
        if has("latency") {
            let cut = Cut {
                first: false,
                last: is_full,
            };
            return self.ties(want, got, path, "latency", cut);
        }
        if has("value") && has("name") && !has("key") && limit.is_some() {
            // Entities of equal values come by their ids, and other names have another order.
            let is_any_order = has("refId") || self.question.has_other_names;
            let cut = Cut {
                first: false,
                last: is_any_order && is_full,
            };
            return self.ties(want, got, path, "value", cut);
        }
        let is_ordered = only(&["id", "value"])
            || only(&["id", "values"])
            || only(&["min", "max"])
            || (only(&["values"]) && has("values"))
            || has("codeSignature")
            || ["tags", "logs", "data", "refs"].contains(&key);
        let is_name_list = fields.len() == 1 && (has("id") || has("name"));
        if is_ordered && !is_name_list {
            if want.len() != got.len() {
                let (w, g) = (want.len(), got.len());
                return vec![format!("{path}: expected {w} elements got {g}")];
            }
            let mut differences = vec![];
            for (i, (w, g)) in want.iter().zip(got).enumerate() {
                differences.extend(self.values(w, g, &format!("{path}[{i}]"), key));
            }
            differences.truncate(3);
            return differences;
        }
        let is_dashboards = has("configuration");
        let unordered = |items: &[Value]| -> Vec<Value> {
            items
                .iter()
                .map(|x| with_sorted_sets(&parsed_configuration(x, is_dashboards)))
                .collect()
        };
        multiset(&unordered(want), &unordered(got), path)
    }

    fn traces(&self, want: &[Value], got: &[Value], path: &str, has_start: bool) -> Vec<String> {
        if !has_start {
            return multiset(want, got, path);
        }
        let variables = &self.question.variables;
        let by_duration = find(variables, "queryOrder").and_then(Value::as_str)
            == Some("BY_DURATION")
            || self.text().contains("BY_DURATION");
        let page = find(variables, "pageNum").and_then(whole).unwrap_or(1);
        let size = find(variables, "pageSize").and_then(whole);
        let key = if by_duration { "duration" } else { "start" };
        let cut = Cut {
            first: by_duration && page > 1,
            last: by_duration && size.is_some_and(|size| want.len() as i64 >= size),
        };
        self.ties(want, got, path, key, cut)
    }

    /// Limit of a top list, from the text of the query or the variables.
    fn limit(&self) -> Option<i64> {
        let literal = self.text().split("topN:").skip(1).find_map(|rest| {
            let digits = rest.trim_start();
            let end = digits.find(|c: char| !c.is_ascii_digit());
            digits.get(..end.unwrap_or(digits.len()))?.parse().ok()
        });
        literal.or_else(|| find(&self.question.variables, "topN").and_then(whole))
    }

    fn text(&self) -> &str {
        self.question.query.as_deref().unwrap_or_default()
    }

    /// Same sort keys in the same order; within equal keys any order.
    fn ties(&self, want: &[Value], got: &[Value], path: &str, key: &str, cut: Cut) -> Vec<String> {
        let keys = |items: &[Value]| -> Value { items.iter().map(|x| x[key].clone()).collect() };
        let (want_keys, got_keys) = (keys(want), keys(got));
        if want_keys != got_keys {
            return vec![format!(
                "{path}: sort keys differ: expected {} got {}",
                quote(Some(&want_keys)),
                quote(Some(&got_keys))
            )];
        }
        let mut start = 0;
        while start < want.len() {
            let tied = want[start..]
                .iter()
                .take_while(|x| x[key] == want[start][key]);
            let end = start + tied.count();
            let group = &got[start..end];
            let differences =
                multiset(&want[start..end], group, &format!("{path}[{start}..{end}]"));
            let may_be_cut = (start == 0 && cut.first) || (end == want.len() && cut.last);
            let distinct: HashSet<String> = group.iter().map(canon).collect();
            let is_allowed = may_be_cut
                && group.iter().all(|x| self.is_known(x))
                && distinct.len() == group.len();
            if !differences.is_empty() && !is_allowed {
                return differences;
            }
            start = end;
        }
        vec![]
    }

    fn is_known(&self, item: &Value) -> bool {
        if item.get("value").is_some() && item.get("refId").is_none() {
            let name = item.get("name").cloned().unwrap_or_default();
            return self.known.contains(&(json!("entity"), Value::Null, name));
        }
        let either = |a: &str, b: &str| item.get(a).or(item.get(b)).cloned().unwrap_or(Value::Null);
        let entry = if let Some(segment) = item.get("segmentId") {
            (
                json!("segment"),
                either("duration", "duration"),
                segment.clone(),
            )
        } else {
            let latency = whole(&either("value", "latency")).unwrap_or(0);
            (
                either("name", "statement"),
                json!(latency),
                either("refId", "traceId"),
            )
        };
        self.known.contains(&entry)
    }
}

/// Any order of segments, but each segment's spans in order.
fn spans(want: &[Value], got: &[Value], path: &str) -> Vec<String> {
    let differences = multiset(want, got, path);
    if !differences.is_empty() {
        return differences;
    }
    let orders = |spans: &[Value]| {
        let mut by_segment: HashMap<String, Vec<Value>> = HashMap::new();
        for span in spans {
            let ids = by_segment.entry(span["segmentId"].to_string()).or_default();
            ids.push(span["spanId"].clone());
        }
        by_segment
    };
    if orders(want) == orders(got) {
        vec![]
    } else {
        vec![format!("{path}: order of spans within a segment")]
    }
}

fn parsed_configuration(item: &Value, is_dashboards: bool) -> Value {
    let mut item = item.clone();
    if let (true, Value::Object(map)) = (is_dashboards, &mut item) {
        let parsed = map
            .get("configuration")
            .and_then(Value::as_str)
            .map(|text| serde_json::from_str(text).unwrap_or_else(|_| json!({"broken": text})));
        map.insert("configuration".into(), parsed.unwrap_or(Value::Null));
    }
    item
}

/// Sorts lists without order inside an element of a set.
fn with_sorted_sets(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(k, v)| match v {
                Value::Array(items)
                    if SETS.contains(&k.as_str()) || INNER_SETS.contains(&k.as_str()) =>
                {
                    let mut items: Vec<Value> = items.iter().map(with_sorted_sets).collect();
                    items.sort_by_key(canon);
                    (k.clone(), items.into())
                }
                _ => (k.clone(), with_sorted_sets(v)),
            })
            .collect(),
        Value::Array(items) => items.iter().map(with_sorted_sets).collect(),
        other => other.clone(),
    }
}

/// First plain value of a key at any depth.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => match map.get(key) {
            Some(Value::Null) => None,
            Some(found) if !found.is_object() && !found.is_array() => Some(found),
            _ => map.values().find_map(|v| find(v, key)),
        },
        Value::Array(items) => items.iter().find_map(|v| find(v, key)),
        _ => None,
    }
}

/// An integer, also one that came as text.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

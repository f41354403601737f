//! Whether a Java server could go on with documents of ours: each must have every field that the original writes, with a
//! JSON type that the original writes there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::compare_docs::{Side, model_of};

/// JSON types of each field of each model, and whether it is always there.
type Shapes = BTreeMap<String, BTreeMap<String, Shape>>;

#[derive(Debug, Default)]
struct Shape {
    kinds: BTreeSet<&'static str>,
    documents: usize,
}

/// What a reader of the original would stumble over, by model and field.
pub fn compare(want: Side<'_>, got: Side<'_>) -> BTreeMap<String, String> {
    let (shapes, totals) = shapes(want);
    let mut found = BTreeMap::new();
    for document in got.documents {
        let model = model_of(&document.index, got.namespace);
        let Some(fields) = shapes.get(&model) else {
            continue;
        };
        for (field, shape) in fields {
            let is_optional = shape.documents < totals[&model] || shape.kinds.contains("null");
            let name = || format!("shape of {model}.{field}");
            match document.source.get(field) {
                None if is_optional => {}
                None => {
                    found.insert(name(), format!("{} lacks it", document.id));
                }
                Some(value) if shape.kinds.contains(kind(value)) => {}
                Some(value) => {
                    let kinds = &shape.kinds;
                    found.insert(name(), format!("{value} is none of {kinds:?}"));
                }
            }
        }
    }
    found
}

fn shapes(side: Side<'_>) -> (Shapes, BTreeMap<String, usize>) {
    let (mut shapes, mut totals) = (Shapes::new(), BTreeMap::<String, usize>::new());
    for document in side.documents {
        let model = model_of(&document.index, side.namespace);
        *totals.entry(model.clone()).or_default() += 1;
        let fields = shapes.entry(model).or_default();
        for (field, value) in &document.source {
            let shape = fields.entry(field.clone()).or_default();
            shape.kinds.insert(kind(value));
            shape.documents += 1;
        }
    }
    (shapes, totals)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "fraction",
        Value::Number(_) => "whole number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

//! What an operation selects, unfolded once, and values cut to it: aliases, fragments, skipped fields, nulls.
//!
//! A null field is left out of the answer, as the original does. A null where the schema has none takes its parent
//! with it, up to the next nullable one.

use std::collections::HashMap;

use async_graphql::parser::types::{
    BaseType, Directive, ExecutableDocument, Field, Selection, SelectionSet, Type,
};
use async_graphql::{Name, Positioned, Value as Constant};
use serde_json::{Map, Value};

use super::schema::{Schema, base_name};
use crate::query::Share;
use crate::query::answers::BYTES_PER_VALUE;

/// The fields that selections of an object come to, in the order of the document.
#[derive(Debug, Default)]
pub(super) struct Shape<'a> {
    pub(super) fields: Vec<ShapeField<'a>>,
}

/// A field of an answer.
#[derive(Debug)]
pub(super) struct ShapeField<'a> {
    /// Its name in the answer.
    pub(super) key: &'a str,
    pub(super) field: &'a Field,
    /// `None` for what every schema has: `__typename`, and introspection at the root.
    pub(super) ty: Option<&'a Type>,
    below: Shape<'a>,
}

/// Unfolds selections.
pub(super) struct Unfolder<'a> {
    pub(super) schema: &'a Schema,
    pub(super) document: &'a ExecutableDocument,
    pub(super) variables: &'a Map<String, Value>,
}

/// Selections of one answer key: the same field with the same arguments, once or more.
#[derive(Default)]
struct Collected<'a> {
    fields: Vec<(&'a str, Vec<&'a Field>)>,
    by_key: HashMap<&'a str, usize>,
}

impl<'a> Unfolder<'a> {
    /// The shape of an object under one or more selections.
    pub(super) fn unfold(&self, object: &str, sets: &[&'a SelectionSet]) -> Shape<'a> {
        let mut collected = Collected::default();
        for set in sets {
            self.collect(object, set, &mut collected);
        }
        let fields = collected.fields.into_iter().filter_map(|(key, fields)| {
            let field = *fields.first()?;
            let definition = self.schema.field(object, &field.name.node);
            let below = match definition {
                Some(definition) => {
                    let sets: Vec<_> = fields.iter().map(|f| &f.selection_set.node).collect();
                    self.unfold(base_name(&definition.ty), &sets)
                }
                None => Shape::default(),
            };
            Some(ShapeField {
                key,
                field,
                ty: definition.map(|d| &d.ty),
                below,
            })
        });
        Shape {
            fields: fields.collect(),
        }
    }

    fn collect(&self, object: &str, set: &'a SelectionSet, collected: &mut Collected<'a>) {
        for item in &set.items {
            if self.is_skipped(item.node.directives()) {
                continue;
            }
            match &item.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    let key = field.response_key().node.as_str();
                    let next = collected.fields.len();
                    let at = *collected.by_key.entry(key).or_insert(next);
                    match collected.fields.get_mut(at) {
                        Some((_, same)) => same.push(field),
                        None => collected.fields.push((key, vec![field])),
                    }
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if let Some(fragment) = self.document.fragments.get(name)
                        && fragment.node.type_condition.node.on.node == object
                    {
                        self.collect(object, &fragment.node.selection_set.node, collected);
                    }
                }
                Selection::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref();
                    if on.is_none_or(|on| on.node.on.node == object) {
                        self.collect(object, &fragment.node.selection_set.node, collected);
                    }
                }
            }
        }
    }

    fn is_skipped(&self, directives: &[Positioned<Directive>]) -> bool {
        let holds = |directive: &Directive| {
            let value = directive.get_argument("if").map(|v| v.node.clone());
            let constant = value.and_then(|value| {
                let variable = |name: Name| {
                    let value = self.variables.get(name.as_str());
                    value.and_then(Value::as_bool).map(Constant::from).ok_or(())
                };
                value.into_const_with(variable).ok()
            });
            constant == Some(Constant::Boolean(true))
        };
        directives.iter().any(|d| match d.node.name.node.as_str() {
            "skip" => holds(&d.node),
            "include" => !holds(&d.node),
            _ => false,
        })
    }
}

/// Cuts values to shapes and collects what is null but must not be.
#[derive(Debug)]
pub(super) struct Projector<'a> {
    path: Vec<String>,
    pub(super) errors: Vec<String>,
    /// Has room for what is projected.
    share: &'a Share,
}

impl<'a> Projector<'a> {
    /// Stops when the answer has no more room.
    pub(super) fn new(share: &'a Share) -> Projector<'a> {
        Projector {
            path: Vec::new(),
            errors: Vec::new(),
            share,
        }
    }

    /// Whether it stopped: what was projected last is not whole.
    fn is_full(&self) -> bool {
        self.share.full().is_some()
    }

    /// The selected part of the value of a field; `None` if a null that must not be takes the field's object with it.
    pub(super) fn project(
        &mut self,
        field: &ShapeField<'_>,
        ty: &Type,
        value: &Value,
    ) -> Option<Value> {
        let depth = self.path.len();
        self.path.push(field.key.to_owned());
        let projected = self.value(ty, &field.below, value);
        self.path.truncate(depth);
        projected
    }

    fn value(&mut self, ty: &Type, shape: &Shape<'_>, value: &Value) -> Option<Value> {
        self.share.take(weight(value));
        let projected = match (&ty.base, value) {
            (_, Value::Null) => {
                if !ty.nullable {
                    let path = self.path.join("/");
                    self.errors.push(format!(
                        "Cannot return null for non-nullable type {ty} (/{path})"
                    ));
                }
                None
            }
            (BaseType::List(item), Value::Array(items)) => self.list(item, shape, items),
            (BaseType::Named(name), Value::Object(object)) => self.object(name, shape, object),
            (_, leaf) => Some(leaf.clone()),
        };
        match projected {
            None if ty.nullable => Some(Value::Null),
            other => other,
        }
    }

    fn list(&mut self, item: &Type, shape: &Shape<'_>, items: &[Value]) -> Option<Value> {
        let mut projected = Vec::with_capacity(items.len());
        for (at, value) in items.iter().enumerate() {
            if self.is_full() {
                return None;
            }
            let depth = self.path.len();
            self.path.push(at.to_string());
            let value = self.value(item, shape, value);
            self.path.truncate(depth);
            projected.push(value?);
        }
        Some(Value::Array(projected))
    }

    fn object(
        &mut self,
        name: &str,
        shape: &Shape<'_>,
        object: &Map<String, Value>,
    ) -> Option<Value> {
        let mut projected = Map::new();
        for field in &shape.fields {
            if self.is_full() {
                return None;
            }
            let value = match field.ty {
                Some(ty) => {
                    let value = object.get(field.field.name.node.as_str());
                    self.project(field, ty, value.unwrap_or(&Value::Null))?
                }
                None => Value::from(name),
            };
            if !value.is_null() {
                projected.insert(field.key.to_owned(), value);
            }
        }
        Some(Value::Object(projected))
    }
}

/// A long text counts as several values.
fn weight(value: &Value) -> usize {
    1 + value
        .as_str()
        .map_or(0, |text| text.len() / BYTES_PER_VALUE)
}

/// Removes null fields at every level.
pub(super) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k, without_nulls(v)))
                .collect(),
        ),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        leaf => leaf,
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use oap_proto::QUERY_SDL;
    use serde_json::json;

    use super::*;
    use crate::query::service::fake::{FakeStore, context};

    /// Cuts the value of the first root field.
    fn cut(query: &str, value: &Value) -> (Option<Value>, Vec<String>) {
        let schema = Schema::build(QUERY_SDL).unwrap();
        let document = parse_query(query).unwrap();
        let unfolder = Unfolder {
            schema: &schema,
            document: &document,
            variables: &json!({"yes": true}).as_object().unwrap().clone(),
        };
        let (_, operation) = document.operations.iter().next().unwrap();
        let shape = unfolder.unfold("Query", &[&operation.node.selection_set.node]);
        let field = &shape.fields[0];
        let answers = context(FakeStore::default()).answers;
        let share = answers.share(1000);
        let mut projector = Projector::new(&share);
        let cut = projector.project(field, field.ty.unwrap(), value);
        (cut, projector.errors)
    }

    #[test]
    fn selections_decide_names_and_order() {
        let services = json!([{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]);
        let query = "{ getAllServices { n: name ...F @include(if: $yes) ... on Service { id @skip(if: true) } } }
            fragment F on Service { key: id __typename n: name }";
        let want = json!([
            {"n": "a", "key": "1", "__typename": "Service"},
            {"n": "b", "key": "2", "__typename": "Service"},
        ]);
        assert_eq!(cut(query, &services), (Some(want), vec![]));
    }

    #[test]
    fn a_field_selected_twice_joins_its_selections() {
        let value = json!({"values": [{"id": "1", "value": 2}]});
        let query = "{ getValues { values { id } } getValues { values { value } } }";
        assert_eq!(cut(query, &value), (Some(value.clone()), vec![]));
    }

    #[test]
    fn nulls_vanish_or_take_their_parents_along() {
        let node = json!({"nodes": [{"id": "1", "type": null, "isReal": true}], "calls": []});
        let (cut_node, errors) = cut("{ getGlobalTopology { nodes { id type } } }", &node);
        assert_eq!(cut_node, Some(json!({"nodes": [{"id": "1"}]})));
        assert!(errors.is_empty());

        let (cut_node, errors) = cut("{ getGlobalTopology { nodes { name } } }", &node);
        assert_eq!(
            cut_node,
            Some(Value::Null),
            "the topology itself may be null"
        );
        assert!(
            errors[0].contains("/getGlobalTopology/nodes/0/name"),
            "{errors:?}"
        );

        let (list, errors) = cut("{ getAllDatabases { type } }", &json!([{"type": null}]));
        assert_eq!((list, errors.len()), (None, 1));
    }

    #[test]
    fn too_many_values_are_not_projected() {
        let services = Value::from(vec![json!({"id": "1"}); 600]);
        let schema = Schema::build(QUERY_SDL).unwrap();
        let document = parse_query("{ getAllServices { a: id b: id } }").unwrap();
        let unfolder = Unfolder {
            schema: &schema,
            document: &document,
            variables: &Map::new(),
        };
        let (_, operation) = document.operations.iter().next().unwrap();
        let shape = unfolder.unfold("Query", &[&operation.node.selection_set.node]);
        let field = &shape.fields[0];
        let answers = context(FakeStore::default()).answers;
        for (max_values, is_full) in [(1802, false), (1801, true), (100, true)] {
            let share = answers.share(max_values);
            let mut projector = Projector::new(&share);
            let cut = projector.project(field, field.ty.unwrap(), &services);
            assert_eq!(projector.is_full(), is_full, "{max_values}");
            assert_eq!(cut.is_some(), max_values > 1800, "{max_values}");
        }
    }

    #[test]
    fn nulls_in_lists_stay() {
        let value = json!({"a": null, "b": [null, {"c": null, "d": 1}]});
        assert_eq!(without_nulls(value), json!({"b": [null, {"d": 1}]}));
    }
}

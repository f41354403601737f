//! Reading inputs as leniently as the original does: clients depend on it (query spec 2.1).
//!
//! Numbers may come as texts, texts as numbers, booleans as either. What remains an error: a missing or null value
//! where one is needed, an unknown enum value, an unknown field. Texts of queries themselves are checked strictly
//! before; for them this only brings values into one form.

use async_graphql::parser::types::{BaseType, Type};
use serde_json::{Map, Value};

use super::schema::{Definition, InputField, Schema};

/// A variable that an operation declares.
pub(super) struct Declaration<'a> {
    pub(super) name: &'a str,
    pub(super) ty: &'a Type,
    pub(super) default: Option<Value>,
}

/// The declared variables, in the form of their types. Others are ignored.
pub(super) fn read_all<'a>(
    schema: &Schema,
    declarations: impl Iterator<Item = Declaration<'a>>,
    mut given: Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    let mut variables = Map::new();
    for Declaration { name, ty, default } in declarations {
        let value = match (given.remove(name), default) {
            (Some(value), _) => value,
            (None, Some(default)) => default,
            (None, None) if ty.nullable => continue,
            (None, None) => return Err(format!("variable ${name} of type {ty} has no value")),
        };
        let value = read(schema, ty, value).map_err(|why| format!("variable ${name}: {why}"))?;
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}

/// A value in the form of a type.
pub(super) fn read(schema: &Schema, ty: &Type, value: Value) -> Result<Value, String> {
    if value.is_null() {
        return if ty.nullable {
            Ok(Value::Null)
        } else {
            Err(format!("null is no {ty}"))
        };
    }
    match &ty.base {
        BaseType::List(item) => match value {
            Value::Array(items) => {
                let items = items.into_iter().map(|i| read(schema, item, i));
                Ok(Value::Array(items.collect::<Result<_, _>>()?))
            }
            single => Ok(Value::Array(vec![read(schema, item, single)?])),
        },
        BaseType::Named(name) => read_named(schema, name, value),
    }
}

fn read_named(schema: &Schema, name: &str, value: Value) -> Result<Value, String> {
    let wrong = |value: &Value| Err(format!("{value} is no {name}"));
    match schema.definition(name) {
        Some(Definition::Scalar) => match scalar(name, &value) {
            Some(read) => Ok(read),
            None => wrong(&value),
        },
        Some(Definition::Enum(values)) => match value.as_str() {
            Some(text) if values.iter().any(|v| v == text) => Ok(value),
            _ => wrong(&value),
        },
        Some(Definition::Input(fields)) => match value {
            Value::Object(given) => read_fields(schema, name, fields, given),
            other => wrong(&other),
        },
        Some(Definition::Object(_)) | None => Err(format!("{name} is no type of inputs")),
    }
}

/// The fields of an input object, or the arguments of a field. What is not given and has no default stays away.
pub(super) fn read_fields(
    schema: &Schema,
    of: &str,
    fields: &[InputField],
    mut given: Map<String, Value>,
) -> Result<Value, String> {
    let mut read_fields = Map::new();
    for InputField { name, ty, default } in fields {
        let value = match (given.remove(name), default) {
            (Some(value), _) => value,
            (None, Some(default)) => default.clone().into_json().unwrap_or_default(),
            (None, None) if ty.nullable => continue,
            (None, None) => return Err(format!("{of} needs {name} of type {ty}")),
        };
        let value = read(schema, ty, value).map_err(|why| format!("{name}: {why}"))?;
        read_fields.insert(name.clone(), value);
    }
    match given.keys().next() {
        Some(unknown) => Err(format!("{of} has no field {unknown}")),
        None => Ok(Value::Object(read_fields)),
    }
}

fn scalar(name: &str, value: &Value) -> Option<Value> {
    match name {
        "Int" => integer(value)
            .filter(|n| i32::try_from(*n).is_ok())
            .map(Value::from),
        "Long" => integer(value).map(Value::from),
        "Float" => match value {
            Value::Number(_) => Some(value.clone()),
            Value::String(text) => text.parse::<f64>().ok().map(Value::from),
            _ => None,
        },
        "Boolean" => Some(Value::Bool(match value {
            Value::Bool(b) => *b,
            Value::String(text) => text.eq_ignore_ascii_case("true"),
            Value::Number(n) => n.as_f64() != Some(0.0),
            _ => return None,
        })),
        "String" => Some(match value {
            Value::String(_) => value.clone(),
            other => Value::String(other.to_string()),
        }),
        "ID" => match value {
            Value::String(_) => Some(value.clone()),
            Value::Number(_) => integer(value).map(|n| Value::String(n.to_string())),
            _ => None,
        },
        // A scalar that the definitions may get later: as it is.
        _ => Some(value.clone()),
    }
}

/// A whole number, also as a float or a text.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64().or_else(|| whole(n.as_f64()?)),
        Value::String(text) => text.parse().ok().or_else(|| whole(text.parse().ok()?)),
        _ => None,
    }
}

/// A float without fraction, as long as floats can tell neighbouring numbers apart.
fn whole(n: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (n.fract() == 0.0 && n.abs() <= EXACT).then_some(n as i64)
}

#[cfg(test)]
mod tests {
    use oap_proto::QUERY_SDL;
    use serde_json::json;

    use super::*;

    fn reader() -> impl Fn(&str, Value) -> Result<Value, String> {
        let schema = Schema::build(QUERY_SDL).unwrap();
        move |ty, value| read(&schema, &Type::new(ty).unwrap(), value)
    }

    #[test]
    fn values_of_other_kinds_are_accepted() {
        let read = reader();
        for (ty, given, want) in [
            ("Int", json!("3"), json!(3)),
            ("Int!", json!(3.0), json!(3)),
            ("Int", json!("3.0"), json!(3)),
            ("Long", json!("1600167570000"), json!(1_600_167_570_000_i64)),
            ("Boolean", json!("true"), json!(true)),
            ("Boolean", json!("no"), json!(false)),
            ("Boolean", json!(1), json!(true)),
            ("String", json!(5), json!("5")),
            ("String", json!(true), json!("true")),
            ("ID", json!(12345), json!("12345")),
            ("ID", json!(null), json!(null)),
            ("[String!]!", json!("0"), json!(["0"])),
            ("[[Int]!]", json!([["1", null]]), json!([[1, null]])),
            ("Step!", json!("DAY"), json!("DAY")),
            (
                "Pagination",
                json!({"pageSize": "15", "pageNum": null}),
                json!({"pageNum": null, "pageSize": 15}),
            ),
        ] {
            assert_eq!(read(ty, given.clone()), Ok(want), "{ty} {given}");
        }
    }

    #[test]
    fn values_that_mean_nothing_are_errors() {
        let read = reader();
        for (ty, given) in [
            ("Int", json!("many")),
            ("Int", json!(3.5)),
            ("Int", json!(3_000_000_000_i64)),
            ("Int", json!(true)),
            ("Long", json!(1e300)),
            ("Long", json!("")),
            ("Boolean", json!([])),
            ("ID", json!(true)),
            ("ID!", json!(null)),
            ("[ID!]!", json!([null])),
            ("Step", json!("MONTH")),
            ("Step", json!(1)),
            ("Pagination", json!({"pageSize": 1, "zzz": 1})),
            ("Pagination", json!({"pageNum": 1})),
            ("Pagination", json!(7)),
            ("Service", json!({})),
            ("Nothing", json!(1)),
        ] {
            assert!(read(ty, given.clone()).is_err(), "{ty} {given}");
        }
    }
}

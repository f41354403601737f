//! The schema, from the protocol's own definition files: a table of types for reading inputs and shaping answers, and
//! the same types registered with async-graphql for checking documents and for introspection.

use std::collections::HashMap;

use async_graphql::Value;
use async_graphql::dynamic::{
    self, Enum, Field, FieldFuture, FieldValue, InputObject, InputValue, Object, Scalar, TypeRef,
};
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, Type, TypeDefinition, TypeKind,
    TypeSystemDefinition,
};

/// Root of queries.
pub(super) const QUERY: &str = "Query";
/// Root of mutations.
pub(super) const MUTATION: &str = "Mutation";
/// Selections within selections; the deepest known document, introspection, has 13.
const MAX_DEPTH: usize = 64;

/// Why the definition files make no schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("cannot read the definitions in {file}")]
    Syntax {
        file: &'static str,
        source: Box<async_graphql::parser::Error>,
    },
    #[error("{file} uses a kind of type that this server does not know, for {name}")]
    Kind { file: &'static str, name: String },
    #[error("the definitions do not fit together")]
    Build(#[from] dynamic::SchemaError),
}

/// A field of an object.
#[derive(Debug)]
pub(super) struct FieldType {
    pub(super) ty: Type,
    pub(super) arguments: Vec<InputField>,
}

/// An argument, or a field of an input object.
#[derive(Debug)]
pub(super) struct InputField {
    pub(super) name: String,
    pub(super) ty: Type,
    pub(super) default: Option<Value>,
}

/// A named type.
#[derive(Debug)]
pub(super) enum Definition {
    Scalar,
    Enum(Vec<String>),
    Object(HashMap<String, FieldType>),
    Input(Vec<InputField>),
}

/// The schema in both forms.
#[derive(Debug)]
pub(super) struct Schema {
    types: HashMap<String, Definition>,
    pub(super) checker: dynamic::Schema,
}

impl Schema {
    /// Builds the schema from (file, definitions).
    pub(super) fn build(files: &[(&'static str, &str)]) -> Result<Schema, SchemaError> {
        let mut types: HashMap<String, Definition> = HashMap::new();
        for scalar in ["Int", "Float", "String", "Boolean", "ID"] {
            types.insert(scalar.to_owned(), Definition::Scalar);
        }
        let mut objects: Vec<Object> = Vec::new();
        let mut builder = dynamic::Schema::build(QUERY, Some(MUTATION), None)
            .limit_recursive_depth(MAX_DEPTH)
            .disable_suggestions();
        for (file, text) in files {
            let document = parse_schema(text).map_err(|source| SchemaError::Syntax {
                file,
                source: Box::new(source),
            })?;
            for definition in document.definitions {
                let TypeSystemDefinition::Type(definition) = definition else {
                    continue;
                };
                let TypeDefinition { name, kind, .. } = definition.node;
                let name = name.node.to_string();
                match kind {
                    TypeKind::Object(object) => {
                        let at = match objects.iter().position(|o| o.type_name() == name) {
                            Some(at) => at,
                            None => {
                                objects.push(Object::new(&name));
                                objects.len() - 1
                            }
                        };
                        let mut registered = objects.swap_remove(at);
                        let fields = types
                            .entry(name)
                            .or_insert_with(|| Definition::Object(HashMap::new()));
                        for field in object.fields {
                            let FieldDefinition {
                                name,
                                ty,
                                arguments,
                                ..
                            } = field.node;
                            let field = FieldType {
                                ty: ty.node,
                                arguments: inputs(arguments),
                            };
                            registered = registered.field(register(&name.node, &field));
                            if let Definition::Object(fields) = fields {
                                fields.insert(name.node.to_string(), field);
                            }
                        }
                        objects.push(registered);
                    }
                    TypeKind::InputObject(input) => {
                        let fields = inputs(input.fields);
                        let mut object = InputObject::new(&name);
                        for field in &fields {
                            object = object.field(input_value(field));
                        }
                        builder = builder.register(object);
                        types.insert(name, Definition::Input(fields));
                    }
                    TypeKind::Enum(e) => {
                        let values: Vec<String> = e
                            .values
                            .into_iter()
                            .map(|v| v.node.value.node.to_string())
                            .collect();
                        builder = builder.register(Enum::new(&name).items(&values));
                        types.insert(name, Definition::Enum(values));
                    }
                    TypeKind::Scalar => {
                        let is_long = |v: &Value| matches!(v, Value::Number(n) if n.is_i64());
                        builder = builder.register(Scalar::new(&name).validator(is_long));
                        types.insert(name, Definition::Scalar);
                    }
                    TypeKind::Interface(_) | TypeKind::Union(_) => {
                        return Err(SchemaError::Kind { file, name });
                    }
                }
            }
        }
        for object in objects {
            builder = builder.register(object);
        }
        Ok(Schema {
            types,
            checker: builder.finish()?,
        })
    }

    /// A type by name.
    pub(super) fn definition(&self, name: &str) -> Option<&Definition> {
        self.types.get(name)
    }

    /// A field of an object type.
    pub(super) fn field(&self, object: &str, field: &str) -> Option<&FieldType> {
        match self.types.get(object)? {
            Definition::Object(fields) => fields.get(field),
            _ => None,
        }
    }
}

/// Name of the innermost type.
pub(super) fn base_name(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(inner) => base_name(inner),
    }
}

fn inputs(definitions: Vec<async_graphql::Positioned<InputValueDefinition>>) -> Vec<InputField> {
    let field = |d: async_graphql::Positioned<InputValueDefinition>| InputField {
        name: d.node.name.node.to_string(),
        ty: d.node.ty.node,
        default: d.node.default_value.map(|v| v.node),
    };
    definitions.into_iter().map(field).collect()
}

fn type_ref(ty: &Type) -> TypeRef {
    let base = match &ty.base {
        BaseType::Named(name) => TypeRef::named(name.as_str()),
        BaseType::List(inner) => TypeRef::List(Box::new(type_ref(inner))),
    };
    if ty.nullable {
        base
    } else {
        TypeRef::NonNull(Box::new(base))
    }
}

fn input_value(field: &InputField) -> InputValue {
    let value = InputValue::new(&field.name, type_ref(&field.ty));
    match &field.default {
        Some(default) => value.default_value(default.clone()),
        None => value,
    }
}

/// The checker never has values: it only says whether a document fits, and answers introspection.
fn register(name: &str, field: &FieldType) -> Field {
    let mut registered = Field::new(name, type_ref(&field.ty), |_| {
        FieldFuture::Value(FieldValue::NONE)
    });
    for argument in &field.arguments {
        registered = registered.argument(input_value(argument));
    }
    registered
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use oap_proto::QUERY_SDL;
    use serde_json::Value as Json;

    use super::*;

    /// Type as it is written, from an introspection answer.
    fn written(ty: &Json) -> String {
        match ty["kind"].as_str() {
            Some("NON_NULL") => format!("{}!", written(&ty["ofType"])),
            Some("LIST") => format!("[{}]", written(&ty["ofType"])),
            _ => ty["name"].as_str().unwrap().to_owned(),
        }
    }

    fn texts(list: &Json, each: impl Fn(&Json) -> String) -> Vec<String> {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().map(each).collect()
    }

    /// `Type.field(argument: Type, …): Type` for everything that introspection shows.
    async fn introspected(schema: &Schema) -> BTreeSet<String> {
        let query = "{ __schema { types { name kind
            fields { name type { ...T } args { name type { ...T } } }
            inputFields { name type { ...T } } enumValues { name } } } }
            fragment T on __Type { kind name ofType { kind name ofType { kind name
            ofType { kind name ofType { kind name } } } } }";
        let response = schema.checker.execute(query).await;
        assert_eq!(response.errors, []);
        let data = response.data.into_json().unwrap();
        let mut seen = BTreeSet::new();
        for ty in data["__schema"]["types"].as_array().unwrap() {
            let name = ty["name"].as_str().unwrap();
            if name.starts_with("__") {
                continue;
            }
            let input =
                |i: &Json| format!("{}: {}", i["name"].as_str().unwrap(), written(&i["type"]));
            let field = |f: &Json| {
                let args = texts(&f["args"], input).join(", ");
                let field = f["name"].as_str().unwrap();
                format!("{name}.{field}({args}): {}", written(&f["type"]))
            };
            seen.extend(texts(&ty["fields"], field));
            seen.extend(texts(&ty["inputFields"], |i| {
                format!("{name}.{}", input(i))
            }));
            let value = |v: &Json| format!("{name}.{}", v["name"].as_str().unwrap());
            seen.extend(texts(&ty["enumValues"], value));
        }
        seen
    }

    /// The same, read line by line from the definition files without the parser.
    fn defined() -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        for (_, text) in QUERY_SDL {
            let mut open = None;
            for line in text.lines() {
                let line = line.split('#').next().unwrap_or_default().trim();
                let words: Vec<&str> = line.split_whitespace().collect();
                match (words.as_slice(), &open) {
                    ([.., kind @ ("type" | "input" | "enum"), name, "{"], _) => {
                        open = Some((*kind, (*name).to_owned()));
                    }
                    (["}"], _) => open = None,
                    ([], _) | (_, None) => {}
                    (_, Some(("type", name))) if !line.contains('(') => {
                        let (field, ty) = line.split_once(':').unwrap();
                        seen.insert(format!("{name}.{field}():{ty}"));
                    }
                    (_, Some((_, name))) => {
                        seen.insert(format!("{name}.{line}"));
                    }
                }
            }
        }
        seen
    }

    #[tokio::test]
    async fn introspection_shows_exactly_what_the_files_define() {
        let schema = Schema::build(QUERY_SDL).unwrap();
        let (seen, defined) = (introspected(&schema).await, defined());
        assert_eq!(seen.difference(&defined).collect::<Vec<_>>(), [""; 0]);
        assert_eq!(defined.difference(&seen).collect::<Vec<_>>(), [""; 0]);
        assert!(defined.len() > 300, "{}", defined.len());
    }

    #[test]
    fn faulty_definitions_name_their_file() {
        let built = |text| {
            Schema::build(&[("some-file", text)])
                .unwrap_err()
                .to_string()
        };
        assert!(built("type {").contains("some-file"));
        assert!(built("union A = B").contains("some-file"));
    }
}

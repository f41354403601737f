//! From a request to its answer: read, bound, check, resolve every root field, cut the values to what was selected.

use async_graphql::Variables;
use async_graphql::parser::parse_query;
use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, OperationType,
};
use futures_util::{StreamExt, stream};
use serde_json::{Map, Value, json};

use super::project::{Projector, Shape, ShapeField, Unfolder, without_nulls};
use super::schema::{MUTATION, QUERY, Schema, SchemaError};
use super::variables::{Declaration, read_all, read_fields};
use super::{limits, resolver};
use crate::query::{QueryContext, QueryError};
use crate::storage::Backend;

/// Root fields of one request that are resolved at the same time.
const PARALLEL_FIELDS: usize = 16;
/// Root fields of one request. Topology pages ask for a few hundred.
const MAX_ROOT_FIELDS: usize = 1000;

/// A question in GraphQL.
#[derive(Debug, Clone, Default)]
pub struct GraphqlRequest {
    pub query: String,
    pub variables: Map<String, Value>,
    /// Needed only if the document has several operations.
    pub operation_name: Option<String>,
}

/// The query protocol.
#[derive(Debug)]
pub struct Api {
    schema: Schema,
}

impl Api {
    /// Builds the schema of the protocol's definition files.
    pub fn build() -> Result<Api, SchemaError> {
        Ok(Api {
            schema: Schema::build(oap_proto::QUERY_SDL)?,
        })
    }

    /// Answers a request. What goes wrong is part of the answer: `errors` with messages, and no `data` if there is none.
    pub async fn execute<S: Backend>(
        &self,
        cx: &QueryContext<S>,
        request: GraphqlRequest,
    ) -> Value {
        match self.try_execute(cx, request).await {
            Ok(answer) => answer,
            Err(messages) => failure(messages),
        }
    }

    async fn try_execute<S: Backend>(
        &self,
        cx: &QueryContext<S>,
        request: GraphqlRequest,
    ) -> Result<Value, Vec<String>> {
        let one = |message: String| vec![message];
        limits::check_nesting(&request.query)
            .map_err(|why| one(format!("Invalid Syntax: {why}")))?;
        let document =
            parse_query(&request.query).map_err(|why| one(format!("Invalid Syntax: {why}")))?;
        limits::check_size(&document).map_err(one)?;
        let operation = select(&document, request.operation_name.as_deref()).map_err(one)?;
        let variables = self
            .read_variables(operation, request.variables)
            .map_err(one)?;
        let introspection = self
            .check(&document, &request.operation_name, &variables)
            .await?;

        let unfolder = Unfolder {
            schema: &self.schema,
            document: &document,
            variables: &variables,
        };
        let root = match operation.ty {
            OperationType::Mutation => MUTATION,
            _ => QUERY,
        };
        let shape = unfolder.unfold(root, &[&operation.selection_set.node]);
        if shape.fields.len() > MAX_ROOT_FIELDS {
            return Err(one(format!(
                "document asks for more than {MAX_ROOT_FIELDS} answers"
            )));
        }
        let run = Run {
            schema: &self.schema,
            cx,
            root,
            variables: &variables,
            introspection,
        };
        Ok(run.answer(&shape, operation.ty).await)
    }

    fn read_variables(
        &self,
        operation: &OperationDefinition,
        given: Map<String, Value>,
    ) -> Result<Map<String, Value>, String> {
        let declarations = operation.variable_definitions.iter().map(|d| {
            let default = d.node.default_value.as_ref();
            Declaration {
                name: &d.node.name.node,
                ty: &d.node.var_type.node,
                default: default.and_then(|v| v.node.clone().into_json().ok()),
            }
        });
        read_all(&self.schema, declarations, given)
    }

    /// Checks the document against the schema, and answers introspection on the way.
    async fn check(
        &self,
        document: &ExecutableDocument,
        operation_name: &Option<String>,
        variables: &Map<String, Value>,
    ) -> Result<Map<String, Value>, Vec<String>> {
        let variables = Variables::from_json(Value::Object(variables.clone()));
        let mut request = async_graphql::Request::new("").variables(variables);
        if let (DocumentOperations::Multiple(_), Some(name)) =
            (&document.operations, operation_name)
        {
            request = request.operation_name(name);
        }
        request.set_parsed_query(document.clone());
        let response = self.schema.checker.execute(request).await;
        // The checker has no values, which it reports at a path; what is wrong with the document itself has none.
        let faults: Vec<String> = response
            .errors
            .into_iter()
            .filter(|error| error.path.is_empty())
            .map(|error| format!("Validation error: {}", error.message))
            .collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        match response.data.into_json() {
            Ok(Value::Object(data)) => Ok(data),
            _ => Ok(Map::new()),
        }
    }
}

fn failure(messages: impl IntoIterator<Item = String>) -> Value {
    json!({ "errors": errors(messages) })
}

fn errors(messages: impl IntoIterator<Item = String>) -> Value {
    let error = |message: String| json!({ "message": message });
    messages.into_iter().map(error).collect()
}

/// The operation that is meant.
fn select<'a>(
    document: &'a ExecutableDocument,
    name: Option<&str>,
) -> Result<&'a OperationDefinition, String> {
    let mut operations = document.operations.iter();
    let operation = match (operations.next(), operations.next(), name) {
        (Some((_, only)), None, _) => Some(only),
        (_, _, Some(name)) => document
            .operations
            .iter()
            .find(|(n, _)| n.is_some_and(|n| n.as_str() == name))
            .map(|(_, operation)| operation),
        (_, _, None) => {
            return Err("document has several operations, operationName must name one".into());
        }
    };
    match operation {
        Some(operation) if operation.node.ty == OperationType::Subscription => {
            Err("there are no subscriptions".into())
        }
        Some(operation) => Ok(&operation.node),
        None => Err("document has no operation of this name".into()),
    }
}

/// One operation on its way.
struct Run<'a, S> {
    schema: &'a Schema,
    cx: &'a QueryContext<S>,
    root: &'static str,
    variables: &'a Map<String, Value>,
    introspection: Map<String, Value>,
}

impl<S: Backend> Run<'_, S> {
    /// Queries ask for their fields side by side; changes happen one after the other.
    async fn answer(mut self, shape: &Shape<'_>, ty: OperationType) -> Value {
        let values = match ty {
            OperationType::Mutation => {
                let mut values = Vec::with_capacity(shape.fields.len());
                for field in &shape.fields {
                    values.push(self.resolve(field).await);
                }
                values
            }
            _ => {
                let values: Vec<_> = shape.fields.iter().map(|f| self.resolve(f)).collect();
                stream::iter(values)
                    .buffered(PARALLEL_FIELDS)
                    .collect()
                    .await
            }
        };
        let mut projector = Projector::default();
        let mut data = Some(Map::new());
        for (field, value) in shape.fields.iter().zip(values) {
            match self.finish(field, value, &mut projector) {
                Some(Value::Null) => {}
                Some(value) => {
                    if let Some(data) = &mut data {
                        data.insert(field.key.to_owned(), value);
                    }
                }
                None => data = None,
            }
        }
        let mut answer = Map::new();
        if let Some(data) = data {
            answer.insert("data".to_owned(), Value::Object(data));
        }
        if !projector.errors.is_empty() {
            answer.insert("errors".to_owned(), errors(projector.errors));
        }
        Value::Object(answer)
    }

    /// The value of a root field that the schema defines.
    async fn resolve(&self, field: &ShapeField<'_>) -> Result<Value, String> {
        let name = field.field.name.node.as_str();
        let Some(definition) = self.schema.field(self.root, name) else {
            return Ok(Value::Null);
        };
        let mut given = Map::new();
        for (argument, value) in &field.field.arguments {
            let constant = value.node.clone().into_const_with(|variable| {
                let value = self.variables.get(variable.as_str()).cloned();
                value
                    .and_then(|v| async_graphql::Value::from_json(v).ok())
                    .ok_or(())
            });
            // A variable without a value leaves the argument away.
            if let Ok(value) = constant
                && let Ok(value) = value.into_json()
            {
                given.insert(argument.node.to_string(), value);
            }
        }
        let arguments = read_fields(self.schema, name, &definition.arguments, given)?;
        // Boxed: the futures of all use cases together would be one very large value.
        Box::pin(resolver::resolve(self.cx, self.root, name, arguments))
            .await
            .map_err(|error| {
                log_if_ours(name, &error);
                format!("Exception while fetching data (/{}) : {error}", field.key)
            })
    }

    /// The part of the answer; `None` if the whole answer is lost with it.
    fn finish(
        &mut self,
        field: &ShapeField<'_>,
        value: Result<Value, String>,
        projector: &mut Projector,
    ) -> Option<Value> {
        let Some(ty) = field.ty else {
            return Some(match field.field.name.node.as_str() {
                "__typename" => Value::from(self.root),
                _ => without_nulls(self.introspection.remove(field.key).unwrap_or_default()),
            });
        };
        match value {
            Ok(value) => projector.project(field, ty, &value),
            Err(message) => {
                projector.errors.push(message);
                ty.nullable.then_some(Value::Null)
            }
        }
    }
}

/// What a client asked wrongly is its own affair; what the store did not do is worth a line.
fn log_if_ours(field: &str, error: &QueryError) {
    if let QueryError::Storage(error) = error {
        tracing::warn!(query.field = field, %error, "query failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::service::fake::{FakeStore, context};
    use crate::storage::ServiceTraffic;

    async fn ask(store: FakeStore, query: &str, variables: Value) -> Value {
        let request = GraphqlRequest {
            query: query.into(),
            variables: variables.as_object().cloned().unwrap_or_default(),
            operation_name: None,
        };
        let api = Api::build().unwrap();
        api.execute(&context(store), request).await
    }

    fn store() -> FakeStore {
        let service = |name: &str, node_type| ServiceTraffic {
            name: name.into(),
            node_type,
        };
        FakeStore {
            services: vec![service("a", 0), service("db", 1)],
            ..FakeStore::default()
        }
    }

    const DAY: &str = r#"{start: "2020-09-15", end: "2020-09-16", step: DAY}"#;

    #[tokio::test]
    async fn fields_aliases_and_fragments_come_in_the_order_of_the_document() {
        let query =
            "query q($d: Duration!) { ...A, v: version __typename time: getTimeInfo { timezone } }
            fragment A on Query { list: getAllServices(duration: $d) { key: id, name } }";
        let duration = json!({"d": {"start": "x", "end": "y", "step": "DAY"}, "other": 1});
        let answer = ask(store(), query, duration).await;
        let want = r#"{"data":{"list":[{"key":"YQ==.1","name":"a"}],"v":"8.0","__typename":"Query","time":{"timezone":"+0000"}}}"#;
        assert_eq!(answer.to_string(), want);
    }

    #[tokio::test]
    async fn a_failed_field_is_left_out_or_takes_everything_along() {
        let nullable = r#"{ version getEndpointInfo(endpointId: "bad") { id } }"#;
        let answer = ask(store(), nullable, json!({})).await;
        assert_eq!(answer["data"], json!({"version": "8.0"}));
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(
            message.starts_with("Exception while fetching data (/getEndpointInfo) : "),
            "{message}"
        );
        assert_eq!(answer["errors"][0].as_object().unwrap().len(), 1);

        let type_of_database =
            format!("{{ version getAllDatabases(duration: {DAY}) {{ id type }} }}");
        let answer = ask(store(), &type_of_database, json!({})).await;
        assert_eq!(answer.get("data"), None);
        assert_eq!(answer["errors"].as_array().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_named() {
        let away = FakeStore {
            is_away: true,
            ..FakeStore::default()
        };
        let query =
            format!("{{ version getGlobalTopology(duration: {DAY}) {{ nodes {{ id }} }} }}");
        let answer = ask(away, &query, json!({})).await;
        assert_eq!(answer["data"], json!({"version": "8.0"}));
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains("fake store is away"), "{message}");
    }

    #[tokio::test]
    async fn documents_that_do_not_fit_are_errors_without_data() {
        let d = json!({"d": {"start": "2020-09-15", "end": "2020-09-16", "step": "DAY"}});
        let s =
            |step: &str| json!({"d": {"start": "2020-09-15", "end": "2020-09-16", "step": step}});
        for (query, variables) in [
            ("{ nope }", json!({})),
            ("{ version", json!({})),
            ("", json!({})),
            ("query q($duration: Duration!) {}", json!({})),
            ("{ version { x } }", json!({})),
            ("{ getTimeInfo }", json!({})),
            ("{ getAllServices(foo: 1) { id } }", json!({})),
            ("{ getAllServices(duration: $d) { id } }", d.clone()),
            ("query($d: Duration!) { version }", d.clone()),
            (
                "query($d: Duration!) { getAllServices(duration: $d) { id nope } }",
                d.clone(),
            ),
            (
                "query($d: Duration!) { getAllServices(duration: $d) { id } }",
                json!({}),
            ),
            (
                "query($d: Duration!) { getAllServices(duration: $d) { id } }",
                json!({"d": null}),
            ),
            (
                "query($d: Duration!) { getAllServices(duration: $d) { id } }",
                s("MONTH"),
            ),
            (
                "query($d: Nope) { getAllServices(duration: $d) { id } }",
                d.clone(),
            ),
            ("query($d: Nope = 1) { version }", json!({})),
            ("query($d: [Nope!] = [1]) { version }", json!({})),
            (
                "query($d: String) { getAllServices(duration: $d) { id } }",
                json!({"d": "x"}),
            ),
            (
                r#"{ getServiceTopN(name: "a", topN: "3", duration: {start: "a", end: "b", step: DAY}, order: DES) { id } }"#,
                json!({}),
            ),
            (
                r#"{ getServiceTopN(name: "a", topN: 3, duration: {start: "a", end: "b", step: DAY}, order: UP) { id } }"#,
                json!({}),
            ),
            ("subscription { version }", json!({})),
            ("query a { version } query b { version }", json!({})),
            ("{ ...F } fragment F on Query { ...F }", json!({})),
        ] {
            let answer = ask(store(), query, variables).await;
            assert_eq!(answer.get("data"), None, "{query}");
            assert!(
                !answer["errors"][0]["message"].as_str().unwrap().is_empty(),
                "{query}"
            );
        }
    }

    #[tokio::test]
    async fn one_of_several_operations_can_be_named() {
        let api = Api::build().unwrap();
        let request = GraphqlRequest {
            query: "query a { version } query b { n: version }".into(),
            operation_name: Some("b".into()),
            ..GraphqlRequest::default()
        };
        let answer = api.execute(&context(store()), request).await;
        assert_eq!(answer, json!({"data": {"n": "8.0"}}));
    }

    #[tokio::test]
    async fn introspection_and_profiling_have_their_answers() {
        let query = r#"{ i: __type(name: "Step") { kind enumValues { name } } getProfiledSegment(segmentId: "x") { spans { spanId } } }"#;
        let answer = ask(store(), query, json!({})).await;
        assert_eq!(answer["data"]["i"]["kind"], "ENUM");
        assert_eq!(answer["data"]["i"]["enumValues"][0], json!({"name": "DAY"}));
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(
            message.contains("profiling is not supported yet"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn a_default_stands_in_for_a_variable_without_value() {
        let query = r#"query($k: String! = "a", $i: Boolean) { searchService(serviceCode: $k) { name }
            getAllTemplates(includingDisabled: $i) { name } }"#;
        let answer = ask(store(), query, json!({})).await;
        let want = json!({"searchService": {"name": "a"}, "getAllTemplates": [{"name": "APM"}]});
        assert_eq!(answer, json!({"data": want}));
    }
}

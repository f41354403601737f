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
use crate::query::{Cuts, QueryContext, QueryError, Share};
use crate::storage::{Backend, StorageError};
use crate::telemetry::Throttle;

/// Root fields of one request that are resolved at the same time.
const PARALLEL_FIELDS: usize = 16;
/// Root fields of one request. Topology pages ask for a few hundred.
const MAX_ROOT_FIELDS: usize = 1000;

/// Errors of one answer, and characters of each: a document can be wrong in very many places, and is quoted.
const MAX_ERRORS: usize = 50;
const MAX_ERROR_CHARS: usize = 1000;

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
    /// What limits keep from it is noted in `cuts`; its values have their room in `share`.
    pub async fn execute<S: Backend>(
        &self,
        cx: &QueryContext<S>,
        cuts: &Cuts,
        share: &Share,
        request: GraphqlRequest,
    ) -> Value {
        match self.try_execute(cx, cuts, share, request).await {
            Ok(answer) => answer,
            Err(messages) => failure(messages),
        }
    }

    async fn try_execute<S: Backend>(
        &self,
        cx: &QueryContext<S>,
        cuts: &Cuts,
        share: &Share,
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
            cuts,
            share,
            root,
            variables: &variables,
        };
        Ok(run.answer(&shape, operation.ty, introspection).await)
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
    let error = |message: String| {
        let message: String = message.chars().take(MAX_ERROR_CHARS).collect();
        json!({ "message": message })
    };
    messages.into_iter().take(MAX_ERRORS).map(error).collect()
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
    cuts: &'a Cuts,
    share: &'a Share,
    root: &'static str,
    variables: &'a Map<String, Value>,
}

impl<S: Backend> Run<'_, S> {
    /// Queries ask for their fields side by side; changes happen one after the other.
    async fn answer(
        &self,
        shape: &Shape<'_>,
        ty: OperationType,
        mut introspection: Map<String, Value>,
    ) -> Value {
        let parallel = match ty {
            OperationType::Mutation => 1,
            _ => PARALLEL_FIELDS,
        };
        let resolving: Vec<_> = shape.fields.iter().map(|f| self.part(f)).collect();
        let mut parts = stream::iter(resolving).buffered(parallel);
        let mut messages = Vec::new();
        let mut data = Some(Map::new());
        for field in &shape.fields {
            let Some((part, errors)) = parts.next().await else {
                break;
            };
            messages.extend(errors);
            let part = match field.ty {
                Some(_) => part,
                None => Some(self.meta(field, &mut introspection)),
            };
            match part {
                Some(Value::Null) => {}
                Some(value) => {
                    if let Some(data) = &mut data {
                        data.insert(field.key.to_owned(), value);
                    }
                }
                None => data = None,
            }
            if let Some(full) = self.share.full() {
                return failure([full.to_string()]);
            }
        }
        let mut answer = Map::new();
        if let Some(data) = data {
            answer.insert("data".to_owned(), Value::Object(data));
        }
        if !messages.is_empty() {
            answer.insert("errors".to_owned(), errors(messages));
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
        Box::pin(resolver::resolve(
            self.cx, self.cuts, self.root, name, arguments,
        ))
        .await
        .map_err(|error| {
            log_if_ours(name, &error, &self.cx.metrics.damage_log);
            format!("Exception while fetching data (/{}) : {error}", field.key)
        })
    }

    /// What every schema has: the name of the root, and introspection.
    fn meta(&self, field: &ShapeField<'_>, introspection: &mut Map<String, Value>) -> Value {
        match field.field.name.node.as_str() {
            "__typename" => Value::from(self.root),
            _ => without_nulls(introspection.remove(field.key).unwrap_or_default()),
        }
    }

    /// The part of the answer that a root field is, and what is wrong with it; `None` if the whole answer is lost with it.
    /// A value is cut to what was selected as soon as it is there, so that hardly a whole one is held.
    async fn part(&self, field: &ShapeField<'_>) -> (Option<Value>, Vec<String>) {
        let Some(ty) = field.ty else {
            return (Some(Value::Null), Vec::new());
        };
        // Nothing more is asked for an answer that is refused.
        if self.share.full().is_some() {
            return (Some(Value::Null), Vec::new());
        }
        match self.resolve(field).await {
            Ok(value) => {
                let mut projector = Projector::new(self.share);
                let part = projector.project(field, ty, &value);
                (part, projector.errors)
            }
            Err(message) => (ty.nullable.then_some(Value::Null), vec![message]),
        }
    }
}

/// What a client asked wrongly is its own affair, and a store that is away says so itself; data that a store refuses to
/// give or cannot read is worth a line.
fn log_if_ours(field: &str, error: &QueryError, log: &Throttle) {
    match error {
        QueryError::Storage(error @ (StorageError::Refused(_) | StorageError::Damaged(_))) => {
            if let Some(held_back) = log.admit() {
                tracing::warn!(query.field = field, %error, held_back, "query failed");
            }
        }
        error => tracing::debug!(query.field = field, %error, "query failed"),
    }
}

#[cfg(test)]
mod tests;

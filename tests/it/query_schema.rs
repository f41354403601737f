//! The served schema compared with a table of what 8.1.0 serves: every field, argument, input and enum with its type and
//! nullability (8.1.0 spec, query 1.1 to 1.5), both ways.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::graphql::GraphQl;
use crate::server::{Store, TestServer};

const INTROSPECTION: &str = "{ __schema { types { name kind enumValues { name }
    inputFields { name defaultValue type { ...T } }
    fields { name args { name defaultValue type { ...T } } type { ...T } } } } }
    fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }";

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_that_of_the_original() -> Result<()> {
    let server = TestServer::builder("query_schema", Store::Embedded);
    let server = server.start().await?;
    let schema = GraphQl::new(&server.http())?
        .ask(INTROSPECTION, json!({}))
        .await?;
    server.stop().await?;
    let types = schema["types"].as_array().context("no types")?;
    let mut served = BTreeSet::new();
    for ty in types {
        served.extend(lines(ty).with_context(|| ty.to_string())?);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/query-8.1.0.txt");
    let table = std::fs::read_to_string(path)?;
    let table: BTreeSet<String> = table.lines().map(str::to_owned).collect();
    let missing: Vec<_> = table.difference(&served).collect();
    let additional: Vec<_> = served.difference(&table).collect();
    ensure!(
        missing.is_empty() && additional.is_empty(),
        "missing {missing:#?}, additional {additional:#?}"
    );
    Ok(())
}

/// What a type says, in the form of the table; nothing for scalars and for types of introspection.
fn lines(ty: &Value) -> Result<Vec<String>> {
    let name = ty["name"].as_str().context("no name")?;
    if name.starts_with("__") {
        return Ok(vec![]);
    }
    if let Some(values) = ty["enumValues"].as_array() {
        let mut values: Vec<&str> = values.iter().filter_map(|v| v["name"].as_str()).collect();
        values.sort_unstable();
        return Ok(vec![format!("enum {name}: {}", values.join(" "))]);
    }
    let each = |members: &Value, line: fn(&Value) -> Result<String>, kind: &str| {
        let members = members.as_array().into_iter().flatten();
        members
            .map(|m| Ok(format!("{kind} {name}.{}", line(m)?)))
            .collect::<Result<Vec<String>>>()
    };
    let mut all = each(&ty["fields"], field, "field")?;
    all.extend(each(&ty["inputFields"], typed, "input")?);
    Ok(all)
}

fn field(field: &Value) -> Result<String> {
    let arguments = field["args"].as_array().context("no arguments")?;
    let mut arguments: Vec<String> = arguments.iter().map(typed).collect::<Result<_>>()?;
    arguments.sort_unstable();
    let arguments = match arguments.is_empty() {
        true => String::new(),
        false => format!("({})", arguments.join(", ")),
    };
    let name = field["name"].as_str().context("no name")?;
    Ok(format!("{name}{arguments}: {}", written(&field["type"])?))
}

/// An argument or a field of an input.
fn typed(member: &Value) -> Result<String> {
    let name = member["name"].as_str().context("no name")?;
    let default = match member["defaultValue"].as_str() {
        Some(default) => format!(" = {default}"),
        None => String::new(),
    };
    Ok(format!("{name}: {}{default}", written(&member["type"])?))
}

/// A type as it is written in a document.
fn written(ty: &Value) -> Result<String> {
    Ok(match ty["kind"].as_str().context("no kind")? {
        "NON_NULL" => format!("{}!", written(&ty["ofType"])?),
        "LIST" => format!("[{}]", written(&ty["ofType"])?),
        _ => ty["name"].as_str().context("no name")?.to_owned(),
    })
}

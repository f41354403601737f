//! Questions about what the small segments of a test became.

use anyhow::{Context, Result};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::graphql::GraphQl;

/// A range that begins with the bucket of an instant and has the next one as well, for a range of one is refused by some
/// questions. `step` is `MINUTE`, `HOUR` or `DAY`.
pub fn buckets_from(at_ms: i64, zone: &str, step: &str) -> Result<Value> {
    let (format, next) = match step {
        "DAY" => ("%Y-%m-%d", 24.hours()),
        "HOUR" => ("%Y-%m-%d %H", 1.hour()),
        _ => ("%Y-%m-%d %H%M", 1.minute()),
    };
    let zone = TimeZone::get(zone)?;
    let text = |at: Timestamp| at.to_zoned(zone.clone()).strftime(format).to_string();
    let at = Timestamp::from_millisecond(at_ms)?;
    Ok(json!({"start": text(at), "end": text(at + next), "step": step}))
}

/// Value of a metric of a service in the first bucket of a range; 0 if there is none.
pub async fn service_value(
    graphql: &GraphQl,
    metric: &str,
    service: &str,
    duration: &Value,
) -> Result<i64> {
    let query = "query($c: MetricsCondition!, $d: Duration!) {
        readMetricsValues(condition: $c, duration: $d) { values { values { value } } } }";
    let entity = json!({"scope": "Service", "serviceName": service, "normal": true});
    let variables = json!({"c": {"name": metric, "entity": entity}, "d": duration});
    let answer = graphql.ask(query, variables).await?;
    let value = &answer["values"]["values"][0]["value"];
    value
        .as_i64()
        .with_context(|| format!("{metric}: {answer}"))
}

/// How many segments of a service are stored.
pub async fn trace_count(graphql: &GraphQl, service: &str, duration: &Value) -> Result<u64> {
    let query = "query($c: TraceQueryCondition) {
        queryBasicTraces(condition: $c) { traces { segmentId } total } }";
    let condition = json!({
        "serviceId": oap::model::id::service_id(service, true), "queryDuration": duration,
        "traceState": "ALL", "queryOrder": "BY_START_TIME",
        "paging": {"pageNum": 1, "pageSize": 10, "needTotal": true},
    });
    let answer = graphql.ask(query, json!({"c": condition})).await?;
    answer["total"].as_u64().context("no total")
}

/// Fails until the store has all that it needs to be written to.
pub async fn ensure_writable(graphql: &GraphQl) -> Result<()> {
    let change = "mutation { changeTemplate(setting: {
        name: \"no such template\", type: DASHBOARD, configuration: \"[]\", active: true}) { status } }";
    graphql.ask(change, json!({})).await.map(drop)
}

//! Whole requests against a store that a test fills.

use std::time::Duration;

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
    let cx = context(store);
    let share = cx.answers.begin();
    api.execute(&cx, &Cuts::default(), &share, request).await
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

    let type_of_database = format!("{{ version getAllDatabases(duration: {DAY}) {{ id type }} }}");
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
    let query = format!("{{ version getGlobalTopology(duration: {DAY}) {{ nodes {{ id }} }} }}");
    let answer = ask(away, &query, json!({})).await;
    assert_eq!(answer["data"], json!({"version": "8.0"}));
    let message = answer["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("fake store is away"), "{message}");
}

#[tokio::test]
async fn documents_that_do_not_fit_are_errors_without_data() {
    let d = json!({"d": {"start": "2020-09-15", "end": "2020-09-16", "step": "DAY"}});
    let s = |step: &str| json!({"d": {"start": "2020-09-15", "end": "2020-09-16", "step": step}});
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
async fn answers_to_very_wrong_documents_stay_small() {
    let nothing = format!("{{ {} }}", "nope ".repeat(9000));
    let answer = ask(store(), &nothing, json!({})).await;
    assert!(answer["errors"].as_array().unwrap().len() <= MAX_ERRORS);
    let text = "{ version } }".to_owned() + &"x".repeat(100_000);
    let answer = ask(store(), &text, json!({})).await;
    assert!(answer.to_string().len() < 2 * MAX_ERROR_CHARS);
}

#[tokio::test]
async fn an_answer_that_would_be_huge_is_none() {
    let service = ServiceTraffic {
        name: "a".into(),
        node_type: 0,
    };
    let many = FakeStore {
        services: vec![service; 1000],
        ..FakeStore::default()
    };
    let names: String = (0..1200).map(|i| format!("n{i}: name ")).collect();
    let query = format!("{{ version getAllServices(duration: {DAY}) {{ {names} }} }}");
    let answer = ask(many, &query, json!({})).await;
    let want =
        json!({"errors": [{"message": "answer has more than 500000 values, ask for fewer"}]});
    assert_eq!(answer, want);
}

#[tokio::test]
async fn one_of_several_operations_can_be_named() {
    let api = Api::build().unwrap();
    let request = GraphqlRequest {
        query: "query a { version } query b { n: version }".into(),
        operation_name: Some("b".into()),
        ..GraphqlRequest::default()
    };
    let cx = context(store());
    let share = cx.answers.begin();
    let answer = api.execute(&cx, &Cuts::default(), &share, request).await;
    assert_eq!(answer, json!({"data": {"n": "8.0"}}));
}

#[tokio::test]
async fn introspection_and_unknown_segments_have_their_answers() {
    let query = r#"{ i: __type(name: "Step") { kind enumValues { name } } getProfiledSegment(segmentId: "x") { spans { spanId } } }"#;
    let answer = ask(store(), query, json!({})).await;
    assert_eq!(answer["data"]["i"]["kind"], "ENUM");
    assert_eq!(answer["data"]["i"]["enumValues"][0], json!({"name": "DAY"}));
    assert_eq!(answer["data"].get("getProfiledSegment"), None);
    assert_eq!(answer.get("errors"), None);
}

#[tokio::test]
async fn a_default_stands_in_for_a_variable_without_value() {
    let query = r#"query($k: String! = "a", $i: Boolean) { searchService(serviceCode: $k) { name }
        getAllTemplates(includingDisabled: $i) { name } }"#;
    let answer = ask(store(), query, json!({})).await;
    let want = json!({"searchService": {"name": "a"}, "getAllTemplates": [{"name": "APM"}]});
    assert_eq!(answer, json!({"data": want}));
}

#[tokio::test(start_paused = true)]
async fn fields_of_a_query_are_asked_for_side_by_side() {
    let slow = FakeStore {
        delay: Duration::from_secs(1),
        ..store()
    };
    let fields: String = (0..2 * PARALLEL_FIELDS)
        .map(|i| format!("a{i}: getAllServices(duration: {DAY}) {{ name }} "))
        .collect();
    let started = tokio::time::Instant::now();
    let answer = ask(slow, &format!("{{ {fields} }}"), json!({})).await;
    assert_eq!(
        answer["data"].as_object().unwrap().len(),
        2 * PARALLEL_FIELDS
    );
    assert_eq!(started.elapsed(), Duration::from_secs(2));
}

#[tokio::test]
async fn a_topology_of_hundreds_of_calls_is_one_request_and_thousands_of_fields_are_none() {
    let fields = |count: usize| {
        let fields = (0..count).map(|i| format!("a{i}: version "));
        format!("{{ {} }}", fields.collect::<String>())
    };
    let answer = ask(store(), &fields(MAX_ROOT_FIELDS), json!({})).await;
    assert_eq!(answer["data"].as_object().unwrap().len(), MAX_ROOT_FIELDS);
    let answer = ask(store(), &fields(MAX_ROOT_FIELDS + 1), json!({})).await;
    assert_eq!(answer.get("data"), None);
}

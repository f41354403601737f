//! What the original's parser takes, what it does not, and that nothing makes ours panic.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn span(body: &str) -> Result<SpanObject, String> {
    let text = format!(r#"{{"spans":[{body}]}}"#);
    let mut segment = segment(&text).map_err(|error| error.to_string())?;
    Ok(segment.spans.remove(0))
}

#[test]
fn a_whole_segment_is_read() {
    let text = r#"{"traceId":"t","traceSegmentId":"s","service":"svc","serviceInstance":"i","isSizeLimited":true,
        "spans":[{"spanId":1,"parentSpanId":-1,"startTime":"1598000000000","endTime":1598000000042,
        "operationName":"/a","peer":"p:1","spanType":"Exit","spanLayer":3,"componentId":2,"isError":true,
        "skipAnalysis":true,"tags":[{"key":"k","value":"v"}],
        "logs":[{"time":"7","data":[{"key":"event","value":"error"}]}],
        "refs":[{"refType":"CrossThread","traceId":"t","parentTraceSegmentId":"ps","parentSpanId":2,
        "parentService":"psvc","parentServiceInstance":"pi","parentEndpoint":"/p","networkAddressUsedAtPeer":"h:2"}]}]}"#;
    let pair = |key: &str, value: &str| KeyStringValuePair {
        key: key.into(),
        value: value.into(),
    };
    let wanted = SegmentObject {
        trace_id: "t".into(),
        trace_segment_id: "s".into(),
        service: "svc".into(),
        service_instance: "i".into(),
        is_size_limited: true,
        spans: vec![SpanObject {
            span_id: 1,
            parent_span_id: -1,
            start_time: 1_598_000_000_000,
            end_time: 1_598_000_000_042,
            refs: vec![SegmentReference {
                ref_type: RefType::CrossThread.into(),
                trace_id: "t".into(),
                parent_trace_segment_id: "ps".into(),
                parent_span_id: 2,
                parent_service: "psvc".into(),
                parent_service_instance: "pi".into(),
                parent_endpoint: "/p".into(),
                network_address_used_at_peer: "h:2".into(),
            }],
            operation_name: "/a".into(),
            peer: "p:1".into(),
            span_type: SpanType::Exit.into(),
            span_layer: SpanLayer::Http.into(),
            component_id: 2,
            is_error: true,
            tags: vec![pair("k", "v")],
            logs: vec![Log {
                time: 7,
                data: vec![pair("event", "error")],
            }],
            skip_analysis: true,
        }],
    };
    assert_eq!(segment(text).unwrap(), wanted);
    let list = segments(&format!("[{text},{{}}]")).unwrap();
    assert_eq!(list, [wanted.encode_to_vec(), Vec::new()]);
}

#[test]
fn scalars_are_coerced_as_the_original_does() {
    let with = |set: fn(&mut SpanObject)| {
        let mut span = SpanObject::default();
        set(&mut span);
        span
    };
    for (body, wanted) in [
        ("{}", with(|_| {})),
        (r#"{"spanId":null,"tags":null,"peer":null}"#, with(|_| {})),
        (
            r#"{"new":{"deep":[1,{}]},"peer":"p"}"#,
            with(|s| s.peer = "p".into()),
        ),
        (r#"{"spanId":1,"spanId":2}"#, with(|s| s.span_id = 2)),
        (r#"{"tags":[{}],"tags":[]}"#, with(|_| {})),
        (r#"{"spanId":"3"}"#, with(|s| s.span_id = 3)),
        (r#"{"spanId":4.0}"#, with(|s| s.span_id = 4)),
        (r#"{"spanId":"5e1"}"#, with(|s| s.span_id = 50)),
        (
            r#"{"startTime":-9223372036854775808}"#,
            with(|s| s.start_time = i64::MIN),
        ),
        (
            r#"{"startTime":"9223372036854775807"}"#,
            with(|s| s.start_time = i64::MAX),
        ),
        (r#"{"peer":12}"#, with(|s| s.peer = "12".into())),
        (r#"{"peer":true}"#, with(|s| s.peer = "true".into())),
        (r#"{"p\u0065er":"\u00e9"}"#, with(|s| s.peer = "é".into())),
        (r#"{"isError":"true"}"#, with(|s| s.is_error = true)),
        (r#"{"spanType":"Local"}"#, with(|s| s.span_type = 2)),
        (r#"{"spanType":"2"}"#, with(|s| s.span_type = 2)),
        (r#"{"spanType":77}"#, with(|s| s.span_type = 77)),
        (r#"{"spanType":"local"}"#, with(|_| {})),
        (r#"{"spanType":true}"#, with(|_| {})),
        (r#"{"spanType":99999999999}"#, with(|_| {})),
    ] {
        assert_eq!(span(body), Ok(wanted), "{body}");
    }
}

#[test]
fn a_wrong_type_fails_the_text() {
    for body in [
        "null",
        "[]",
        "1",
        r#"{"spanId":true}"#,
        r#"{"spanId":"x"}"#,
        r#"{"spanId":""}"#,
        r#"{"spanId":1.5}"#,
        r#"{"spanId":2147483648}"#,
        r#"{"startTime":9223372036854775808}"#,
        r#"{"startTime":1e300}"#,
        r#"{"isError":1}"#,
        r#"{"isError":"yes"}"#,
        r#"{"peer":{}}"#,
        r#"{"peer":[]}"#,
        r#"{"spanType":{}}"#,
        r#"{"spanType":[]}"#,
        r#"{"tags":{}}"#,
        r#"{"tags":[null]}"#,
        r#"{"tags":"t"}"#,
    ] {
        assert!(span(body).is_err(), "{body}");
    }
    for text in ["", "null", "[]", "{", "{} {}", "\"text\""] {
        assert!(segment(text).is_err(), "{text}");
    }
    for text in ["", "null", "{}", "[null]", "[{}"] {
        assert!(segments(text).is_err(), "{text}");
    }
}

#[test]
fn a_ping_is_the_short_form_of_properties() {
    let ping = instance_ping(r#"{"service":"s","serviceInstance":"i","properties":[]}"#).unwrap();
    assert_eq!(
        (ping.service.as_str(), ping.service_instance.as_str()),
        ("s", "i")
    );
    assert!(instance_ping(r#"{"properties":{}}"#).is_err());
}

#[test]
fn objects_are_bounded() {
    let text = format!(r#"{{"spans":[{}{{}}]}}"#, "{},".repeat(MAX_OBJECTS));
    let error = segment(&text).unwrap_err();
    assert!(error.to_string().starts_with("more than"), "{error}");
    assert!(segment(&"[".repeat(100_000)).is_err());
    assert!(segment(&format!(r#"{{"x":{}"#, "[".repeat(100_000))).is_err());
}

/// Trees out of the names and values that mean something.
fn trees() -> impl Strategy<Value = Value> {
    let scalars = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof!["Entry", "Http", "-?[0-9]{1,20}", ".{0,8}"].prop_map(Value::from),
    ];
    scalars.prop_recursive(5, 64, 8, |inner| {
        let names = prop::sample::select(vec![
            "traceId",
            "spans",
            "refs",
            "tags",
            "logs",
            "data",
            "key",
            "value",
            "spanId",
            "startTime",
            "spanType",
            "isError",
            "time",
            "properties",
            "service",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((names, inner), 0..8)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_tree_panics(tree in trees()) {
        let text = json!({"spans": tree, "properties": tree}).to_string();
        drop(segment(&text));
        drop(segments(&json!([tree]).to_string()));
        drop(instance_properties(&text));
    }

    #[test]
    fn a_list_is_its_elements_or_nothing(trees in prop::collection::vec(trees(), 0..4)) {
        let each: Result<Vec<Bytes>, _> = trees
            .iter()
            .map(|tree| segment(&tree.to_string()).map(|segment| segment.encode_to_vec().into()))
            .collect();
        let list = segments(&Value::from(trees).to_string());
        prop_assert_eq!(list.ok(), each.ok());
    }
}

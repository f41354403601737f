//! Requests over HTTP against a store that a test fills.

use std::io::Read;

use axum::body::to_bytes;
use futures_util::{StreamExt as _, stream};
use oap_proto::agent::{SegmentObject, SpanObject};
use prost::Message;
use tower::ServiceExt;

use super::*;
use crate::model::row::Cell;
use crate::query::Answers;
use crate::query::service::fake::{FakeStore, context, row, schema};
use crate::storage::{Relation, SegmentData, ServiceTraffic};

async fn respond(
    settings: HttpSettings,
    store: FakeStore,
    method: &str,
    path: &str,
    body: &str,
    gzip: bool,
) -> Response<Body> {
    let cx = Arc::new(context(store));
    let app = router(Api::build().unwrap(), cx, settings).fallback(fallback);
    let mut request = Request::builder().method(method).uri(path);
    if gzip {
        request = request.header("accept-encoding", "gzip, deflate, br");
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    app.oneshot(request).await.unwrap()
}

async fn send(
    settings: HttpSettings,
    store: FakeStore,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String, String) {
    let response = respond(settings, store, method, path, body, false).await;
    let status = response.status().as_u16();
    let content_type = response.headers().get(CONTENT_TYPE).cloned();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let content_type = content_type.map_or_else(String::new, |t| t.to_str().unwrap().into());
    (
        status,
        content_type,
        String::from_utf8(body.to_vec()).unwrap(),
    )
}

#[tokio::test]
async fn statuses_are_those_of_the_original() {
    let version = r#"{"query":"{ version }"}"#;
    for (method, path, body, status) in [
        ("GET", "/graphql", "", 500),
        ("POST", "/graphql", "not json", 500),
        ("POST", "/graphql", "", 500),
        ("POST", "/graphql", "{}", 500),
        ("POST", "/graphql", "[]", 500),
        ("POST", "/graphql", r#"{"query":null}"#, 500),
        (
            "POST",
            "/graphql",
            r#"{"query":"{version}","variables":[]}"#,
            500,
        ),
        ("POST", "/graphql", version, 200),
        ("POST", "/graphql", r#"{"query":"{ nope }"}"#, 200),
        ("PUT", "/graphql", version, 405),
        ("OPTIONS", "/graphql", "", 200),
        ("POST", "/graphql/", version, 405),
        ("POST", "/nothing", "{}", 405),
        ("GET", "/nothing", "", 404),
    ] {
        let (seen, _, _) = send(
            HttpSettings::default(),
            FakeStore::default(),
            method,
            path,
            body,
        )
        .await;
        assert_eq!(seen, status, "{method} {path} {body}");
    }
}

#[tokio::test]
async fn answers_are_json_with_a_charset() {
    let body = r#"{"query":"{ version }","variables":null}"#;
    let (_, content_type, answer) = send(
        HttpSettings::default(),
        FakeStore::default(),
        "POST",
        "/graphql",
        body,
    )
    .await;
    assert_eq!(content_type, "application/json;charset=utf-8");
    assert_eq!(answer, r#"{"data":{"version":"8.0"}}"#);
}

#[tokio::test]
async fn body_and_time_are_limited() {
    let small = HttpSettings {
        max_body_bytes: 10,
        ..HttpSettings::default()
    };
    let body = r#"{"query":"{ checkHealth { score } }"}"#;
    let (status, ..) = send(small, FakeStore::default(), "POST", "/graphql", body).await;
    assert_eq!(status, 413);

    let short = HttpSettings {
        timeout: Duration::from_millis(20),
        ..HttpSettings::default()
    };
    let stuck = FakeStore {
        is_stuck: true,
        ..FakeStore::default()
    };
    let (status, _, answer) = send(short, stuck, "POST", "/graphql", body).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer,
        r#"{"errors":[{"message":"no answer within 0.02 s"}]}"#
    );
}

#[tokio::test]
async fn large_answers_are_compressed_for_who_takes_that() {
    let service = |i: usize| ServiceTraffic {
        name: format!("service-{i}"),
        node_type: 0,
    };
    for (count, gzip, is_compressed) in [(2, true, false), (200, true, true), (200, false, false)] {
        let store = FakeStore {
            services: (0..count).map(service).collect(),
            ..FakeStore::default()
        };
        let body = r#"{"query":"{ getAllServices(duration: {start: \"2020-09-15\", end: \"2020-09-16\", step: DAY}) { id name } }"}"#;
        let settings = HttpSettings::default();
        let response = respond(settings, store, "POST", "/graphql", body, gzip).await;
        let encoding = response.headers().get("content-encoding").cloned();
        assert_eq!(encoding.is_some_and(|e| e == "gzip"), is_compressed);
        assert_eq!(response.headers()[CONTENT_TYPE], JSON);
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let mut text = String::new();
        match is_compressed {
            true => flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text),
            false => (&*bytes).read_to_string(&mut text),
        }
        .unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        let services = answer["data"]["getAllServices"].as_array().unwrap();
        assert_eq!(services.len(), count);
    }
}

#[tokio::test]
async fn an_answer_that_lacks_something_says_so_in_a_header() {
    let spans = vec![SpanObject::default(); 50_000];
    let segment = |i: usize| SegmentData {
        start_time: 0,
        segment_id: i.to_string(),
        service_id: "YQ==.1".into(),
        instance_id: "YQ==.1_aQ==".into(),
        data: SegmentObject {
            spans: spans.clone(),
            ..SegmentObject::default()
        }
        .encode_to_vec()
        .into(),
    };
    let body = r#"{"query":"{ queryTrace(traceId: \"t\") { spans { spanId } } }"}"#;
    for (count, is_cut) in [(1, false), (20, true)] {
        let store = FakeStore {
            segments: (0..count).map(segment).collect(),
            ..FakeStore::default()
        };
        let settings = HttpSettings::default();
        let response = respond(settings, store, "POST", "/graphql", body, false).await;
        let header = response.headers().get(TRUNCATED);
        let header = header.map(|h| h.to_str().unwrap().to_owned());
        match header.as_deref().and_then(|h| h.split_once('/')) {
            Some((shown, total)) => {
                assert!(is_cut && total == "20");
                assert!((1..20).contains(&shown.parse().unwrap()));
            }
            None => assert!(!is_cut, "{header:?}"),
        }
    }
}

#[tokio::test]
async fn every_answer_that_a_limit_cuts_says_so() {
    let schema = schema();
    let duration =
        r#"duration: {start: \"2020-09-15 1058\", end: \"2020-09-15 1100\", step: MINUTE}"#;
    let relation = |n: usize| Relation {
        entity_id: format!("YQ==.1-{n:04}.1"),
        component_id: 1,
    };
    let streams = [
        "service_relation_client_side",
        "service_relation_server_side",
    ];
    let tasks = |n: i64| row(&schema, "profile_task", &n.to_string(), &[]);
    let snapshot = |n: i64| {
        let cells = [
            ("segment_id", Cell::text("s")),
            ("task_id", Cell::text("t")),
            ("dump_time", Cell::Long(n)),
            ("sequence", Cell::Long(n)),
        ];
        let id = n.to_string();
        row(&schema, "profile_task_segment_snapshot", &id, &cells)
    };
    let store = || FakeStore {
        services: (0..5001)
            .map(|i| ServiceTraffic {
                name: i.to_string(),
                node_type: 0,
            })
            .collect(),
        relations: streams
            .iter()
            .flat_map(|name| (0..1500).map(move |n| (*name, relation(n))))
            .collect(),
        rows: (0..201)
            .map(tasks)
            .chain((0..12_010).map(snapshot))
            .collect(),
        ..FakeStore::default()
    };
    let ranges = "timeRanges: [{start: 0, end: 99999}]";
    for (question, want) in [
        (
            format!("getAllServices({duration}) {{ id }}"),
            Some("5000/5001"),
        ),
        (
            format!(r#"searchServices({duration}, keyword: \"\") {{ id }}"#),
            Some("5000/5001"),
        ),
        (format!("getAllDatabases({duration}) {{ id }}"), None),
        (
            format!("getGlobalTopology({duration}) {{ calls {{ id }} }}"),
            Some("2000/3000"),
        ),
        // Several fields of one request are added up.
        (
            format!("getAllServices({duration}) {{ id }} b: getAllServices({duration}) {{ id }}"),
            Some("10000/10002"),
        ),
        ("getProfileTaskList { id }".to_owned(), Some("200/201")),
        (
            format!(r#"getProfileAnalyze(segmentId: \"s\", {ranges}) {{ tip }}"#),
            Some("12000/12010"),
        ),
        ("version".to_owned(), None),
    ] {
        let body = format!(r#"{{"query":"{{ {question} }}"}}"#);
        let settings = HttpSettings::default();
        let response = respond(settings, store(), "POST", "/graphql", &body, false).await;
        let said = response.headers().get(TRUNCATED).cloned();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let said = said.as_ref().map(|value| value.to_str().unwrap());
        assert_eq!(
            said,
            want,
            "{question}: {:.300}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

#[tokio::test]
async fn an_answer_holds_its_room_until_it_is_sent() {
    let service = |i: usize| ServiceTraffic {
        name: format!("service-{i}"),
        node_type: 0,
    };
    let store = FakeStore {
        services: (0..1000).map(service).collect(),
        ..FakeStore::default()
    };
    let mut cx = context(store);
    // Room for the values of one answer, but not beside the text of another.
    cx.answers = Answers::new(400_000, cx.metrics.refused_answers.clone());
    let cx = Arc::new(cx);
    let app = router(Api::build().unwrap(), cx.clone(), HttpSettings::default());
    let ask = async || {
        let body = r#"{"query":"{ getAllServices(duration: {start: \"2020-09-15\", end: \"2020-09-16\", step: DAY}) { name } }"}"#;
        let request = Request::post("/graphql").body(Body::from(body)).unwrap();
        app.clone().oneshot(request).await.unwrap()
    };
    let text = async |response: Response<Body>| {
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let held = ask().await;
    let bytes = cx.answers.bytes();
    assert!((20_000..40_000).contains(&bytes), "{bytes}");
    let refused = ask().await;
    assert_eq!(
        text(refused).await,
        r#"{"errors":[{"message":"answers under way hold too much, ask again or for less"}]}"#
    );
    assert_eq!(cx.metrics.refused_answers.get(), 1);
    assert!(text(held).await.contains("service-999"));
    assert_eq!(cx.answers.bytes(), 0);
    assert!(text(ask().await).await.contains("service-999"));
}

/// A body of which some bytes come and no more.
fn half(bytes: usize) -> Body {
    let begun = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![b' '; bytes]))]);
    Body::from_stream(begun.chain(stream::pending()))
}

fn post(body: impl Into<Body>) -> Request {
    Request::post("/graphql").body(body.into()).unwrap()
}

const QUESTION: &str = r#"{"query":"{ checkHealth { score } }"}"#;

/// Lets all tasks go on until they wait for something else.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn who_sends_half_a_question_keeps_nobody_from_asking() {
    let settings = HttpSettings {
        max_body_bytes: 100_000,
        max_bodies_bytes: 150_000,
        max_bodies: 5,
        max_concurrent: 2,
        ..HttpSettings::default()
    };
    let cx = Arc::new(context(FakeStore::default()));
    let app = router(Api::build().unwrap(), cx.clone(), settings);
    let ask = |body: Body| tokio::spawn(app.clone().oneshot(post(body)));
    let refused = || {
        let refused = &cx.metrics.refused_questions;
        refused.with_label_values(&["bodies"]).get()
    };
    let mut halves: Vec<_> = (0..3).map(|_| ask(half(60_000))).collect();
    settle().await;
    // Three do not fit.
    assert_eq!(refused(), 1);
    // As many as may be, and one more: the oldest gives way.
    halves.extend((0..4).map(|_| ask(half(1000))));
    settle().await;
    assert_eq!(refused(), 2);
    let answer = ask(QUESTION.into()).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let mut statuses = Vec::new();
    for half in halves {
        statuses.push(half.await.unwrap().unwrap().status().as_u16());
    }
    // Those that are left have no answer after 30 s.
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 3);
    assert_eq!(cx.metrics.timeouts.get(), 4);
    let large = format!("{QUESTION}{}", " ".repeat(90_000));
    for _ in 0..4 {
        let answer = ask(large.clone().into()).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200, "room is given back");
    }
}

#[tokio::test(start_paused = true)]
async fn questions_that_wait_are_bounded_and_hear_when_the_server_leaves() {
    let stop = CancellationToken::new();
    let settings = HttpSettings {
        max_concurrent: 1,
        max_waiting: 2,
        stop: stop.clone(),
        ..HttpSettings::default()
    };
    let waiting = Arc::clone(&settings.waiting);
    let store = FakeStore {
        is_stuck: true,
        ..FakeStore::default()
    };
    let cx = Arc::new(context(store));
    let app = router(Api::build().unwrap(), cx.clone(), settings);
    let ask = || tokio::spawn(app.clone().oneshot(post(QUESTION)));
    let all: Vec<_> = (0..4).map(|_| ask()).collect();
    settle().await;
    assert_eq!(waiting.load(Ordering::Relaxed), 2);
    stop.cancel();
    let mut texts = Vec::new();
    for asked in all {
        let answer = asked.await.unwrap().unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        texts.push((status, String::from_utf8(body.to_vec()).unwrap()));
    }
    texts.sort();
    let texts: Vec<(u16, &str)> = texts.iter().map(|(s, t)| (*s, t.as_str())).collect();
    assert_eq!(
        texts,
        [
            (200, r#"{"errors":[{"message":"no answer within 30 s"}]}"#),
            (503, "the server is shutting down, ask again"),
            (503, "the server is shutting down, ask again"),
            (503, "too many questions wait for an answer, ask again"),
        ]
    );
    assert_eq!(waiting.load(Ordering::Relaxed), 0);
    for (reason, want) in [("waiting", 1), ("leaving", 2)] {
        let refused = &cx.metrics.refused_questions;
        assert_eq!(refused.with_label_values(&[reason]).get(), want, "{reason}");
    }
}

#[test]
fn context_and_path_join_with_single_slashes() {
    for (context_path, path, want) in [
        ("/", "/graphql", "/graphql"),
        ("", "graphql", "/graphql"),
        ("/oap/", "/graphql", "/oap/graphql"),
    ] {
        let settings = HttpSettings {
            context_path: context_path.into(),
            path: path.into(),
            ..HttpSettings::default()
        };
        assert_eq!(settings.route(&settings.path), want);
    }
}

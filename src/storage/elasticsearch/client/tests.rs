//! The client against small servers that answer what a healthy Elasticsearch does not.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use axum::Router;
use axum::http::StatusCode;
use tokio::net::TcpListener;

use super::*;
use crate::config::Secret;

/// A server with one answer to everything; its address.
async fn server(status: u16, body: &'static str) -> String {
    let answer = move || async move { (StatusCode::from_u16(status).unwrap(), body) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

fn client(nodes: &[&String]) -> Client {
    let options = ElasticsearchOptions {
        cluster_nodes: nodes.iter().map(|n| n.to_string()).collect(),
        request_timeout: Duration::from_millis(500),
        ..ElasticsearchOptions::default()
    };
    Client::new(&options, Clock::System).unwrap()
}

#[tokio::test]
async fn a_dead_node_is_passed_over() {
    let (dead, broken, good) = (
        nobody().await,
        server(503, "{}").await,
        server(200, "yes").await,
    );
    let client = client(&[&dead, &broken, &good]);
    for _ in 0..6 {
        assert_eq!(client.get("/").await.unwrap(), "yes");
    }
    let now = Clock::System.now_ms();
    let nodes = client.nodes.read().unwrap().clone();
    let paused: Vec<bool> = nodes.iter().map(|n| n.is_paused(now)).collect();
    assert_eq!(paused, [true, true, false]);
    assert_eq!(client.candidates()[0].address, good);
}

#[tokio::test]
async fn a_node_that_comes_back_is_used_again() {
    let clock_ms = Arc::new(AtomicI64::new(1_600_000_000_000));
    let options = ElasticsearchOptions {
        cluster_nodes: vec![nobody().await],
        ..ElasticsearchOptions::default()
    };
    let client = Client::new(&options, Clock::Fixed(Arc::clone(&clock_ms))).unwrap();
    let error = client.get("/").await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    let listener = TcpListener::bind(&options.cluster_nodes[0]).await.unwrap();
    let router = Router::new().fallback(async || "back");
    tokio::spawn(async move { axum::serve(listener, router).await });
    // The only node is asked even while it is paused.
    assert_eq!(client.get("/").await.unwrap(), "back");
    let node = Arc::clone(&client.nodes.read().unwrap()[0]);
    assert!(!node.is_paused(clock_ms.load(Ordering::Relaxed)));
}

/// Answers with the path it is asked for and who asks.
async fn mirror(address: &str) -> String {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = Router::new().fallback(async |request: axum::extract::Request| {
        let user = request.headers().get("authorization").cloned();
        format!("{} {user:?}", request.uri())
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn addresses_may_be_of_version_six_and_have_paths() {
    for (listen, path, want) in [
        ("127.0.0.1:0", "/behind/proxy", "/behind/proxy/_bulk?x=y "),
        ("127.0.0.1:0", "/", "/_bulk?x=y "),
        ("[::1]:0", "", "/_bulk?x=y "),
    ] {
        let address = mirror(listen).await + path;
        let answer = client(&[&address]).get("/_bulk?x=y").await.unwrap();
        assert!(answer.starts_with(want.as_bytes()), "{address}: {answer:?}");
    }
}

#[tokio::test]
async fn other_passwords_and_addresses_are_taken_without_a_restart() {
    let (one, two) = (mirror("127.0.0.1:0").await, mirror("127.0.0.1:0").await);
    let options = |node: &String, password| ElasticsearchOptions {
        cluster_nodes: vec![node.clone()],
        user: "u".to_owned(),
        password: Secret::new(password),
        ..ElasticsearchOptions::default()
    };
    let client = Client::new(&options(&one, "a"), Clock::System).unwrap();
    let first = client.get("/").await.unwrap();
    client.reconnect(&options(&two, "b")).unwrap();
    let second = client.get("/").await.unwrap();
    assert!(first.ends_with(b"\"Basic dTph\")"), "{first:?}");
    assert!(second.ends_with(b"\"Basic dTpi\")"), "{second:?}");
    assert_eq!(client.candidates()[0].address, two);
    // What cannot work changes nothing.
    assert!(
        client
            .reconnect(&options(&"nowhere".to_owned(), "c"))
            .is_err()
    );
    assert_eq!(client.get("/").await.unwrap(), second);
}

#[tokio::test]
async fn a_node_that_hangs_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let error = client(&[&address]).get("/").await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("in time") && text.contains(&address),
        "{text}"
    );
    assert!(!text.contains("url") && !text.contains("http:"), "{text}");
}

#[tokio::test]
async fn reasons_do_not_carry_what_was_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Knocked at, then every request breaks off.
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let path = "/ns_(a)_service_traffic/_search?filter_path=hits";
    let error = client(&[&address]).get(path).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&address) && !text.contains("url"), "{text}");
    assert!(text.contains("error sending request: "), "{text}");
    assert!(!text.contains("_search"), "{text}");
}

#[tokio::test]
async fn missing_shards_are_said_without_advice_that_is_of_no_use() {
    let why = r#"{"error":{"root_cause":[],"type":"search_phase_execution_exception","reason":"",
        "phase":"query","grouped":true,"failed_shards":[],"caused_by":{"type":"search_phase_execution_exception",
        "reason":"Search rejected due to missing shards [[ns_ui_template][0]]. Consider using `allow_partial_search_results` setting to bypass this error.",
        "phase":"query","grouped":true,"failed_shards":[]}},"status":503}"#;
    let node = server(503, why).await;
    let error = client(&[&node]).get("/").await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("503: shards [[ns_ui_template][0]] are not there;"),
        "{text}"
    );
    assert!(!text.contains("allow_partial"), "{text}");
}

#[tokio::test]
async fn an_answer_without_length_is_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let endless = || async {
        let chunk = || Ok::<_, std::io::Error>(Bytes::from_static(b"0123456789"));
        let chunks = futures_util::stream::repeat_with(chunk);
        axum::body::Body::from_stream(chunks)
    };
    let router = Router::new().fallback(endless);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let error = client(&[&address]).get("/").await.unwrap_err();
    assert!(matches!(error, StorageError::Refused(_)), "{error}");
}

#[tokio::test]
async fn refusals_say_whether_to_try_again() {
    let why = r#"{"error":{"root_cause":[{"type":"t","reason":"inner"}],"type":"o","reason":"all shards failed"}}"#;
    for (status, want) in [
        (401, "check user and password"),
        (403, "rights"),
        (429, "429: t: inner"),
        (500, "500: t: inner"),
    ] {
        let node = server(status, why).await;
        let error = client(&[&node]).get("/").await.unwrap_err();
        assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains(want), "{error}");
    }
    let node = server(400, why).await;
    let error = client(&[&node]).get("/").await.unwrap_err();
    assert!(matches!(error, StorageError::Refused(_)), "{error}");
    assert!(error.to_string().contains("t: inner"), "{error}");
    let node = server(404, "<html>gone</html>").await;
    let client = client(&[&node]);
    let error = client.get("/").await.unwrap_err();
    assert!(error.to_string().contains("<html>gone"), "{error}");
    assert_eq!(client.find("/").await.unwrap(), None);
}

#[test]
fn options_that_cannot_work_are_errors() {
    let with_nodes = |nodes: &[&str]| ElasticsearchOptions {
        cluster_nodes: nodes.iter().map(|n| n.to_string()).collect(),
        ..ElasticsearchOptions::default()
    };
    let build = |options| Client::new(&options, Clock::System);
    let good = [
        "a:9200",
        " b:9200",
        "[::1]:9200",
        "",
        "a:80/es",
        "[::1]:80/a/b/",
    ];
    assert!(build(with_nodes(&good)).is_ok());
    assert!(matches!(
        build(with_nodes(&[""])),
        Err(OptionsError::NoNodes)
    ));
    for bad in [
        "a",
        "a:b",
        ":9200",
        "a:70000",
        "http://a:9200",
        "u:p@a:9200",
        "a:9200?x",
        "a:9200/#x",
        ":9200/es",
    ] {
        let result = build(with_nodes(&[bad]));
        assert!(matches!(result, Err(OptionsError::Node(_))), "{bad}");
    }
}

#[test]
fn a_trust_store_must_have_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let build = |name: &str, content: &[u8], protocol| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let options = ElasticsearchOptions {
            protocol,
            trust_store_path: Some(path),
            password: Secret::new("x"),
            ..ElasticsearchOptions::default()
        };
        Client::new(&options, Clock::System).map(|_| ())
    };
    let jks = [0xFE, 0xED, 0xFE, 0xED, 0, 0, 0, 2];
    let error = build("es.jks", &jks, EsProtocol::Https).unwrap_err();
    assert!(error.to_string().contains("es.jks"), "{error}");
    let pem = include_bytes!("../../../../tests/data/tls/cert.pem");
    assert!(build("es.pem", pem, EsProtocol::Https).is_ok());
    assert!(build("es.txt", b"hello", EsProtocol::Https).is_err());
    assert!(build("unused.txt", b"hello", EsProtocol::Http).is_ok());
}

#[test]
fn reasons_are_cut_to_a_readable_length() {
    let long = "ä".repeat(10_000);
    let cause = Cause::from(serde_json::json!({"type": "t", "reason": long}));
    assert_eq!(cause.reason.chars().count(), MAX_REASON_CHARS + 1);
    assert_eq!(Cause::from(serde_json::json!("plain")).to_string(), "plain");
}

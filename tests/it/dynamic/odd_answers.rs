//! Answers that no centre should give: an error, and nothing else.

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::http::StatusCode;
use oap::config::{CenterSettings, EtcdApi, Secret};
use oap::dynamic::{Center, Key};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server that gives the same answer to everything.
struct Parrot {
    url: String,
    task: JoinHandle<()>,
}

impl Parrot {
    async fn start(status: u16, body: Vec<u8>) -> Result<Parrot> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let status = StatusCode::from_u16(status)?;
        let routes = Router::new().fallback(async move || (status, body.clone()));
        let task = tokio::spawn(async move {
            axum::serve(listener, routes).await.unwrap_or_default();
        });
        Ok(Parrot { url, task })
    }
}

impl Drop for Parrot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn settings(name: &str, url: &str) -> CenterSettings {
    let urls = vec![url.to_owned()];
    let text = |text: &str| text.to_owned();
    match name {
        "consul" => CenterSettings::Consul {
            urls,
            token: Secret::default(),
        },
        "nacos" => CenterSettings::Nacos {
            urls,
            group: text("g"),
            namespace: text(""),
        },
        "apollo" => CenterSettings::Apollo {
            meta_urls: urls,
            cluster: text("c"),
            app_id: text("a"),
        },
        other => CenterSettings::Etcd {
            trusted_ca_path: None,
            urls,
            group: text("g"),
            api: if other == "v2" {
                EtcdApi::V2
            } else {
                EtcdApi::V3
            },
        },
    }
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors() -> Result<()> {
    let no_sense = "makes no sense";
    for (name, status, body, want) in [
        ("consul", 200, &b""[..], no_sense),
        ("consul", 200, b"{}", no_sense),
        ("consul", 200, br#"[{"Value": "%%"}]"#, no_sense),
        ("consul", 200, br#"[{"Value": 7}]"#, no_sense),
        ("consul", 301, b"", "answered 301"),
        ("nacos", 400, b"no group", "answered 400 no group"),
        ("apollo", 200, b"[]", "knows no configuration service"),
        (
            "apollo",
            200,
            br#"[{"homepageUrl": "mailto:x"}]"#,
            "mailto:x is no URL",
        ),
        ("apollo", 200, br#"{"configurations": {}}"#, no_sense),
        ("apollo", 204, b"", "answered 204"),
        (
            "v2",
            200,
            br#"{"node": {"key": "/g", "value": "x"}}"#,
            "/g is no folder",
        ),
        ("v2", 200, br#"{"node": 7}"#, no_sense),
        (
            "v2",
            404,
            br#"{"errorCode": 7, "message": "odd"}"#,
            "answered 404",
        ),
        ("v2", 404, b"404 page not found", "--enable-v2"),
        (
            "v3",
            200,
            br#"{"kvs": [{"key": "%", "value": ""}]}"#,
            no_sense,
        ),
        ("v3", 200, b"[[[[[[", no_sense),
        ("v3", 404, b"404 page not found", "answered 404"),
        ("v3", 502, b"<html>", "answered 502 <html>"),
    ] {
        let parrot = Parrot::start(status, body.to_vec()).await?;
        let mut center = Center::new(&settings(name, &parrot.url))?;
        let error = match center.read(&Key::ALL).await {
            Ok(values) => bail!("{name} {status} {body:?}: {values:?}"),
            Err(error) => error.to_string(),
        };
        ensure!(error.contains(want), "{name} {status} {body:?}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() -> Result<()> {
    let parrot = Parrot::start(200, vec![b' '; 9 << 20]).await?;
    for name in ["consul", "nacos", "apollo", "v2", "v3"] {
        let mut center = Center::new(&settings(name, &parrot.url))?;
        let error = center.read(&Key::ALL).await.err().context(name)?;
        ensure!(
            error.to_string().contains("more than 8388608 bytes"),
            "{name} {error}"
        );
    }
    Ok(())
}

//! A server that keeps documents of bulk requests as Elasticsearch does, and fails as a test tells it to. It evaluates no
//! queries.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What goes wrong with one document: status, type and reason.
pub type ItemFault = (u16, &'static str, &'static str);

/// What goes wrong with a request.
#[derive(Clone)]
pub enum Fault {
    None,
    /// Nothing is done, this is the answer.
    Status(u16, &'static str),
    /// Nothing is done, this is the body of the answer.
    Answer(&'static str),
    /// Some documents of a bulk request, by position, are not taken.
    Items(fn(usize) -> Option<ItemFault>),
    /// Everything is done, but no answer comes.
    Hang,
    /// Everything is done, but the connection ends in the middle of the answer.
    HalfAnswer,
    /// Everything is done, but the answer tells about one document less.
    ShortAnswer,
}

/// A request as the script sees it.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Among those with the same last part of the path, from 1.
    pub number: usize,
    /// `_bulk`, `_search` …, or the name of an index.
    pub action: &'a str,
    /// Documents of a bulk request.
    pub documents: usize,
}

type Script = Box<dyn Fn(&Asked<'_>) -> Fault + Send>;

struct Inner {
    documents: BTreeMap<(String, String), Value>,
    asked: BTreeMap<String, usize>,
    script: Script,
}

/// A running fake.
pub struct FakeEs {
    address: String,
    inner: Arc<Mutex<Inner>>,
    server: JoinHandle<()>,
}

impl Drop for FakeEs {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeEs {
    pub async fn start(script: impl Fn(&Asked<'_>) -> Fault + Send + 'static) -> Result<FakeEs> {
        let inner = Arc::new(Mutex::new(Inner {
            documents: BTreeMap::new(),
            asked: BTreeMap::new(),
            script: Box::new(script),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let router = Router::new().fallback(serve).with_state(Arc::clone(&inner));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("fake elasticsearch ended: {error}");
            }
        });
        Ok(FakeEs {
            address,
            inner,
            server,
        })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What is stored, by index and id.
    pub fn documents(&self) -> BTreeMap<(String, String), Value> {
        locked(&self.inner).documents.clone()
    }

    /// How often an action was asked for.
    pub fn asked(&self, action: &str) -> usize {
        locked(&self.inner).asked.get(action).copied().unwrap_or(0)
    }
}

fn locked(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(State(inner): State<Arc<Mutex<Inner>>>, request: Request) -> Response {
    let action = request.uri().path().rsplit('/').next().unwrap_or_default();
    let action = action.to_owned();
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await;
    let body = body.unwrap_or_default();
    let (fault, answer) = answer(&mut locked(&inner), &action, &body);
    match fault {
        Fault::Status(status, reason) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let error =
                json!({"error": {"type": "scripted", "reason": reason}, "status": status.as_u16()});
            (status, error.to_string()).into_response()
        }
        Fault::Answer(body) => body.into_response(),
        Fault::Hang => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            StatusCode::OK.into_response()
        }
        Fault::HalfAnswer => {
            let text = answer.to_string();
            let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
            let stream = futures_util::stream::iter([Ok::<_, Infallible>(half)]);
            // More is announced than comes.
            let length = [(header::CONTENT_LENGTH, text.len().to_string())];
            (length, Body::from_stream(stream)).into_response()
        }
        Fault::None | Fault::Items(_) | Fault::ShortAnswer => answer.to_string().into_response(),
    }
}

fn answer(inner: &mut Inner, action: &str, body: &[u8]) -> (Fault, Value) {
    let documents = match action {
        "_bulk" => documents(body).unwrap_or_default(),
        _ => vec![],
    };
    let number = inner.asked.entry(action.to_owned()).or_default();
    *number += 1;
    let fault = (inner.script)(&Asked {
        number: *number,
        action,
        documents: documents.len(),
    });
    if action != "_bulk" || matches!(fault, Fault::Status(..)) {
        return (fault, json!({"hits": {"total": {"value": 0}, "hits": []}}));
    }
    let mut items = vec![];
    for (position, (key, document)) in documents.into_iter().enumerate() {
        let refused = match &fault {
            Fault::Items(judge) => judge(position),
            _ => None,
        };
        items.push(match refused {
            Some((status, ty, reason)) => json!({"index": {
                "status": status, "error": {"type": ty, "reason": reason},
            }}),
            None => {
                inner.documents.insert(key, document);
                json!({"index": {"status": 201}})
            }
        });
    }
    if matches!(fault, Fault::ShortAnswer) {
        items.pop();
    }
    (fault, json!({"errors": true, "items": items}))
}

/// Index, id and document of each action of a bulk request.
fn documents(body: &[u8]) -> Result<Vec<((String, String), Value)>> {
    let mut lines = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let mut documents = vec![];
    while let Some(action) = lines.next() {
        let action = action?;
        let document = lines.next().context("no document")??;
        let text = |key: &str| action["index"][key].as_str().map(str::to_owned);
        let (index, id) = (text("_index"), text("_id"));
        documents.push(((index.context("no index")?, id.context("no id")?), document));
    }
    Ok(documents)
}

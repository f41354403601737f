//! One node of the cluster: its transport and whether it answered lately.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use elasticsearch::auth::Credentials;
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::headers::{
    ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT,
};
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use elasticsearch::http::{Method, Url};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::options::{ElasticsearchOptions, OptionsError};

/// Largest answer that is read; every question bounds what it asks for well below.
const MAX_ANSWER_BYTES: u64 = 256 * 1024 * 1024;
/// A node that failed is left out this long, doubled for each failure in a row.
const FIRST_PAUSE_MS: i64 = 1000;
const MAX_PAUSE_MS: i64 = 32_000;
const NAME_AND_VERSION: &str = concat!("oap/", env!("CARGO_PKG_VERSION"));

/// A request, ready to be sent to any node.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    /// Path with query string, encoded.
    pub path: String,
    pub body: Option<Bytes>,
    pub content_type: &'static str,
    pub timeout: Duration,
}

/// Status and body of an answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub body: Bytes,
}

/// Why a node gave no usable answer.
#[derive(Debug)]
pub enum NodeError {
    /// It cannot have seen the request, or the answer broke off: worth asking another node.
    Lost(String),
    /// It took the request and said nothing in time.
    TimedOut(String),
    /// It answered more than may be read.
    TooLarge(String),
}

/// A node by address.
pub struct Node {
    /// `host:port` or `host:port/path`
    pub address: String,
    host: String,
    port: u16,
    transport: Transport,
    connect_timeout: Duration,
    /// Failures in a row; [`UNKNOWN`] before the first answer.
    failures: AtomicU32,
    /// Epoch milliseconds until which other nodes are preferred.
    paused_until_ms: AtomicI64,
}

/// Neither good nor bad yet.
const UNKNOWN: u32 = u32::MAX;

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("address", &self.address)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

impl Node {
    pub fn new(
        address: &str,
        options: &ElasticsearchOptions,
        trusted_pem: Option<&[u8]>,
    ) -> Result<Node, OptionsError> {
        let malformed = || OptionsError::Node(address.to_owned());
        let address = address.trim_end_matches('/');
        let authority = address.split('/').next().unwrap_or(address);
        let (host, port) = authority.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        let url = format!("{}://{address}/", options.protocol.scheme());
        let url = Url::parse(&url).map_err(|_| malformed())?;
        let has_more = url.query().is_some() || url.fragment().is_some();
        if host.is_empty() || has_more || !url.username().is_empty() {
            return Err(malformed());
        }
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url))
            .disable_proxy()
            .enable_meta_header(false)
            .timeout(options.request_timeout)
            // Packed answers cost both sides more than they save on a near network, and hide their length.
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if !options.user.is_empty() && !options.password.is_empty() {
            let password = options.password.expose().to_owned();
            builder = builder.auth(Credentials::Basic(options.user.clone(), password));
        }
        if let Some(pem) = trusted_pem {
            let certificates = Certificate::from_pem(pem).map_err(|e| transport_error(&e))?;
            builder = builder.cert_validation(CertificateValidation::Full(certificates));
        }
        let transport = builder.build().map_err(|e| transport_error(&e))?;
        Ok(Node {
            address: address.to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            transport,
            connect_timeout: options.connect_timeout,
            failures: AtomicU32::new(UNKNOWN),
            paused_until_ms: AtomicI64::new(0),
        })
    }

    /// Whether other nodes should be asked first.
    pub fn is_paused(&self, now_ms: i64) -> bool {
        self.failures.load(Ordering::Relaxed) != 0
            && now_ms < self.paused_until_ms.load(Ordering::Relaxed)
    }

    /// Notes an answer; true if the node had failed before.
    pub fn succeeded(&self) -> bool {
        let before = self.failures.swap(0, Ordering::Relaxed);
        before != 0 && before != UNKNOWN
    }

    /// Notes a failure; true if it is the first in a row.
    pub fn failed(&self, now_ms: i64) -> bool {
        let before = match self.failures.load(Ordering::Relaxed) {
            UNKNOWN => 0,
            n => n,
        };
        let pause = FIRST_PAUSE_MS << before.min(16);
        self.failures
            .store((before + 1).min(1000), Ordering::Relaxed);
        self.paused_until_ms
            .store(now_ms + pause.min(MAX_PAUSE_MS), Ordering::Relaxed);
        before == 0
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: &Request) -> Result<Reply, NodeError> {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.probe().await?;
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(request.content_type));
        headers.insert(USER_AGENT, HeaderValue::from_static(NAME_AND_VERSION));
        let response = self
            .transport
            .send(
                request.method,
                &request.path,
                headers,
                None::<&()>,
                request.body.clone(),
                Some(request.timeout),
            )
            .await
            .map_err(|error| broken(&error))?;
        let status = response.status_code().as_u16();
        match response.content_length() {
            Some(n) if n <= MAX_ANSWER_BYTES => {}
            // The transport reads all or nothing, so an answer that does not say its length has no bound.
            length => {
                let what = match length {
                    Some(n) => format!("an answer of {n} bytes"),
                    None => "an answer that does not say its length".to_owned(),
                };
                if response.status_code().is_success() {
                    return Err(NodeError::TooLarge(what));
                }
                let body = Bytes::from(what);
                return Ok(Reply { status, body });
            }
        }
        let body = response.bytes().await.map_err(|error| broken(&error))?;
        Ok(Reply { status, body })
    }

    /// The transport has no time limit for connecting, so a node that is not known to work is knocked at first.
    async fn probe(&self) -> Result<(), NodeError> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        match timeout(self.connect_timeout, connecting).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(NodeError::Lost(error.to_string())),
            Err(_) => Err(NodeError::Lost(format!(
                "no connection within {:?}",
                self.connect_timeout
            ))),
        }
    }
}

fn transport_error(error: &dyn std::error::Error) -> OptionsError {
    OptionsError::Transport(error.to_string())
}

/// Clients see the reason: it is without the address that was asked, which the transport adds.
fn without_url(text: String) -> String {
    match (text.split_once(" for url ("), text.rsplit_once(')')) {
        (Some((before, _)), Some((_, after))) => format!("{before}{after}"),
        _ => text,
    }
}

fn broken(error: &elasticsearch::Error) -> NodeError {
    let mut text = without_url(error.to_string());
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = without_url(cause.to_string());
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    if error.is_timeout() {
        NodeError::TimedOut(text)
    } else {
        NodeError::Lost(text)
    }
}

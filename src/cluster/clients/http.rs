//! HTTP requests to the servers of a centre: the first one that answers is asked, with a bound for its answer.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Method, Url};
use serde::de::DeserializeOwned;

use super::CenterError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// What an answer may have. Values are texts that people write; centres themselves allow 1.5 MiB or less.
const MAX_BYTES: usize = 8 << 20;

/// A client of several servers that have the same.
#[derive(Debug)]
pub struct Http {
    client: reqwest::Client,
    /// The one that answered last is the first.
    servers: Vec<Url>,
}

/// What to ask for.
#[derive(Debug, Default)]
pub struct Question<'a> {
    /// GET, if nothing else is said.
    pub method: Method,
    /// Parts of the path below the URL of a server; they are encoded as they need to be.
    pub path: &'a [&'a str],
    pub query: &'a [(&'a str, &'a str)],
    /// Name and value of a header that nobody may see.
    pub secret: Option<(&'static str, &'a str)>,
    pub body: Body<'a>,
}

/// What comes with a question.
#[derive(Debug, Default)]
pub enum Body<'a> {
    #[default]
    None,
    Json(serde_json::Value),
    Form(&'a [(&'a str, &'a str)]),
}

/// An answer with any status below 500.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Http {
    /// `timeout` is how long one request may take at one server. Fails for what is no URL.
    pub fn new(urls: &[String], timeout: Duration) -> Result<Http, CenterError> {
        Http::trusting(urls, timeout, None)
    }

    /// One that also trusts the certificates of a PEM file. Fails too if that has none.
    pub fn trusting(
        urls: &[String],
        timeout: Duration,
        authorities: Option<&Path>,
    ) -> Result<Http, CenterError> {
        let mut builder = reqwest::Client::builder();
        for certificate in authorities
            .map(certificates)
            .transpose()?
            .unwrap_or_default()
        {
            builder = builder.add_root_certificate(certificate);
        }
        let client = builder
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            // What the environment says about proxies is not ours to read.
            .no_proxy()
            .build()
            .map_err(|error| CenterError::because(&error))?;
        let mut http = Http {
            client,
            servers: Vec::new(),
        };
        http.use_servers(urls)?;
        Ok(http)
    }

    /// Asks these servers from now on.
    pub fn use_servers(&mut self, urls: &[String]) -> Result<(), CenterError> {
        let mut servers = Vec::new();
        for url in urls {
            let parsed = Url::parse(url).ok().filter(|url| !url.cannot_be_a_base());
            let parsed = parsed.ok_or_else(|| CenterError(format!("{url} is no URL")))?;
            servers.push(parsed);
        }
        self.servers = servers;
        Ok(())
    }

    /// Asks one server after the other until one answers.
    pub async fn ask(&mut self, question: &Question<'_>) -> Result<Answer, CenterError> {
        let mut failures = Vec::new();
        for at in 0..self.servers.len() {
            let Some(server) = self.servers.get(at).cloned() else {
                break;
            };
            match self.ask_one(&server, question).await {
                Ok(answer) => {
                    self.servers.rotate_left(at);
                    return Ok(answer);
                }
                Err(error) => {
                    let host = server.host_str().unwrap_or_default();
                    let port = server.port_or_known_default().unwrap_or_default();
                    failures.push(format!("{host}:{port}: {error}"));
                }
            }
        }
        Err(CenterError(failures.join("; ")))
    }

    async fn ask_one(&self, server: &Url, question: &Question<'_>) -> Result<Answer, CenterError> {
        let mut url = server.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(question.path);
        }
        if !question.query.is_empty() {
            url.query_pairs_mut().extend_pairs(question.query);
        }
        let mut request = self.client.request(question.method.clone(), url);
        if let Some((name, value)) = question.secret {
            request = request.header(name, value);
        }
        request = match &question.body {
            Body::None => request,
            Body::Json(json) => request
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(json.to_string()),
            Body::Form(form) => request.form(form),
        };
        let failed = |error: reqwest::Error| CenterError::because(&error.without_url());
        let mut answer = request.send().await.map_err(failed)?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(failed)? {
            if body.len() + part.len() > MAX_BYTES {
                let message = format!("the answer has more than {MAX_BYTES} bytes");
                return Err(CenterError(message));
            }
            body.extend_from_slice(&part);
        }
        let answer = Answer { status, body };
        if status >= 500 {
            return Err(answer.refused());
        }
        Ok(answer)
    }
}

/// What a PEM file says is to be trusted.
fn certificates(path: &Path) -> Result<Vec<Certificate>, CenterError> {
    let unusable = |why: String| {
        let path = path.display();
        CenterError(format!(
            "trustedCAPath {path} is no PEM file with certificates: {why}"
        ))
    };
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let read = Certificate::from_pem_bundle(&pem);
    let certificates = read.map_err(|error| unusable(CenterError::because(&error).0))?;
    match certificates.is_empty() {
        true => Err(unusable("it has none".to_owned())),
        false => Ok(certificates),
    }
}

impl Answer {
    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CenterError> {
        serde_json::from_slice(&self.body).map_err(CenterError::answer)
    }

    /// The error for a status that should not be.
    pub fn refused(&self) -> CenterError {
        let text: String = String::from_utf8_lossy(&self.body)
            .trim()
            .chars()
            .take(200)
            .collect();
        CenterError(
            format!("answered {} {text}", self.status)
                .trim_end()
                .to_owned(),
        )
    }
}

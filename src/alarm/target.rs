//! Where alarms are sent: the webhooks and the gRPC hook of the original (8.1.0 spec, H.4).

use std::time::Duration;

use oap_proto::alarm::alarm_service_client::AlarmServiceClient;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use tonic::transport::{Channel, Endpoint};

use super::message::{AlarmMessage, to_json};
use crate::dsl::alarm::GrpcTarget;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(10);
const JSON: &str = "application/json";

/// One receiver of alarms.
#[derive(Debug, Clone)]
pub enum Target {
    Webhook {
        client: reqwest::Client,
        url: String,
    },
    Grpc {
        client: Box<AlarmServiceClient<Channel>>,
        at: GrpcTarget,
    },
}

impl Target {
    /// A receiver of POST requests. Fails if there can be no HTTP client.
    pub fn webhook(url: &str) -> reqwest::Result<Target> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // What the environment says about proxies is not ours to read.
            .no_proxy()
            .build()?;
        let url = url.to_owned();
        Ok(Target::Webhook { client, url })
    }

    /// A service that takes a stream; connected to when there is something to send. Fails if the host is no name of one.
    pub fn grpc(target: &GrpcTarget) -> Result<Target, tonic::transport::Error> {
        let host = match target.host.contains(':') && !target.host.starts_with('[') {
            true => format!("[{}]", target.host),
            false => target.host.clone(),
        };
        let endpoint = Endpoint::new(format!("http://{host}:{}", target.port))?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT);
        let client = AlarmServiceClient::new(endpoint.connect_lazy());
        Ok(Target::Grpc {
            client: Box::new(client),
            at: target.clone(),
        })
    }

    /// Whether both are one receiver.
    pub(super) fn is_same(&self, other: &Target) -> bool {
        match (self, other) {
            (Target::Webhook { url: a, .. }, Target::Webhook { url: b, .. }) => a == b,
            (Target::Grpc { at: a, .. }, Target::Grpc { at: b, .. }) => a == b,
            _ => false,
        }
    }

    /// Sends the alarms of a check; the error says why they were not taken. It names no URL, which may hold a secret.
    pub(super) async fn send(&mut self, messages: &[AlarmMessage]) -> Result<(), String> {
        match self {
            Target::Webhook { client, url } => {
                let body = to_json(messages).map_err(|error| error.to_string())?;
                let request = client
                    .post(url.as_str())
                    .header(ACCEPT, JSON)
                    .header(CONTENT_TYPE, JSON)
                    .body(body);
                let answer = request.send().await.map_err(|e| reason(e.without_url()))?;
                match answer.status() {
                    status if status.is_success() => Ok(()),
                    status => Err(format!("answered {status}")),
                }
            }
            Target::Grpc { client, .. } => {
                let messages: Vec<_> = messages.iter().map(Into::into).collect();
                let stream = tokio_stream::iter(messages);
                let sending = tokio::time::timeout(TIMEOUT, client.do_alarm(stream)).await;
                match sending {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(status)) => Err(format!("answered {status}")),
                    Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
                }
            }
        }
    }
}

/// An error with what caused it.
fn reason(error: reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

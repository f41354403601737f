//! Where alarms are sent: the webhooks and the gRPC hook of the original (8.1.0 spec, H.4).

use std::time::Duration;

use oap_proto::alarm::alarm_service_client::AlarmServiceClient;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::message::{AlarmMessage, to_json};
use crate::dsl::alarm::GrpcTarget;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(10);
const JSON: &str = "application/json";

/// Why alarms were not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotSent {
    /// It may do to send them again.
    Failed(String),
    /// It would not.
    Refused(String),
}

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

    /// Sends alarms; the error says why they were not taken. It names no URL, which may hold a secret.
    pub(super) async fn send(&mut self, messages: &[AlarmMessage]) -> Result<(), NotSent> {
        match self {
            Target::Webhook { client, url } => {
                let body =
                    to_json(messages).map_err(|error| NotSent::Refused(error.to_string()))?;
                let request = client
                    .post(url.as_str())
                    .header(ACCEPT, JSON)
                    .header(CONTENT_TYPE, JSON)
                    .body(body);
                let answer = request.send().await;
                let answer = answer.map_err(|e| NotSent::Failed(reason(e.without_url())))?;
                match answer.status() {
                    status if status.is_success() => Ok(()),
                    status if is_for_good(status) => {
                        Err(NotSent::Refused(format!("answered {status}")))
                    }
                    status => Err(NotSent::Failed(format!("answered {status}"))),
                }
            }
            Target::Grpc { client, .. } => {
                let messages: Vec<_> = messages.iter().map(Into::into).collect();
                let stream = tokio_stream::iter(messages);
                let sending = tokio::time::timeout(TIMEOUT, client.do_alarm(stream)).await;
                match sending {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(status)) if is_code_for_good(status.code()) => {
                        Err(NotSent::Refused(format!("answered {status}")))
                    }
                    Ok(Err(status)) => Err(NotSent::Failed(format!("answered {status}"))),
                    Err(_) => {
                        let seconds = TIMEOUT.as_secs();
                        Err(NotSent::Failed(format!("no answer within {seconds} s")))
                    }
                }
            }
        }
    }
}

/// Whether the same request would be answered so again: all but what servers answer that are away or have too much to do.
/// A place that has moved is not followed, as the original does not.
fn is_for_good(status: StatusCode) -> bool {
    let may_pass = [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    !status.is_server_error() && !may_pass.contains(&status)
}

/// The same of a gRPC service.
pub fn is_code_for_good(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_good_is_told_from_what_may_pass() {
        for (code, want) in [
            (301, true),
            (308, true),
            (304, true),
            (400, true),
            (401, true),
            (404, true),
            (410, true),
            (413, true),
            (422, true),
            (408, false),
            (425, false),
            (429, false),
            (500, false),
            (502, false),
            (503, false),
            (504, false),
        ] {
            let status = StatusCode::from_u16(code).unwrap();
            assert_eq!(is_for_good(status), want, "{code}");
        }
        for (code, want) in [
            (Code::Unimplemented, true),
            (Code::Unauthenticated, true),
            (Code::InvalidArgument, true),
            (Code::Unavailable, false),
            (Code::ResourceExhausted, false),
            (Code::DeadlineExceeded, false),
            (Code::Internal, false),
            (Code::Unknown, false),
            (Code::Aborted, false),
        ] {
            assert_eq!(is_code_for_good(code), want, "{code:?}");
        }
    }
}

//! Sends recorded bytes as an agent would, over real gRPC and HTTP; nothing is decoded on the way.

use anyhow::{Context, Result};
use bytes::Bytes;
use oap_proto::RawMessage;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

/// How a gRPC method takes its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calling {
    Unary,
    ClientStream,
}

/// A client of both ports.
#[derive(Debug, Clone)]
pub struct Sender {
    channel: Channel,
    http: reqwest::Client,
    http_url: String,
}

/// An HTTP reply.
#[derive(Debug, Clone)]
pub struct HttpReply {
    pub status: u16,
    pub body: String,
}

impl Sender {
    /// `grpc` and `http` are `host:port`.
    pub async fn connect(grpc: &str, http: &str) -> Result<Sender> {
        Sender::connect_over(None, grpc, http).await
    }

    /// The same with TLS on the gRPC port.
    pub async fn connect_over(
        tls: Option<ClientTlsConfig>,
        grpc: &str,
        http: &str,
    ) -> Result<Sender> {
        let endpoint = match tls {
            None => Endpoint::new(format!("http://{grpc}"))?,
            Some(tls) => Endpoint::new(format!("https://{grpc}"))?.tls_config(tls)?,
        };
        let channel = endpoint.connect().await?;
        Ok(Sender {
            channel,
            http: reqwest::Client::builder().no_proxy().build()?,
            http_url: format!("http://{http}"),
        })
    }

    /// One call; the reply's bytes or the status code. A unary call sends the first message.
    pub async fn call(
        &self,
        path: &str,
        calling: Calling,
        messages: Vec<Bytes>,
    ) -> Result<Result<Bytes, Code>> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await?;
        let path: PathAndQuery = path.parse()?;
        let codec = ProstCodec::<RawMessage, RawMessage>::default();
        let mut messages = messages.into_iter().map(RawMessage);
        let reply = match calling {
            Calling::Unary => {
                let message = messages.next().context("a unary call needs a message")?;
                client.unary(Request::new(message), path, codec).await
            }
            Calling::ClientStream => {
                let stream = tokio_stream::iter(messages);
                client
                    .client_streaming(Request::new(stream), path, codec)
                    .await
            }
        };
        Ok(reply
            .map(|r| r.into_inner().0)
            .map_err(|status| status.code()))
    }

    /// An HTTP request with a JSON body.
    pub async fn http(&self, method: &str, path: &str, body: Option<Bytes>) -> Result<HttpReply> {
        let url = format!("{}{path}", self.http_url);
        let mut request = self
            .http
            .request(method.parse()?, url)
            .header("Content-Type", "application/json");
        if let Some(body) = body {
            request = request.body(body);
        }
        let reply = request.send().await?;
        Ok(HttpReply {
            status: reply.status().as_u16(),
            body: reply.text().await?,
        })
    }
}

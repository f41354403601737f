//! Connections of a gRPC port, each served by a task of its own, so that each can be told to go by itself.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use axum::body::Body;
use futures_util::StreamExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tower::ServiceExt;

use super::lines::{Entry, Lines};
use super::{HANDSHAKE_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};
use crate::receiver::listen::{self, Connection};

/// Flow-control windows and frame size in bytes: large enough that a window update is rare, small enough to bound what
/// one connection can make us buffer.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
const MAX_FRAME: u32 = 64 * 1024;

/// What all connections of a port have in common.
#[derive(Clone)]
pub(super) struct Server {
    /// Streams of one connection.
    pub(super) max_streams: u32,
    /// `None` is clear text.
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) lines: Lines,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("max_streams", &self.max_streams)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Serves until `shutdown` is cancelled and all connections are closed; they break when `severed` is cancelled.
    pub(super) async fn serve(
        &self,
        listener: Arc<TcpListener>,
        routes: Routes,
        shutdown: CancellationToken,
        severed: CancellationToken,
    ) {
        let router: Router = routes.into_axum_router().with_state(());
        let open = TaskTracker::new();
        {
            let incoming = listen::connections(listener, HANDSHAKE_TIMEOUT, severed);
            let mut incoming = pin!(incoming);
            loop {
                let next = tokio::select! {
                    next = incoming.next() => next,
                    () = shutdown.cancelled() => break,
                };
                if let Some(Ok(connection)) = next {
                    let one = self
                        .clone()
                        .one(connection, router.clone(), shutdown.clone());
                    open.spawn(one);
                }
            }
        }
        open.close();
        open.wait().await;
    }

    async fn one(self, connection: Connection, router: Router, shutdown: CancellationToken) {
        let entry = self.lines.enter(self.max_streams);
        match &self.tls {
            None => self.drive(connection, router, &entry, &shutdown).await,
            Some(acceptor) => {
                let shaking = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(connection));
                let shaken = tokio::select! {
                    shaken = shaking => shaken,
                    () = shutdown.cancelled() => return entry.close(true),
                };
                match shaken {
                    Ok(Ok(stream)) => self.drive(stream, router, &entry, &shutdown).await,
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                    Err(_) => tracing::debug!("TLS handshake took too long"),
                }
            }
        }
        entry.close(shutdown.is_cancelled());
    }

    async fn drive<S>(&self, stream: S, router: Router, entry: &Entry, shutdown: &CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = Builder::new(TokioExecutor::new()).http2_only();
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_concurrent_streams(self.max_streams)
            .keep_alive_interval(Some(KEEPALIVE_INTERVAL))
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        let line = entry.line();
        let known = Arc::clone(line);
        let service = router.map_request(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Arc::clone(&known));
            request
        });
        let service = TowerToHyperService::new(service);
        let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let (mut is_leaving, mut is_told) = (false, false);
        loop {
            let outcome = tokio::select! {
                outcome = serving.as_mut() => Some(outcome),
                () = shutdown.cancelled(), if !is_leaving => {
                    is_leaving = true;
                    serving.as_mut().graceful_shutdown();
                    None
                }
                () = line.must_leave(), if !is_told => {
                    is_told = true;
                    serving.as_mut().graceful_shutdown();
                    // h2 writes a pending GOAWAY first whenever it is polled, so it comes before every answer that is
                    // given after this.
                    let once = std::future::poll_fn(|cx| match serving.as_mut().poll(cx) {
                        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                        Poll::Pending => Poll::Ready(None),
                    });
                    let outcome = once.await;
                    line.is_told();
                    outcome
                }
            };
            match outcome {
                Some(Ok(())) => return,
                Some(Err(error)) => {
                    tracing::debug!(%error, "connection failed");
                    return;
                }
                None => {}
            }
        }
    }
}

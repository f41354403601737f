//! Serves routes on a listener over HTTP/1.1 and cleartext HTTP/2, and ends without waiting for idle peers.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::StreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::receiver::listen::{self, Connection};

/// How a server treats time.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// A connection that is silent for so long, or takes so long to send the head of a request, is closed:
    /// `restIdleTimeOut`.
    pub idle: Duration,
    /// How long requests in work may go on after the shutdown began.
    pub grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30),
            grace: Duration::from_secs(3),
        }
    }
}

const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until `shutdown` is cancelled and the requests in work are answered; those that still run after the
/// grace period are abandoned.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    timeouts: Timeouts,
    shutdown: CancellationToken,
) {
    let severed = CancellationToken::new();
    let open = TaskTracker::new();
    {
        let mut connections = pin!(listen::connections(
            Arc::new(listener),
            timeouts.idle,
            severed.clone()
        ));
        loop {
            let next = tokio::select! {
                next = connections.next() => next,
                () = shutdown.cancelled() => break,
            };
            if let Some(Ok(connection)) = next {
                let severed = severed.clone();
                let shutdown = shutdown.clone();
                open.spawn(serve_one(
                    connection,
                    router.clone(),
                    timeouts.idle,
                    shutdown,
                    severed,
                ));
            }
        }
    }
    open.close();
    if tokio::time::timeout(timeouts.grace, open.wait())
        .await
        .is_err()
    {
        severed.cancel();
        open.wait().await;
    }
}

async fn serve_one(
    connection: Connection,
    router: Router,
    idle: Duration,
    shutdown: CancellationToken,
    severed: CancellationToken,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(idle);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(idle)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let service = TowerToHyperService::new(router);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(connection), service));
    let mut leaving = false;
    loop {
        tokio::select! {
            outcome = serving.as_mut() => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "connection failed");
                }
                return;
            }
            () = shutdown.cancelled(), if !leaving => {
                leaving = true;
                serving.as_mut().graceful_shutdown();
            }
            () = severed.cancelled() => return,
        }
    }
}

//! Serves routes on a listener over HTTP/1.1 and cleartext HTTP/2, and ends without waiting for idle peers.

use std::pin::pin;
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

/// A connection that is silent for so long, or takes so long to send a request head, is closed: the original's
/// `jettyIdleTimeOut`.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until `shutdown` is cancelled and the requests in work are answered; those that still run after `grace`
/// are abandoned.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    grace: Duration,
    shutdown: CancellationToken,
) {
    let severed = CancellationToken::new();
    let open = TaskTracker::new();
    {
        let mut connections = pin!(listen::connections(listener, severed.clone()));
        loop {
            let next = tokio::select! {
                next = connections.next() => next,
                () = shutdown.cancelled() => break,
            };
            if let Some(Ok(connection)) = next {
                let severed = severed.clone();
                open.spawn(serve_one(
                    connection,
                    router.clone(),
                    shutdown.clone(),
                    severed,
                ));
            }
        }
    }
    open.close();
    if tokio::time::timeout(grace, open.wait()).await.is_err() {
        severed.cancel();
        open.wait().await;
    }
}

async fn serve_one(
    connection: Connection,
    router: Router,
    shutdown: CancellationToken,
    severed: CancellationToken,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE_TIMEOUT)
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

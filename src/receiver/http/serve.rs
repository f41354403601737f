//! Serves routes on a listener over HTTP/1.1 and cleartext HTTP/2, and ends without waiting for idle peers.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::StreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use prometheus::IntCounter;
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

/// How many connections may be open at a time. Further ones are closed as they come.
#[derive(Debug, Clone)]
pub struct Room {
    pub connections: usize,
    /// Counts those that are closed.
    pub refused: IntCounter,
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
    serve_within(listener, router, timeouts, None, shutdown).await;
}

/// [`serve`] with a bound.
pub async fn serve_within(
    listener: TcpListener,
    router: Router,
    timeouts: Timeouts,
    room: Option<Room>,
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
                if let Some(room) = room.as_ref().filter(|r| open.len() >= r.connections) {
                    room.refused.inc();
                    continue;
                }
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    /// What comes back on a new connection, which stays open.
    async fn ask(address: std::net::SocketAddr) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // One that is closed at once may be so before anything is written to it.
        let request = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
        stream.write_all(request).await.unwrap_or_default();
        let mut text = vec![0; 12];
        let read = stream.read(&mut text).await.unwrap_or(0);
        text.truncate(read);
        (stream, String::from_utf8(text).unwrap())
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_are_closed_and_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "here"));
        let refused = IntCounter::new("refused", "r").unwrap();
        let room = Room {
            connections: 2,
            refused: refused.clone(),
        };
        let stop = CancellationToken::new();
        let timeouts = Timeouts::default();
        let serving = serve_within(listener, router, timeouts, Some(room), stop.clone());
        let serving = tokio::spawn(serving);
        let (first, answer) = ask(address).await;
        assert_eq!(answer, "HTTP/1.1 200");
        let (_second, answer) = ask(address).await;
        assert_eq!(answer, "HTTP/1.1 200");
        let (_, answer) = ask(address).await;
        assert_eq!((answer.as_str(), refused.get()), ("", 1));
        // There is room again as soon as the server sees that the first is gone.
        drop(first);
        let again = async {
            while ask(address).await.1.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), again)
            .await
            .unwrap();
        stop.cancel();
        serving.await.unwrap();
    }
}

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

use super::room::{Room, Seat, Seats};
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
    serve_within(listener, router, timeouts, None, shutdown).await;
}

/// How long a connection that makes room may take to send the rest of an answer.
const LAST_ANSWER: Duration = Duration::from_secs(1);

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
    let seats = room.map(Seats::new);
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
                let seat = match &seats {
                    None => None,
                    Some(seats) => match seats.take() {
                        None => continue,
                        seat => seat,
                    },
                };
                let severed = severed.clone();
                let shutdown = shutdown.clone();
                open.spawn(serve_one(
                    connection,
                    seat,
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
    seat: Option<Arc<Seat>>,
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
    let router = match &seat {
        None => router,
        Some(seat) => seat.watch(router),
    };
    let service = TowerToHyperService::new(router);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(connection), service));
    let mut leaving = false;
    let mut silent = pin!(async {
        match &seat {
            None => std::future::pending().await,
            Some(seat) => seat.is_silent().await,
        }
    });
    let mut gives_way = pin!(async {
        match &seat {
            None => std::future::pending().await,
            Some(seat) => seat.gives_way.cancelled().await,
        }
    });
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
            () = &mut silent => return,
            () = &mut gives_way => {
                serving.as_mut().graceful_shutdown();
                tokio::time::timeout(LAST_ANSWER, serving).await.ok();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use prometheus::IntCounter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::Semaphore;

    use super::*;

    /// What is still to come on a connection until it is closed.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        let reading = stream.read_to_end(&mut bytes);
        let reading = tokio::time::timeout(Duration::from_secs(20), reading);
        // One that is reset is closed, too.
        reading.await.unwrap().unwrap_or_default();
        String::from_utf8(bytes).unwrap()
    }

    /// What comes back on a new connection, which stays open.
    async fn ask(address: std::net::SocketAddr, path: &str) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // One that is closed at once may be so before anything is written to it.
        let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .unwrap_or_default();
        let mut text = vec![0; 12];
        let read = stream.read(&mut text).await.unwrap_or(0);
        text.truncate(read);
        (stream, String::from_utf8(text).unwrap())
    }

    /// A port with room for two, that answers `/` at once and `/slow` when it is allowed to.
    struct Port {
        address: std::net::SocketAddr,
        refused: IntCounter,
        go_on: CancellationToken,
        /// As many permits as slow requests have come.
        begun: Arc<Semaphore>,
        stop: CancellationToken,
        serving: tokio::task::JoinHandle<()>,
    }

    async fn port(opening: Duration) -> Port {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let go_on = CancellationToken::new();
        let allowed = go_on.clone();
        let begun = Arc::new(Semaphore::new(0));
        let slow_begun = Arc::clone(&begun);
        let slow = async move || {
            slow_begun.add_permits(1);
            allowed.cancelled().await;
            "there"
        };
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/slow", get(slow));
        let refused = IntCounter::new("refused", "r").unwrap();
        let room = Room {
            connections: 2,
            opening,
            refused: refused.clone(),
        };
        let stop = CancellationToken::new();
        let timeouts = Timeouts::default();
        let serving = serve_within(listener, router, timeouts, Some(room), stop.clone());
        Port {
            address,
            refused,
            go_on,
            begun,
            stop,
            serving: tokio::spawn(serving),
        }
    }

    impl Port {
        async fn end(self) {
            self.stop.cancel();
            self.serving.await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_asks_nothing_makes_room_and_is_counted() {
        let port = port(Duration::from_secs(600)).await;
        let (mut asked, answer) = ask(port.address, "/").await;
        assert_eq!(answer, "HTTP/1.1 200");
        let mut silent = TcpStream::connect(port.address).await.unwrap();
        silent.write_all(b"GET / HT").await.unwrap();
        // The silent one is closed first, though the other is older; then the one that has asked.
        let (_third, answer) = ask(port.address, "/").await;
        assert_eq!((answer.as_str(), port.refused.get()), ("HTTP/1.1 200", 1));
        assert_eq!(rest(&mut silent).await, "");
        let (_fourth, answer) = ask(port.address, "/").await;
        assert_eq!((answer.as_str(), port.refused.get()), ("HTTP/1.1 200", 2));
        assert!(rest(&mut asked).await.ends_with("here"));
        port.end().await;
    }

    #[tokio::test]
    async fn who_is_being_answered_stays() {
        let port = port(Duration::from_secs(600)).await;
        let (address, go_on) = (port.address, port.go_on.clone());
        let slow: Vec<_> = (0..2)
            .map(|_| tokio::spawn(ask(address, "/slow")))
            .collect();
        let both = tokio::time::timeout(Duration::from_secs(20), port.begun.acquire_many(2));
        drop(both.await.unwrap().unwrap());
        let (_, answer) = ask(address, "/").await;
        assert_eq!((answer.as_str(), port.refused.get()), ("", 1));
        go_on.cancel();
        for slow in slow {
            assert_eq!(slow.await.unwrap().1, "HTTP/1.1 200");
        }
        port.end().await;
    }

    #[tokio::test]
    async fn the_first_request_must_come_soon() {
        let port = port(Duration::from_millis(10)).await;
        let mut silent = TcpStream::connect(port.address).await.unwrap();
        assert_eq!(rest(&mut silent).await, "");
        assert_eq!(port.refused.get(), 0);
        port.end().await;
    }
}

//! Listening sockets and accepted connections, the same for gRPC and HTTP.
//!
//! Binding is apart from serving: the caller opens its ports when everything behind them is ready, and tests bind port 0.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::ReceiveError;
use crate::telemetry::Throttle;
use crate::util::clock::Clock;

/// Opens a port. `address` is `host:port`; port 0 takes any free one.
pub async fn bind(address: &str) -> Result<TcpListener, ReceiveError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ReceiveError::Bind {
            address: address.to_owned(),
            source,
        })
}

/// Rest after a failed accept: it fails again at once while the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every HTTP/2 connection begins with, and nothing else does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Accepted connections, without end. Each breaks when `severed` is cancelled, or if its peer does not say within
/// `opening` which protocol it speaks: until then no timeout of the protocols holds.
pub(super) fn connections(
    listener: Arc<TcpListener>,
    opening: Duration,
    severed: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let state = (listener, severed, Throttle::new(Clock::System));
    stream::unfold(state, move |(listener, severed, throttle)| async move {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    if let Err(error) = socket.set_nodelay(true) {
                        tracing::debug!(%error, "failed to set TCP_NODELAY");
                    }
                    let connection = Connection {
                        socket,
                        opening: Some(Opening {
                            matched: 0,
                            deadline: Box::pin(tokio::time::sleep(opening)),
                        }),
                        severed: Box::pin(severed.child_token().cancelled_owned()),
                    };
                    return Some((Ok(connection), (listener, severed, throttle)));
                }
                Err(error) => {
                    if let Some(held_back) = throttle.admit() {
                        tracing::warn!(%error, held_back, "failed to accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// A socket that fails where it would wait once it is severed, so that no peer can hold up a shutdown by its silence.
#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    opening: Option<Opening>,
    severed: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// The time in which all that was read could still become [`PREFACE`].
#[derive(Debug)]
struct Opening {
    /// Bytes of the preface read so far.
    matched: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Opening {
    /// Whether it is over with these bytes.
    fn ends_with(&mut self, read: &[u8]) -> bool {
        let rest = PREFACE.get(self.matched..).unwrap_or_default();
        self.matched += read.len();
        self.matched >= PREFACE.len() || !rest.starts_with(read)
    }
}

impl Connection {
    fn unless_severed<T>(
        &mut self,
        cx: &mut Context<'_>,
        progress: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(outcome) = progress(Pin::new(&mut self.socket), cx) {
            return Poll::Ready(outcome);
        }
        self.severed
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::ConnectionAborted.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = self.unless_severed(cx, |socket, cx| socket.poll_read(cx, buf));
        let Some(opening) = &mut self.opening else {
            return outcome;
        };
        if outcome.is_pending() {
            return opening
                .deadline
                .as_mut()
                .poll(cx)
                .map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        let read = buf.filled().get(before..).unwrap_or_default();
        if opening.ends_with(read) {
            self.opening = None;
        }
        outcome
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unless_severed(cx, |socket, cx| socket.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_severed(cx, |socket, cx| socket.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_severed(cx, |socket, cx| socket.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unless_severed(cx, |socket, cx| socket.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_opening_ends_when_the_protocol_is_clear() {
        let opening = || Opening {
            matched: 0,
            deadline: Box::pin(tokio::time::sleep(Duration::ZERO)),
        };
        assert!(opening().ends_with(b"GET / HTTP/1.1"));
        assert!(opening().ends_with(PREFACE));
        let mut slow = opening();
        assert!(!slow.ends_with(b"PR"));
        assert!(!slow.ends_with(b""));
        assert!(!slow.ends_with(b"I * HTTP/2.0\r\n"));
        assert!(slow.ends_with(b"\r\nSM\r\n\r\nframes"));
        let mut post = opening();
        assert!(!post.ends_with(b"P"));
        assert!(post.ends_with(b"OST"));
    }
}

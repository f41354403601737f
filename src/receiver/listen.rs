//! Listening sockets and accepted connections, the same for gRPC and HTTP.
//!
//! Binding is apart from serving: the caller opens its ports when everything behind them is ready, and tests bind port 0.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::{ReceiveError, log_limit::LogLimit};

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

/// Accepted connections, without end. Each breaks when `severed` is cancelled.
pub(super) fn connections(
    listener: TcpListener,
    severed: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let state = (listener, severed, LogLimit::default());
    stream::unfold(state, |(listener, severed, limit)| async move {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    if let Err(error) = socket.set_nodelay(true) {
                        tracing::debug!(%error, "failed to set TCP_NODELAY");
                    }
                    let connection = Connection {
                        socket,
                        severed: Box::pin(severed.child_token().cancelled_owned()),
                    };
                    return Some((Ok(connection), (listener, severed, limit)));
                }
                Err(error) => {
                    if let Some(unsaid) = limit.due() {
                        tracing::warn!(%error, unsaid, "failed to accept a connection");
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
    severed: Pin<Box<WaitForCancellationFutureOwned>>,
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

impl Connected for Connection {
    type ConnectInfo = <TcpStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.socket.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.unless_severed(cx, |socket, cx| socket.poll_read(cx, buf))
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

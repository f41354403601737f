//! Stands between the server under test and the shared Elasticsearch, and can be shut: a network that comes and goes.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Debug, Clone, Copy, Default)]
struct State {
    is_open: bool,
    /// How often it was shut: a connection ends although it is open again when that is noticed.
    shuts: u64,
}

/// A port in front of another one, ended when dropped.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Gate {
    /// In front of `host:port`.
    pub async fn shut_before(target: String) -> Result<Gate> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, seen) = watch::channel(State::default());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Dropped at once while shut.
                let now = *seen.borrow();
                if now.is_open {
                    tokio::spawn(pass(client, target.clone(), seen.clone(), now.shuts));
                }
            }
        });
        Ok(Gate {
            address,
            state,
            accepting,
        })
    }

    /// `host:port`
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn open(&self) {
        self.state.send_modify(|state| state.is_open = true);
    }

    /// Breaks every connection, with whatever is under way, and lets none in.
    pub fn shut(&self) {
        self.state.send_modify(|state| {
            state.is_open = false;
            state.shuts += 1;
        });
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(mut client: TcpStream, target: String, mut seen: watch::Receiver<State>, shuts: u64) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    tokio::select! {
        // However it ends, the connection is over.
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = seen.wait_for(|state| state.shuts != shuts) => {}
    }
}

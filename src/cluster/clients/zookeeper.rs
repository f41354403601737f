//! Sessions of ZooKeeper.

use std::time::Duration;

use zookeeper_client::Client;

use super::CenterError;

/// A new session at one of the servers, `host:port` with commas between. `login` is what scheme `digest` takes, `user:password`.
/// Fails when none of them can be reached.
pub async fn connect(
    servers: &str,
    session_timeout: Duration,
    login: Option<&str>,
) -> Result<Client, CenterError> {
    let mut connector = Client::connector()
        .with_session_timeout(session_timeout)
        // Newer servers take the requests of 3.4 as well.
        .with_server_version(3, 4, 14)
        .with_fail_eagerly();
    if let Some(login) = login {
        connector = connector.with_auth("digest", login.as_bytes());
    }
    connector
        .connect(servers)
        .await
        .map_err(|error| CenterError(format!("{servers}: {}", CenterError::because(&error))))
}

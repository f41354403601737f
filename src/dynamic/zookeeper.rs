//! ZooKeeper: the children of a node are the keys, their data the values (8.1.0 spec, I).

use std::time::Duration;

use zookeeper_client::{Client, Error};

use super::center::{CenterError, Values};
use super::key::Key;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the keys are. Each look is a session of its own: there is one a minute.
#[derive(Debug)]
pub struct ZooKeeper {
    servers: String,
    path: String,
}

impl ZooKeeper {
    pub(super) fn new(servers: &str, path: &str) -> ZooKeeper {
        ZooKeeper {
            servers: servers.to_owned(),
            path: path.to_owned(),
        }
    }

    pub(super) async fn read(&mut self, keys: &[Key]) -> Result<Values, CenterError> {
        let connecting = Client::connector()
            .with_session_timeout(TIMEOUT)
            .with_connection_timeout(TIMEOUT)
            .with_fail_eagerly()
            .connect(&self.servers);
        let client = connecting.await.map_err(|error| {
            let servers = &self.servers;
            CenterError(format!("{servers}: {}", CenterError::because(&error)))
        })?;
        let failed = |error: Error| {
            let path = &self.path;
            CenterError(format!("{path}: {}", CenterError::because(&error)))
        };
        let children = match client.list_children(&self.path).await {
            Ok(children) => children,
            Err(Error::NoNode) => return Ok(Values::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut values = Values::new();
        for key in children.iter().filter_map(|name| Key::of(name)) {
            if !keys.contains(&key) {
                continue;
            }
            let path = format!("{}/{}", self.path.trim_end_matches('/'), key.name());
            match client.get_data(&path).await {
                Ok((data, _)) => {
                    let text = String::from_utf8(data).map_err(CenterError::answer)?;
                    values.insert(key, text);
                }
                // Deleted since.
                Err(Error::NoNode) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(values)
    }
}

//! ZooKeeper: the children of a node are the keys, their data the values (8.1.0 spec, I).

use zookeeper_client::Error;

use super::center::{TIMEOUT, Values};
use super::key::Key;
use crate::cluster::clients::{CenterError, connect};

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
        let client = connect(&self.servers, TIMEOUT, None).await?;
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
                    values.insert(key, data);
                }
                // Deleted since.
                Err(Error::NoNode) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(values)
    }
}

//! ZooKeeper: every node is an ephemeral node with what Curator's service discovery writes there (8.1.0 spec, G.3).
//!
//! Below `/skywalking[/NAMESPACE]/remote`, named by a random UUID. It goes with the session: at once when this node leaves, else
//! when ZooKeeper has not heard of it for the time of a session.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Error, Permission, SessionState};

use super::super::clients::{CenterError, connect};
use super::center::{Listing, check_count};
use crate::config::{OwnAddress, Secret};

/// Of the original 60 s; a node of its own kind does not stand still for so long.
const SESSION: Duration = Duration::from_secs(20);
/// Name of the service.
const SERVICE: &str = "remote";

/// Where nodes are announced.
#[derive(Debug)]
pub(super) struct ZooKeeper {
    servers: String,
    path: String,
    /// `user:password`; with it all nodes belong to that user, and everybody may read them.
    login: Option<Secret>,
    session: Option<Session>,
}

struct Session {
    client: Client,
    /// Path of the own node.
    own: Option<String>,
    /// What was read of other nodes, which never changes, by name. `None`: it makes no sense.
    read: HashMap<String, Option<Address>>,
    change: Option<Change>,
}

type Change = Pin<Box<dyn Future<Output = ()> + Send>>;

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("own", &self.own)
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

/// What Curator writes of an instance.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instance {
    #[serde(default)]
    name: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u16,
    payload: Payload,
    #[serde(default, rename = "registrationTimeUTC")]
    registration_time_utc: i64,
    #[serde(default)]
    service_type: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    address: Address,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    host: String,
    port: u16,
    #[serde(default)]
    is_self: bool,
}

impl ZooKeeper {
    pub(super) fn new(servers: &str, path: &str, login: Option<Secret>) -> ZooKeeper {
        ZooKeeper {
            servers: servers.to_owned(),
            path: format!("{path}/{SERVICE}"),
            login,
            session: None,
        }
    }

    pub(super) async fn register(&mut self, own: &OwnAddress) -> Result<(), CenterError> {
        let id = random_uuid()?;
        let data = instance(own, &id)?;
        let (path, acls) = (self.path.clone(), self.acls());
        let acls = Acls::new(&acls);
        let session = self.session().await?;
        let failed = |error| failed(&path, &error);
        if let Some(own) = &session.own
            && session
                .client
                .check_stat(own)
                .await
                .map_err(failed)?
                .is_some()
        {
            return Ok(());
        }
        let folder = CreateMode::Persistent.with_acls(acls);
        session.client.mkdir(&path, &folder).await.map_err(failed)?;
        let node = format!("{path}/{id}");
        let ephemeral = CreateMode::Ephemeral.with_acls(acls);
        let creating = session.client.create(&node, data.as_bytes(), &ephemeral);
        creating.await.map_err(failed)?;
        session.own = Some(node);
        Ok(())
    }

    pub(super) async fn list(&mut self) -> Result<Listing, CenterError> {
        let path = self.path.clone();
        let session = self.session().await?;
        let failed = |error| failed(&path, &error);
        let names = match session.client.list_and_watch_children(&path).await {
            Ok((names, watcher)) => {
                session.change = Some(Box::pin(async move {
                    watcher.changed().await;
                }));
                names
            }
            Err(Error::NoNode) => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        check_count(names.len())?;
        let mut read = HashMap::new();
        let mut listing = Listing::default();
        for name in names {
            let address = match session.read.remove(&name) {
                Some(address) => address,
                None => match session.client.get_data(&format!("{path}/{name}")).await {
                    Ok((data, _)) => address(&data),
                    // Gone since.
                    Err(Error::NoNode) => continue,
                    Err(error) => return Err(failed(error)),
                },
            };
            let node = format!("{path}/{name}");
            match &address {
                Some(address) => listing.add(&node, &address.host, address.port, true),
                None => listing.add_strange(&node),
            }
            read.insert(name, address);
        }
        session.read = read;
        Ok(listing)
    }

    pub(super) async fn changed(&mut self) {
        match self.session.as_mut().and_then(|s| s.change.as_mut()) {
            Some(change) => {
                change.await;
                if let Some(session) = &mut self.session {
                    session.change = None;
                }
            }
            None => std::future::pending().await,
        }
    }

    pub(super) async fn leave(&mut self) -> Result<(), CenterError> {
        // With the last client the session ends, which removes what it may have made besides.
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        let Some(own) = session.own else {
            return Ok(());
        };
        match session.client.delete(&own, None).await {
            Ok(()) | Err(Error::NoNode) => Ok(()),
            Err(error) => Err(failed(&own, &error)),
        }
    }

    /// The session that there is, or a new one.
    async fn session(&mut self) -> Result<&mut Session, CenterError> {
        let is_over = self.session.as_ref().is_some_and(|session| {
            matches!(
                session.client.state(),
                SessionState::Expired | SessionState::AuthFailed | SessionState::Closed
            )
        });
        if is_over {
            tracing::warn!("the session of ZooKeeper has ended, a new one begins");
            self.session = None;
        }
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                let login = self.login.as_ref().map(Secret::expose);
                Session {
                    client: connect(&self.servers, SESSION, login).await?,
                    own: None,
                    read: HashMap::new(),
                    change: None,
                }
            }
        };
        Ok(self.session.insert(session))
    }

    /// Of everything that is made.
    fn acls(&self) -> Vec<Acl> {
        match &self.login {
            None => vec![Acl::new(Permission::ALL, AuthId::anyone())],
            Some(_) => vec![
                Acl::new(Permission::ALL, AuthId::authed()),
                Acl::new(Permission::READ, AuthId::anyone()),
            ],
        }
    }
}

fn failed(path: &str, error: &Error) -> CenterError {
    CenterError(format!("{path}: {}", CenterError::because(error)))
}

/// What the original looks at: the payload.
fn address(data: &[u8]) -> Option<Address> {
    let instance = serde_json::from_slice::<Instance>(data);
    Some(instance.ok()?.payload.address)
}

fn instance(own: &OwnAddress, id: &str) -> Result<String, CenterError> {
    let instance = Instance {
        name: SERVICE.to_owned(),
        id: id.to_owned(),
        address: own.host.clone(),
        port: own.port,
        payload: Payload {
            address: Address {
                host: own.host.clone(),
                port: own.port,
                is_self: true,
            },
        },
        registration_time_utc: jiff::Timestamp::now().as_millisecond(),
        service_type: "DYNAMIC".to_owned(),
    };
    serde_json::to_string(&instance).map_err(|error| CenterError::because(&error))
}

/// Version 4.
fn random_uuid() -> Result<String, CenterError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| CenterError("the system has no random numbers".to_owned()))?;
    let number = u128::from_be_bytes(bytes);
    let number = number & !(0xf << 76) | 4 << 76;
    let number = number & !(0b11 << 62) | 0b10 << 62;
    let hex = format!("{number:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    let parts: Vec<&str> = parts.into_iter().filter_map(|part| hex.get(part)).collect();
    Ok(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_what_curator_writes() {
        let id = random_uuid().unwrap();
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
        assert_eq!(id.as_bytes()[14], b'4', "{id}");
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert_ne!(id, random_uuid().unwrap());
        let text = instance(&OwnAddress::new("oap-1", 11800), "id-1").unwrap();
        let (before, after) = text.split_once("registrationTimeUTC").unwrap();
        let payload = r#""payload":{"address":{"host":"oap-1","port":11800,"isSelf":true}},""#;
        assert_eq!(
            before,
            format!(r#"{{"name":"remote","id":"id-1","address":"oap-1","port":11800,{payload}"#)
        );
        assert!(after.ends_with(r#","serviceType":"DYNAMIC"}"#), "{after}");
    }

    #[test]
    fn the_payload_counts_and_what_makes_no_sense_does_not() {
        // Another version of Curator writes more.
        let other = br#"{"name":"remote","id":"i","address":"a","port":1,"sslPort":null,"enabled":true,"uriSpec":null,
            "payload":{"address":{"host":"10.0.0.7","port":11801,"isSelf":false}}}"#;
        let found = address(other).unwrap();
        assert_eq!((found.host.as_str(), found.port), ("10.0.0.7", 11801));
        for bad in [
            &b""[..],
            b"{}",
            b"\xff",
            br#"{"payload":{"address":{"host":"h","port":"x"}}}"#,
        ] {
            assert!(address(bad).is_none());
        }
    }
}

//! A whole server for a test: ports of its own, a store of its own, settings by the variables that a user would set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use anyhow::{Context, Result};
use oap::app::{self, Running};
use oap::config::{Arguments, ConfigDirs, Configuration, Environment};
use oap::telemetry::Ledger;
use oap::util::clock::Clock;
use tempfile::TempDir;

use crate::es_console::EsConsole;
use crate::peers::Elasticsearch;

/// Where a server keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// In a folder that goes away with the test.
    Embedded,
    /// In a namespace of the node that all tests share.
    Elasticsearch,
}

/// A server that is not started yet.
#[derive(Debug, Clone)]
pub struct Builder {
    name: String,
    store: Store,
    environment: BTreeMap<String, String>,
    config_dirs: Vec<PathBuf>,
    clock: Clock,
}

/// A running server; [`TestServer::stop`] ends it.
#[derive(Debug)]
pub struct TestServer {
    running: Running,
    console: Option<EsConsole>,
    data: TempDir,
    builder: Builder,
}

impl TestServer {
    /// `name` is its namespace on Elasticsearch: no two tests may have the same.
    pub fn builder(name: &str, store: Store) -> Builder {
        Builder {
            name: name.to_owned(),
            store,
            environment: BTreeMap::new(),
            config_dirs: vec![],
            clock: Clock::System,
        }
    }

    /// `host:port` of the gRPC port.
    pub fn grpc(&self) -> String {
        self.running.grpc_addr().to_string()
    }

    /// `host:port` of the HTTP port.
    pub fn http(&self) -> String {
        self.running.http_addr().to_string()
    }

    /// A look into Elasticsearch, if that is the store.
    pub fn console(&self) -> Option<&EsConsole> {
        self.console.as_ref()
    }

    /// Folder of the embedded store.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// What became of everything that came in.
    pub fn ledger(&self) -> Ledger {
        self.running.ledger().clone()
    }

    /// Waits until everything acknowledged is stored and visible.
    pub async fn flush(&self) -> Result<()> {
        self.running.flush().await
    }

    /// Ends the server as SIGTERM would and starts it anew on its data, as `edit` changes it.
    pub async fn restart(self, edit: impl FnOnce(Builder) -> Builder) -> Result<TestServer> {
        self.running.shutdown().await?;
        edit(self.builder).start_on(self.data).await
    }

    /// Ends the server as SIGTERM would; what the embedded store has stays in the folder.
    pub async fn leave(self) -> Result<TempDir> {
        self.running.shutdown().await?;
        Ok(self.data)
    }

    /// Ends the server as SIGTERM would, and removes its data.
    pub async fn stop(self) -> Result<()> {
        self.running.shutdown().await?;
        match &self.console {
            Some(console) => console.clean().await,
            None => Ok(()),
        }
    }
}

impl Builder {
    /// Sets a variable of the environment that the server sees; it sees no others.
    pub fn env(mut self, variable: &str, value: &str) -> Builder {
        self.environment
            .insert(variable.to_owned(), value.to_owned());
        self
    }

    /// Files there win over those of the binary.
    pub fn config_dir(mut self, folder: &Path) -> Builder {
        self.config_dirs.push(folder.to_owned());
        self
    }

    /// The time is what the test says, in epoch milliseconds.
    pub fn clock(mut self, ms: &Arc<AtomicI64>) -> Builder {
        self.clock = Clock::Fixed(Arc::clone(ms));
        self
    }

    pub async fn start(self) -> Result<TestServer> {
        self.start_on(tempfile::tempdir()?).await
    }

    /// Starts on the data of another server.
    pub async fn start_on(self, data: TempDir) -> Result<TestServer> {
        let mut environment: BTreeMap<String, String> = [
            ("SW_CORE_GRPC_HOST", "127.0.0.1"),
            ("SW_CORE_GRPC_PORT", "0"),
            ("SW_CORE_REST_HOST", "127.0.0.1"),
            ("SW_CORE_REST_PORT", "0"),
        ]
        .map(|(variable, value)| (variable.to_owned(), value.to_owned()))
        .into();
        let mut console = None;
        if self.store == Store::Elasticsearch {
            let node = tokio::task::block_in_place(Elasticsearch::shared);
            let (user, password) = node.credentials().context("the shared node is open")?;
            let address = node.address();
            for (variable, value) in [
                ("SW_STORAGE", "elasticsearch7"),
                ("SW_NAMESPACE", &self.name),
                ("SW_STORAGE_ES_CLUSTER_NODES", &address),
                ("SW_ES_USER", user),
                ("SW_ES_PASSWORD", password),
            ] {
                environment.insert(variable.to_owned(), value.to_owned());
            }
            console = Some(EsConsole::new(&self.name)?);
        }
        environment.extend(self.environment.clone());
        let arguments = Arguments {
            data_dir: data.path().to_owned(),
            ..Arguments::default()
        };
        let configuration = Configuration::load_from(
            &ConfigDirs::only(self.config_dirs.clone()),
            &arguments,
            &environment.into_iter().collect::<Environment>(),
        )?;
        Ok(TestServer {
            running: app::start_with(configuration, self.clock.clone()).await?,
            console,
            data,
            builder: self,
        })
    }
}

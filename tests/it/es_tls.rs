//! Elasticsearch behind TLS: trust stores as PEM and as the JKS files that keytool makes, and secrets that are rotated.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oap::config::{EsProtocol, Secret};
use oap::model::time_bucket::Zone;
use oap::storage::Backend;
use oap::storage::elasticsearch::{Elasticsearch, ElasticsearchOptions};
use oap::util::clock::Clock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::es_console::EsConsole;
use crate::oap_process::{OapCommand, few_metrics};
use crate::peers;
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);
const STORE_PASSWORD: &str = "changeit";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/tls")
        .join(name)
}

/// Takes TLS off in front of the shared node; `host:port`.
async fn tls_port() -> Result<String> {
    let node = tokio::task::block_in_place(peers::Elasticsearch::shared);
    let chain =
        CertificateDer::pem_file_iter(data("loopback-cert.pem"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(data("loopback-key.pem"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(node.address()).await?;
                let mut client = acceptor.accept(client).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Ok(address)
}

fn store(address: &str, trust_store: Option<PathBuf>, password: &str) -> Result<Elasticsearch> {
    let node = peers::Elasticsearch::shared();
    let (user, secret) = node.credentials().context("the shared node is open")?;
    let options = ElasticsearchOptions {
        name_space: "tls".to_owned(),
        cluster_nodes: vec![address.to_owned()],
        protocol: EsProtocol::Https,
        user: user.to_owned(),
        password: Secret::new(secret),
        trust_store_path: trust_store,
        trust_store_pass: Secret::new(password),
        ..ElasticsearchOptions::default()
    };
    Ok(Elasticsearch::new(options, Zone::utc(), Clock::System)?)
}

/// A key store with the certificate of the port, made by the tool that users have.
fn keytool(folder: &Path, ty: &str) -> Result<PathBuf> {
    let path = folder.join(format!("trust.{ty}"));
    let made = Command::new("keytool")
        .args(["-importcert", "-noprompt", "-alias", "es", "-storetype", ty])
        .args(["-storepass", STORE_PASSWORD, "-file"])
        .arg(data("loopback-cert.pem"))
        .arg("-keystore")
        .arg(&path)
        .output()?;
    ensure!(made.status.success(), "{made:?}");
    Ok(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn https_needs_a_trust_store_with_the_certificate() -> Result<()> {
    let address = tls_port().await?;
    let folder = tempfile::tempdir()?;
    let jks = keytool(folder.path(), "JKS")?;
    for (trust_store, password) in [
        (data("loopback-cert.pem"), ""),
        (jks.clone(), STORE_PASSWORD),
        (jks.clone(), ""),
        (keytool(folder.path(), "PKCS12")?, STORE_PASSWORD),
    ] {
        let trusting = store(&address, Some(trust_store.clone()), password)?;
        trusting
            .ping()
            .await
            .with_context(|| format!("{trust_store:?}"))?;
    }
    for trust_store in [None, Some(data("cert.pem"))] {
        let error = store(&address, trust_store.clone(), "")?.ping().await;
        let error = error.err().with_context(|| format!("{trust_store:?}"))?;
        ensure!(error.to_string().contains("certificate"), "{error}");
    }
    let wrong = store(&address, Some(jks), "changed").err();
    let wrong = format!("{:#}", wrong.context("a wrong password is taken")?);
    ensure!(wrong.contains("SW_STORAGE_ES_SSL_JKS_PASS"), "{wrong}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_secrets_are_used_without_a_restart() -> Result<()> {
    const NAMESPACE: &str = "tls_rotated";
    let address = tls_port().await?;
    let folder = tempfile::tempdir()?;
    few_metrics(&folder.path().join("config"))?;
    let (user, password) = peers::Elasticsearch::shared()
        .credentials()
        .context("the shared node is open")?;
    let secrets = folder.path().join("secrets.properties");
    let trust_store = folder.path().join("trust.pem");
    std::fs::write(&secrets, format!("user={user}\npassword=outdated\n"))?;
    std::fs::copy(data("cert.pem"), &trust_store)?;
    let process = OapCommand::new(folder.path())
        .on_elasticsearch(NAMESPACE)?
        .env("SW_STORAGE_ES_CLUSTER_NODES", &address)
        .env("SW_STORAGE_ES_HTTP_PROTOCOL", "https")
        .env("SW_STORAGE_ES_SSL_JKS_PATH", &trust_store.to_string_lossy())
        .env("SW_ES_SECRETS_MANAGEMENT_FILE", &secrets.to_string_lossy())
        .start()
        .await?;
    let says = async |text: &str| {
        wait_until(text, DEADLINE, async || {
            let log = process.log();
            ensure!(log.contains(text), "{log}");
            Ok(())
        })
        .await
    };
    says("UnknownIssuer").await?;
    // A file in the middle of being replaced leaves everything as it is.
    std::fs::write(&trust_store, "half a fi")?;
    says("trust.pem").await?;
    std::fs::copy(data("loopback-cert.pem"), &trust_store)?;
    says("answers 401").await?;
    let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
    std::fs::write(&secrets, format!("user={user}\npassword={escaped}\n"))?;
    let there = says("storage is there").await;
    let log = process.log();
    process.stop().await?;
    EsConsole::new(NAMESPACE)?.clean().await?;
    there?;
    ensure!(
        !log.contains("outdated") && !log.contains(password),
        "{log}"
    );
    Ok(())
}

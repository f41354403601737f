//! Certificate and key of the gRPC port, checked before the port opens, so that a mistake names its file.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsSettings;
use crate::receiver::ReceiveError;
use crate::util::file;

const CHAIN: &str = "certificate chain";
const KEY: &str = "private key";

/// Reads the files, both PEM: the server's certificate followed by those it was issued by, and its private key in
/// PKCS #8, PKCS #1 or SEC1. What a server is built on.
pub(super) fn server_config(files: &TlsSettings) -> Result<ServerConfig, ReceiveError> {
    let chain_pem = read(CHAIN, &files.cert_chain_path)?;
    let key_pem = read(KEY, &files.key_path)?;
    let chain = CertificateDer::pem_slice_iter(&chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(CHAIN, &files.cert_chain_path, error.to_string()))?;
    if chain.is_empty() {
        let reason = "it holds no certificate".to_owned();
        return Err(unusable(CHAIN, &files.cert_chain_path, reason));
    }
    let key = PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|error| unusable(KEY, &files.key_path, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(ReceiveError::TlsPair)?;
    config.alpn_protocols.push(b"h2".to_vec());
    Ok(config)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ReceiveError> {
    file::read(path, file::MAX_BYTES).map_err(|source| ReceiveError::ReadTls {
        what,
        path: path.to_owned(),
        source,
    })
}

fn unusable(what: &'static str, path: &Path, reason: String) -> ReceiveError {
    ReceiveError::Pem {
        what,
        path: path.to_owned(),
        reason,
    }
}

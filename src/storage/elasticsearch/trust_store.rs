//! Certificates to trust: a PEM file, or what Java takes for a JKS file, which is a key store in that format or, from newer
//! keytools, in the format PKCS12.

mod jks;
mod pkcs12;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::options::OptionsError;
use crate::config::Secret;
use crate::util::file;

const JCEKS_MAGIC: [u8; 4] = [0xCE, 0xCE, 0xCE, 0xCE];

/// Why a file is no trust store.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TrustStoreError {
    #[error(
        "it has {0}; convert it: keytool -importkeystore -srckeystore FILE -destkeystore FILE.jks -deststoretype JKS"
    )]
    Unsupported(&'static str),
    #[error("it is neither a PEM file with certificates nor a JKS or PKCS12 key store")]
    Unknown,
    #[error(
        "the password is wrong or the key store is damaged (trustStorePass, SW_STORAGE_ES_SSL_JKS_PASS)"
    )]
    Integrity,
    #[error("it is no whole {0} key store")]
    Malformed(&'static str),
    #[error("it has no certificate to trust")]
    Empty,
}

/// PEM text with at least one certificate.
pub fn certificates(path: &Path, password: &Secret) -> Result<Vec<u8>, OptionsError> {
    let unreadable = |source| OptionsError::TrustStoreFile {
        path: path.to_owned(),
        source,
    };
    let unusable = |source| OptionsError::TrustStore {
        path: path.to_owned(),
        source,
    };
    let bytes = file::read(path, file::MAX_BYTES).map_err(unreadable)?;
    pem(bytes, password).map_err(unusable)
}

fn pem(bytes: Vec<u8>, password: &Secret) -> Result<Vec<u8>, TrustStoreError> {
    let password = password.expose();
    match bytes.first_chunk() {
        Some(&jks::MAGIC) => as_pem(jks::certificates(&bytes, password)?),
        Some(&JCEKS_MAGIC) => Err(TrustStoreError::Unsupported("the format JCEKS")),
        Some([pkcs12::FIRST_BYTE, ..]) => as_pem(pkcs12::certificates(&bytes, password)?),
        _ => {
            let certificates =
                CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
            match certificates {
                Ok(certificates) if !certificates.is_empty() => as_pem(certificates),
                _ => Err(TrustStoreError::Unknown),
            }
        }
    }
}

fn as_pem(certificates: Vec<impl AsRef<[u8]>>) -> Result<Vec<u8>, TrustStoreError> {
    if certificates.is_empty() {
        return Err(TrustStoreError::Empty);
    }
    let mut pem = String::new();
    for der in certificates {
        let der = STANDARD.encode(der);
        pem += &format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
    }
    Ok(pem.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PEM of a certificate, and its bytes.
    const CERTIFICATE: &str = include_str!("../../../tests/data/tls/cert.pem");

    fn der() -> Vec<u8> {
        let lines = CERTIFICATE.lines().filter(|line| !line.starts_with('-'));
        STANDARD.decode(lines.collect::<String>()).unwrap()
    }

    fn key_store(password: &str, tags: &[u32]) -> Vec<u8> {
        let mut bytes = jks::MAGIC.to_vec();
        let block = |content: &[u8]| [&(content.len() as u32).to_be_bytes(), content].concat();
        let text = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
        bytes.extend(2u32.to_be_bytes());
        bytes.extend((tags.len() as u32).to_be_bytes());
        for tag in tags {
            bytes.extend(tag.to_be_bytes());
            bytes.extend(text("alias"));
            bytes.extend([0; 8]);
            if *tag == 1 {
                bytes.extend(block(b"secret key"));
                bytes.extend(2u32.to_be_bytes());
                bytes.extend([text("X.509"), block(&der())].concat());
            }
            bytes.extend([text("X.509"), block(&der())].concat());
        }
        let digest = jks::digest_of(&bytes, password);
        [bytes, digest].concat()
    }

    fn read(bytes: &[u8], password: &str) -> Result<usize, TrustStoreError> {
        let pem = pem(bytes.to_vec(), &Secret::new(password))?;
        Ok(CertificateDer::pem_slice_iter(&pem).flatten().count())
    }

    #[test]
    fn certificates_come_from_pem_and_jks() {
        assert_eq!(read(CERTIFICATE.as_bytes(), ""), Ok(1));
        assert_eq!(read(CERTIFICATE.repeat(3).as_bytes(), "x"), Ok(3));
        assert_eq!(read(&key_store("ch\u{e4}nge", &[2]), "ch\u{e4}nge"), Ok(1));
        assert_eq!(read(&key_store("p", &[2, 1, 2]), "p"), Ok(3));
        assert_eq!(read(&key_store("p", &[2]), ""), Ok(1));
    }

    /// Made by keytool of JDK 17, the second with its option for older programs, from the same certificate.
    const PKCS12: [&[u8]; 2] = [
        include_bytes!("../../../tests/data/tls/trust-aes.p12"),
        include_bytes!("../../../tests/data/tls/trust-rc2.p12"),
    ];

    #[test]
    fn certificates_come_from_pkcs12() {
        for file in PKCS12 {
            let certificates = pkcs12::certificates(file, "changeit").unwrap();
            assert_eq!(certificates, [der()]);
            assert_eq!(read(file, "changeit"), Ok(1));
            assert_eq!(read(file, "changed"), Err(TrustStoreError::Integrity));
            assert_eq!(read(file, ""), Err(TrustStoreError::Integrity));
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_apart() {
        let good = key_store("p", &[2]);
        assert_eq!(read(&good, "q"), Err(TrustStoreError::Integrity));
        let mut damaged = good.clone();
        damaged[60] ^= 1;
        assert_eq!(read(&damaged, "p"), Err(TrustStoreError::Integrity));
        assert_eq!(read(&key_store("p", &[]), "p"), Err(TrustStoreError::Empty));
        assert!(matches!(
            read(&key_store("p", &[3]), "p"),
            Err(TrustStoreError::Malformed("JKS"))
        ));
        assert_eq!(read(b"", ""), Err(TrustStoreError::Unknown));
        assert_eq!(read(b"hello", ""), Err(TrustStoreError::Unknown));
        let broken = "-----BEGIN CERTIFICATE-----\n****\n-----END CERTIFICATE-----\n";
        assert_eq!(read(broken.as_bytes(), ""), Err(TrustStoreError::Unknown));
        assert_eq!(
            read(&[0x30, 0x82, 1, 2], "p"),
            Err(TrustStoreError::Malformed("PKCS12"))
        );
        let jceks = read(&JCEKS_MAGIC, "").unwrap_err().to_string();
        assert!(jceks.contains("-deststoretype JKS"), "{jceks}");
    }

    /// Whatever a file holds, reading it ends.
    #[test]
    fn every_cut_of_a_file_is_an_error() {
        let good = key_store("p", &[2, 1]);
        for length in 4..good.len() {
            assert!(read(&good[..length], "").is_err(), "{length}");
            assert!(read(&good[..length], "p").is_err(), "{length}");
        }
        for good in PKCS12 {
            // The end is a code over all before, which is not looked at.
            for length in 4..good.len() - 200 {
                assert!(read(&good[..length], "changeit").is_err(), "{length}");
            }
        }
        for position in (0..PKCS12[0].len()).step_by(5) {
            let mut changed = PKCS12[0].to_vec();
            changed[position] ^= 0x55;
            // It ends; whether anything is found depends on what was changed.
            if let Ok(certificates) = pkcs12::certificates(&changed, "changeit") {
                assert!(certificates.len() <= 1, "{position}");
            }
        }
        let mut long = key_store("", &[2]);
        long[8..12].fill(0xFF);
        assert!(matches!(
            read(&long, ""),
            Err(TrustStoreError::Malformed("JKS"))
        ));
    }
}

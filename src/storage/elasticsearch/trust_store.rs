//! Certificates to trust: a PEM file, or a Java key store in its own format (JKS), as the original takes it.
//!
//! JKS: magic number, version, number of entries; each entry has a tag (1 private key, 2 certificate), an alias, a time and,
//! from version 2 on, each certificate its type; at the end stands a SHA-1 over password, a fixed phrase and all before. As in
//! Java, the first certificate beside a private key is trusted too; the key itself is passed over.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use elasticsearch::cert::Certificate;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN};

use super::options::OptionsError;
use crate::config::Secret;

const JKS_MAGIC: [u8; 4] = [0xFE, 0xED, 0xFE, 0xED];
const JCEKS_MAGIC: [u8; 4] = [0xCE, 0xCE, 0xCE, 0xCE];
const PHRASE: &[u8] = b"Mighty Aphrodite";
/// A trust store with all public authorities has some 200 kB.
const MAX_BYTES: u64 = 16 << 20;

/// Why a file is no trust store.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TrustStoreError {
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error(
        "it is {0}; convert it: keytool -importkeystore -srckeystore FILE -destkeystore FILE.jks -deststoretype JKS, or export \
         each certificate as PEM: keytool -exportcert -rfc -keystore FILE -alias NAME"
    )]
    OtherFormat(&'static str),
    #[error("it is neither a PEM file with certificates nor a JKS key store")]
    Unknown,
    #[error(
        "the password is wrong or the JKS file is damaged (trustStorePass, SW_STORAGE_ES_SSL_JKS_PASS)"
    )]
    Integrity,
    #[error("the JKS file ends or goes wrong at byte {0}")]
    Malformed(usize),
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
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_BYTES {
        return Err(unusable(TrustStoreError::TooLarge));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    pem(bytes, password).map_err(unusable)
}

fn pem(bytes: Vec<u8>, password: &Secret) -> Result<Vec<u8>, TrustStoreError> {
    let pem = match bytes.first_chunk() {
        Some(&JKS_MAGIC) => of_jks(&bytes, password)?.into_bytes(),
        Some(&JCEKS_MAGIC) => return Err(TrustStoreError::OtherFormat("a JCEKS key store")),
        Some([0x30, ..]) => {
            let what = "a PKCS12 key store, the default of newer keytools, or DER";
            return Err(TrustStoreError::OtherFormat(what));
        }
        _ => bytes,
    };
    match Certificate::from_pem(&pem) {
        Ok(_) => Ok(pem),
        Err(_) => Err(TrustStoreError::Unknown),
    }
}

/// The trusted certificates of a JKS file as PEM text.
fn of_jks(bytes: &[u8], password: &Secret) -> Result<String, TrustStoreError> {
    let cut = TrustStoreError::Malformed(bytes.len());
    let end = bytes.len().checked_sub(SHA1_OUTPUT_LEN).ok_or(cut)?;
    let (content, digest) = bytes.split_at(end);
    // Like Java: without a password the check is left out.
    if !password.is_empty() && digest_of(content, password.expose()) != digest {
        return Err(TrustStoreError::Integrity);
    }
    let mut reader = Reader {
        bytes: content,
        at: JKS_MAGIC.len(),
    };
    let version = reader.number()?;
    if !(1..=2).contains(&version) {
        return Err(TrustStoreError::Malformed(JKS_MAGIC.len()));
    }
    let mut pem = String::new();
    for _ in 0..reader.number()? {
        let tag = reader.number()?;
        reader.text()?;
        reader.take(8)?;
        let certificates = match tag {
            1 => {
                reader.block()?;
                reader.number()?
            }
            2 => 1,
            _ => return Err(TrustStoreError::Malformed(reader.at)),
        };
        for number in 0..certificates {
            let der = reader.certificate(version)?;
            if number == 0 {
                let der = STANDARD.encode(der);
                pem += &format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
            }
        }
    }
    match pem.is_empty() {
        true => Err(TrustStoreError::Empty),
        false => Ok(pem),
    }
}

fn digest_of(content: &[u8], password: &str) -> Vec<u8> {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for unit in password.encode_utf16() {
        context.update(&unit.to_be_bytes());
    }
    context.update(PHRASE);
    context.update(content);
    context.finish().as_ref().to_vec()
}

/// Numbers are big-endian.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], TrustStoreError> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(TrustStoreError::Malformed(self.at))?;
        self.at += length;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, TrustStoreError> {
        let bytes = self.take(4)?.iter();
        Ok(bytes.fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// Two bytes of length.
    fn text(&mut self) -> Result<&'a [u8], TrustStoreError> {
        let length = self.take(2)?.iter();
        self.take(length.fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    /// Four bytes of length.
    fn block(&mut self) -> Result<&'a [u8], TrustStoreError> {
        let length = self.number()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn certificate(&mut self, version: u32) -> Result<&'a [u8], TrustStoreError> {
        if version == 2 {
            self.text()?;
        }
        self.block()
    }
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

    fn jks(password: &str, tags: &[u32]) -> Vec<u8> {
        let mut bytes = JKS_MAGIC.to_vec();
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
        let digest = digest_of(&bytes, password);
        [bytes, digest].concat()
    }

    fn read(bytes: &[u8], password: &str) -> Result<usize, TrustStoreError> {
        let pem = pem(bytes.to_vec(), &Secret::new(password))?;
        Ok(Certificate::from_pem(&pem).unwrap().len())
    }

    #[test]
    fn certificates_come_from_pem_and_jks() {
        assert_eq!(read(CERTIFICATE.as_bytes(), ""), Ok(1));
        assert_eq!(read(CERTIFICATE.repeat(3).as_bytes(), "x"), Ok(3));
        assert_eq!(read(&jks("ch\u{e4}nge", &[2]), "ch\u{e4}nge"), Ok(1));
        assert_eq!(read(&jks("p", &[2, 1, 2]), "p"), Ok(3));
        assert_eq!(read(&jks("p", &[2]), ""), Ok(1));
    }

    #[test]
    fn what_cannot_be_used_is_told_apart() {
        let good = jks("p", &[2]);
        assert_eq!(read(&good, "q"), Err(TrustStoreError::Integrity));
        let mut damaged = good.clone();
        damaged[60] ^= 1;
        assert_eq!(read(&damaged, "p"), Err(TrustStoreError::Integrity));
        assert_eq!(read(&jks("p", &[]), "p"), Err(TrustStoreError::Empty));
        assert!(matches!(
            read(&jks("p", &[3]), "p"),
            Err(TrustStoreError::Malformed(_))
        ));
        assert_eq!(read(b"", ""), Err(TrustStoreError::Unknown));
        assert_eq!(read(b"hello", ""), Err(TrustStoreError::Unknown));
        let broken = "-----BEGIN CERTIFICATE-----\n****\n-----END CERTIFICATE-----\n";
        assert_eq!(read(broken.as_bytes(), ""), Err(TrustStoreError::Unknown));
        for other in [&[0x30, 0x82, 1, 2][..], &[0xCE, 0xCE, 0xCE, 0xCE]] {
            let error = read(other, "").unwrap_err().to_string();
            assert!(error.contains("-deststoretype JKS"), "{error}");
        }
    }

    /// Whatever a file holds, reading it ends.
    #[test]
    fn every_cut_of_a_file_is_an_error() {
        let good = jks("p", &[2, 1]);
        for length in 4..good.len() {
            assert!(read(&good[..length], "").is_err(), "{length}");
            assert!(read(&good[..length], "p").is_err(), "{length}");
        }
        let mut long = jks("", &[2]);
        long[8..12].fill(0xFF);
        assert!(matches!(
            read(&long, ""),
            Err(TrustStoreError::Malformed(_))
        ));
    }
}

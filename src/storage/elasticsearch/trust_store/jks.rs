//! Java key stores in their own format (JKS): magic number, version, number of entries; each entry has a tag (1 private key,
//! 2 certificate), an alias, a time and, from version 2 on, each certificate its type; at the end stands a SHA-1 over password,
//! a fixed phrase and all before. As in Java, the first certificate beside a private key is trusted too; the key is passed over.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN};

use super::TrustStoreError;

pub(super) const MAGIC: [u8; 4] = [0xFE, 0xED, 0xFE, 0xED];
const PHRASE: &[u8] = b"Mighty Aphrodite";
const MALFORMED: TrustStoreError = TrustStoreError::Malformed("JKS");

/// The trusted certificates (DER). Like Java, leaves the check of integrity out if there is no password.
pub(super) fn certificates<'a>(
    bytes: &'a [u8],
    password: &str,
) -> Result<Vec<&'a [u8]>, TrustStoreError> {
    let end = bytes.len().checked_sub(SHA1_OUTPUT_LEN).ok_or(MALFORMED)?;
    let (content, digest) = bytes.split_at(end);
    if !password.is_empty() && digest_of(content, password) != digest {
        return Err(TrustStoreError::Integrity);
    }
    let mut reader = Reader {
        bytes: content,
        at: MAGIC.len(),
    };
    let version = reader.number()?;
    if !(1..=2).contains(&version) {
        return Err(MALFORMED);
    }
    let mut trusted = vec![];
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
            _ => return Err(MALFORMED),
        };
        for number in 0..certificates {
            let der = reader.certificate(version)?;
            if number == 0 {
                trusted.push(der);
            }
        }
    }
    Ok(trusted)
}

pub(super) fn digest_of(content: &[u8], password: &str) -> Vec<u8> {
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
        let taken = taken.ok_or(MALFORMED)?;
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

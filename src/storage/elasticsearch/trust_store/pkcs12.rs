//! PKCS12 key stores (RFC 7292) as keytool writes them: certificates in bags that are plain, or encrypted with AES by a key from
//! PBKDF2 (since JDK 17, and updates of 8 and 11), or with RC2 of 40 bits by a key from SHA-1 (before). Private keys are passed over.
//!
//! A wrong password shows when the decrypted bytes make no sense, so the code over the whole file is not looked at.

use std::num::NonZeroU32;

use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::pbkdf2;

use super::TrustStoreError;

/// Of a sequence, with which every such file begins.
pub(super) const FIRST_BYTE: u8 = SEQUENCE;

const INTEGER: u8 = 0x02;
const BYTES: u8 = 0x04;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// `[0]` around one value, and instead of the tag of bytes.
const EXPLICIT: u8 = 0xA0;
const IMPLICIT: u8 = 0x80;

/// Object identifiers, encoded.
const DATA: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x07\x01";
const ENCRYPTED_DATA: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x07\x06";
const CERTIFICATE_BAG: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x0C\x0A\x01\x03";
const SHA1_AND_RC2_40: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x0C\x01\x06";
const PBES2: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x05\x0D";
const PBKDF2: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x05\x0C";
const HMAC_SHA256: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x02\x09";
const HMAC_SHA512: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x02\x0B";
const AES_128_CBC: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x01\x02";
const AES_256_CBC: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x01\x2A";

/// keytool takes 10,000 to 50,000; so many take a second.
const MAX_ITERATIONS: u32 = 1_000_000;
const MALFORMED: TrustStoreError = TrustStoreError::Malformed("PKCS12");
const OTHER_CIPHER: TrustStoreError =
    TrustStoreError::Unsupported("certificates encrypted in a way that is not known here");

type Result<T> = std::result::Result<T, TrustStoreError>;

/// All certificates (DER).
pub(super) fn certificates(bytes: &[u8], password: &str) -> Result<Vec<Vec<u8>>> {
    let mut file = Der(bytes).value(SEQUENCE)?;
    file.value(INTEGER)?;
    let mut whole = file.value(SEQUENCE)?;
    let is_data = whole.value(OBJECT)?.0 == DATA;
    let mut content = whole.value(EXPLICIT)?;
    if !is_data {
        return Err(TrustStoreError::Unsupported("a signature"));
    }
    let mut parts = content.value(BYTES)?.value(SEQUENCE)?;
    let mut found = vec![];
    while !parts.is_empty() {
        let mut part = parts.value(SEQUENCE)?;
        let kind = part.value(OBJECT)?.0;
        let mut content = part.value(EXPLICIT)?;
        if kind == DATA {
            collect(content.value(BYTES)?.0, &mut found)?;
        } else if kind == ENCRYPTED_DATA {
            let plain = decrypt(content.value(SEQUENCE)?, password)?;
            // Padding fits by chance once in 256 wrong passwords; the structure then does not.
            collect(&plain, &mut found).map_err(|_| TrustStoreError::Integrity)?;
        }
    }
    Ok(found)
}

/// The certificates of a list of bags.
fn collect(bags: &[u8], found: &mut Vec<Vec<u8>>) -> Result<()> {
    let mut bags = Der(bags).value(SEQUENCE)?;
    while !bags.is_empty() {
        let mut bag = bags.value(SEQUENCE)?;
        if bag.value(OBJECT)?.0 == CERTIFICATE_BAG {
            let mut certificate = bag.value(EXPLICIT)?.value(SEQUENCE)?;
            certificate.value(OBJECT)?;
            let der = certificate.value(EXPLICIT)?.value(BYTES)?;
            found.push(der.0.to_vec());
        }
    }
    Ok(())
}

fn decrypt(mut data: Der<'_>, password: &str) -> Result<Vec<u8>> {
    data.value(INTEGER)?;
    let mut data = data.value(SEQUENCE)?;
    data.value(OBJECT)?;
    let mut algorithm = data.value(SEQUENCE)?;
    let encrypted = data.value(IMPLICIT)?.0;
    let name = algorithm.value(OBJECT)?.0;
    let parameters = algorithm.value(SEQUENCE)?;
    match name {
        PBES2 => decrypt_aes(parameters, encrypted, password),
        SHA1_AND_RC2_40 => decrypt_rc2(parameters, encrypted, password),
        _ => Err(OTHER_CIPHER),
    }
}

fn decrypt_aes(mut parameters: Der<'_>, encrypted: &[u8], password: &str) -> Result<Vec<u8>> {
    let mut derivation = parameters.value(SEQUENCE)?;
    let mut cipher = parameters.value(SEQUENCE)?;
    if derivation.value(OBJECT)?.0 != PBKDF2 {
        return Err(OTHER_CIPHER);
    }
    let mut derivation = derivation.value(SEQUENCE)?;
    let salt = derivation.value(BYTES)?.0;
    let iterations = derivation.iterations()?;
    if derivation.is_next(INTEGER) {
        derivation.value(INTEGER)?;
    }
    let digest = match derivation.is_next(SEQUENCE) {
        true => derivation.value(SEQUENCE)?.value(OBJECT)?.0,
        false => &[],
    };
    let digest = match digest {
        [] => pbkdf2::PBKDF2_HMAC_SHA1,
        HMAC_SHA256 => pbkdf2::PBKDF2_HMAC_SHA256,
        HMAC_SHA512 => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return Err(OTHER_CIPHER),
    };
    let name = cipher.value(OBJECT)?.0;
    let mut key = match name {
        AES_128_CBC => vec![0; 16],
        AES_256_CBC => vec![0; 32],
        _ => return Err(OTHER_CIPHER),
    };
    let iv = cipher.value(BYTES)?.0;
    pbkdf2::derive(digest, iterations, salt, password.as_bytes(), &mut key);
    match key.len() {
        16 => plain::<Decryptor<aes::Aes128>>(&key, iv, encrypted),
        _ => plain::<Decryptor<aes::Aes256>>(&key, iv, encrypted),
    }
}

fn decrypt_rc2(mut parameters: Der<'_>, encrypted: &[u8], password: &str) -> Result<Vec<u8>> {
    let salt = parameters.value(BYTES)?.0;
    let iterations = parameters.iterations()?;
    let derived = |purpose| derive(purpose, password, salt, iterations);
    let (key, iv) = (derived(1), derived(2));
    let (Some(key), Some(iv)) = (key.get(..5), iv.get(..8)) else {
        return Err(MALFORMED);
    };
    plain::<Decryptor<rc2::Rc2>>(key, iv, encrypted)
}

/// The first 20 bytes of a key (purpose 1) or of what a cipher starts with (2), by RFC 7292, B.2, with SHA-1.
fn derive(purpose: u8, password: &str, salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
    const BLOCK: usize = 64;
    let units = password.encode_utf16().chain([0]);
    let password: Vec<u8> = units.flat_map(u16::to_be_bytes).collect();
    let mut input = vec![purpose; BLOCK];
    for part in [salt, &password] {
        let length = part.len().next_multiple_of(BLOCK);
        input.extend(part.iter().cycle().take(length));
    }
    for _ in 0..iterations.get() {
        input = digest(&SHA1_FOR_LEGACY_USE_ONLY, &input).as_ref().to_vec();
    }
    input
}

fn plain<C: KeyIvInit + BlockModeDecrypt>(
    key: &[u8],
    iv: &[u8],
    encrypted: &[u8],
) -> Result<Vec<u8>> {
    let cipher = C::new_from_slices(key, iv).map_err(|_| MALFORMED)?;
    let plain = cipher.decrypt_padded_vec::<Pkcs7>(encrypted);
    plain.map_err(|_| TrustStoreError::Integrity)
}

/// Values one after the other, each with tag and length.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_next(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// What is in the next value, which must have a tag.
    fn value(&mut self, tag: u8) -> Result<Der<'a>> {
        let (length, rest) = match self.0 {
            [first, length, rest @ ..] if *first == tag => (usize::from(*length), rest),
            _ => return Err(MALFORMED),
        };
        let (length, rest) = match length {
            0..=0x7F => (length, rest),
            // So many bytes have the length.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(length & 0x7F).ok_or(MALFORMED)?;
                let length = bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
                (length, rest)
            }
            _ => return Err(MALFORMED),
        };
        let (value, rest) = rest.split_at_checked(length).ok_or(MALFORMED)?;
        self.0 = rest;
        Ok(Der(value))
    }

    fn iterations(&mut self) -> Result<NonZeroU32> {
        let bytes = self.value(INTEGER)?.0;
        let number = bytes.iter().try_fold(0_u32, |n, byte| {
            n.checked_mul(256)?.checked_add((*byte).into())
        });
        let number = number.filter(|n| *n <= MAX_ITERATIONS);
        number.and_then(NonZeroU32::new).ok_or(MALFORMED)
    }
}

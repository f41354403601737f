//! Ids of documents. One that Elasticsearch would refuse is stored under a shorter one that depends on all of it.

use std::borrow::Cow;
use std::fmt::Write as _;

use ring::digest::{SHA256, digest};

/// Elasticsearch refuses longer ids, and with them the whole request.
pub const MAX_BYTES: usize = 512;
/// What stays of a longer one, in front of its digest.
const KEPT_BYTES: usize = 400;

/// The id under which a row is written and read: its own, or if that has more than 512 bytes its first 400 (fewer if they
/// would end within a character), `~` and its SHA-256 in hexadecimal. No id of 8.1.0 has a `~`.
pub fn stored_id(id: &str) -> Cow<'_, str> {
    if id.len() <= MAX_BYTES {
        return Cow::Borrowed(id);
    }
    let kept = id
        .get(..id.floor_char_boundary(KEPT_BYTES))
        .unwrap_or_default();
    let mut short = String::with_capacity(KEPT_BYTES + 65);
    short.push_str(kept);
    short.push('~');
    for byte in digest(&SHA256, id.as_bytes()).as_ref() {
        // Writing to a text cannot fail.
        write!(short, "{byte:02x}").unwrap_or_default();
    }
    Cow::Owned(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_fits_stays() {
        let id = "x".repeat(512);
        assert!(matches!(stored_id(&id), Cow::Borrowed(same) if same == id));
    }

    #[test]
    fn a_longer_id_is_cut_and_told_from_others() {
        // Digest by `printf 'x%.0s' {1..513} | sha256sum`.
        let id = "x".repeat(513);
        let want = format!("{}~{}", "x".repeat(400), DIGEST_OF_513);
        assert_eq!(stored_id(&id), want);
        let other = format!("{}y", "x".repeat(512));
        assert_ne!(stored_id(&other), want);
        assert_eq!(stored_id(&other).len(), 465);
    }

    const DIGEST_OF_513: &str = "35ade0090e64e74d6ad04204009c23a4e34b82bdf0f4f317fbcc5f26f9b10241";

    #[test]
    fn no_character_is_cut_apart() {
        let id = format!("x{}", "ä".repeat(300));
        let short = stored_id(&id);
        assert!(short.starts_with(&format!("x{}~", "ä".repeat(199))));
        assert_eq!(short.len(), 399 + 65);
    }
}

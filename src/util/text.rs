//! Text for those who read logs.

/// What log lines show of a text that others sent, in bytes.
pub const SHOWN_BYTES: usize = 200;

/// The beginning of a text, at most so many bytes of it.
pub fn head(text: &str, bytes: usize) -> &str {
    text.split_at(text.floor_char_boundary(bytes)).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_cut_in_two() {
        for (text, bytes, want) in [
            ("short", 200, "short"),
            ("short", 3, "sho"),
            ("ééé", 3, "é"),
            ("", 3, ""),
        ] {
            assert_eq!(head(text, bytes), want, "{text:?}, {bytes}");
        }
    }
}

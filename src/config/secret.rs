//! Text that must not show up in logs.

use std::fmt;

/// Metadata key of `authentication` in calls over gRPC (8.1.0 spec, A).
pub const TOKEN_KEY: &str = "authentication";

/// A password or token. Its `Debug` form is `***`; there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for the one who must send or compare it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is set at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "***" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_only_whether_there_is_one() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
        assert_eq!(format!("{:?}", Secret::default()), "\"\"");
    }
}

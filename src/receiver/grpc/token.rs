//! The shared secret that agents send with each call when `authentication` is set.

use std::fmt;
use std::sync::Arc;

use prometheus::IntCounterVec;
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// The secret. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// `None` for the empty text, which means that there is no secret.
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.into()))
    }

    /// Compares in a time that does not tell how much of `given` is right.
    fn equals(&self, given: &[u8]) -> bool {
        let wanted = self.0.as_bytes();
        wanted.len() == given.len()
            && wanted
                .iter()
                .zip(given)
                .fold(0, |difference, (a, b)| difference | (a ^ b))
                == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Metadata key of the secret.
const KEY: &str = "authentication";

/// Lets calls with the right secret pass; the others end with PERMISSION_DENIED, as in 8.1.0.
#[derive(Debug, Clone)]
pub(super) struct TokenCheck {
    token: Option<Token>,
    rejected: IntCounterVec,
}

impl TokenCheck {
    pub(super) fn new(token: Option<Token>, rejected: IntCounterVec) -> Self {
        Self { token, rejected }
    }
}

impl Interceptor for TokenCheck {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(token) = &self.token else {
            return Ok(request);
        };
        match request.metadata().get(KEY) {
            Some(given) if token.equals(given.as_bytes()) => Ok(request),
            _ => {
                self.rejected
                    .with_label_values(&["permission_denied"])
                    .inc();
                Err(Status::permission_denied(
                    "the authentication token is missing or wrong",
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_right_and_it_is_never_printed() {
        let token = Token::new("secret").unwrap();
        for (given, right) in [
            ("secret", true),
            ("", false),
            ("secreT", false),
            ("secrets", false),
        ] {
            assert_eq!(token.equals(given.as_bytes()), right, "{given:?}");
        }
        assert_eq!(format!("{token:?}"), "***");
        assert_eq!(Token::new(""), None);
    }
}

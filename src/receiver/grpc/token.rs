//! The shared secret that agents send with each call when `authentication` is set.

use prometheus::IntCounterVec;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::config::Secret;

/// Metadata key of the secret.
const KEY: &str = "authentication";

/// Lets calls with the right secret pass; the others end with PERMISSION_DENIED, as in 8.1.0.
#[derive(Debug, Clone)]
pub(super) struct TokenCheck {
    token: Secret,
    rejected: IntCounterVec,
}

impl TokenCheck {
    /// An empty `token` lets everyone in.
    pub(super) fn new(token: Secret, rejected: IntCounterVec) -> Self {
        Self { token, rejected }
    }
}

impl Interceptor for TokenCheck {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if self.token.is_empty() {
            return Ok(request);
        }
        let wanted = self.token.expose().as_bytes();
        match request.metadata().get(KEY) {
            Some(given) if equal(wanted, given.as_bytes()) => Ok(request),
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

/// Compares in a time that does not tell how much of `given` is right.
fn equal(wanted: &[u8], given: &[u8]) -> bool {
    let differences = wanted.iter().zip(given).map(|(a, b)| a ^ b);
    wanted.len() == given.len() && differences.fold(0, |all, one| all | one) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_right() {
        for (given, right) in [
            ("secret", true),
            ("", false),
            ("secreT", false),
            ("secre", false),
            ("secrets", false),
        ] {
            assert_eq!(equal(b"secret", given.as_bytes()), right, "{given:?}");
        }
    }
}

//! The shared secret that agents, and members of a cluster, send with each call when `authentication` is set.

use prometheus::IntCounterVec;
use tonic::service::Interceptor;
use tonic::{Code, Request, Status};

use crate::config::{Secret, TOKEN_KEY};

/// Lets calls with the right secret pass; the others are counted and refused.
#[derive(Debug, Clone)]
pub struct TokenCheck {
    token: Secret,
    rejected: IntCounterVec,
    code: Code,
}

impl TokenCheck {
    /// Of agents, who get PERMISSION_DENIED as in 8.1.0. An empty `token` lets everyone in.
    pub(super) fn new(token: Secret, rejected: IntCounterVec) -> Self {
        Self {
            token,
            rejected,
            code: Code::PermissionDenied,
        }
    }

    /// The same for members of the cluster, who get UNAUTHENTICATED.
    pub(in crate::receiver) fn of_members(token: Secret, rejected: IntCounterVec) -> Self {
        Self {
            code: Code::Unauthenticated,
            ..Self::new(token, rejected)
        }
    }
}

impl Interceptor for TokenCheck {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if self.token.is_empty() {
            return Ok(request);
        }
        let wanted = self.token.expose().as_bytes();
        match request.metadata().get(TOKEN_KEY) {
            Some(given) if equal(wanted, given.as_bytes()) => Ok(request),
            _ => {
                let reason = match self.code {
                    Code::Unauthenticated => "unauthenticated",
                    _ => "permission_denied",
                };
                self.rejected.with_label_values(&[reason]).inc();
                let text = "the authentication token is missing or wrong";
                Err(Status::new(self.code, text))
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

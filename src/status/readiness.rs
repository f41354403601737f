//! Whether the server is ready or its store answers, and if not, why.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::storage::StorageError;

/// What is wrong with a store that is asked for a sign of life; `None` if it gives one in time.
pub(super) async fn fault(
    patience: Duration,
    ping: impl Future<Output = Result<(), StorageError>>,
) -> Option<String> {
    match tokio::time::timeout(patience, ping).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", patience.as_secs())),
    }
}

/// Status and body of a health check: questions can be answered if the store does.
pub(super) fn health(fault: Option<String>) -> (StatusCode, String) {
    match fault {
        None => (StatusCode::OK, String::new()),
        Some(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the store does not answer: {error}"),
        ),
    }
}

/// Why the server is not ready. `store` is what is wrong with the store.
pub(super) fn reasons(is_leaving: bool, is_installed: bool, store: Option<String>) -> Vec<String> {
    let mut reasons = Vec::new();
    if is_leaving {
        reasons.push("the server is shutting down".to_owned());
    }
    match store {
        Some(error) => reasons.push(format!("the store does not answer: {error}")),
        None if !is_installed => {
            reasons.push("the structures of the store are not created yet".to_owned());
        }
        None => {}
    }
    reasons
}

/// Status, type and body of the answer.
pub(super) fn answer(reasons: &[String], as_json: bool) -> (StatusCode, HeaderValue, String) {
    let is_ready = reasons.is_empty();
    let status = match is_ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    if as_json {
        let body = json!({ "ready": is_ready, "reasons": reasons }).to_string();
        let content_type = HeaderValue::from_static("application/json;charset=utf-8");
        return (status, content_type, body);
    }
    let body = match is_ready {
        true => "ready\n".to_owned(),
        false => reasons.iter().map(|reason| format!("{reason}\n")).collect(),
    };
    let content_type = HeaderValue::from_static("text/plain;charset=utf-8");
    (status, content_type, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_health_check_asks_the_store_and_does_not_wait_long() {
        let patience = Duration::from_secs(2);
        let well = fault(patience, async { Ok(()) }).await;
        assert_eq!(health(well), (StatusCode::OK, String::new()));
        let refused = async { Err(StorageError::Refused("no".into())) };
        let (status, text) = health(fault(patience, refused).await);
        assert!(status == 503 && text.contains("no"), "{status} {text}");
        let began = tokio::time::Instant::now();
        let (status, text) = health(fault(patience, std::future::pending()).await);
        assert_eq!(
            (status.as_u16(), text.as_str()),
            (503, "the store does not answer: no answer within 2 s")
        );
        assert_eq!(began.elapsed(), patience);
    }

    #[test]
    fn the_reason_is_named() {
        let refused = || Some("connection refused".to_owned());
        for (is_leaving, is_installed, store, want) in [
            (false, true, None, ""),
            (false, false, None, "not created yet"),
            (false, false, refused(), "connection refused"),
            (true, true, None, "shutting down"),
        ] {
            let reasons = reasons(is_leaving, is_installed, store);
            let (status, _, text) = answer(&reasons, false);
            let (_, _, json) = answer(&reasons, true);
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(json["ready"], want.is_empty());
            assert_eq!(json["reasons"].as_array().unwrap().len(), reasons.len());
            if want.is_empty() {
                assert_eq!((status.as_u16(), text.as_str()), (200, "ready\n"));
            } else {
                assert_eq!(status.as_u16(), 503);
                assert!(text.contains(want), "{text}");
            }
        }
    }
}

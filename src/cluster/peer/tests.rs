//! Why calls fail, and what follows from it.

use tonic::Status;

use super::*;

fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Status {
    Status::from_error(error.into())
}

fn untrusted() -> Status {
    let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    failed(io::Error::new(io::ErrorKind::InvalidData, unknown))
}

#[test]
fn the_innermost_cause_tells_why_a_call_failed() {
    for (status, kind, reason) in [
        (
            failed(io::Error::from(io::ErrorKind::ConnectionRefused)),
            FailureKind::Refused,
            "connection refused",
        ),
        (
            untrusted(),
            FailureKind::Tls,
            "invalid peer certificate: UnknownIssuer",
        ),
        (
            Status::deadline_exceeded("no answer in time"),
            FailureKind::Other,
            "no answer in time",
        ),
    ] {
        let want = Failure {
            kind,
            reason: reason.to_owned(),
        };
        assert_eq!(Failure::of(&status), want);
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_trusted_is_not_dead_and_is_told_of_now_and_then() -> anyhow::Result<()> {
    let start = Instant::now();
    let mut peer = Peer::new("127.0.0.1:11800", &PeerOptions::default(), start)?;
    let mut said = 0;
    for second in 0..700 {
        let now = start + Duration::from_secs(second);
        said += usize::from(peer.fail(&untrusted(), now).is_some());
        assert!(!peer.is_dead(now), "{second}");
    }
    assert_eq!(said, 2);
    let refused = failed(io::Error::from(io::ErrorKind::ConnectionRefused));
    let now = start + Duration::from_secs(700);
    assert!(peer.fail(&refused, now).is_some());
    assert!(peer.is_dead(now + REFUSAL + Duration::from_millis(1)));
    peer.succeed();
    assert!(peer.fail(&refused, now).is_some());
    Ok(())
}

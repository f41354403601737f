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
            Status::unauthenticated("wrong token"),
            FailureKind::Token,
            "wrong token",
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
    for (status, begin) in [(untrusted(), 0), (Status::unauthenticated("wrong"), 700)] {
        let mut said = 0;
        for second in begin..begin + 700 {
            let now = start + Duration::from_secs(second);
            said += usize::from(peer.fail(&status, now).is_some());
            assert!(!peer.is_dead(now), "{second}");
        }
        assert_eq!(said, 2, "{status}");
    }
    let refused = failed(io::Error::from(io::ErrorKind::ConnectionRefused));
    let now = start + Duration::from_secs(1400);
    assert!(peer.fail(&refused, now).is_some());
    assert!(peer.is_dead(now + REFUSAL + Duration::from_millis(1)));
    peer.succeed();
    assert!(peer.fail(&refused, now).is_some());
    // Who was leaving is gone, whoever is there now.
    peer.is_leaving = true;
    peer.fail(&untrusted(), now + SILENCE + Duration::from_secs(1));
    assert!(peer.is_dead(now + SILENCE + Duration::from_secs(1)));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn how_many_agents_it_has_is_known_for_a_moment() -> anyhow::Result<()> {
    let start = Instant::now();
    let mut peer = Peer::new("127.0.0.1:11800", &PeerOptions::default(), start)?;
    let word = |epoch, connections| Word {
        epoch,
        receives_only: false,
        is_leaving: false,
        is_empty: false,
        is_through: false,
        taken: None,
        connections,
    };
    assert_eq!(peer.connections(start), None, "it said nothing yet");
    peer.hear(word(7, Some(12)), start);
    assert_eq!(peer.connections(start + FRESH), Some(12));
    let later = start + FRESH + Duration::from_millis(1);
    assert_eq!(peer.connections(later), None, "it is silent");
    peer.hear(word(7, Some(9)), later);
    assert_eq!(peer.connections(later), Some(9));
    // It was restarted with rebalancing off, or as an older version.
    peer.hear(word(8, None), later);
    assert_eq!(peer.connections(later), None);
    peer.hear(word(8, Some(1)), later);
    peer.forget_process();
    assert_eq!(peer.connections(later), None);
    Ok(())
}

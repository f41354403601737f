//! What the coordinator makes of lists, at a time of the test's own, and what it writes for nodes of the original.

use super::*;
use crate::config::Secret;
use crate::telemetry::Registry;

const A: &str = "10.0.0.1:11800";
const B: &str = "10.0.0.2:11800";
const C: &str = "10.0.0.3:11800";

fn listing(members: &[&str], unwell: &[&str]) -> Listing {
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    Listing {
        members: set(members),
        unwell: set(unwell),
        strange: set(&[]),
    }
}

fn coordinator(own: Option<OwnAddress>) -> Coordinator {
    let settings = CoordinatorSettings::Consul {
        urls: vec!["http://127.0.0.1:1".to_owned()],
        service: "oap".to_owned(),
        token: Secret::default(),
        checks_tls: false,
    };
    let metrics = ClusterMetrics::new(&Registry::new("h", 1)).unwrap();
    Coordinator::new(&settings, own, metrics).unwrap()
}

fn told(membership: &watch::Receiver<Option<Membership>>) -> Option<(Vec<String>, Option<String>)> {
    let membership = membership.borrow().clone()?;
    Some((membership.members.into_iter().collect(), membership.own))
}

fn wanted(members: &[&str], own: Option<&str>) -> Option<(Vec<String>, Option<String>)> {
    let members = members.iter().map(|m| (*m).to_owned()).collect();
    Some((members, own.map(str::to_owned)))
}

#[tokio::test(start_paused = true)]
async fn a_list_without_this_node_counts_for_nothing_for_a_while() {
    let mut node = coordinator(Some(OwnAddress::new("10.0.0.1", 11800)));
    let (sender, membership) = watch::channel(None);
    node.is_registered = true;
    // Its check has not passed yet: the others are not told, or both would write everything.
    assert!(!node.judge(listing(&[B], &[A]), &sender));
    assert_eq!(told(&membership), None);
    assert!(node.is_registered);
    assert!(node.judge(listing(&[A, B], &[]), &sender));
    assert_eq!(told(&membership), wanted(&[A, B], Some(A)));

    // The centre has lost everything: announced again, and the members stay.
    assert!(!node.judge(listing(&[], &[]), &sender));
    assert!(!node.is_registered);
    assert_eq!(told(&membership), wanted(&[A, B], Some(A)));
    tokio::time::advance(UNLISTED - SOON).await;
    node.is_registered = true;
    assert!(!node.judge(listing(&[B], &[A]), &sender));
    assert_eq!(told(&membership), wanted(&[A, B], Some(A)));
    tokio::time::advance(SOON).await;
    // If that lasts, it is how it is.
    assert!(node.judge(listing(&[B], &[A]), &sender));
    assert_eq!(told(&membership), wanted(&[B], None));
    assert!(node.judge(listing(&[A, B], &[]), &sender));
    assert_eq!(told(&membership), wanted(&[A, B], Some(A)));
    // The next time begins anew.
    assert!(!node.judge(listing(&[B], &[A]), &sender));
    assert_eq!(told(&membership), wanted(&[A, B], Some(A)));
}

#[tokio::test(start_paused = true)]
async fn who_is_not_listed_announces_itself_again_and_does_not_keep_on_at_it() {
    let mut node = coordinator(Some(OwnAddress::new("10.0.0.1", 11800)));
    let (sender, _membership) = watch::channel(None);
    let mut times = vec![];
    let began = Instant::now();
    while began.elapsed() < UNLISTED * 4 {
        if !node.is_registered {
            node.is_registered = true;
            node.announced = Some(Instant::now());
            times.push(began.elapsed().as_secs());
        }
        node.judge(listing(&[], &[]), &sender);
        tokio::time::advance(SOON).await;
    }
    // The list is a moment behind at first.
    assert_eq!(times.first_chunk(), Some(&[0, 6, 12]));
    assert!(times.len() <= 6 + 3, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_time_without_the_centre_others_have_a_while_to_come_back() {
    let mut node = coordinator(Some(OwnAddress::new("10.0.0.1", 11800)));
    let (sender, membership) = watch::channel(None);
    // It was away at the start: whoever else there is has to announce itself first.
    node.troubled = Some(Instant::now());
    assert!(!node.judge(listing(&[A], &[]), &sender));
    assert_eq!(told(&membership), None);
    tokio::time::advance(SETTLING).await;
    assert!(node.judge(listing(&[A, B], &[]), &sender));
    assert_eq!(told(&membership), wanted(&[A, B], Some(A)));
    // And later: who is missing may have been forgotten, who is new is there.
    node.troubled = Some(Instant::now());
    assert!(!node.judge(listing(&[A], &[]), &sender));
    assert_eq!(told(&membership), wanted(&[A, B], Some(A)));
    // Also while others are missing.
    assert!(!node.judge(listing(&[A, C], &[]), &sender));
    assert_eq!(told(&membership), wanted(&[A, B, C], Some(A)));
    tokio::time::advance(SETTLING).await;
    assert!(node.judge(listing(&[A, C], &[]), &sender));
    assert_eq!(told(&membership), wanted(&[A, C], Some(A)));
}

#[tokio::test(start_paused = true)]
async fn a_centre_that_comes_and_goes_is_believed_by_who_knows_nobody() {
    let mut node = coordinator(Some(OwnAddress::new("10.0.0.1", 11800)));
    let (sender, membership) = watch::channel(None);
    let began = Instant::now();
    // Away for 7 s, there for 3.
    while told(&membership).is_none() {
        assert!(began.elapsed() < UNBELIEVING + SETTLING);
        node.troubled = Some(Instant::now());
        tokio::time::advance(Duration::from_secs(7)).await;
        node.judge(listing(&[A, B], &[]), &sender);
        tokio::time::advance(Duration::from_secs(3)).await;
    }
    assert!(began.elapsed() > UNBELIEVING);
    assert_eq!(told(&membership), wanted(&[A, B], Some(A)));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_waits_for_those_who_write_and_then_believes_every_list() {
    let mut node = coordinator(None);
    let (sender, membership) = watch::channel(None);
    assert!(!node.judge(listing(&[], &[B]), &sender));
    assert_eq!(told(&membership), None);
    assert!(node.judge(listing(&[A, B], &[]), &sender));
    assert_eq!(told(&membership), wanted(&[A, B], None));
    assert!(node.judge(listing(&[], &[]), &sender));
    assert_eq!(told(&membership), wanted(&[], None));
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_of_a_list_that_is_the_same() {
    let mut node = coordinator(Some(OwnAddress::new("10.0.0.1", 11800)));
    let (sender, mut membership) = watch::channel(None);
    node.judge(listing(&[A], &[]), &sender);
    assert!(membership.has_changed().unwrap());
    membership.mark_unchanged();
    node.judge(listing(&[A], &[B]), &sender);
    assert!(!membership.has_changed().unwrap());
}

#[test]
fn addresses_that_are_none_are_passed_over() {
    let mut all = Listing::default();
    for (host, port, is_well) in [
        ("10.0.0.1", 11800, true),
        ("fd00::1", 11800, true),
        ("[fd00::1]", 11800, true),
        ("", 11800, true),
        ("oap", 0, true),
        ("oap 1", 11800, true),
        ("user@oap", 11800, true),
        ("oap:x", 11800, true),
        ("10.0.0.2", 11800, false),
    ] {
        all.add(&format!("{host} {port}"), host, port, is_well);
    }
    let strange = [
        " 11800",
        "oap 0",
        "oap 1 11800",
        "oap:x 11800",
        "user@oap 11800",
    ];
    assert!(all.strange.iter().eq(strange), "{:?}", all.strange);
    all.strange.clear();
    assert_eq!(all, listing(&[A, "[fd00::1]:11800"], &[B]));
}

//! What others hear while the own shards are slow.

use proto::taken::Outcome;

use super::super::codec::tests::{MINUTE, plan};
use super::super::peer::PeerOptions;
use super::*;
use crate::stream::Input;
use crate::telemetry::Registry;
use crate::util::clock::Clock;

const OWN: &str = "10.0.0.1:11800";
const EPOCH: u64 = 7;
const OTHER: u64 = 8;

/// A relay that writes everything, with a shard that takes one message.
fn relay(orders: mpsc::Receiver<Order>) -> (Relay, mpsc::Receiver<Input>) {
    let (shard, inbox) = mpsc::channel(1);
    let members = Membership::fixed(&[OWN.to_owned()], Some(OWN));
    let deps = Dependencies {
        plan: Arc::new(plan(&["cpm"])),
        addresses: Arc::new(AddressBook::new(10)),
        ground: Ground::without_store(vec![shard]),
        held: Held::default(),
        owned: watch::channel(Partitions::default()).0,
        kept: Arc::default(),
        facts: mpsc::channel(1).1,
        membership: watch::channel(Some(members)).1,
        stop: CancellationToken::new(),
        metrics: ClusterMetrics::new(&Registry::new("127.0.0.1", 11800)).unwrap(),
        is_first: watch::channel(false).0,
        connections: Connections::default(),
        log: Throttle::new(Clock::System),
    };
    let options = RelayOptions {
        receives_only: false,
        capacity: 4_000_000,
        own: None,
        peers: PeerOptions::default(),
    };
    let mut relay = Relay::new(deps, options, orders, EPOCH);
    relay.claim.check(OWN);
    (relay, inbox)
}

#[tokio::test(start_paused = true)]
async fn without_a_coordinator_a_node_goes_by_who_calls_it() {
    const CALLER: &str = "10.0.0.2:11800";
    let all = Partitions::ALL.len();
    // Whether it knows its own address, whether another node calls, whom it takes for members after 61 s, and what it writes.
    for (own, is_called, members, held) in [
        (None, false, vec![""], all),
        (Some(OWN), false, vec![""], all),
        (None, true, vec![CALLER], 0),
        (Some(OWN), true, vec![OWN, CALLER], 0),
    ] {
        let (mut relay, _inbox) = relay(mpsc::channel(1).1);
        relay.deps.membership = watch::channel(None).1;
        relay.options.own = own.map(str::to_owned);
        for _ in 0..62 {
            if is_called {
                relay.answer(proto::Status {
                    address: CALLER.to_owned(),
                    epoch: OTHER,
                    ..proto::Status::default()
                });
            }
            relay.look();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(relay.view.participants(), members, "{own:?} {is_called}");
        assert_eq!(relay.held.len(), held, "{own:?} {is_called}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_stood_still_takes_nobody_for_gone_and_begins_anew_when_told() {
    const PEER: &str = "10.0.0.2:11800";
    let (mut relay, _inbox) = relay(mpsc::channel(1).1);
    let members = [OWN, PEER].map(str::to_owned);
    let members = Membership::fixed(&members, Some(OWN));
    relay.deps.membership = watch::channel(Some(members)).1;
    relay.look();
    let answer = |agreed: Partitions, buried| proto::Answer {
        epoch: OTHER,
        agreed: agreed.to_bytes(),
        buried,
        ..proto::Answer::default()
    };
    let view = relay.view_number;
    relay.synced(PEER, view, false, EPOCH, Ok(answer(Partitions::ALL, false)));
    let held = relay.held;
    assert_eq!(held, relay.view.share(OWN));
    tokio::time::advance(Duration::from_secs(60)).await;
    relay.look();
    assert_eq!(relay.view_number, view, "the other one stays a member");
    // An answer to what it asked as another process says nothing.
    relay.synced(
        PEER,
        view,
        false,
        3,
        Ok(answer(Partitions::default(), true)),
    );
    assert_eq!((relay.epoch, relay.held), (EPOCH, held));
    relay.synced(
        PEER,
        view,
        false,
        EPOCH,
        Ok(answer(Partitions::default(), true)),
    );
    assert_ne!(relay.epoch, EPOCH);
    assert_eq!((relay.held.len(), relay.releasing), (0, held));
}

#[tokio::test(start_paused = true)]
async fn who_is_not_found_at_its_address_takes_no_share_until_it_is() {
    const PEER: &str = "10.0.0.2:11800";
    let (mut relay, _inbox) = relay(mpsc::channel(1).1);
    // It is not known yet who answers there.
    relay.claim = Claim::new(Instant::now());
    let members = Membership::fixed(&[OWN, PEER].map(str::to_owned), Some(OWN));
    relay.deps.membership = watch::channel(Some(members)).1;
    relay.look();
    let answer = |epoch| proto::Answer {
        epoch,
        agreed: Partitions::ALL.to_bytes(),
        ..proto::Answer::default()
    };
    let view = relay.view_number;
    relay.synced(PEER, view, false, EPOCH, Ok(answer(OTHER)));
    assert_eq!(relay.held.len(), 0);
    relay.own_address_answered(EPOCH, None);
    let held = relay.held;
    assert_eq!(held, relay.view.share(OWN));
    // The other one begins to listen there: this one hands over and counts it among its peers.
    relay.own_address_answered(EPOCH, Some(9));
    assert_eq!((relay.held.len(), relay.releasing), (0, held));
    assert_eq!(relay.view.participants(), [OWN, PEER]);
    assert!(relay.own.is_empty() && relay.peers.contains_key(OWN));
    assert_eq!(relay.deps.metrics.address_taken.get(), 1);
    relay.releasing = Partitions::default();
    // Calls may arrive at the one and the other.
    for by in [EPOCH, EPOCH, 9, EPOCH, EPOCH] {
        relay.own_address_answered(EPOCH, Some(by));
        assert!(relay.own.is_empty());
    }
    relay.own_address_answered(EPOCH, Some(EPOCH));
    assert!(relay.own == OWN && !relay.peers.contains_key(OWN));
    let view = relay.view_number;
    relay.synced(PEER, view, false, EPOCH, Ok(answer(OTHER)));
    assert_eq!(relay.held, held);
    assert_eq!(relay.deps.metrics.address_taken.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_hears_two_at_one_address_says_so() {
    const PEER: &str = "10.0.0.2:11800";
    let (mut relay, _inbox) = relay(mpsc::channel(1).1);
    let members = Membership::fixed(&[OWN, PEER].map(str::to_owned), Some(OWN));
    relay.deps.membership = watch::channel(Some(members)).1;
    relay.look();
    let status = |epoch| proto::Status {
        address: PEER.to_owned(),
        epoch,
        ..proto::Status::default()
    };
    assert!(!relay.answer(status(OTHER)).contested);
    let answer = proto::Answer {
        epoch: OTHER,
        ..proto::Answer::default()
    };
    let view = relay.view_number;
    relay.synced(PEER, view, false, EPOCH, Ok(answer));
    assert!(!relay.answer(status(OTHER)).contested);
    assert!(relay.answer(status(9)).contested);
    // The process that answered may have ended.
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(!relay.answer(status(9)).contested);
}

#[tokio::test(start_paused = true)]
async fn who_brings_facts_is_held_up_for_a_while_when_nobody_takes_what_waits() -> anyhow::Result<()>
{
    const PEER: &str = "10.0.0.2:11800";
    let fact = |n: usize| {
        let alias = crate::model::fact::AddressAlias {
            address: format!("10.1.0.{n}:80"),
            service_id: "c2hvcA==.1".to_owned(),
            instance_id: "c2hvcA==.1_YQ==".to_owned(),
            last_update: 0,
        };
        let (alias, minute) = (Arc::new(alias), MINUTE);
        Fact::Address { alias, minute }
    };
    // Of another node that never answers, as it is not trusted.
    let (orders, received) = mpsc::channel(1);
    let (mut relay, mut inbox) = relay(received);
    tokio::spawn(async move { while inbox.recv().await.is_some() {} });
    let members = Membership::fixed(&[PEER.to_owned()], None);
    relay.deps.membership = watch::channel(Some(members)).1;
    relay.waiting = Increments::new(1000);
    let (facts, fed) = mpsc::channel(1);
    relay.deps.facts = fed;
    let shed = relay.deps.metrics.shed.with_label_values(&["full"]);
    let running = tokio::spawn(relay.run());
    let began = Instant::now();
    facts.send((0..20).map(fact).collect()).await?;
    facts.send(vec![fact(20)]).await?;
    assert!(began.elapsed() < Duration::from_secs(1));
    facts.send(vec![fact(21)]).await?;
    let waited = began.elapsed();
    assert!(waited >= HOLD_BACK, "{waited:?}");
    assert!(waited < 2 * HOLD_BACK, "{waited:?}");
    // From then on nobody is held up.
    for n in 22..30 {
        facts.send(vec![fact(n)]).await?;
    }
    assert!(began.elapsed() - waited < Duration::from_secs(1));
    // What was let in is counted at the next look.
    tokio::time::sleep(2 * TICK).await;
    drop((facts, orders));
    running.abort();
    let full = shed.get();
    assert!((20..30).contains(&full), "{full}");
    Ok(())
}

/// Addresses that are nothing but many.
fn batch(sequence: u64) -> proto::Batch {
    let known = (0..5000).map(|n| proto::Known {
        minute: MINUTE,
        what: Some(proto::known::What::Address(proto::Address {
            address: format!("10.1.{sequence}.{n}:80"),
            service_id: "c2hvcA==.1".to_owned(),
            instance_id: "c2hvcA==.1_YQ==".to_owned(),
            last_update: 0,
        })),
    });
    proto::Batch {
        from: OTHER,
        to: EPOCH,
        sequence,
        known: known.collect(),
        ..proto::Batch::default()
    }
}

#[tokio::test(start_paused = true)]
async fn others_are_answered_and_held_back_while_a_shard_waits() -> anyhow::Result<()> {
    let (orders, received) = mpsc::channel(4);
    let (mut relay, mut inbox) = relay(received);
    let (facts, fed) = mpsc::channel(1);
    relay.deps.facts = fed;
    relay.look();
    let running = tokio::spawn(relay.run());
    let push = async |sequence| {
        let (answer, answered) = oneshot::channel();
        orders.send(Order::Push(batch(sequence), answer)).await?;
        anyhow::Ok(answered.await.ok().map(|taken| taken.outcome()))
    };
    let pushing = async {
        // The first is on its way, the shard has no room for the second, and the third stays with its sender.
        for (sequence, outcome) in [
            (1, Some(Outcome::Taken)),
            (2, Some(Outcome::Taken)),
            (3, None),
        ] {
            assert_eq!(push(sequence).await?, outcome, "{sequence}");
        }
        let (answer, answered) = oneshot::channel();
        let status = proto::Status {
            address: "10.0.0.2:11800".to_owned(),
            epoch: OTHER,
            ..proto::Status::default()
        };
        orders.send(Order::Sync(status, answer)).await?;
        anyhow::Ok(answered.await?)
    };
    let answer = tokio::time::timeout(Duration::from_secs(1), pushing).await??;
    assert_eq!((answer.epoch, answer.taken), (EPOCH, 2));

    // Once the shard goes on, the third is taken when it is sent again.
    let shard = tokio::spawn(async move {
        let mut taken = 0;
        while let Some(input) = inbox.recv().await {
            if let Input::Portion(portion) = input {
                taken += portion.len();
            }
        }
        taken
    });
    while push(3).await? != Some(Outcome::Taken) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(push(3).await?, Some(Outcome::Taken));
    drop(facts);
    running.await?;
    assert_eq!(shard.await?, 15_000);
    Ok(())
}

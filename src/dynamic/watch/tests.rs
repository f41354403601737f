//! What is new, what is refused, and what an absence means.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::config::CenterSettings;

/// Remembers what it was given; `bad` makes no sense.
#[derive(Default)]
struct Applied(Vec<(Key, Option<String>)>);

impl Apply for Applied {
    fn apply(&mut self, key: Key, value: Option<&str>) -> Result<Vec<String>, Vec<String>> {
        self.0.push((key, value.map(str::to_owned)));
        match value {
            Some("bad") => Err(vec!["it is bad".to_owned()]),
            _ => Ok(vec![]),
        }
    }
}

fn watch(registry: &Registry) -> Watch<Applied> {
    let center = Center::new(&CenterSettings::Etcd {
        trusted_ca_path: None,
        urls: vec!["http://127.0.0.1:1".to_owned()],
        group: "g".to_owned(),
        api: crate::config::EtcdApi::V3,
    });
    Watch::new(
        center.unwrap(),
        Duration::from_secs(60),
        &[Key::SampleRate, Key::ApdexThreshold],
        Applied::default(),
        DynamicMetrics::new(registry).unwrap(),
        Clock::System,
    )
}

#[test]
fn only_what_is_new_is_handed_on() {
    let registry = Registry::new("h", 1);
    let mut watch = watch(&registry);
    // What the centre has, what is handed on, and then: in use, refused.
    let taken = |text: &'static str| Some(Some(text));
    for (number, (has, handed_on, want)) in [
        (None, None, (0, 0)),
        (Some("1"), taken("1"), (1, 0)),
        (Some("1"), None, (1, 0)),
        (Some("bad"), taken("bad"), (1, 1)),
        // A value that was refused is refused once.
        (Some("bad"), None, (1, 1)),
        (Some("1"), None, (1, 0)),
        (Some("bad"), taken("bad"), (1, 1)),
        (Some("2"), taken("2"), (1, 0)),
        (Some("bad"), taken("bad"), (1, 1)),
        (None, Some(None), (0, 0)),
        (None, None, (0, 0)),
        (Some("bad"), taken("bad"), (0, 1)),
        (None, None, (0, 0)),
        (Some("2"), taken("2"), (1, 0)),
        // Blank is as none.
        (Some(" \n"), Some(None), (0, 0)),
    ]
    .into_iter()
    .enumerate()
    {
        watch.take(
            has.map(|v| (Key::SampleRate, v.into()))
                .into_iter()
                .collect(),
        );
        let applied = std::mem::take(&mut watch.apply.0);
        let expected = handed_on.map(|v| (Key::SampleRate, v.map(str::to_owned)));
        assert_eq!(applied, Vec::from_iter(expected), "{number}");
        let name = &[Key::SampleRate.name()];
        let in_use = watch.metrics.in_use.with_label_values(name).get();
        let refused = watch.metrics.refused.with_label_values(name).get();
        assert_eq!((in_use, refused), want, "{number}");
    }
    let changes = |outcome| {
        let name = Key::SampleRate.name();
        watch
            .metrics
            .changes
            .with_label_values(&[name, outcome])
            .get()
    };
    assert_eq!(
        (changes("taken"), changes("removed"), changes("refused")),
        (3, 2, 4)
    );
}

#[test]
fn a_value_that_is_no_text_is_refused_alone() {
    let registry = Registry::new("h", 1);
    let mut watch = watch(&registry);
    let apdex = (Key::ApdexThreshold, b"default: 700".to_vec());
    watch.take(Values::from([(Key::SampleRate, b"7".into())]));
    watch.apply.0.clear();
    for _ in 0..2 {
        let broken = (Key::SampleRate, b"1\xff".to_vec());
        watch.take(Values::from([broken, apdex.clone()]));
    }
    let taken = (Key::ApdexThreshold, Some("default: 700".to_owned()));
    assert_eq!(watch.apply.0, [taken]);
    for (key, want) in [(Key::SampleRate, (1, 1)), (Key::ApdexThreshold, (1, 0))] {
        let name = &[key.name()];
        let in_use = watch.metrics.in_use.with_label_values(name).get();
        let refused = watch.metrics.refused.with_label_values(name).get();
        assert_eq!((in_use, refused), want, "{key:?}");
    }
    let changes = &watch.metrics.changes;
    let refused = changes.with_label_values(&[Key::SampleRate.name(), "refused"]);
    assert_eq!(refused.get(), 1);
}

#[test]
fn the_log_names_a_value_unless_it_may_hold_a_secret() {
    let hooks = "webhooks:\n  - http://u:secret@h/\n";
    let long = "ö".repeat(MAX_SHOWN);
    for (key, value, want) in [
        (Key::SampleRate, None, "that of the files"),
        (Key::SampleRate, Some("5000\n"), "5000"),
        (Key::AlarmSettings, Some(hooks), "2 lines, 32 bytes"),
        (Key::ApdexThreshold, Some(&*long), "ö… (1 lines, 400 bytes)"),
    ] {
        let shown = shown(key, value);
        assert!(shown.ends_with(want), "{shown}");
        assert!(shown.len() < MAX_SHOWN + 50 && !shown.contains("secret"));
    }
}

#[test]
fn a_failure_is_said_if_it_is_another_one_or_the_last_time_is_long_ago() {
    let now_ms = Arc::new(AtomicI64::new(0));
    let mut watch = Watch {
        clock: Clock::Fixed(Arc::clone(&now_ms)),
        ..watch(&Registry::new("h", 1))
    };
    for (at_ms, reason, want) in [
        (0, "away", Some(0)),
        (1000, "away", None),
        (SAY_AGAIN_MS - 1, "away", None),
        // It still lasts.
        (SAY_AGAIN_MS, "away", Some(2)),
        (SAY_AGAIN_MS + 1000, "away", None),
        // Something else is wrong now.
        (SAY_AGAIN_MS + 2000, "no right to read", Some(1)),
        (SAY_AGAIN_MS + 3000, "no right to read", None),
        (SAY_AGAIN_MS * 2 + 1000, "no right to read", None),
        (SAY_AGAIN_MS * 2 + 2000, "no right to read", Some(2)),
    ] {
        now_ms.store(at_ms, Ordering::Relaxed);
        assert_eq!(watch.admit(reason), want, "{at_ms} {reason}");
    }
    watch.said = None;
    assert_eq!(watch.admit("no right to read"), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_centre_that_is_away_is_asked_again_and_changes_nothing() {
    let registry = Registry::new("h", 1);
    let watch = watch(&registry);
    let metrics = watch.metrics.clone();
    let stop = CancellationToken::new();
    let running = tokio::spawn(watch.run(stop.clone()));
    // 1, 2, 4, 8, 16, 32 and then 60 s apart.
    tokio::time::sleep(Duration::from_secs(64 + 10 * 60)).await;
    stop.cancel();
    running.await.unwrap();
    let reads = |outcome| metrics.reads.with_label_values(&["etcd", outcome]).get();
    assert!((12..=18).contains(&reads("failed")), "{}", reads("failed"));
    assert_eq!(reads("ok"), 0);
    assert_eq!(metrics.last_success.with_label_values(&["etcd"]).get(), 0);
}

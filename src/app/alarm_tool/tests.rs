//! Where the time that is told begins and ends.

use super::*;
use crate::dsl::{alarm, oal};

/// 2020-09-15 00:00 UTC, in minutes.
const MIDNIGHT: i64 = 26_668_800;

/// `period` 3, `count` 2, silence 2.
fn rule() -> AlarmRule {
    let script = "service_resp_time = from(Service.latency).longAvg();";
    let metrics = oal::compile(&[("a.oal".to_owned(), script.to_owned())]);
    let text = "rules:\n  slow_rule: {metrics-name: service_resp_time, op: '>', threshold: 1, period: 3, count: 2, silence-period: 2}\n";
    let compiled = alarm::compile("alarm-settings.yml", text, &metrics.unwrap().metrics);
    compiled.unwrap().rules.remove(0)
}

fn span(from: Option<u64>, to: Option<u64>, now: i64) -> Span {
    let selection = AlarmSelection {
        from,
        to,
        ..AlarmSelection::default()
    };
    Span::new(&rule(), &selection, &Zone::utc(), now * MINUTE_MS + 30_000)
}

/// What is told of an entity that matches in minutes relative to midnight.
fn told(span: Span, minutes: &[i64]) -> Vec<String> {
    let value = |minute: &i64| (MIDNIGHT + minute, "9".to_owned());
    let found = Found {
        name: "shop".to_owned(),
        is_about: true,
        is_told: true,
        matching: minutes.iter().map(value).collect(),
    };
    let mut out = vec![];
    found.tell(&rule(), span, &Zone::utc(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_span_ends_with_now_or_the_last_day_and_reads_what_the_first_checks_need() {
    let day = 24 * 60;
    for (from, to, now, (lead, first, last)) in [
        (Some(20_200_915), None, 5, (-7, 0, 5)),
        (Some(20_200_915), Some(20_200_915), 5, (-7, 0, 5)),
        (Some(20_200_915), Some(20_200_915), 9999, (-7, 0, day - 1)),
        (None, Some(20_200_914), 5, (-MIDNIGHT, -MIDNIGHT, -1)),
    ] {
        let found = span(from, to, MIDNIGHT + now);
        let found = (found.lead, found.first, found.last);
        let want = (MIDNIGHT + lead, MIDNIGHT + first, MIDNIGHT + last);
        assert_eq!(found, want, "{from:?} {to:?} {now}");
    }
}

#[test]
fn a_check_has_been_once_second_16_of_its_minute_is_there() {
    for (second, last) in [(0, 4), (15, 4), (16, 5), (59, 5)] {
        let now_ms = (MIDNIGHT + 5) * MINUTE_MS + second * 1000;
        let selection = AlarmSelection::default();
        let span = Span::new(&rule(), &selection, &Zone::utc(), now_ms);
        assert_eq!(span.last, MIDNIGHT + last, "{second}");
    }
}

#[test]
fn an_alarm_that_hangs_on_the_newest_minute_says_so() {
    // The second and third check find two minutes only with their own; the third fires.
    let lines = told(span(None, None, MIDNIGHT + 4), &[0, 2, 4]);
    let want = [
        "shop: 0 alarms",
        "2020-09-15 00:00  9: quiet, 1 of 2 minutes match",
        "2020-09-15 00:01  no match: quiet, 1 of 2 minutes match",
        "2020-09-15 00:02  9: quiet, found by 1 of 2 checks if the value came by second 16",
        "2020-09-15 00:03  no match: quiet, 1 of 2 minutes match",
        "2020-09-15 00:04  9: quiet, found by 1 of 2 checks if the value came by second 16",
    ];
    assert_eq!(lines, want);
    let lines = told(span(None, None, MIDNIGHT + 3), &[0, 2, 3]);
    let want = "shop: 1 alarms, 1 of which only if the value came by second 16";
    assert_eq!(lines[0], want, "{lines:?}");
}

#[test]
fn no_check_is_told_that_has_not_been() {
    let lines = told(span(None, None, MIDNIGHT + 1), &[0, 1]);
    let want = [
        "shop: 0 alarms",
        "2020-09-15 00:00  9: quiet, 1 of 2 minutes match",
        "2020-09-15 00:01  9: quiet, found by 1 of 2 checks if the value came by second 16",
    ];
    assert_eq!(lines, want);
}

#[test]
fn what_was_before_the_first_day_decides_how_its_checks_end() {
    let from = span(Some(20_200_915), None, MIDNIGHT + 2);
    let want = [
        "shop: 1 alarms",
        "2020-09-15 00:00  9: alarm",
        "2020-09-15 00:01  no match: silent, for 1 more checks",
        "2020-09-15 00:02  no match: quiet, 1 of 2 minutes match",
    ];
    assert_eq!(told(from, &[-2, -1, 0]), want);
    // All of it was before.
    assert!(told(from, &[-7]).is_empty());
}

//! Values in, alarms out: several rules, entities and the clock.

mod moving;

use super::*;
use crate::alarm::state::{Layout, Taken};
use crate::dsl::{alarm, oal};
use crate::model::row::Cell;
use crate::model::schema::Schema;

const SCRIPT: &str = "
service_resp_time = from(Service.latency).longAvg();
service_percentile = from(Service.latency).percentile(10);
service_relation_client_cpm = from(ServiceRelation.*).filter(detectPoint == DetectPoint.CLIENT).cpm();
";
const SHOP: &str = "c2hvcA==.1";
/// 2020-09-15 10:59:00 UTC.
const START_MS: i64 = 1_600_167_540_000;

fn rules(text: &str) -> Vec<AlarmRule> {
    let metrics = oal::compile(&[("a.oal".to_owned(), SCRIPT.to_owned())]);
    let metrics = metrics.unwrap().metrics;
    alarm::compile("alarm-settings.yml", text, &metrics)
        .unwrap()
        .rules
}

/// Since a minute ago, with all entities.
fn alarms(text: &str) -> Alarms {
    let mut alarms = Alarms::new(rules(text), START_MS - MINUTE_MS, 3);
    alarms.here = Partitions::ALL;
    alarms
}

fn slow(alarms: &mut Alarms, id: &str, minute: i64) -> Result<(), Unfit> {
    let minute = Minute(Minute::of(START_MS).0 + minute);
    let value = Calculated::Number(2000.0);
    let entity = (Scope::Service, id);
    alarms.add("service_resp_time", entity, minute, &value, START_MS)
}

const TWO: &str = "
rules:
  slow_rule: {metrics-name: service_resp_time, op: '>', threshold: 1000, message: '{name} is slow'}
  late_rule: {metrics-name: service_resp_time, op: '>', threshold: 1500, period: 2, count: 2}
";

#[test]
fn a_check_is_due_once_a_minute_after_second_15() {
    let mut alarms = Alarms::new(vec![], START_MS + 20_000, 1);
    let mut checked = vec![];
    for second in 20..400 {
        let now_ms = START_MS + second * 1000;
        if alarms.is_due(now_ms) {
            alarms.check(now_ms);
            checked.push(second);
        }
    }
    assert_eq!(checked, [80, 136, 196, 256, 316, 376]);
}

#[test]
fn a_clock_that_was_a_day_ahead_silences_nobody() {
    const DAY_MS: i64 = 1440 * MINUTE_MS;
    // Whether what is remembered was stored in between.
    for is_restarted in [false, true] {
        let mut alarms = alarms(TWO);
        slow(&mut alarms, SHOP, 0).unwrap();
        let fired = alarms.check(START_MS + 16_000);
        assert_eq!(fired.len(), 1);
        alarms.check(START_MS + DAY_MS + 16_000);
        slow(&mut alarms, SHOP, 1).unwrap();
        if is_restarted {
            let schema = Schema::build(&[], &[], &[], false);
            let model = schema.model("alarm_state").unwrap();
            // As such a server stored it.
            for running in &mut alarms.running {
                let (watched, _) = running.windows.values().next().cloned().unwrap();
                let mut window = Window::new(0);
                window.check(Minute::of(START_MS + DAY_MS).0, limits(&running.rule));
                running.windows.insert(SHOP.to_owned(), (watched, window));
                running.is_changed = true;
            }
            let rows = alarms.take_changed(Layout::Rules, model, START_MS).unwrap();
            alarms = super::Alarms::new(rules(TWO), START_MS + 20_000, 3);
            let rows = rows.into_iter().map(Some).collect();
            alarms.take_stored(&[0, 1], Partitions::ALL, rows);
            slow(&mut alarms, SHOP, 1).unwrap();
        }
        let now_ms = START_MS + MINUTE_MS + 16_000;
        assert!(alarms.is_due(now_ms), "{is_restarted}");
        let fired = alarms.check(now_ms);
        assert_eq!(fired.len(), 1, "{is_restarted} {fired:?}");
        // Where all are like new after that day nothing is left to be set back.
        assert_eq!(alarms.take_set_back() > 0, is_restarted);
        assert!(!alarms.is_due(now_ms));
    }
}

#[test]
fn rules_about_one_metric_fire_by_themselves() {
    let mut alarms = alarms(TWO);
    let mut fired = vec![];
    for minute in 0..3 {
        slow(&mut alarms, SHOP, minute).unwrap();
        let messages = alarms.check(START_MS + minute * MINUTE_MS + 16_000);
        fired.extend(
            messages
                .into_iter()
                .map(|m| (minute, m.rule_name, m.alarm_message)),
        );
    }
    let slow = |minute| (minute, "slow_rule".to_owned(), "shop is slow".to_owned());
    let late = (
        2,
        "late_rule".to_owned(),
        "Alarm caused by Rule late_rule".to_owned(),
    );
    assert_eq!(fired, [slow(0), slow(1), slow(2), late]);
}

#[test]
fn lists_and_relations_have_alarms() {
    let mut alarms = alarms(
        "
rules:
  percentile_rule: {metrics-name: service_percentile, op: '>', threshold: '10,10,-,10,10'}
  call_rule: {metrics-name: service_relation_client_cpm, op: '>', threshold: 5}
",
    );
    let minute = Minute::of(START_MS);
    let relation = format!("{SHOP}-ZGI=.0");
    for (metric, entity, value) in [
        (
            "service_percentile",
            (Scope::Service, "YQ==.1"),
            Calculated::List(vec![1.0, 2.0, 99.0, 4.0, 5.0]),
        ),
        (
            "service_percentile",
            (Scope::Service, SHOP),
            Calculated::List(vec![1.0, 2.0, 3.0, 4.0, 11.0]),
        ),
        (
            "service_relation_client_cpm",
            (Scope::ServiceRelation, &*relation),
            Calculated::Number(6.0),
        ),
    ] {
        let added = alarms.add(metric, entity, minute, &value, START_MS);
        assert_eq!(added, Ok(()));
    }
    let messages = alarms.check(START_MS + 16_000);
    let found: Vec<_> = messages.iter().map(|m| (m.scope, &*m.name)).collect();
    let want = [("SERVICE", "shop"), ("SERVICE_RELATION", "shop to db")];
    assert_eq!(found, want);
    assert_eq!((&*messages[1].id0, &*messages[1].id1), (SHOP, "ZGI=.0"));
}

#[test]
fn what_cannot_be_looked_at_is_said() {
    let text = TWO.replace(
        "service_resp_time, op: '>', threshold: 1500",
        "gone, op: '>', threshold: 1",
    );
    let mut alarms = alarms(&text);
    assert_eq!(slow(&mut alarms, "pod", 0), Err(Unfit::Undecodable));
    assert_eq!(slow(&mut alarms, SHOP, 10), Ok(()));
    assert_eq!(slow(&mut alarms, SHOP, 11), Err(Unfit::Ahead));
    assert_eq!(slow(&mut alarms, "YQ==.1", 0), Ok(()));
    assert_eq!(slow(&mut alarms, "Yg==.1", 0), Ok(()));
    assert_eq!(slow(&mut alarms, "Yw==.1", 0), Err(Unfit::Full));
    assert_eq!(alarms.windows(), 3);
    // What is as if it had never been is forgotten.
    for minute in 0..40 {
        alarms.check(START_MS + minute * MINUTE_MS);
    }
    assert_eq!(alarms.windows(), 0);
}

#[test]
fn what_long_windows_hold_is_counted_and_bounded() {
    let text = "rules: {day_rule: {metrics-name: service_resp_time, op: '>', threshold: 1000, period: 1440}}";
    let mut alarms = alarms(text);
    let mut full = 0;
    // Every other minute, the worst there is for one entity.
    for minute in (0..1440).step_by(2) {
        let now_ms = START_MS + minute * MINUTE_MS;
        let at = Minute::of(now_ms);
        let value = Calculated::Number(2000.0);
        let entity = (Scope::Service, SHOP);
        let added = alarms.add("service_resp_time", entity, at, &value, now_ms);
        full += usize::from(added == Err(Unfit::Full));
    }
    // As much as the three entities that there may be.
    assert_eq!(alarms.bytes(), BYTES_PER_WINDOW + 3 * BYTES_PER_WINDOW);
    assert_eq!(full, 720 - 3 * RUNS_PER_WINDOW);
    // Minutes in between need no more.
    let now_ms = START_MS + 1440 * MINUTE_MS;
    let at = Minute(Minute::of(START_MS).0 + 1);
    let value = Calculated::Number(2000.0);
    let entity = (Scope::Service, SHOP);
    let added = alarms.add("service_resp_time", entity, at, &value, now_ms);
    assert_eq!(added, Ok(()));
    assert_eq!(alarms.bytes(), 4 * BYTES_PER_WINDOW - 8);
    alarms.forget(Partitions::ALL);
    assert_eq!(alarms.bytes(), 0);
}

#[test]
fn what_is_remembered_outlives_the_process_unless_the_rule_changes() {
    let schema = Schema::build(&[], &[], &[], false);
    let model = schema.model("alarm_state").unwrap();
    let mut first = alarms(TWO);
    for minute in 0..2 {
        slow(&mut first, SHOP, minute).unwrap();
        first.check(START_MS + minute * MINUTE_MS + 16_000);
    }
    let mut take = || first.take_changed(Layout::Rules, model, START_MS + MINUTE_MS);
    let rows = take().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(take().unwrap().len(), 0);
    first.changed_still(&rows[1..]);
    let mut take = || first.take_changed(Layout::Rules, model, START_MS + MINUTE_MS);
    assert_eq!(take().unwrap().len(), 1);
    let stored = || rows.iter().cloned().map(Some).collect::<Vec<_>>();
    let now_ms = START_MS + 2 * MINUTE_MS;
    let restarted = |text: &str| {
        let mut alarms = Alarms::new(rules(text), now_ms, 3);
        let keys = alarms.keys(&alarms.places(), Partitions::ALL, model);
        let ids: Vec<_> = keys.iter().map(|key| key.id.as_str()).collect();
        assert_eq!(ids[..3], ["slow_rule", "late_rule", "partition-0"]);
        let taken = alarms.take_stored(&[0, 1], Partitions::ALL, stored());
        assert_eq!(taken, Taken::default());
        // The last check was in the minute before: one is due as soon as this one is old enough.
        assert!(alarms.is_due(now_ms + 16_000));
        slow(&mut alarms, SHOP, 2).unwrap();
        let messages = alarms.check(now_ms + 16_000);
        messages
            .into_iter()
            .map(|m| m.rule_name)
            .collect::<Vec<_>>()
    };
    assert_eq!(restarted(TWO), ["slow_rule", "late_rule"]);
    assert_eq!(restarted(&TWO.replace("1500", "1501")), ["slow_rule"]);
    // A state from long ago beside it does not have this minute checked twice.
    let mut old = rows[0].clone();
    let Some(Cell::Bytes(state)) = old.cells.first() else {
        panic!("{old:?}")
    };
    let text = String::from_utf8(state.to_vec()).unwrap();
    let checked = format!("\"checked\":{}", START_MS + MINUTE_MS);
    assert!(text.contains(&checked));
    old.cells = vec![Cell::Bytes(text.replace(&checked, "\"checked\":1").into())];
    let again_ms = START_MS + MINUTE_MS + 20_000;
    let mut again = Alarms::new(rules(TWO), again_ms, 3);
    let rows_of_both = vec![Some(old), Some(rows[1].clone())];
    again.take_stored(&[0, 1], Partitions::ALL, rows_of_both);
    assert!(!again.is_due(again_ms) && again.is_due(now_ms + 16_000));
    let mut alarms = alarms(TWO);
    let mut damaged = rows[0].clone();
    damaged.cells = vec![Cell::Bytes("{".into())];
    let taken = alarms.take_stored(&[0, 1], Partitions::ALL, vec![Some(damaged), None]);
    assert_eq!(taken.damaged, ["slow_rule"]);
}

#[test]
fn rules_that_stay_the_same_keep_what_they_remember() {
    let mut alarms = alarms(TWO);
    slow(&mut alarms, SHOP, 0).unwrap();
    assert_eq!(alarms.windows(), 2);
    // Which rules are new to the process, and how many windows are left.
    for (text, new, windows) in [
        (TWO, vec![], 2),
        (&*TWO.replace("1500", "1501"), vec![], 1),
        // It was another rule in between.
        (TWO, vec![], 1),
        (
            "rules: {a_rule: {metrics-name: service_resp_time, op: '>', threshold: 1}}",
            vec![0],
            0,
        ),
        (TWO, vec![], 0),
    ] {
        assert_eq!(alarms.replace(rules(text)), new, "{text}");
        assert_eq!(alarms.windows(), windows, "{text}");
    }
    // They work on, by their metric.
    slow(&mut alarms, SHOP, 0).unwrap();
    let fired = alarms.check(START_MS + 16_000);
    assert_eq!(fired.len(), 1);
}

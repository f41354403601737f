//! Entities that move between servers, through rows of the store: together they raise the alarms that one alone would.

use std::collections::BTreeMap;

use super::*;
use crate::model::row::Row;
use crate::stream::partitions;

const RULES: &str = "
rules:
  shipped_rule: {metrics-name: service_resp_time, op: '>', threshold: 1000, period: 10, count: 3, silence-period: 5}
  quiet_rule: {metrics-name: service_resp_time, op: '>', threshold: 1500, period: 4, count: 2, silence-period: 9}
  each_rule: {metrics-name: service_resp_time, op: '>', threshold: 1500, period: 3, count: 1}
  other_rule: {metrics-name: service_resp_time, op: '>', threshold: 500, exclude-names: [s1], count: 2, period: 2, silence-period: 1}
";
const SERVICES: usize = 6;
/// Minute and rule and service.
type Fired = Vec<(i64, String, String)>;

/// A generator with a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = partitions::stable_hash(self.0, b"dice");
        self.0 % end
    }
}

fn service(n: usize) -> String {
    crate::model::id::service_id(&format!("s{n}"), true)
}

fn of(n: usize) -> Partitions {
    let partition = partitions::of(Scope::Service, &service(n));
    Partitions::select(|p| p == partition)
}

/// Some servers and their store.
struct Cluster {
    model: std::sync::Arc<crate::model::schema::Model>,
    store: BTreeMap<String, Row>,
    servers: Vec<Alarms>,
    /// Which of them has a service.
    places: Vec<usize>,
    layout: Layout,
    fired: Fired,
}

impl Cluster {
    fn new(servers: usize, layout: Layout) -> Cluster {
        let schema = Schema::build(&[], &[], &[], false);
        let mut cluster = Cluster {
            model: schema.model("alarm_state").unwrap().clone(),
            store: BTreeMap::new(),
            servers: vec![],
            places: vec![0; SERVICES],
            layout,
            fired: vec![],
        };
        for _ in 0..servers {
            cluster
                .servers
                .push(Alarms::new(rules(RULES), START_MS - MINUTE_MS, 1000));
        }
        let all = cluster.all();
        cluster.take(0, all, START_MS);
        cluster
    }

    fn all(&self) -> Partitions {
        match self.layout {
            Layout::Rules => Partitions::ALL,
            Layout::Partitions => (0..SERVICES).fold(Partitions::default(), |all, n| all.or(of(n))),
        }
    }

    fn keep(&mut self, rows: Vec<Row>) {
        for row in rows {
            self.store.insert(row.id.clone(), row);
        }
    }

    /// A server reads what is stored of some services.
    fn take(&mut self, at: usize, services: Partitions, now_ms: i64) {
        let server = &mut self.servers[at];
        let places = server.places();
        let keys = server.keys(&places, services, &self.model);
        let rows = keys.iter().map(|key| self.store.get(&key.id).cloned());
        let taken = server.take_stored(&places, services, rows.collect());
        assert_eq!(taken, Taken::default());
        // A tick comes at once.
        if server.is_due(now_ms) {
            self.check(at, now_ms);
        }
    }

    fn value(&mut self, n: usize, minute: i64, value: f64, now_ms: i64) {
        let (id, value) = (service(n), Calculated::Number(value));
        for (at, server) in self.servers.iter_mut().enumerate() {
            let minute = Minute(Minute::of(START_MS).0 + minute);
            let entity = (Scope::Service, &*id);
            let added = server.add("service_resp_time", entity, minute, &value, now_ms);
            let want = match at == self.places[n] {
                true => Ok(()),
                false => Err(Unfit::Elsewhere),
            };
            assert_eq!(added, want);
        }
    }

    /// The check, and what is stored after it.
    fn check(&mut self, at: usize, now_ms: i64) {
        let server = &mut self.servers[at];
        for message in server.check(now_ms) {
            let minute = (now_ms - START_MS) / MINUTE_MS;
            self.fired.push((minute, message.rule_name, message.name));
        }
        let rows = server.take_changed(self.layout, &self.model, now_ms);
        self.keep(rows.unwrap());
    }

    /// A service goes from the server that has it to another one.
    fn hand_over(&mut self, n: usize, to: usize, now_ms: i64) {
        let from = std::mem::replace(&mut self.places[n], to);
        let server = &mut self.servers[from];
        let rows = server.take_partitions(of(n), &self.model, now_ms);
        server.forget(of(n));
        self.keep(rows.unwrap());
        self.take(to, of(n), now_ms);
    }

    /// A server ends well, another process takes its place.
    fn restart(&mut self, at: usize, now_ms: i64) {
        let server = &mut self.servers[at];
        let rows = server.take_changed(self.layout, &self.model, now_ms);
        let services = server.here();
        *server = Alarms::new(rules(RULES), now_ms, 1000);
        self.keep(rows.unwrap());
        self.take(at, services, now_ms);
    }

    fn sorted(mut self) -> Fired {
        self.fired.sort();
        self.fired
    }
}

/// Values of each service in each minute: bad times, good times and silence.
fn series(dice: &mut Dice) -> Vec<Vec<Option<f64>>> {
    let services = (0..SERVICES).map(|_| {
        let mut mood = 0;
        let minutes = (0..60).map(|_| {
            if dice.below(5) == 0 {
                mood = dice.below(4);
            }
            match mood {
                0 => None,
                1 => Some(100.0),
                2 => Some(2000.0),
                _ => Some([600.0, 1200.0, 2000.0, 100.0][dice.below(4) as usize]),
            }
        });
        minutes.collect()
    });
    services.collect()
}

#[test]
fn servers_among_which_entities_move_raise_the_alarms_of_one() {
    let mut alarms = 0;
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let series = series(&mut dice);
        let mut alone = Cluster::new(1, Layout::Rules);
        let mut many = Cluster::new(3, Layout::Partitions);
        for minute in 0..60 {
            for second in [5, 16, 40] {
                let now_ms = START_MS + minute * MINUTE_MS + second * 1000;
                if second == 5 {
                    for (n, values) in series.iter().enumerate() {
                        if let Some(value) = values[minute as usize] {
                            alone.value(n, minute, value, now_ms);
                            many.value(n, minute, value, now_ms);
                        }
                    }
                }
                // Some move before the check, some in the midst of it, some after it.
                let is_check = second == 16;
                if is_check {
                    alone.check(0, now_ms);
                }
                for at in 0..3 {
                    if dice.below(2) == 0 {
                        let (n, to) = (dice.below(SERVICES as u64), dice.below(3));
                        many.hand_over(n as usize, to as usize, now_ms);
                    }
                    if is_check {
                        many.check(at, now_ms);
                    }
                    if dice.below(20) == 0 {
                        many.restart(at, now_ms);
                    }
                }
            }
        }
        let (alone, many) = (alone.sorted(), many.sorted());
        assert_eq!(many, alone, "seed {seed}");
        alarms += alone.len();
    }
    assert!(alarms > 5000, "{alarms}");
}

#[test]
fn a_server_becomes_a_node_and_a_node_a_server() {
    let mut dice = Dice(7);
    let series = series(&mut dice);
    let mut alone = Cluster::new(1, Layout::Rules);
    let mut changing = Cluster::new(1, Layout::Rules);
    for minute in 0..60 {
        let now_ms = START_MS + minute * MINUTE_MS + 10_000;
        for (n, values) in series.iter().enumerate() {
            if let Some(value) = values[minute as usize] {
                alone.value(n, minute, value, now_ms);
                changing.value(n, minute, value, now_ms);
            }
        }
        alone.check(0, now_ms + 6_000);
        changing.check(0, now_ms + 6_000);
        if minute % 7 == 3 {
            // What is stored is what the one of before wrote.
            let rows = changing.servers[0].take_changed(changing.layout, &changing.model, now_ms);
            changing.keep(rows.unwrap());
            changing.layout = match changing.layout {
                Layout::Rules => Layout::Partitions,
                Layout::Partitions => Layout::Rules,
            };
            changing.servers[0] = Alarms::new(rules(RULES), now_ms + 9_000, 1000);
            let all = changing.all();
            changing.take(0, all, now_ms + 9_000);
        }
    }
    let alone = alone.sorted();
    assert!(alone.len() > 50, "{alone:?}");
    assert_eq!(changing.sorted(), alone);
}

#[test]
fn rows_of_servers_that_knew_no_partitions_are_read_once() {
    let mut first = Cluster::new(1, Layout::Rules);
    first.value(0, 0, 2000.0, START_MS);
    first.check(0, START_MS + 16_000);
    assert_eq!(first.fired.len(), 1);
    // As such a server wrote it.
    for row in first.store.values_mut() {
        let Some(Cell::Bytes(state)) = row.cells.first() else {
            panic!("{row:?}")
        };
        let mut state: serde_json::Value = serde_json::from_slice(state).unwrap();
        state.as_object_mut().unwrap().remove("written").unwrap();
        for window in state["windows"].as_array_mut().unwrap() {
            window.as_object_mut().unwrap().remove("checked").unwrap();
        }
        row.cells = vec![Cell::Bytes(state.to_string().into())];
    }
    let mut nodes = Cluster::new(2, Layout::Partitions);
    nodes.store = first.store;
    nodes.hand_over(0, 1, START_MS + MINUTE_MS);
    nodes.value(0, 1, 2000.0, START_MS + MINUTE_MS);
    nodes.check(1, START_MS + MINUTE_MS + 16_000);
    let rules: Vec<&str> = nodes
        .fired
        .iter()
        .map(|(_, rule, _)| rule.as_str())
        .collect();
    assert_eq!(rules, ["each_rule"], "one check found so before");
    // Its own row is newer now.
    assert_eq!(nodes.store.len(), 5);
    nodes.hand_over(0, 0, START_MS + 2 * MINUTE_MS);
    nodes.value(0, 2, 2000.0, START_MS + 2 * MINUTE_MS);
    nodes.check(0, START_MS + 2 * MINUTE_MS + 16_000);
    let rules: Vec<&str> = nodes
        .fired
        .iter()
        .map(|(_, rule, _)| rule.as_str())
        .collect();
    assert_eq!(rules[1..], ["quiet_rule", "each_rule", "other_rule"]);
}

#[test]
fn what_time_alone_changes_is_not_written() {
    let mut node = Cluster::new(1, Layout::Partitions);
    let mut written = vec![];
    for minute in 0..12 {
        let now_ms = START_MS + minute * MINUTE_MS + 10_000;
        if minute < 2 {
            node.value(1, minute, 2000.0, now_ms);
        }
        node.store.clear();
        node.check(0, now_ms + 6_000);
        written.push(node.store.len());
    }
    assert_eq!(
        written.iter().sum::<usize>(),
        2 + 2,
        "{written:?} {:?}",
        node.fired
    );
}

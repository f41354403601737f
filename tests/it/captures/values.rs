//! What is stored of the recorded traffic, against values that are worked out here from the recordings as the spec tells
//! (8.1.0 spec, A.3, A.4, B.2–B.5, D.3, D.4), not by the code of the server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::{Map, Value};

/// A table, a bucket and an entity.
type Key = (&'static str, i64, String);

/// Requests to the tables of calls, of durations, of successes and of percentiles.
const REQUESTS: &[(&str, [&str; 4])] = &[
    (
        "service",
        [
            "service_cpm",
            "service_resp_time",
            "service_sla",
            "service_percentile",
        ],
    ),
    (
        "instance",
        [
            "service_instance_cpm",
            "service_instance_resp_time",
            "service_instance_sla",
            "",
        ],
    ),
    (
        "endpoint",
        [
            "endpoint_cpm",
            "endpoint_avg",
            "endpoint_sla",
            "endpoint_percentile",
        ],
    ),
    (
        "service relation",
        [
            "service_relation_server_cpm",
            "service_relation_server_resp_time",
            "service_relation_server_call_sla",
            "service_relation_server_percentile",
        ],
    ),
    (
        "instance relation",
        [
            "service_instance_relation_server_cpm",
            "service_instance_relation_server_resp_time",
            "service_instance_relation_server_call_sla",
            "service_instance_relation_server_percentile",
        ],
    ),
    (
        "endpoint relation",
        [
            "endpoint_relation_cpm",
            "endpoint_relation_resp_time",
            "endpoint_relation_sla",
            "endpoint_relation_percentile",
        ],
    ),
    (
        "database",
        [
            "database_access_cpm",
            "database_access_resp_time",
            "database_access_sla",
            "database_access_percentile",
        ],
    ),
];

/// Metrics of JVMs that are averages; the others are sums.
const JVM_AVERAGES: &[&str] = &[
    "instance_jvm_cpu",
    "instance_jvm_memory_heap",
    "instance_jvm_memory_heap_max",
    "instance_jvm_memory_noheap",
    "instance_jvm_memory_noheap_max",
    "instance_jvm_thread_live_count",
    "instance_jvm_thread_daemon_count",
    "instance_jvm_thread_peak_count",
];
const JVM_SUMS: &[&str] = &[
    "instance_jvm_young_gc_count",
    "instance_jvm_young_gc_time",
    "instance_jvm_old_gc_count",
    "instance_jvm_old_gc_time",
];

/// Whoever is not observed.
const USER: &str = "User";

#[derive(Debug, Default, Clone, PartialEq)]
struct Requests {
    count: i64,
    latency: i64,
    good: i64,
    /// By ten milliseconds.
    counts: BTreeMap<i64, i64>,
}

/// What the recordings come to.
#[derive(Debug, Default)]
pub struct Expected {
    /// By what they are about, bucket and entity.
    requests: BTreeMap<Key, Requests>,
    /// Calls that a service made, whoever answered.
    made: BTreeMap<(i64, String), i64>,
    /// Sum and number of values.
    jvm: BTreeMap<Key, (f64, i64)>,
    /// What instances said about themselves last, by id.
    properties: BTreeMap<String, Value>,
    /// Ids, times and numbers.
    snapshots: BTreeSet<(String, i64, i64)>,
}

/// 64-bit numbers come as text over gRPC.
fn int(value: &Value) -> i64 {
    let text = || value.as_str()?.parse().ok();
    value.as_i64().or_else(text).unwrap_or(0)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whether an enum has a value; the first is the default, which is left out.
fn is(value: &Value, name: &str, number: i64) -> bool {
    match value {
        Value::Null => number == 0,
        Value::String(text) => text == name,
        other => other.as_i64() == Some(number),
    }
}

fn encoded(name: &str) -> String {
    STANDARD.encode(name)
}

/// The minute, hour and day of an instant in UTC.
fn buckets(epoch_ms: i64) -> Result<[i64; 3]> {
    let at = jiff::Timestamp::from_millisecond(epoch_ms)?;
    let minute: i64 = at.strftime("%Y%m%d%H%M").to_string().parse()?;
    Ok([minute, minute / 100, minute / 10_000])
}

impl Expected {
    /// Takes in a message that the server accepts, by method or path.
    pub fn add(&mut self, method: &str, message: &Value) -> Result<()> {
        match method.rsplit(['.', '/']).next() {
            Some("collectSnapshot") => self.snapshot(message),
            Some("reportInstanceProperties" | "reportProperties") => self.properties(message),
            Some("segment") => self.segment(message)?,
            Some("segments") => list(message).iter().try_for_each(|one| self.segment(one))?,
            Some("collect") if method.contains("TraceSegment") => self.segment(message)?,
            Some("collect") if method.contains("JVMMetric") => self.jvm(message)?,
            Some("keepAlive" | "getProfileTaskCommands") => {}
            _ => bail!("nobody said what {method} comes to"),
        }
        Ok(())
    }

    fn segment(&mut self, segment: &Value) -> Result<()> {
        let service = format!("{}.1", encoded(text(&segment["service"])));
        let instance = format!("{service}_{}", encoded(text(&segment["serviceInstance"])));
        for span in list(&segment["spans"]) {
            if span["skipAnalysis"] == true {
                continue;
            }
            if is(&span["spanType"], "Entry", 0) {
                self.entry(&service, &instance, span)?;
            } else if is(&span["spanType"], "Exit", 1) && !text(&span["peer"]).is_empty() {
                self.exit(&service, span)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, service: &str, instance: &str, span: &Value) -> Result<()> {
        ensure!(
            !is(&span["spanLayer"], "MQ", 4),
            "queues are not worked out here"
        );
        let name = encoded(text(&span["operationName"]));
        let user = encoded(USER);
        let mut callers = vec![];
        for reference in list(&span["refs"]) {
            let of = format!("{}.1", encoded(text(&reference["parentService"])));
            let caller = encoded(text(&reference["parentServiceInstance"]));
            let endpoint = match text(&reference["parentEndpoint"]) {
                "" => user.clone(),
                name => encoded(name),
            };
            callers.push((of.clone(), format!("{of}_{caller}"), endpoint));
        }
        if callers.is_empty() {
            callers.push((format!("{user}.0"), format!("{user}.0_{user}"), user));
        }
        for (caller, caller_instance, caller_endpoint) in callers {
            for (about, id) in [
                ("service", service.to_owned()),
                ("instance", instance.to_owned()),
                ("endpoint", format!("{service}_{name}")),
                ("service relation", format!("{caller}-{service}")),
                ("instance relation", format!("{caller_instance}-{instance}")),
                (
                    "endpoint relation",
                    format!("{caller}-{caller_endpoint}-{service}-{name}"),
                ),
            ] {
                self.request(about, &id, span)?;
            }
        }
        Ok(())
    }

    fn exit(&mut self, service: &str, span: &Value) -> Result<()> {
        for bucket in buckets(int(&span["startTime"]))? {
            *self.made.entry((bucket, service.to_owned())).or_default() += 1;
        }
        if is(&span["spanLayer"], "Database", 1) {
            let id = format!("{}.0", encoded(text(&span["peer"])));
            self.request("database", &id, span)?;
        }
        Ok(())
    }

    fn request(&mut self, about: &'static str, id: &str, span: &Value) -> Result<()> {
        let latency = int(&span["endTime"]) - int(&span["startTime"]);
        for bucket in buckets(int(&span["startTime"]))? {
            let key = (about, bucket, id.to_owned());
            let requests = self.requests.entry(key).or_default();
            requests.count += 1;
            requests.latency += latency;
            requests.good += i64::from(span["isError"] != true);
            *requests.counts.entry(latency / 10).or_default() += 1;
        }
        Ok(())
    }

    fn jvm(&mut self, report: &Value) -> Result<()> {
        let service = encoded(text(&report["service"]));
        let id = format!("{service}.1_{}", encoded(text(&report["serviceInstance"])));
        for metric in list(&report["metrics"]) {
            let cpu = metric["cpu"]["usagePercent"].as_f64().unwrap_or(0.0);
            let mut values = vec![("instance_jvm_cpu", cpu)];
            for (name, value) in [
                ("instance_jvm_thread_live_count", "liveCount"),
                ("instance_jvm_thread_daemon_count", "daemonCount"),
                ("instance_jvm_thread_peak_count", "peakCount"),
            ] {
                values.push((name, int(&metric["thread"][value]) as f64));
            }
            for memory in list(&metric["memory"]) {
                let (used, max) = match memory["isHeap"] == true {
                    true => ("instance_jvm_memory_heap", "instance_jvm_memory_heap_max"),
                    false => (
                        "instance_jvm_memory_noheap",
                        "instance_jvm_memory_noheap_max",
                    ),
                };
                values.push((used, int(&memory["used"]) as f64));
                values.push((max, int(&memory["max"]) as f64));
            }
            for gc in list(&metric["gc"]) {
                let (count, time) = match is(&gc["phase"], "NEW", 0) {
                    true => ("instance_jvm_young_gc_count", "instance_jvm_young_gc_time"),
                    false => ("instance_jvm_old_gc_count", "instance_jvm_old_gc_time"),
                };
                values.push((count, int(&gc["count"]) as f64));
                values.push((time, int(&gc["time"]) as f64));
            }
            for bucket in buckets(int(&metric["time"]))? {
                for (name, value) in &values {
                    let key = (*name, bucket, id.clone());
                    let (sum, count) = self.jvm.entry(key).or_default();
                    *sum += value;
                    *count += 1;
                }
            }
        }
        Ok(())
    }

    fn properties(&mut self, report: &Value) {
        let service = encoded(text(&report["service"]));
        let id = format!("{service}.1_{}", encoded(text(&report["serviceInstance"])));
        let mut object = Map::new();
        let mut addresses = vec![];
        for property in list(&report["properties"]) {
            match text(&property["key"]) {
                "ipv4" => addresses.push(text(&property["value"])),
                key => _ = object.insert(key.to_owned(), text(&property["value"]).into()),
            }
        }
        object.insert("ipv4s".to_owned(), addresses.join(",").into());
        self.properties.insert(id, object.into());
    }

    fn snapshot(&mut self, snapshot: &Value) {
        let (task, segment) = (text(&snapshot["taskId"]), text(&snapshot["traceSegmentId"]));
        let number = int(&snapshot["sequence"]);
        let id = format!("{task}_{segment}_{number}_");
        self.snapshots.insert((id, int(&snapshot["time"]), number));
    }

    /// The requests of a kind by bucket and entity.
    fn of<'a, T>(
        &'a self,
        about: &'a str,
        value: impl Fn(&Requests) -> T + 'a,
    ) -> BTreeMap<(i64, String), T> {
        let requests = self.requests.iter();
        let requests = requests.filter(|(key, _)| key.0 == about);
        requests
            .map(|(key, requests)| ((key.1, key.2.clone()), value(requests)))
            .collect()
    }

    /// Compares everything with the files of an embedded store.
    pub fn check(&self, folder: &Path) -> Result<()> {
        for (about, [calls, durations, successes, percentiles]) in REQUESTS {
            let sql = format!("SELECT time_bucket, entity_id, total, 0 FROM {calls}");
            let want = self.of(about, |r| [r.count, 0]);
            same(calls, &numbers(folder, calls, &sql)?, &want)?;
            let sql = format!("SELECT time_bucket, entity_id, summation, count FROM {durations}");
            let want = self.of(about, |r| [r.latency, r.count]);
            same(durations, &numbers(folder, durations, &sql)?, &want)?;
            let sql = format!("SELECT time_bucket, entity_id, total, match FROM {successes}");
            let want = self.of(about, |r| [r.count, r.good]);
            same(successes, &numbers(folder, successes, &sql)?, &want)?;
            if !percentiles.is_empty() {
                let sql = format!("SELECT time_bucket, entity_id, dataset FROM {percentiles}");
                let stored = rows(folder, percentiles, &sql, |row| {
                    Ok(((row.get(0)?, row.get(1)?), row.get(2)?))
                })?;
                same(percentiles, &stored, &self.of(about, |r| table(&r.counts)))?;
            }
        }
        self.check_made(folder)?;
        self.check_jvm(folder)?;
        let name = "instance_traffic";
        let sql = format!("SELECT id, properties FROM {name} WHERE properties <> ''");
        let stored = rows(folder, name, &sql, |row| {
            let text: String = row.get(1)?;
            Ok((row.get(0)?, serde_json::from_str(&text).unwrap_or_default()))
        })?;
        same(name, &stored, &self.properties)?;
        let name = "profile_task_segment_snapshot";
        let sql = format!("SELECT id, dump_time, sequence FROM {name}");
        let stored = rows(folder, name, &sql, |row| {
            Ok(((row.get(0)?, row.get(1)?, row.get(2)?), ()))
        })?;
        same(
            name,
            &stored,
            &self.snapshots.iter().map(|s| (s.clone(), ())).collect(),
        )
    }

    fn check_made(&self, folder: &Path) -> Result<()> {
        for name in [
            "service_relation_client_cpm",
            "service_instance_relation_client_cpm",
        ] {
            let sql = format!(
                "SELECT time_bucket, substr(entity_id, 1, instr(entity_id, '.') + 1), sum(total), 0 FROM {name} GROUP BY 1, 2"
            );
            let stored = numbers(folder, name, &sql)?;
            let made = self.made.iter();
            let want = made.map(|(key, count)| (key.clone(), [*count, 0]));
            same(name, &stored, &want.collect())?;
        }
        Ok(())
    }

    fn check_jvm(&self, folder: &Path) -> Result<()> {
        for name in JVM_AVERAGES.iter().chain(JVM_SUMS) {
            let is_average = JVM_AVERAGES.contains(name);
            let columns = if is_average {
                "summation, count"
            } else {
                "value, 0"
            };
            let sql = format!("SELECT time_bucket, entity_id, {columns} FROM {name}");
            // In thousandths: doubles are added in any order.
            let stored = rows(folder, name, &sql, |row| {
                let sum: f64 = row.get(2)?;
                let values = ((sum * 1000.0).round(), row.get::<_, i64>(3)?);
                Ok(((row.get(0)?, row.get(1)?), values))
            })?;
            let of = self.jvm.iter().filter(|(key, _)| key.0 == *name);
            let want = of.map(|(key, (sum, count))| {
                let count = if is_average { *count } else { 0 };
                ((key.1, key.2.clone()), ((sum * 1000.0).round(), count))
            });
            same(name, &stored, &want.collect())?;
        }
        Ok(())
    }
}

/// A table as it is stored, keys ascending.
fn table(counts: &BTreeMap<i64, i64>) -> String {
    let items: Vec<String> = counts.iter().map(|(key, n)| format!("{key},{n}")).collect();
    items.join("|")
}

fn numbers(folder: &Path, name: &str, sql: &str) -> Result<BTreeMap<(i64, String), [i64; 2]>> {
    rows(folder, name, sql, |row| {
        Ok(((row.get(0)?, row.get(1)?), [row.get(2)?, row.get(3)?]))
    })
}

/// The rows of a table in all files that have it.
fn rows<K: Ord, V>(
    folder: &Path,
    name: &str,
    sql: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<(K, V)>,
) -> Result<BTreeMap<K, V>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "db") {
            continue;
        }
        let file = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        if !file.table_exists(None, name)? {
            continue;
        }
        let mut statement = file.prepare(sql).with_context(|| sql.to_owned())?;
        for row in statement.query_map([], &read)? {
            let (key, value) = row?;
            all.insert(key, value);
        }
    }
    Ok(all)
}

fn same<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    name: &str,
    stored: &BTreeMap<K, V>,
    want: &BTreeMap<K, V>,
) -> Result<()> {
    ensure!(!want.is_empty(), "{name}: nothing is recorded");
    for (key, value) in want {
        let found = stored.get(key);
        ensure!(
            found == Some(value),
            "{name} {key:?}: {found:?}, not {value:?}"
        );
    }
    let more = stored.keys().find(|key| !want.contains_key(key));
    ensure!(more.is_none(), "{name}: nobody reported {more:?}");
    Ok(())
}

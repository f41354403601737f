//! One sentence: what holds the server up now, from its figures. Pure.

use super::About;
use super::figures::Queue;
use super::format::{amount, bytes, duration, number, percent};
use super::history::Recent;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Good,
    /// Something is at its limit, nothing is lost.
    Busy,
    /// Data is lost or waits for the operator.
    Bad,
}

/// What is the case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Situation {
    pub severity: Severity,
    pub sentence: String,
}

/// A queue is a bottleneck from this fill on.
const FULL: f64 = 0.75;
/// So are those who work this part of the time, or wait that part.
const SATURATED: f64 = 0.85;
const WAITING: f64 = 0.25;
/// Drops per second below this are shown in the tables only.
const NOTABLE_DROPS: f64 = 0.01;
/// Reasons that lose nothing: a newer version of the row is stored.
const HARMLESS: &[&str] = &["replaced"];
/// Reasons that are the sender's doing: the message makes no sense.
const SENDERS: &[&str] = &[
    "undecodable",
    "missing_id",
    "missing_dimension",
    "id_too_long",
    "name_too_long",
    "time_out_of_range",
    "too_large",
    "bad_json",
    "broken_body",
    "framing",
];

impl Situation {
    /// `reasons` is why the server is not ready.
    pub(super) fn new(about: &About, recent: &Recent, reasons: Vec<String>) -> Situation {
        not_ready(about, recent, &reasons)
            .or_else(|| loss(recent))
            .or_else(|| refused(recent))
            .or_else(|| store(about, recent))
            .or_else(|| stages(about, recent))
            .unwrap_or_else(|| well(about, recent))
    }

    fn bad(sentence: String) -> Situation {
        Situation {
            severity: Severity::Bad,
            sentence,
        }
    }

    fn busy(sentence: String) -> Situation {
        Situation {
            severity: Severity::Busy,
            sentence,
        }
    }
}

fn is_lane(queue: &&Queue) -> bool {
    queue.name.ends_with("-writer")
}

fn not_ready(about: &About, recent: &Recent, reasons: &[String]) -> Option<Situation> {
    let reason = reasons.first()?;
    let lanes = recent.now.queues.iter().filter(is_lane);
    let (waiting, room) = lanes.fold((0.0, 0.0), |(depth, capacity), lane| {
        (depth + lane.depth, capacity + lane.capacity)
    });
    Some(Situation::bad(format!(
        "Not ready: {reason} ({}). {} of rows wait in memory, which has room for {}.",
        about.store,
        bytes(waiting),
        bytes(room)
    )))
}

fn loss(recent: &Recent) -> Option<Situation> {
    let drops = recent.drops();
    let counts = |reason: &str| !HARMLESS.contains(&reason);
    let worst = drops
        .iter()
        .filter(|((_, reason), rate)| counts(reason) && **rate >= NOTABLE_DROPS)
        .max_by(|(_, a), (_, b)| a.total_cmp(b));
    let ((kind, reason), rate) = worst?;
    let rate = number(*rate);
    Some(if SENDERS.contains(&reason.as_str()) {
        Situation::busy(format!(
            "Agents send what makes no sense: {rate} of kind {kind} are dropped per second ({reason}); the log names one of them."
        ))
    } else {
        let remedy = match reason.as_str() {
            "store_away" | "lane_full" => {
                "the store does not keep up: give it more, or this server more memory (-Xmx)"
            }
            "overloaded" => {
                "analysis does not keep up: give the server more cores, or sample (SW_TRACE_SAMPLE_RATE)"
            }
            "no_pods" => "no pod of the cluster is known: see the log about Kubernetes",
            _ => "see the log",
        };
        Situation::bad(format!(
            "Data is being lost: {rate} of kind {kind} per second ({reason}); {remedy}."
        ))
    })
}

/// What does not arrive though it was accepted: rows that the store takes never, alarms that a hook did not take.
fn refused(recent: &Recent) -> Option<Situation> {
    let letters = recent.rate(|figures| figures.dead_letters)?;
    if letters >= NOTABLE_DROPS {
        return Some(Situation::bad(format!(
            "The store refuses rows for good: {} per second; the log and the file of dead letters say why.",
            number(letters)
        )));
    }
    let (hook, reason, rate) = recent.unsent_alarms()?;
    (rate >= NOTABLE_DROPS).then(|| {
        Situation::bad(format!(
            "Alarms do not arrive: {} per second are not sent to {hook} ({reason}); see the log.",
            number(rate)
        ))
    })
}

fn store(about: &About, recent: &Recent) -> Option<Situation> {
    let lanes = || recent.now.queues.iter().filter(is_lane);
    let write = match recent.write_ms() {
        Some(ms) => format!("a write takes {} ms", number(ms)),
        None => "no write succeeded lately".to_owned(),
    };
    if let Some(name) = recent.now.away.first() {
        let lane = lanes().find(|lane| lane.name == *name);
        let fill = lane.map_or(0.0, Queue::fill);
        return Some(Situation::bad(format!(
            "The store does not take writes ({}): {name} is {} full and waits.",
            about.store,
            percent(fill)
        )));
    }
    let fullest = lanes().max_by(|a, b| a.fill().total_cmp(&b.fill()))?;
    let waiting = lanes()
        .map(|lane| recent.waiting(&lane.name))
        .fold(0.0, f64::max);
    (fullest.fill() >= FULL || waiting >= WAITING).then(|| {
        Situation::busy(format!(
            "The store is the bottleneck: {} is {} full and {write}.",
            fullest.name,
            percent(fullest.fill())
        ))
    })
}

/// The part of the time that analyzers and all cores work.
fn loads(about: &About, recent: &Recent) -> Option<(f64, f64)> {
    let cores = about.cores.max(1) as f64;
    let analyzers = recent.rate(|figures| figures.busy_seconds)? / cores;
    let cpu = recent.rate(|figures| figures.cpu_seconds)? / cores;
    Some((analyzers, cpu))
}

fn stages(about: &About, recent: &Recent) -> Option<Situation> {
    let (analyzers, cpu) = loads(about, recent)?;
    let queue = |name: &str| recent.now.queues.iter().find(|queue| queue.name == name);
    let is_full = |name: &str| queue(name).is_some_and(|queue| queue.fill() >= FULL);
    let depth = |name: &str| queue(name).map_or_else(String::new, |q| amount(q.depth, &q.unit));
    if is_full("shards") || recent.waiting("shards") >= WAITING {
        return Some(Situation::busy(format!(
            "Aggregation is the bottleneck: {} of facts wait for it, CPU is at {}.",
            depth("shards"),
            percent(cpu)
        )));
    }
    if is_full("analyzers") || analyzers >= SATURATED {
        return Some(Situation::busy(format!(
            "Analysis is the bottleneck: analyzers work {} of the time and {} of messages wait.",
            percent(analyzers),
            depth("analyzers")
        )));
    }
    let others = recent.now.queues.iter().filter(|queue| !is_lane(queue));
    if let Some(full) = others.into_iter().find(|queue| queue.fill() >= FULL) {
        let (name, fill) = (&full.name, percent(full.fill()));
        return Some(Situation::busy(format!(
            "The queue {name} is {fill} full: whoever it is for does not keep up."
        )));
    }
    (cpu >= SATURATED).then(|| {
        Situation::busy(format!(
            "CPU is the bottleneck: {} of {} cores are in use.",
            percent(cpu),
            about.cores
        ))
    })
}

fn well(about: &About, recent: &Recent) -> Situation {
    let sentence = match (
        recent.rate(|figures| figures.messages()),
        loads(about, recent),
    ) {
        (Some(messages), Some((_, cpu))) if messages > 0.0 => format!(
            "Nothing holds it up: {} messages per second with {} of the CPU.",
            number(messages),
            percent(cpu)
        ),
        (Some(_), _) => "Nothing to do: no message came in the last seconds.".to_owned(),
        (None, _) => format!(
            "It has just started; rates are known after {}.",
            duration(5.0)
        ),
    };
    Situation {
        severity: Severity::Good,
        sentence,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::figures::Figures;
    use super::*;
    use crate::telemetry::ledger::Account;

    fn about() -> About {
        About {
            store: "Elasticsearch at es:9200".to_owned(),
            cluster: "standalone".to_owned(),
            budget: 256 << 20,
            cores: 2,
            context_path: "/".to_owned(),
        }
    }

    fn queue(name: &str, unit: &str, depth: f64, waited: f64) -> Queue {
        Queue {
            name: name.to_owned(),
            unit: unit.to_owned(),
            depth,
            capacity: 100.0,
            waited,
        }
    }

    fn queues(analyzers: f64, shards: f64, lane: f64) -> Vec<Queue> {
        vec![
            queue("analyzers", "bytes", analyzers, 0.0),
            queue("shards", "batches", shards, 0.0),
            queue("metrics-writer", "bytes", lane, 0.0),
        ]
    }

    /// Ten seconds with a hundred messages.
    fn working(now: Figures) -> Recent {
        let mut now = now;
        let key = ("segment".to_owned(), "grpc".to_owned());
        now.received.insert(key, 100.0);
        if now.queues.is_empty() {
            now.queues = queues(0.0, 0.0, 0.0);
        }
        Recent::between(Figures::default(), now, 10.0)
    }

    fn dropping(reason: &str) -> Figures {
        let account = Account {
            dropped: BTreeMap::from([(reason.to_owned(), 50)]),
            ..Account::default()
        };
        Figures {
            ledger: BTreeMap::from([("segment".to_owned(), account)]),
            ..Figures::default()
        }
    }

    #[test]
    fn the_bottleneck_is_named() {
        let with_queues = |queues| Figures {
            queues,
            ..Figures::default()
        };
        for (recent, severity, part) in [
            (
                working(Figures::default()),
                Severity::Good,
                "10 messages per second with 0 %",
            ),
            (
                Recent::between(Figures::default(), Figures::default(), 10.0),
                Severity::Good,
                "Nothing to do",
            ),
            (Recent::default(), Severity::Good, "just started"),
            (
                working(Figures {
                    away: vec!["metrics-writer".to_owned()],
                    queues: queues(0.0, 0.0, 40.0),
                    ..Figures::default()
                }),
                Severity::Bad,
                "does not take writes (Elasticsearch at es:9200): metrics-writer is 40 % full",
            ),
            (
                working(Figures {
                    writes: 10.0,
                    write_seconds: 5.0,
                    ..with_queues(queues(0.0, 0.0, 90.0))
                }),
                Severity::Busy,
                "The store is the bottleneck: metrics-writer is 90 % full and a write takes 500 ms",
            ),
            (
                working(with_queues(vec![queue(
                    "records-writer",
                    "bytes",
                    50.0,
                    6.0,
                )])),
                Severity::Busy,
                "The store is the bottleneck: records-writer is 50 % full and no write succeeded lately",
            ),
            (
                working(with_queues(queues(80.0, 0.0, 0.0))),
                Severity::Busy,
                "Analysis is the bottleneck",
            ),
            (
                working(Figures {
                    busy_seconds: 19.0,
                    ..Figures::default()
                }),
                Severity::Busy,
                "Analysis is the bottleneck: analyzers work 95 % of the time",
            ),
            (
                working(with_queues(queues(90.0, 80.0, 0.0))),
                Severity::Busy,
                "Aggregation is the bottleneck: 80 batches",
            ),
            (
                working(Figures {
                    cpu_seconds: 19.0,
                    ..Figures::default()
                }),
                Severity::Busy,
                "CPU is the bottleneck: 95 % of 2 cores",
            ),
            (
                working(with_queues(vec![
                    queue("metrics-writer", "bytes", 0.0, 0.0),
                    queue("exporter", "values", 99.0, 0.0),
                ])),
                Severity::Busy,
                "The queue exporter is 99 % full",
            ),
            (
                working(dropping("lane_full")),
                Severity::Bad,
                "Data is being lost: 5 of kind segment per second (lane_full); the store does not keep up",
            ),
            (
                working(dropping("overloaded")),
                Severity::Bad,
                "analysis does not keep up",
            ),
            (
                working(dropping("undecodable")),
                Severity::Busy,
                "Agents send what makes no sense",
            ),
            (
                working(Figures {
                    dead_letters: 20.0,
                    ..Figures::default()
                }),
                Severity::Bad,
                "The store refuses rows for good: 2 per second",
            ),
            (
                working(Figures {
                    unsent_alarms: BTreeMap::from([
                        (("webhook-1".to_owned(), "failed".to_owned()), 1.0),
                        (("webhook-2".to_owned(), "queue_full".to_owned()), 30.0),
                    ]),
                    ..Figures::default()
                }),
                Severity::Bad,
                "Alarms do not arrive: 3 per second are not sent to webhook-2 (queue_full)",
            ),
            (
                working(dropping("replaced")),
                Severity::Good,
                "Nothing holds it up",
            ),
        ] {
            let situation = Situation::new(&about(), &recent, vec![]);
            assert!(situation.sentence.contains(part), "{part}: {situation:?}");
            assert_eq!(situation.severity, severity, "{part}: {situation:?}");
        }
    }

    #[test]
    fn a_server_that_is_not_ready_says_so_first() {
        let recent = working(dropping("lane_full"));
        let reasons = vec!["the store does not answer: refused".to_owned()];
        let situation = Situation::new(&about(), &recent, reasons);
        assert_eq!(situation.severity, Severity::Bad);
        assert!(
            situation
                .sentence
                .starts_with("Not ready: the store does not answer: refused")
        );
        assert!(
            situation.sentence.contains("room for 100 B"),
            "{situation:?}"
        );
    }
}

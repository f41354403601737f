//! Open connections of the gRPC ports: whose they are, what is usual on them, and which are to move to another node.
//!
//! An agent must not lose anything when its connection goes. grpc-java as in the agent 8.1.0 does not retry: a call that has
//! picked a connection fails with UNAVAILABLE if GOAWAY is read before its stream is made, and the agent then throws segments
//! away for up to 30 s. So a connection is told to go only while the answer to one of its calls is held back: whoever made
//! that call waits, the client reads GOAWAY before the answer, and the next call finds another connection. Calls of other
//! threads come at fixed times (8.1.0: JVM metrics each second, heartbeats, questions for profile tasks); the moment is not
//! near those. Nor while another call is open: hyper, as in the agent for Rust, fails the next call then. Streams that never
//! end, as those of Envoy, would keep the connection anyhow; who has only those is told in the end, and they go on.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oap_proto::cluster::exchange_server::SERVICE_NAME as EXCHANGE;
use oap_proto::cluster::remote::remote_service_server::SERVICE_NAME as REMOTE;
use oap_proto::health::health_server::SERVICE_NAME as HEALTH;
use prometheus::IntGauge;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::receiver::ReceiverMetrics;

/// Methods of one connection whose times are remembered; agents have about six.
const METHODS: usize = 8;
/// So near to the usual time of another call a connection is not told to go. On a busy machine calls are that unpunctual.
const GUARD: Duration = Duration::from_millis(150);
/// Who was answered in this time has moments enough.
const LIVELY: Duration = Duration::from_secs(5);
/// After so long without a good moment there was either no answer at all, and the connection is told without one, or it is
/// left where it is.
const SILENCE: Duration = Duration::from_secs(40);

/// Whose a connection is, by what it was used for so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// No call yet.
    Silent,
    Probe,
    Agent,
    Member,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Silent, Kind::Probe, Kind::Agent, Kind::Member];

    fn of(path: &str) -> Kind {
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        match service.map(|(service, _)| service) {
            Some(EXCHANGE | REMOTE) => Kind::Member,
            Some(HEALTH) => Kind::Probe,
            _ => Kind::Agent,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Silent => "silent",
            Kind::Probe => "probe",
            Kind::Agent => "agent",
            Kind::Member => "member",
        }
    }

    fn read(number: &AtomicU8) -> Kind {
        let number = usize::from(number.load(Ordering::Relaxed));
        Kind::ALL.get(number).copied().unwrap_or(Kind::Silent)
    }
}

/// Whether a connection is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// It is not.
    Stays,
    /// At the next good moment.
    Asked { since: Instant },
    /// It was sent GOAWAY.
    Told,
}

/// How many connections of agents there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// All that are open.
    pub open: usize,
    /// Of these, to be told at their next good moment.
    pub asked: usize,
    /// Of these, told, with calls that still run.
    pub told: usize,
}

/// All open connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    open: Mutex<HashMap<u64, Arc<Line>>>,
    next: AtomicU64,
    metrics: ReceiverMetrics,
}

impl Lines {
    pub(crate) fn new(metrics: ReceiverMetrics) -> Lines {
        Lines(Arc::new(Shared {
            open: Mutex::default(),
            next: AtomicU64::new(0),
            metrics,
        }))
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Line>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection, until the guard is dropped. `max_streams` is how many calls its peer may have open.
    pub(super) fn enter(&self, max_streams: u32) -> Entry {
        let line = Arc::new(Line {
            opened: Instant::now(),
            // With one call at a time, others may wait in the client for their turn; they would fail.
            is_movable: max_streams > 1,
            kind: AtomicU8::new(Kind::Silent as u8),
            state: Mutex::new(State {
                stay: Stay::Stays,
                habits: Habits::default(),
            }),
            leave: CancellationToken::new(),
            announced: CancellationToken::new(),
            metrics: self.0.metrics.clone(),
        });
        line.gauge(Kind::Silent).inc();
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.open().insert(number, Arc::clone(&line));
        Entry {
            lines: self.clone(),
            number,
            line,
        }
    }

    /// Counts connections of agents.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for line in self.open().values() {
            if !line.is_agent() {
                continue;
            }
            census.open += 1;
            match line.state().stay {
                Stay::Stays => {}
                Stay::Asked { .. } => census.asked += 1,
                Stay::Told => census.told += 1,
            }
        }
        census
    }

    /// Has one agent told at its next good moment, any one whose connection is at least so old; rather one that was
    /// answered a moment ago and has no call open. Whether there was one. `random` chooses.
    pub fn ask_one(&self, min_age: Duration, random: u64) -> bool {
        let now = Instant::now();
        let open = self.open();
        let may_go = |line: &&Arc<Line>| {
            line.is_movable
                && line.is_agent()
                && now - line.opened >= min_age
                && line.state().stay == Stay::Stays
        };
        let ease = |line: &Arc<Line>| line.state().habits.ease(now);
        let all: Vec<_> = open.values().filter(may_go).map(|l| (ease(l), l)).collect();
        let best = all.iter().map(|(ease, _)| *ease).max();
        let choice: Vec<&Arc<Line>> = all
            .iter()
            .filter(|(ease, _)| Some(*ease) == best)
            .map(|(_, line)| *line)
            .collect();
        let chosen = match choice.len() as u64 {
            0 => None,
            count => choice.get((random % count) as usize),
        };
        if let Some(line) = chosen {
            line.state().stay = Stay::Asked { since: now };
        }
        chosen.is_some()
    }

    /// Takes back what was asked of connections that were not told yet.
    pub fn ask_none(&self) {
        for line in self.open().values() {
            let mut state = line.state();
            if matches!(state.stay, Stay::Asked { .. }) {
                state.stay = Stay::Stays;
            }
        }
    }

    /// Settles those that were asked long ago and had no good moment since: who was not answered either is told, the others
    /// stay.
    pub fn settle(&self) {
        let now = Instant::now();
        for line in self.open().values() {
            let mut state = line.state();
            if !matches!(state.stay, Stay::Asked { since } if now - since >= SILENCE) {
                continue;
            }
            state.stay = match state.habits.was_answered(now, SILENCE) {
                true => Stay::Stays,
                false => Stay::Told,
            };
            if state.stay == Stay::Told {
                line.tell("silence");
            }
        }
    }
}

/// A connection of its task.
#[derive(Debug)]
pub(super) struct Entry {
    lines: Lines,
    number: u64,
    line: Arc<Line>,
}

impl Entry {
    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// The connection ends; why, if not by itself.
    pub(super) fn close(self, is_shutdown: bool) {
        let reason = match self.line.state().stay {
            Stay::Told => "rebalanced",
            _ if is_shutdown => "shutdown",
            _ => "peer",
        };
        let closed = &self.line.metrics.closed_connections;
        closed.with_label_values(&[reason]).inc();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.lines.open().remove(&self.number);
        self.line.gauge(Kind::read(&self.line.kind)).dec();
        // Nobody needs to wait for what will not come.
        self.line.announced.cancel();
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    opened: Instant,
    is_movable: bool,
    kind: AtomicU8,
    state: Mutex<State>,
    leave: CancellationToken,
    announced: CancellationToken,
    metrics: ReceiverMetrics,
}

#[derive(Debug)]
struct State {
    stay: Stay,
    habits: Habits,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_agent(&self) -> bool {
        Kind::read(&self.kind) == Kind::Agent
    }

    fn gauge(&self, kind: Kind) -> IntGauge {
        self.metrics.connections.with_label_values(&[kind.name()])
    }

    fn tell(&self, moment: &str) {
        let told = &self.metrics.moved_connections;
        told.with_label_values(&[moment]).inc();
        self.leave.cancel();
    }

    /// Ends when the peer must be sent GOAWAY.
    pub(super) async fn must_leave(&self) {
        self.leave.cancelled().await;
    }

    /// GOAWAY is written, before anything that comes after this.
    pub(super) fn is_told(&self) {
        self.announced.cancel();
    }

    /// A call begins; it is over when the guard is dropped.
    pub(super) fn call(self: &Arc<Line>, path: &str) -> Call {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let method = hasher.finish();
        self.state().habits.begin(method, Instant::now());
        let known = Kind::read(&self.kind);
        if known < Kind::Agent {
            let kind = known.max(Kind::of(path));
            // Two first calls may race; only one of them may move the connection.
            let was = self.kind.fetch_max(kind as u8, Ordering::Relaxed);
            if was < kind as u8 {
                self.gauge(Kind::read(&AtomicU8::new(was))).dec();
                self.gauge(kind).inc();
            }
        }
        Call {
            line: Arc::clone(self),
            method,
        }
    }
}

/// A call that is not answered yet.
#[derive(Debug)]
pub(super) struct Call {
    line: Arc<Line>,
    method: u64,
}

impl Call {
    /// The answer is there, and not sent. If the connection is to go and this is a good moment, it is told, and this returns
    /// once that is written.
    pub(super) async fn answering(&self) {
        {
            let now = Instant::now();
            let mut state = self.line.state();
            state.habits.answered = Some(now);
            let is_asked = matches!(state.stay, Stay::Asked { .. });
            if !is_asked || !state.habits.is_quiet(now) {
                return;
            }
            state.stay = Stay::Told;
        }
        self.line.tell("answer");
        self.line.announced.cancelled().await;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.line.state().habits.end(self.method);
    }
}

/// When which methods are called.
#[derive(Debug, Default)]
struct Habits {
    methods: Vec<Habit>,
    /// When a call was last answered.
    answered: Option<Instant>,
    /// Calls of all methods.
    open: usize,
}

#[derive(Debug)]
struct Habit {
    method: u64,
    began: Instant,
    /// Between the last two calls.
    period: Option<Duration>,
    open: usize,
}

impl Habits {
    fn begin(&mut self, method: u64, now: Instant) {
        self.open += 1;
        let is_full = self.methods.len() >= METHODS;
        let known = self.methods.iter_mut().find(|habit| habit.method == method);
        match known {
            Some(habit) => {
                habit.period = Some(now - habit.began);
                habit.began = now;
                habit.open += 1;
            }
            None if is_full => {}
            None => self.methods.push(Habit {
                method,
                began: now,
                period: None,
                open: 1,
            }),
        }
    }

    fn end(&mut self, method: u64) {
        self.open = self.open.saturating_sub(1);
        let known = self.methods.iter_mut().find(|habit| habit.method == method);
        if let Some(habit) = known {
            habit.open = habit.open.saturating_sub(1);
        }
    }

    fn was_answered(&self, now: Instant, within: Duration) -> bool {
        self.answered.is_some_and(|at| now - at < within)
    }

    /// How soon there may be a good moment: the more, the sooner.
    fn ease(&self, now: Instant) -> (bool, bool) {
        (self.open == 0, self.was_answered(now, LIVELY))
    }

    /// Whether one call is open, and no other is usual at this time.
    fn is_quiet(&self, now: Instant) -> bool {
        let is_near = |habit: &Habit| {
            let usual = habit.period.map(|period| habit.began + period);
            let is_far = |usual: Instant| usual > now + GUARD || usual + GUARD < now;
            habit.open == 0 && !usual.is_none_or(is_far)
        };
        self.open == 1 && !self.methods.iter().any(is_near)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_good_unless_another_call_is_usual_then() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut habits = Habits::default();
        // Each second, answered at once.
        for second in 0..3 {
            habits.begin(1, at(second * 1000));
            habits.end(1);
        }
        assert!(!habits.is_quiet(at(2500)), "none is open");
        // Once: nobody knows when it comes again.
        habits.begin(2, at(2200));
        for (ms, want) in [
            (2100, true),
            (2840, true),
            (2860, false),
            (3000, false),
            (3140, false),
            (3160, true),
        ] {
            assert_eq!(habits.is_quiet(at(ms)), want, "{ms} ms");
        }
        habits.begin(1, at(3000));
        assert!(!habits.is_quiet(at(3200)), "two are open");
        habits.end(2);
        // The one that is there is not to be expected.
        assert!(habits.is_quiet(at(4000)));
        for method in 3..100 {
            habits.begin(method, at(5000));
        }
        assert_eq!(habits.methods.len(), METHODS);
    }

    #[test]
    fn a_path_says_whose_a_connection_is() {
        for (path, want) in [
            ("/TraceSegmentReportService/collect", Kind::Agent),
            ("/skywalking.v3.ManagementService/keepAlive", Kind::Agent),
            ("/oap.cluster.v1.Exchange/Sync", Kind::Member),
            ("/RemoteService/call", Kind::Member),
            ("/grpc.health.v1.Health/Check", Kind::Probe),
            ("/", Kind::Agent),
            ("", Kind::Agent),
        ] {
            assert_eq!(Kind::of(path), want, "{path:?}");
        }
    }
}

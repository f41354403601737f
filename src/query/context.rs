//! What every use case needs: the store, the models, time, names of components, and what is shipped with the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{IntCounter, IntCounterVec, Opts};
use tokio::sync::Mutex;

use super::answers::Answers;
use super::component::Components;
use crate::model::schema::Schema;
use crate::model::time_bucket::Zone;
use crate::storage::UiTemplate;
use crate::telemetry::{Registers, Registry, Throttle};
use crate::util::clock::Clock;

/// Knows which service answers at a network address.
pub trait AliasLookup: Send + Sync {
    /// Id of the service behind an address, `None` if nobody claimed it.
    fn service_of(&self, address: &str) -> Option<String>;
}

/// How much one question may ask of the store.
#[derive(Debug, Clone, Copy)]
pub struct QueryLimits {
    /// Services, instances or databases in a list (`metadataQueryMaxSize`).
    pub metadata: usize,
    /// Segments of a trace that are read at once (`segmentQueryMaxSize`).
    pub trace_segments: usize,
    /// Profile tasks in a list, and profiled segments of a task (`profileTaskQueryMaxSize`).
    pub profile_tasks: usize,
    /// Snapshots in one analysis (`maxSizeOfAnalyzeProfileSnapshot`).
    pub profile_snapshots: usize,
    /// Snapshots that are read at once (`maxPageSizeOfQueryProfileSnapshot`).
    pub profile_snapshot_page: usize,
    /// Rows up to the end of a page, and entries of a top list.
    pub result_window: i64,
}

impl Default for QueryLimits {
    fn default() -> QueryLimits {
        QueryLimits {
            metadata: 5000,
            trace_segments: 200,
            profile_tasks: 200,
            profile_snapshots: 12_000,
            profile_snapshot_page: 500,
            result_window: 10_000,
        }
    }
}

/// What queries count about themselves.
#[derive(Debug, Clone)]
pub struct QueryMetrics {
    /// Stored segments that a trace was asked for and that could not be decoded.
    pub undecodable_segments: IntCounter,
    /// Requests that took longer than they may.
    pub timeouts: IntCounter,
    /// Answers that leave something out, by what was asked for.
    pub cut_answers: IntCounterVec,
    /// Requests whose answer found no room beside the others.
    pub refused_answers: IntCounter,
    /// Requests that were refused before they were looked at, by reason.
    pub refused_questions: IntCounterVec,
    /// For stored data that cannot be read.
    pub damage_log: Arc<Throttle>,
}

/// What the answer to one request leaves out because a limit was reached, over all its fields.
#[derive(Debug, Default)]
pub struct Cuts {
    shown: AtomicU64,
    total: AtomicU64,
}

impl Cuts {
    /// Notes that only `shown` of `total` things are in the answer.
    fn note(&self, shown: u64, total: u64) {
        self.shown.fetch_add(shown, Ordering::Relaxed);
        self.total.fetch_add(total, Ordering::Relaxed);
    }

    /// How many of how many things are in the answer; `None` if it is whole.
    pub fn sums(&self) -> Option<(u64, u64)> {
        let total = self.total.load(Ordering::Relaxed);
        (total > 0).then(|| (self.shown.load(Ordering::Relaxed), total))
    }
}

impl QueryMetrics {
    /// Registers the counters.
    pub fn register(registry: &impl Registers) -> Result<QueryMetrics, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(QueryMetrics {
            undecodable_segments: counter(
                "query_undecodable_segment_count",
                "Stored segments that could not be decoded for a trace",
            )?,
            timeouts: counter(
                "query_timeout_count",
                "Requests that were given up because they took too long",
            )?,
            cut_answers: {
                let help = "Answers that leave out what is beyond a limit, by what was asked for";
                let counters =
                    IntCounterVec::new(Opts::new("query_cut_answer_count", help), &["question"])?;
                registry.register(Box::new(counters.clone()))?;
                counters
            },
            refused_answers: counter(
                "query_refused_answer_count",
                "Requests that got no answer because those under way held too much",
            )?,
            refused_questions: {
                let help = "Requests that were refused before they were looked at, by reason";
                let name = "query_refused_question_count";
                let counters = IntCounterVec::new(Opts::new(name, help), &["reason"])?;
                registry.register(Box::new(counters.clone()))?;
                counters
            },
            damage_log: Arc::new(Throttle::new(Clock::System)),
        })
    }
}

/// Shared by all requests.
pub struct QueryContext<S> {
    pub storage: Arc<S>,
    pub schema: Arc<Schema>,
    pub zone: Zone,
    pub clock: Clock,
    pub components: Arc<Components>,
    pub aliases: Arc<dyn AliasLookup>,
    /// Dashboards of the template file; they answer for names that the store does not have.
    pub templates: Vec<UiTemplate>,
    pub limits: QueryLimits,
    pub metrics: QueryMetrics,
    /// What all answers may hold together.
    pub answers: Arc<Answers>,
    /// Held from looking whether a profile task may be created until it is stored.
    pub creating_profile_task: Mutex<()>,
    /// Where the health checker keeps what it found; `None` if it is off.
    pub health: Option<Registry>,
}

impl<S> QueryContext<S> {
    /// Counts an answer that has only `shown` of `total` things and notes that for the request.
    pub(super) fn note_if_cut(
        &self,
        cuts: &Cuts,
        question: &'static str,
        shown: usize,
        total: i64,
    ) {
        let (shown, total) = (shown as u64, u64::try_from(total).unwrap_or(0));
        if shown < total {
            self.metrics
                .cut_answers
                .with_label_values(&[question])
                .inc();
            cuts.note(shown, total);
        }
    }
}

impl<S> std::fmt::Debug for QueryContext<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryContext")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

//! Fetches what does not come by itself: the pages of Prometheus targets, by the rule files (8.1.0 spec, A.11).
//!
//! The answers of one run go to the journal together. What they mean is the analyzer's to say.

mod page;

use std::sync::Arc;

use futures_util::StreamExt as _;
use prometheus::IntCounterVec;
use prost::Message as _;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::dsl::prometheus::{FetchRules, Target};
use crate::journal::{Intake, Message};
use crate::model::message::{Page, Scrape};
use crate::telemetry::{Registry, Throttle};
use crate::util::clock::Clock;

/// Counters of all fetchers.
#[derive(Debug, Clone)]
pub struct FetcherMetrics {
    pages: IntCounterVec,
    failures: IntCounterVec,
}

impl FetcherMetrics {
    /// Fails if the names are taken.
    pub fn new(registry: &Registry) -> prometheus::Result<FetcherMetrics> {
        Ok(FetcherMetrics {
            pages: registry.counters(
                "prometheus_fetcher_page_count",
                "Pages that were fetched",
                &["file"],
            )?,
            failures: registry.counters(
                "prometheus_fetcher_failure_count",
                "Pages that could not be fetched or taken, by reason",
                &["file", "reason"],
            )?,
        })
    }
}

/// Fetches the targets of one file.
#[derive(Debug)]
pub struct Fetcher {
    rules: Arc<FetchRules>,
    client: reqwest::Client,
    intake: Intake,
    clock: Clock,
    metrics: FetcherMetrics,
    log: Throttle,
}

/// Targets of a file that are asked at the same time.
const AT_ONCE: usize = 16;
/// Bytes of all pages of a run.
const MAX_RUN_BYTES: usize = 32 << 20;

impl Fetcher {
    /// Fails if there can be no HTTP client.
    pub fn new(
        rules: FetchRules,
        intake: Intake,
        clock: Clock,
        metrics: FetcherMetrics,
    ) -> reqwest::Result<Fetcher> {
        let client = reqwest::Client::builder()
            .timeout(rules.timeout)
            // Targets are in the neighbourhood; what the environment says about proxies is not ours to read.
            .no_proxy()
            .build()?;
        Ok(Fetcher {
            rules: Arc::new(rules),
            client,
            intake,
            clock: clock.clone(),
            metrics,
            log: Throttle::new(clock),
        })
    }

    /// Fetches at a fixed rate until the stop. A run that takes longer than the interval delays the next.
    pub async fn run(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.rules.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = tick.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.fetch() => {}
            }
        }
    }

    /// One run: every target once. One that fails does not keep the others.
    async fn fetch(&self) {
        let at_ms = self.clock.now_ms();
        let fetch = |target: Target| {
            let client = self.client.clone();
            async move {
                let page = page::fetch(&client, &target.url).await;
                (target, page)
            }
        };
        let fetched: Vec<_> = self.rules.targets.iter().cloned().map(fetch).collect();
        let mut fetched = futures_util::stream::iter(fetched).buffer_unordered(AT_ONCE);
        let mut pages = Vec::new();
        let mut bytes = 0;
        while let Some((target, page)) = fetched.next().await {
            match page {
                Ok(text) if bytes + text.len() > MAX_RUN_BYTES => {
                    let max = MAX_RUN_BYTES >> 20;
                    let error = format!("the pages of the file exceed {max} MiB");
                    self.failed("too_large", &target, &error);
                }
                Ok(text) => {
                    bytes += text.len();
                    let target = target.name;
                    pages.push(Page { target, text });
                }
                Err(error) => self.failed(error.reason(), &target, &error.to_string()),
            }
        }
        if pages.is_empty() {
            return;
        }
        // The same order every time, whoever answered first.
        pages.sort_by(|a, b| a.target.cmp(&b.target));
        let file = self.rules.name.clone();
        let pages_in = pages.len() as u64;
        let scrape = Scrape { file, at_ms, pages };
        let message = Message::Prometheus(scrape.encode_to_vec().into());
        match self.intake.accept(vec![message]).await {
            Ok(()) => {
                let counter = self.metrics.pages.with_label_values(&[&*scrape.file]);
                counter.inc_by(pages_in);
            }
            Err(refused) => {
                for target in &self.rules.targets {
                    self.failed("refused", target, &refused.to_string());
                }
            }
        }
    }

    fn failed(&self, reason: &str, target: &Target, error: &str) {
        let file = &*self.rules.name;
        let failures = &self.metrics.failures;
        failures.with_label_values(&[file, reason]).inc();
        if let Some(held_back) = self.log.admit() {
            tracing::warn!(file, target = target.url, error, held_back, "fetch failed");
        }
    }
}

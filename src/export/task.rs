//! The task that asks for the subscription and sends what is queued, again and again until it is taken.

use std::sync::Arc;
use std::time::Duration;

use oap_proto::export::metric_export_service_client::MetricExportServiceClient;
use oap_proto::export::{ExportMetricValue, SubscriptionReq};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::{ExportMetrics, Subscription};
use crate::alarm::is_code_for_good;
use crate::config::ExporterSettings;
use crate::telemetry::Throttle;
use crate::util::clock::Clock;

/// Values of one call.
const MAX_PER_CALL: usize = 5000;
/// How long values wait for company.
const LINGER: Duration = Duration::from_millis(200);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long what is queued may take after the shutdown began.
const GRACE: Duration = Duration::from_secs(3);

/// Sends until the [`super::Exporter`] is dropped.
#[derive(Debug)]
pub struct ExportTask {
    client: MetricExportServiceClient<Channel>,
    values: mpsc::Receiver<ExportMetricValue>,
    /// What is being sent.
    batch: Vec<ExportMetricValue>,
    subscription: Arc<Subscription>,
    /// Whether the receiver said what it wants since the last failure.
    is_subscribed: bool,
    /// Values of the next call: fewer after each one that failed, so that a slow receiver gets on.
    per_call: usize,
    /// Calls that failed one after another.
    failures: u32,
    metrics: ExportMetrics,
    log: Throttle,
}

impl ExportTask {
    pub(super) fn new(
        settings: &ExporterSettings,
        values: mpsc::Receiver<ExportMetricValue>,
        subscription: Arc<Subscription>,
        metrics: ExportMetrics,
        clock: &Clock,
    ) -> Result<ExportTask, tonic::transport::Error> {
        let host = match settings.host.contains(':') && !settings.host.starts_with('[') {
            true => format!("[{}]", settings.host),
            false => settings.host.clone(),
        };
        let endpoint = Endpoint::new(format!("http://{host}:{}", settings.port))?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT);
        Ok(ExportTask {
            client: MetricExportServiceClient::new(endpoint.connect_lazy()),
            values,
            batch: Vec::new(),
            subscription,
            is_subscribed: false,
            per_call: MAX_PER_CALL,
            failures: 0,
            metrics,
            log: Throttle::new(clock.clone()),
        })
    }

    /// Works until the queue is closed and empty. What is left some seconds after `stop` is dropped and counted.
    pub async fn run(mut self, stop: CancellationToken) {
        let is_late = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            () = self.work() => {}
            () = is_late => self.values.close(),
        }
        let mut left = self.batch.len() as u64;
        while self.values.recv().await.is_some() {
            left += 1;
        }
        if left > 0 {
            self.metrics.drop_values(left, "shutdown");
            tracing::error!(
                values = left,
                "values were not exported before the shutdown"
            );
        }
    }

    async fn work(&mut self) {
        // Also without a value, so that those which nobody wants are not queued.
        while !self.is_subscribed {
            match self.subscribe().await {
                Ok(()) => {}
                Err(reason) => self.failed("subscription", &reason).await,
            }
        }
        while self.gather().await {
            while !self.batch.is_empty() {
                let (call, outcome) = match self.is_subscribed {
                    true => ("export", self.send().await),
                    false => ("subscription", self.subscribe().await),
                };
                if let Err(reason) = outcome {
                    self.is_subscribed = false;
                    self.failed(call, &reason).await;
                }
            }
        }
    }

    /// Waits for values to send; false if there are no more.
    async fn gather(&mut self) -> bool {
        let Some(first) = self.values.recv().await else {
            return false;
        };
        self.batch.push(first);
        let end = tokio::time::Instant::now() + LINGER;
        while self.batch.len() < MAX_PER_CALL {
            match tokio::time::timeout_at(end, self.values.recv()).await {
                Ok(Some(value)) => self.batch.push(value),
                Ok(None) | Err(_) => break,
            }
        }
        true
    }

    async fn subscribe(&mut self) -> Result<(), String> {
        let asking = self.client.subscription(SubscriptionReq::default());
        let names = match timeout(TIMEOUT, asking).await {
            Ok(Ok(answer)) => answer.into_inner().metric_names,
            Ok(Err(status)) => return Err(format!("answered {status}")),
            Err(_) => return Err(no_answer()),
        };
        tracing::info!(
            metrics = names.len(),
            "values are exported: of these metrics, of all if there are none"
        );
        self.subscription.set(names);
        self.is_subscribed = true;
        Ok(())
    }

    /// Sends the batch, without what the receiver does not want any more.
    async fn send(&mut self) -> Result<(), String> {
        let subscription = &self.subscription;
        self.batch
            .retain(|value| subscription.wants(&value.metric_name));
        let count = self.per_call.min(self.batch.len());
        let stream = tokio_stream::iter(self.batch[..count].to_vec());
        let answer = timeout(TIMEOUT, self.client.export(stream)).await;
        let reason = match answer {
            Ok(Ok(_)) => {
                self.metrics.sent.inc_by(count as u64);
                self.batch.drain(..count);
                self.per_call = (count * 2).clamp(self.per_call, MAX_PER_CALL);
                self.failures = 0;
                return Ok(());
            }
            Ok(Err(status)) if is_code_for_good(status.code()) => {
                // It is there: which value it does not take is found without long pauses.
                self.failures = 0;
                if count == 1 {
                    let value = self.batch.remove(0);
                    self.metrics.drop_values(1, "refused");
                    format!("refused {}, answered {status}", value.metric_name)
                } else {
                    format!("answered {status}")
                }
            }
            Ok(Err(status)) => format!("answered {status}"),
            Err(_) => no_answer(),
        };
        self.per_call = (count / 2).max(1);
        Err(reason)
    }

    /// Counts and says a failure, then waits, longer each time.
    async fn failed(&mut self, call: &'static str, reason: &str) {
        self.metrics.failures.with_label_values(&[call]).inc();
        if let Some(held_back) = self.log.admit() {
            let waiting = self.batch.len() + self.values.len();
            tracing::warn!(
                call,
                reason,
                waiting,
                held_back,
                "the receiver of exported values does not take them, trying again"
            );
        }
        let pause = FIRST_PAUSE * 2u32.pow(self.failures.min(5));
        self.failures += 1;
        tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", TIMEOUT.as_secs())
}

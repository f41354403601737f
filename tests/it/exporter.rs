//! Values of metrics leave for a receiver outside: what it subscribed to, in the forms of 8.1.0, whatever the receiver does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use oap::config::ExporterSettings;
use oap::export::{ExportMetrics, Exporter};
use oap::model::entity::Entity;
use oap::model::minute_value::{Calculated, MinuteValue};
use oap::model::schema::Schema;
use oap::model::scope::{NodeType, Scope};
use oap::telemetry::Registry;
use oap::util::clock::Clock;
use oap_proto::export::metric_export_service_server::{
    MetricExportService, MetricExportServiceServer,
};
use oap_proto::export::{
    ExportMetricValue, ExportResponse, SubscriptionReq, SubscriptionsResp, ValueType,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::gate::Gate;
use crate::graphql::GraphQl;
use crate::questions::{buckets_from, service_value};
use crate::segments::{COLLECT, Served, bytes};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);
const SHOP: &str = "c2hvcA==.1";

/// A receiver that refuses everything that 8.1.0 would not send.
#[derive(Debug, Clone)]
struct Double {
    wanted: Arc<[String]>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    values: Vec<ExportMetricValue>,
    subscriptions: usize,
    /// Calls that are refused before one is taken.
    refusals: usize,
    /// Calls with more values are not taken, if it is set.
    most: Option<usize>,
    /// The minute of a value that is never taken.
    bad: Option<i64>,
    mistakes: Vec<String>,
}

impl Double {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is wrong with a value.
    fn mistake(&self, value: &ExportMetricValue) -> Option<String> {
        let minutes = 202_001_010_000..=999_912_312_359;
        let is_form = match value.r#type() {
            ValueType::Long => value.double_value == 0.0 && value.long_values.is_empty(),
            ValueType::Double => value.long_value == 0 && value.long_values.is_empty(),
            ValueType::MultiLong => value.long_value == 0 && value.long_values.len() == 5,
        };
        let is_wanted = self.wanted.is_empty() || self.wanted.contains(&value.metric_name);
        let is_right = is_form && is_wanted && minutes.contains(&value.time_bucket);
        (!is_right).then(|| format!("{value:?}"))
    }
}

#[tonic::async_trait]
impl MetricExportService for Double {
    async fn export(
        &self,
        request: Request<Streaming<ExportMetricValue>>,
    ) -> Result<Response<ExportResponse>, Status> {
        let mut values = request.into_inner();
        let mut came = vec![];
        while let Some(value) = values.next().await {
            came.push(value?);
        }
        let mistakes = came
            .iter()
            .filter_map(|value| self.mistake(value))
            .collect::<Vec<_>>();
        self.with(|state| {
            state.mistakes.extend(mistakes);
            if state.refusals > 0 {
                state.refusals -= 1;
                return Err(Status::unavailable("not now"));
            }
            if state.most.is_some_and(|most| came.len() > most) {
                return Err(Status::deadline_exceeded("too slow"));
            }
            if came
                .iter()
                .any(|value| Some(value.time_bucket) == state.bad)
            {
                return Err(Status::invalid_argument("a bad value"));
            }
            state.values.extend(came);
            Ok(Response::new(ExportResponse::default()))
        })
    }

    async fn subscription(
        &self,
        _request: Request<SubscriptionReq>,
    ) -> Result<Response<SubscriptionsResp>, Status> {
        self.with(|state| state.subscriptions += 1);
        Ok(Response::new(SubscriptionsResp {
            metric_names: self.wanted.to_vec(),
        }))
    }
}

/// The double on a port of its own.
struct Receiver {
    double: Double,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Receiver {
    async fn start(wanted: &[&str], refusals: usize) -> Result<Receiver> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = State {
            refusals,
            ..State::default()
        };
        let double = Double {
            wanted: wanted.iter().map(|name| (*name).to_owned()).collect(),
            state: Arc::new(Mutex::new(state)),
        };
        let service = MetricExportServiceServer::new(double.clone());
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        Ok(Receiver {
            double,
            address,
            task: tokio::spawn(async move { serving.await.unwrap_or_default() }),
        })
    }

    /// The last value of each metric and entity.
    fn latest(&self) -> Result<BTreeMap<(String, String), ExportMetricValue>> {
        self.double.with(|state| {
            ensure!(state.mistakes.is_empty(), "{:?}", state.mistakes);
            let values = state.values.iter().cloned();
            Ok(values
                .map(|value| {
                    (
                        (value.metric_name.clone(), value.entity_name.clone()),
                        value,
                    )
                })
                .collect())
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(name: &str, port: u16) -> Result<TestServer> {
    let server = TestServer::builder(name, Store::Embedded)
        .env("TZ", "UTC")
        .env("SW_EXPORTER", "grpc")
        .env("SW_EXPORTER_GRPC_PORT", &port.to_string());
    server.start().await
}

async fn report(server: &TestServer, now: i64, latencies: &[i64]) -> Result<()> {
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let mut segments = vec![];
    for (number, latency) in latencies.iter().enumerate() {
        let served = Served::new(format!("{latency}-{number}"), "shop", now, *latency);
        segments.push(bytes(&served.called_at("shop:80")));
    }
    let sent = sender
        .call(COLLECT, Calling::ClientStream, segments)
        .await?;
    ensure!(sent.is_ok(), "{sent:?}");
    server.flush().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_subscribed_to_is_exported_as_it_is_stored() -> Result<()> {
    let wanted = [
        "service_resp_time",
        "service_percentile",
        "endpoint_cpm",
        "service_instance_cpm",
        "service_relation_server_cpm",
        "all_percentile",
    ];
    let receiver = Receiver::start(&wanted, 0).await?;
    let server = serve("exporter", receiver.address.port()).await?;
    let now = Timestamp::now().as_millisecond();
    report(&server, now, &[100, 200]).await?;
    report(&server, now, &[600]).await?;
    let graphql = GraphQl::new(&server.http())?;
    let minutes = buckets_from(now, "UTC", "MINUTE")?;
    let stored = service_value(&graphql, "service_resp_time", "shop", &minutes).await?;
    ensure!(stored == 300, "{stored}");
    let latest = wait_until("the last value", DEADLINE, async || {
        let latest = receiver.latest()?;
        let time = latest.get(&("service_resp_time".to_owned(), "shop".to_owned()));
        ensure!(
            time.is_some_and(|time| time.long_value == stored),
            "{latest:?}"
        );
        let named = wanted.map(|name| latest.keys().any(|(metric, _)| metric == name));
        ensure!(named == [true; 6], "{named:?}");
        Ok(latest)
    })
    .await?;
    let value = |metric: &str, entity: &str| {
        let key = (metric.to_owned(), entity.to_owned());
        latest
            .get(&key)
            .with_context(|| format!("{key:?} {latest:?}"))
    };
    let time = value("service_resp_time", "shop")?;
    let minute = Timestamp::from_millisecond(now)?
        .strftime("%Y%m%d%H%M")
        .to_string();
    ensure!(
        time.entity_id == SHOP && time.time_bucket.to_string() == minute,
        "{time:?}"
    );
    let ranks = value("service_percentile", "shop")?;
    ensure!(
        ranks.r#type() == ValueType::MultiLong && ranks.long_values[4] == 600,
        "{ranks:?}"
    );
    ensure!(value("endpoint_cpm", "/order")?.long_value == 3);
    ensure!(value("service_instance_cpm", "shop-1")?.long_value == 3);
    ensure!(value("service_relation_server_cpm", "web to shop")?.long_value == 3);
    ensure!(value("all_percentile", "")?.entity_id.is_empty());
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_may_come_late_and_go() -> Result<()> {
    let receiver = Receiver::start(&[], 2).await?;
    let gate = Gate::shut_before(receiver.address.to_string()).await?;
    let port = gate
        .address()
        .rsplit(':')
        .next()
        .context("no port")?
        .parse()?;
    let server = serve("exporter_late", port).await?;
    let now = Timestamp::now().as_millisecond();
    report(&server, now, &[100]).await?;
    ensure!(receiver.latest()?.is_empty());
    gate.open();
    let came = |want: i64| {
        let receiver = &receiver;
        wait_until("a value", DEADLINE, async move || {
            let latest = receiver.latest()?;
            let time = latest.get(&("service_resp_time".to_owned(), "shop".to_owned()));
            ensure!(
                time.is_some_and(|time| time.long_value == want),
                "{latest:?}"
            );
            Ok(())
        })
    };
    came(100).await?;
    // After what it refused it was asked again what it wants.
    let state = receiver
        .double
        .with(|state| (state.subscriptions, state.refusals));
    ensure!(state.0 >= 3 && state.1 == 0, "{state:?}");
    gate.shut();
    report(&server, now, &[300]).await?;
    gate.open();
    came(200).await?;
    server.stop().await
}

fn value() -> Result<MinuteValue> {
    let script = "service_cpm = from(Service.*).cpm();".to_owned();
    let program = oap::dsl::oal::compile(&[("test.oal".to_owned(), script)]);
    let program = program.map_err(|mistakes| anyhow::anyhow!("{mistakes:?}"))?;
    let schema = Schema::build(&program.metrics, &[], &[], false);
    Ok(MinuteValue {
        metric: Arc::clone(schema.model("service_cpm").context("no model")?),
        entity: Arc::new(Entity::new(Scope::Service, NodeType::Normal, SHOP, [])),
        minute: 202_009_151_059,
        value: Calculated::Number(1.0),
    })
}

fn count(registry: &Registry, line: &str) -> Result<u64> {
    let text = String::from_utf8(registry.text()?)?;
    let line = text.lines().find(|l| l.starts_with(line));
    let value = line.and_then(|line| line.rsplit(' ').next());
    Ok(value.map_or(0, |value| value.parse().unwrap_or(0)))
}

#[tokio::test]
async fn what_finds_no_room_and_what_is_left_is_counted() -> Result<()> {
    let registry = Registry::new("h", 1);
    let nobody = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let settings = ExporterSettings {
        host: "127.0.0.1".to_owned(),
        port: nobody.port(),
        capacity: 3,
    };
    let metrics = ExportMetrics::new(&registry)?;
    let (exporter, task) = Exporter::new(&settings, metrics, &Clock::System)?;
    exporter.show(&registry);
    let lot = vec![value()?; 5];
    exporter.offer(&lot);
    let bytes = "memory_bytes{sw_backend_instance=\"h_1\",owner=\"exporter\"}";
    ensure!(count(&registry, bytes)? > 3 * 100);
    let depth = "queue_depth{sw_backend_instance=\"h_1\",queue=\"exporter\",unit=\"values\"}";
    ensure!(count(&registry, depth)? == 3);
    let dropped = |reason: &str| {
        let line =
            format!("exporter_dropped_total{{sw_backend_instance=\"h_1\",reason=\"{reason}\"}}");
        count(&registry, &line)
    };
    ensure!(dropped("queue_full")? == 2);
    let broken = MinuteValue {
        entity: Arc::new(Entity::new(Scope::Service, NodeType::Normal, "no id", [])),
        ..value()?
    };
    exporter.offer(&[broken]);
    ensure!(dropped("undecodable_id")? == 1);
    let stop = CancellationToken::new();
    let running = tokio::spawn(task.run(stop.clone()));
    wait_until("a failure", DEADLINE, async || {
        let line = "exporter_failures_total{sw_backend_instance=\"h_1\",call=\"subscription\"}";
        ensure!(count(&registry, line)? > 0);
        Ok(())
    })
    .await?;
    stop.cancel();
    drop(exporter);
    tokio::time::timeout(DEADLINE, running).await??;
    ensure!(dropped("shutdown")? == 3);
    ensure!(count(&registry, "exporter_sent_total")? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_gets_on_and_one_bad_value_keeps_no_other() -> Result<()> {
    let receiver = Receiver::start(&[], 0).await?;
    let registry = Registry::new("h", 1);
    let settings = ExporterSettings {
        host: "127.0.0.1".to_owned(),
        port: receiver.address.port(),
        capacity: 2000,
    };
    let metrics = ExportMetrics::new(&registry)?;
    let (exporter, task) = Exporter::new(&settings, metrics, &Clock::System)?;
    let good = value()?;
    let bad = MinuteValue {
        minute: good.minute + 1,
        ..value()?
    };
    receiver.double.with(|state| state.most = Some(400));
    exporter.offer(&vec![good.clone(); 1500]);
    let running = tokio::spawn(task.run(CancellationToken::new()));
    let all = |want: usize| {
        let double = &receiver.double;
        wait_until("all values", DEADLINE, async move || {
            let came = double.with(|state| state.values.len());
            ensure!(came == want, "{came}");
            Ok(())
        })
    };
    all(1500).await?;
    let bad_minute = i64::try_from(bad.minute)?;
    receiver.double.with(|state| state.bad = Some(bad_minute));
    exporter.offer(&[good.clone(), bad, good]);
    drop(exporter);
    tokio::time::timeout(DEADLINE, running).await??;
    all(1502).await?;
    let refused = "exporter_dropped_total{sw_backend_instance=\"h_1\",reason=\"refused\"}";
    ensure!(count(&registry, refused)? == 1);
    ensure!(count(&registry, "exporter_sent_total")? == 1502);
    Ok(())
}

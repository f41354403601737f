//! What the real server takes while endpoints are active: a process of its own, in real time, with all metrics, on the
//! embedded store, on an Elasticsearch, or on one that keeps nothing.

use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::bulk_sink;
use crate::input::{Input, Traffic};
use crate::process::Memory;
use crate::served::{send_all, start};
use crate::shop::Shop;

const MIB: f64 = (1 << 20) as f64;

/// What is played.
pub(crate) struct Active<'a> {
    /// `null`, `embedded` or `HOST:PORT`.
    pub(crate) store: &'a str,
    pub(crate) services: usize,
    /// Of one service.
    pub(crate) endpoints: usize,
    /// Requests to one endpoint are so far apart.
    pub(crate) every_seconds: usize,
    pub(crate) minutes: usize,
    /// What a bulk request takes, if nothing is kept.
    pub(crate) delay: Duration,
}

impl Active<'_> {
    /// Plays the traffic and prints what the server holds after each minute, and by whom.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let data = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        runtime.block_on(self.play(data.path()))
    }

    async fn play(&self, data: &std::path::Path) -> anyhow::Result<()> {
        let start_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let endpoints = self.services * self.endpoints;
        let traffic = Traffic {
            input: Input::Shop(Shop {
                services: self.services,
                endpoints: self.endpoints,
                instances: 2,
            }),
            per_second: endpoints.div_ceil(self.every_seconds),
            start_ms: i64::try_from(start_ms)?,
        };
        let name_space = format!("bench{}", std::process::id());
        let telemetry = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let telemetry = telemetry.to_string();
        let address = match self.store {
            "null" => bulk_sink::start(self.delay).await?,
            other => other.to_owned(),
        };
        let mut settings = vec![
            ("SW_TELEMETRY", "prometheus"),
            ("SW_TELEMETRY_PROMETHEUS_HOST", "127.0.0.1"),
            ("SW_TELEMETRY_PROMETHEUS_PORT", telemetry.as_str()),
        ];
        if self.store != "embedded" {
            settings.extend([
                ("SW_STORAGE", "elasticsearch7"),
                ("SW_NAMESPACE", &name_space),
                ("SW_STORAGE_ES_CLUSTER_NODES", &address),
            ]);
        }
        let (server, grpc, _) = start(data, &settings)?;
        let pid = server.id().to_string();
        let client = reqwest::Client::builder().no_proxy().build()?;
        println!(
            "{endpoints} endpoints of {} services, {} segments/s; {:.0} MiB idle",
            self.services,
            traffic.per_second,
            Memory::of(&pid)?.resident as f64 / MIB
        );
        let (mut refused, mut first_refusal) = (0, None);
        let mut pace = tokio::time::interval(Duration::from_secs(1));
        for second in 0..self.minutes * 60 {
            pace.tick().await;
            let segments = traffic.second(second);
            let segments = segments.iter().map(|m| Bytes::copy_from_slice(m.bytes()));
            if let Err(error) = send_all(&grpc, segments.collect()).await {
                refused += 1;
                first_refusal.get_or_insert_with(|| error.to_string());
            }
            if second % 60 != 59 {
                continue;
            }
            let now = Memory::of(&pid)?;
            let url = format!("http://127.0.0.1:{telemetry}/metrics");
            let page = client.get(url).send().await?.text().await?;
            let shown = page.lines().filter(|line| {
                ["memory_bytes{", "stream_", "storage_queued"]
                    .iter()
                    .any(|name| line.starts_with(name))
            });
            println!(
                "minute {:2}: {:4.0} MiB resident, {:4.0} MiB at most, {refused} seconds refused; {}",
                second / 60 + 1,
                now.resident as f64 / MIB,
                now.peak as f64 / MIB,
                shown.collect::<Vec<_>>().join(", ")
            );
        }
        if let Some(error) = first_refusal {
            println!("the first refusal: {error}");
        }
        Ok(())
    }
}

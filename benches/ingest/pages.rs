//! How long the pages of the user interface take on a store with a past, while agents report: the real server, asked as a
//! browser does, page by page and over a quarter of an hour, a day and a week. For Elasticsearch also the requests that a page
//! causes there.

#[path = "../../tests/it/ui/requests.rs"]
mod requests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use oap::model::id;
use oap::model::time_bucket::Zone;
use oap::storage::elasticsearch::{Elasticsearch, ElasticsearchOptions};
use oap::storage::embedded::Embedded;
use oap::util::clock::Clock;
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::counting_proxy;
use crate::history::{self, DAY_MS, MINUTE_MS};
use crate::served::{send_all, start};
use crate::shop::Shop;
use requests::{Names, UiRequest, fixed, of_templates};

/// Requests that a browser has under way at one server.
const AT_ONCE: usize = 6;
/// Segments that agents report in a second meanwhile.
const LOAD: usize = 200;
const INSTANCES: usize = 2;

/// What to measure.
pub(crate) struct Pages<'a> {
    /// `host:port` of an empty Elasticsearch without password; without it the store is embedded.
    pub(crate) elasticsearch: Option<&'a str>,
    pub(crate) services: usize,
    /// Of one service.
    pub(crate) endpoints: usize,
    pub(crate) segments: usize,
    /// How often each page is opened.
    pub(crate) rounds: usize,
    /// Folder in which what was filled stays, to be asked again by further runs.
    pub(crate) kept: Option<&'a Path>,
}

/// What was filled, as it is written beside it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Filled {
    services: usize,
    endpoints: usize,
    segments: usize,
    /// End of the history, epoch milliseconds; pages look back from there.
    end_ms: i64,
    name_space: String,
}

impl Pages<'_> {
    /// Fills the store unless that was done before, asks and prints.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let shop = Shop {
            services: self.services,
            endpoints: self.endpoints,
            instances: INSTANCES,
        };
        let temporary = tempfile::tempdir()?;
        let dir = self.kept.unwrap_or(temporary.path());
        let data = dir.join("data");
        std::fs::create_dir_all(&data)?;
        let runtime = tokio::runtime::Runtime::new()?;
        let filled = self.filled(&runtime, dir, &data, shop)?;
        runtime.block_on(async {
            let mut settings = vec![("TZ", "UTC")];
            let mut proxy = None;
            if let Some(address) = self.elasticsearch {
                proxy = Some(counting_proxy::start(address.to_owned()).await?);
            }
            if let Some((address, _)) = &proxy {
                settings.extend([
                    ("SW_STORAGE", "elasticsearch7"),
                    ("SW_NAMESPACE", &filled.name_space),
                    ("SW_STORAGE_ES_CLUSTER_NODES", address),
                ]);
            }
            let (server, grpc, http) = start(&data, &settings)?;
            let asking = Asking {
                client: reqwest::Client::builder().no_proxy().build()?,
                url: format!("http://{http}/graphql"),
                reads: proxy.map(|(_, reads)| reads),
            };
            let measured = self.measure(&asking, shop, filled.end_ms, grpc).await;
            drop(server);
            measured
        })
    }

    /// What an earlier run left in the folder, or what is filled now.
    fn filled(
        &self,
        runtime: &Runtime,
        dir: &Path,
        data: &Path,
        shop: Shop,
    ) -> anyhow::Result<Filled> {
        let note = dir.join("filled.json");
        let filled = Filled {
            services: self.services,
            endpoints: self.endpoints,
            segments: self.segments,
            end_ms: now_ms()?,
            name_space: format!("bench{}", std::process::id()),
        };
        if note.exists() {
            let before: Filled = serde_json::from_slice(&std::fs::read(&note)?)?;
            let is_same = (before.services, before.endpoints, before.segments)
                == (filled.services, filled.endpoints, filled.segments);
            ensure!(is_same, "{} has other contents: {before:?}", dir.display());
            return Ok(before);
        }
        let base_dir = tempfile::tempdir()?;
        history::base(base_dir.path(), shop, filled.end_ms)?;
        let base = Embedded::open(base_dir.path())?;
        let begin = Instant::now();
        let rows = runtime.block_on(async {
            match self.elasticsearch {
                Some(address) => {
                    let options = ElasticsearchOptions {
                        name_space: filled.name_space.clone(),
                        cluster_nodes: vec![address.to_owned()],
                        ..ElasticsearchOptions::default()
                    };
                    let store = Elasticsearch::new(options, Zone::utc(), Clock::System)?;
                    history::fill(&store, &base, self.segments, filled.end_ms).await
                }
                None => {
                    let store = Embedded::open(data)?;
                    history::fill(&store, &base, self.segments, filled.end_ms).await
                }
            }
        })?;
        let seconds = begin.elapsed().as_secs_f64();
        println!("{rows} rows written in {seconds:.0} s");
        std::fs::write(note, serde_json::to_vec(&filled)?)?;
        Ok(filled)
    }

    async fn measure(
        &self,
        asking: &Asking,
        shop: Shop,
        end_ms: i64,
        grpc: String,
    ) -> anyhow::Result<()> {
        println!("range, page: requests, reads of elasticsearch, p50 ms, p99 ms");
        // Round trips are counted before anything else asks.
        let mut counted = vec![];
        for (range, span_ms, step) in [
            ("15 minutes", 15 * MINUTE_MS, "MINUTE"),
            ("1 day", DAY_MS, "HOUR"),
            ("7 days", 6 * DAY_MS, "DAY"),
        ] {
            for (page, requests) in pages(asking, shop, (end_ms, span_ms), step).await? {
                let before = asking.reads();
                asking.open(&requests).await?;
                let reads = asking.reads() - before;
                counted.push((range, page, requests, reads));
            }
        }
        let load = tokio::spawn(report(shop, grpc));
        for (range, page, requests, reads) in &counted {
            let mut times = vec![];
            for _ in 0..self.rounds {
                times.push(asking.open(requests).await?.as_secs_f64() * 1000.0);
            }
            times.sort_by(f64::total_cmp);
            let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
            println!(
                "{range}, {page}: {}, {reads}, {:.1}, {:.1}",
                requests.len(),
                at(0.5),
                at(0.99)
            );
        }
        ensure!(!load.is_finished(), "agents stopped: {:?}", load.await);
        load.abort();
        Ok(())
    }
}

/// Asks a server.
struct Asking {
    client: reqwest::Client,
    url: String,
    reads: Option<Arc<AtomicUsize>>,
}

impl Asking {
    /// Requests that read from Elasticsearch so far.
    fn reads(&self) -> usize {
        self.reads.as_ref().map_or(0, |n| n.load(Ordering::SeqCst))
    }

    async fn ask(&self, request: &UiRequest) -> anyhow::Result<Value> {
        let body = json!({"query": request.query, "variables": request.variables});
        let answer = self.client.post(&self.url);
        let answer = answer.header("content-type", "application/json");
        let text = answer.body(body.to_string()).send().await?.text().await?;
        let answer: Value = serde_json::from_str(&text)?;
        ensure!(answer["errors"].is_null(), "{}: {text:.500}", request.query);
        Ok(answer["data"].clone())
    }

    /// Until the last answer of a page is there.
    async fn open(&self, requests: &[UiRequest]) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        let asking = stream::iter(requests).map(|request| self.ask(request));
        let answers = asking.buffer_unordered(AT_ONCE);
        answers.try_for_each(|_| std::future::ready(Ok(()))).await?;
        Ok(begin.elapsed())
    }
}

/// Reports segments at an even pace, for ever.
async fn report(shop: Shop, grpc: String) -> anyhow::Result<()> {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for n in 0.. {
        second.tick().await;
        let at_ms = now_ms()?;
        let segments = (n * LOAD..(n + 1) * LOAD).map(|i| {
            let segment = shop.segment(i, at_ms);
            Bytes::from(segment.encode_to_vec())
        });
        send_all(&grpc, segments.collect()).await?;
    }
    Ok(())
}

/// The requests of each page.
async fn pages(
    asking: &Asking,
    shop: Shop,
    range: (i64, i64),
    step: &str,
) -> anyhow::Result<BTreeMap<String, Vec<UiRequest>>> {
    let names = names(shop, range, step)?;
    let fixed = fixed(&names)?;
    let templates = find(&fixed, "getAllTemplates")?;
    let templates = asking.ask(templates).await?["getAllTemplates"].take();
    let widgets = of_templates(&templates, &names)?;
    let topology = find(&fixed, "getGlobalTopology")?;
    let topology = asking.ask(topology).await?["topo"].take();
    let mut pages = BTreeMap::<String, Vec<UiRequest>>::new();
    for mut request in fixed.into_iter().chain(widgets) {
        if request.query.contains("query queryTopoInfo(") {
            // Values of all nodes and calls.
            request.variables["ids"] = ids(&topology["nodes"]);
            request.variables["idsS"] = ids(&topology["calls"]);
            request.variables["idsC"] = ids(&topology["calls"]);
        }
        if !request.query.starts_with("mutation") {
            pages.entry(request.page.clone()).or_default().push(request);
        }
    }
    Ok(pages)
}

fn find<'a>(requests: &'a [UiRequest], field: &str) -> anyhow::Result<&'a UiRequest> {
    let mut found = requests.iter().filter(|r| r.query.contains(field));
    found
        .next()
        .with_context(|| format!("nothing asks {field}"))
}

fn ids(list: &Value) -> Value {
    let ids = list.as_array().into_iter().flatten();
    ids.map(|item| item["id"].clone()).collect()
}

/// What the requests are about: the third service and the second, which calls it.
fn names(shop: Shop, (end_ms, span_ms): (i64, i64), step: &str) -> anyhow::Result<Names> {
    let format = match step {
        "DAY" => "%Y-%m-%d",
        "HOUR" => "%Y-%m-%d %H",
        _ => "%Y-%m-%d %H%M",
    };
    let text = |at_ms: i64| {
        let at = Timestamp::from_millisecond(at_ms)?.to_zoned(TimeZone::UTC);
        anyhow::Ok(at.strftime(format).to_string())
    };
    let duration = json!({"start": text(end_ms - span_ms)?, "end": text(end_ms)?, "step": step});
    let (own, client) = (shop.segment(2, end_ms), shop.segment(1, end_ms));
    let endpoint = |segment: &oap_proto::agent::SegmentObject| {
        let entry = segment.spans.first();
        entry.map_or_else(String::new, |span| span.operation_name.clone())
    };
    let service_id = id::service_id(&own.service, true);
    let client_id = id::service_id(&client.service, true);
    let database = own.spans.get(2).context("no database")?.peer.clone();
    let texts = [
        (
            "{instanceId}",
            id::instance_id(&service_id, &own.service_instance),
        ),
        ("{instanceName}", own.service_instance.clone()),
        (
            "{endpointId}",
            id::endpoint_id(&service_id, &endpoint(&own)),
        ),
        ("{endpointName}", endpoint(&own)),
        ("{serviceName}", own.service.clone()),
        ("{serviceId}", service_id),
        (
            "{clientInstanceId}",
            id::instance_id(&client_id, &client.service_instance),
        ),
        (
            "{clientEndpointId}",
            id::endpoint_id(&client_id, &endpoint(&client)),
        ),
        ("{clientEndpointName}", endpoint(&client)),
        ("{clientServiceName}", client.service.clone()),
        ("{clientServiceId}", client_id),
        ("{databaseName}", database),
        ("{traceId}", history::segment_name(0)),
        ("{segmentId}", history::segment_name(0)),
        ("{taskId}", "none".to_owned()),
    ];
    let texts = texts.map(|(name, text)| (name, Value::from(text)));
    Ok(Names::new(
        texts.into_iter().chain([("{duration}", duration)]),
    ))
}

fn now_ms() -> anyhow::Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())?)
}

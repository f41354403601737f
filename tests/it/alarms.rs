//! Alarms from segments to hooks and answers, with restarts in the midst of a window, and hooks that fail.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use oap::alarm::entity::{AlarmEntity, EntityKind};
use oap::alarm::{AlarmMessage, Hook, HookMetrics, Hooks, NamedTarget, Target};
use oap::dsl::alarm::GrpcTarget;
use oap::telemetry::Registry;
use oap::util::clock::Clock;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::graphql::GraphQl;
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::server::{Builder, Store, TestServer};
use crate::waiting::wait_until;

mod explain;
mod hooks;
pub mod receivers;
mod stage;

pub use receivers::dead_url;
use receivers::{GrpcHook, Webhook};

/// 2020-09-15 10:59:00 UTC.
const START_MS: i64 = 1_600_167_540_000;
const MINUTE_MS: i64 = 60_000;
const DEADLINE: Duration = Duration::from_secs(30);
const SHOP: &str = "c2hvcA==.1";

/// `beat_rule` fires at every check, which shows that there was one.
const RULES: &str = "
  slow_rule: {metrics-name: service_resp_time, op: '>', threshold: 1000, period: 3, count: 2, silence-period: 9, message: 'Service {name} is slow'}
  failing_rule: {metrics-name: service_sla, op: <, threshold: 8000, period: 3, count: 2, silence-period: 9}
  percentile_rule: {metrics-name: service_percentile, op: '>', threshold: '-,-,-,-,1000', period: 3, count: 2, silence-period: 9}
  other_rule: {metrics-name: service_resp_time, op: '>', threshold: 1000, exclude-names-regex: sh.*}
  beat_rule: {metrics-name: service_cpm, op: '>=', threshold: 1, period: 99}
";

/// A server with its hooks, at a time that the test decides.
struct Scene {
    server: TestServer,
    clock_ms: Arc<AtomicI64>,
    config: tempfile::TempDir,
    webhook: Webhook,
    grpc: GrpcHook,
}

impl Scene {
    async fn start(name: &str, store: Store) -> Result<Scene> {
        let config = tempfile::tempdir()?;
        let (webhook, grpc) = (Webhook::refusing(0).await?, GrpcHook::start().await?);
        let (dead, url, port) = (dead_url().await?, webhook.url(), grpc.port());
        let hooks = format!(
            "webhooks: ['{dead}', '{url}']\ngRPCHook: {{target_host: 127.0.0.1, target_port: {port}}}\n"
        );
        write_rules(config.path(), &format!("rules:{RULES}{hooks}"))?;
        let clock_ms = Arc::new(AtomicI64::new(START_MS));
        let server = builder(name, store, config.path());
        Ok(Scene {
            server: server.clock(&clock_ms).start().await?,
            clock_ms,
            config,
            webhook,
            grpc,
        })
    }

    fn set_clock(&self, minute: i64, second: i64) {
        let now_ms = START_MS + minute * MINUTE_MS + second * 1000;
        self.clock_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Two slow requests in a minute, one of which fails.
    async fn serve(&self, minute: i64) -> Result<()> {
        self.set_clock(minute, 10);
        let sender = Sender::connect(&self.server.grpc(), &self.server.http()).await?;
        let at_ms = START_MS + minute * MINUTE_MS;
        let mut segments = vec![];
        for (number, is_error) in [(0, false), (1, true)] {
            let id = format!("{minute}-{number}");
            let served = Served {
                is_error,
                ..Served::new(id, "shop", at_ms, 2000)
            };
            segments.push(served.bytes());
        }
        let sent = sender
            .call(COLLECT, Calling::ClientStream, segments)
            .await?;
        ensure!(sent.is_ok(), "{sent:?}");
        self.server.flush().await
    }

    /// The rules that fire in the check of a minute.
    async fn check(&self, minute: i64) -> Result<Vec<String>> {
        let seen = self.alarms()?.len();
        self.set_clock(minute, 16);
        wait_until("the check", DEADLINE, async || {
            let alarms = self.alarms()?;
            let fired: Vec<String> = alarms[seen..]
                .iter()
                .map(|alarm| alarm["ruleName"].as_str().unwrap_or_default().to_owned())
                .collect();
            ensure!(!fired.is_empty(), "no alarms yet");
            Ok(fired)
        })
        .await
    }

    /// What came to the webhook, one by one.
    fn alarms(&self) -> Result<Vec<Value>> {
        let mut alarms = vec![];
        for posted in self.webhook.posted() {
            alarms.extend(serde_json::from_str::<Vec<Value>>(&posted.body)?);
        }
        Ok(alarms)
    }

    /// `getAlarm` of the whole hour: the texts, newest first.
    async fn stored(&self, scope: Option<&str>, keyword: &str) -> Result<Vec<String>> {
        self.server.flush().await?;
        let query = "query ($d: Duration!, $s: Scope, $k: String) { a: getAlarm(duration: $d, scope: $s, keyword: $k, \
                     paging: {pageNum: 1, pageSize: 20, needTotal: true}) { msgs { startTime scope id message } total } }";
        let duration =
            json!({"start": "2020-09-15 1050", "end": "2020-09-15 1130", "step": "MINUTE"});
        let variables = json!({"d": duration, "s": scope, "k": keyword});
        let answer = GraphQl::new(&self.server.http())?
            .ask(query, variables)
            .await?;
        let messages = answer["msgs"].as_array().cloned().unwrap_or_default();
        ensure!(answer["total"] == messages.len(), "{answer}");
        for message in &messages {
            ensure!(
                message["scope"] == "Service" && message["id"] == SHOP,
                "{answer}"
            );
        }
        let text = |m: &Value| m["message"].as_str().unwrap_or_default().to_owned();
        let mut texts: Vec<String> = messages.iter().map(text).collect();
        texts.sort();
        Ok(texts)
    }
}

fn builder(name: &str, store: Store, config: &Path) -> Builder {
    TestServer::builder(name, store)
        .config_dir(config)
        .env("TZ", "UTC")
        .env("SW_CORE_METRICS_DATA_TTL", "36500")
        .env("SW_CORE_RECORD_DATA_TTL", "36500")
}

fn write_rules(config: &Path, text: &str) -> Result<()> {
    Ok(std::fs::write(config.join("alarm-settings.yml"), text)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_are_raised_stored_and_sent_on_embedded() -> Result<()> {
    raised(Scene::start("alarms_embedded", Store::Embedded).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_are_raised_stored_and_sent_on_elasticsearch() -> Result<()> {
    raised(Scene::start("alarms_es", Store::Elasticsearch).await?).await
}

async fn raised(mut scene: Scene) -> Result<()> {
    scene.serve(0).await?;
    scene.serve(1).await?;
    // Two minutes match, but only one check found so.
    ensure!(scene.check(1).await? == ["beat_rule"]);
    // The window and the counter are there after a restart; this minute has no data.
    scene.server = scene.server.restart(|builder| builder).await?;
    let want = ["slow_rule", "failing_rule", "percentile_rule", "beat_rule"];
    let fired = scene.check(2).await?;
    ensure!(fired == want, "{fired:?}");

    let posted = scene.webhook.posted().pop();
    let Some(posted) = posted else {
        bail!("nothing came")
    };
    for header in ["accept", "content-type"] {
        ensure!(posted.headers[header] == "application/json", "{posted:?}");
    }
    let first = posted.body.split_once('}').map_or("", |(first, _)| first);
    let now_ms = START_MS + 2 * MINUTE_MS + 16_000;
    let want = format!(
        r#"[{{"scopeId":1,"scope":"SERVICE","name":"shop","id0":"c2hvcA\u003d\u003d.1","id1":"","ruleName":"slow_rule","alarmMessage":"Service shop is slow","startTime":{now_ms}"#
    );
    ensure!(first == want, "{first}");
    let messages = wait_until("the gRPC hook", DEADLINE, async || {
        let messages = scene.grpc.messages();
        ensure!(messages.len() == 5, "{messages:?}");
        Ok(messages)
    })
    .await?;
    for (message, alarm) in messages.iter().zip(scene.alarms()?) {
        let same = json!({
            "scopeId": message.scope_id, "scope": message.scope, "name": message.name, "id0": message.id0,
            "id1": message.id1, "ruleName": message.rule_name, "alarmMessage": message.alarm_message,
            "startTime": message.start_time,
        });
        ensure!(same == alarm, "{same} {alarm}");
    }

    // Alarms of one entity and second are all stored.
    let beat = "Alarm caused by Rule beat_rule";
    let failing = "Alarm caused by Rule failing_rule";
    let percentile = "Alarm caused by Rule percentile_rule";
    let slow = "Service shop is slow";
    let stored = scene.stored(None, "").await?;
    ensure!(
        stored == [beat, beat, failing, percentile, slow],
        "{stored:?}"
    );
    ensure!(scene.stored(Some("Service"), "slow").await? == [slow]);
    ensure!(scene.stored(Some("Endpoint"), "").await?.is_empty());

    // Another rule begins anew, others stay silent.
    let path = scene.config.path().join("alarm-settings.yml");
    let text = std::fs::read_to_string(&path)?;
    let edited = text.replace(
        "threshold: 1000, period: 3, count: 2",
        "threshold: 1500, period: 9",
    );
    std::fs::write(&path, edited)?;
    scene.server = scene.server.restart(|builder| builder).await?;
    scene.serve(3).await?;
    let fired = scene.check(3).await?;
    ensure!(fired == ["slow_rule", "beat_rule"], "{fired:?}");
    scene.server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_rule_file_ends_the_start_and_says_where() -> Result<()> {
    let config = tempfile::tempdir()?;
    let text =
        "rules:\n  a_rule:\n    metrics-name: service_sla\n    op: less\n    threshold: low\n";
    write_rules(config.path(), text)?;
    let error = match builder("alarms_wrong", Store::Embedded, config.path())
        .start()
        .await
    {
        Ok(_) => bail!("it started"),
        Err(error) => format!("{error:#}"),
    };
    for part in [
        "alarm-settings.yml:4:9: unknown name `less`, expected >, >=, <, <=, ==",
        "alarm-settings.yml:5:16: `low` is no threshold, expected a number",
    ] {
        ensure!(error.contains(part), "{part}: {error}");
    }
    // What is off is not read.
    let server = builder("alarms_off", Store::Embedded, config.path());
    server.env("SW_ALARM", "-").start().await?.stop().await
}

fn message(number: usize) -> Result<AlarmMessage> {
    let entity = AlarmEntity::parse(EntityKind::Service, SHOP)?;
    let name = format!("number_{number}_rule");
    Ok(AlarmMessage::new(entity, &name, String::new(), START_MS))
}

fn metric(registry: &Registry, line: &str) -> Result<u64> {
    let text = String::from_utf8(registry.text()?)?;
    let line = text.lines().find(|l| l.starts_with(line));
    let value = line.and_then(|line| line.rsplit(' ').next());
    Ok(value.map_or(0, |value| value.parse().unwrap_or(0)))
}

const AT_SHUTDOWN: &str = ",reason=\"shutdown\"}";

#[tokio::test]
async fn a_hook_that_refuses_is_asked_again_and_a_dead_one_keeps_no_other() -> Result<()> {
    let registry = Registry::new("h", 1);
    let metrics = HookMetrics::new(&registry)?;
    let (refusing, live) = (Webhook::refusing(2).await?, Webhook::refusing(0).await?);
    let stop = CancellationToken::new();
    let mut hooks = vec![];
    let mut tasks = vec![];
    let dead_port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let dead_grpc = GrpcTarget {
        host: "127.0.0.1".to_owned(),
        port: dead_port,
    };
    for (name, target) in [
        ("dead", Target::webhook(&dead_url().await?)?),
        ("dead_grpc", Target::grpc(&dead_grpc)?),
        ("refusing", Target::webhook(&refusing.url())?),
        ("live", Target::webhook(&live.url())?),
    ] {
        let (hook, task) = Hook::new(name.into(), target, metrics.clone(), Clock::System);
        hooks.push(hook);
        tasks.push(tokio::spawn(task.run(stop.clone())));
    }
    let messages = [message(1)?, message(2)?];
    for hook in &hooks {
        hook.queue(&messages[..1].into());
        hook.queue(&messages[1..].into());
    }
    wait_until("the live one", DEADLINE, async || {
        ensure!(live.posted().len() == 2);
        Ok(())
    })
    .await?;
    wait_until("the one that refuses", DEADLINE, async || {
        ensure!(refusing.posted().len() == 4, "{}", refusing.posted().len());
        Ok(())
    })
    .await?;
    // In order, whatever was refused.
    let rules: Vec<bool> = refusing
        .posted()
        .iter()
        .map(|posted| posted.body.contains("number_1_rule"))
        .collect();
    ensure!(rules == [true, true, true, false], "{rules:?}");
    stop.cancel();
    drop(hooks);
    for task in tasks {
        tokio::time::timeout(DEADLINE, task).await??;
    }
    let label = |name| format!("{name}{{sw_backend_instance=\"h_1\",hook=");
    for (line, want) in [
        (format!("{}\"live\"}}", label("alarm_hook_sent_total")), 2),
        (
            format!("{}\"refusing\"}}", label("alarm_hook_sent_total")),
            2,
        ),
        (
            format!("{}\"refusing\"}}", label("alarm_hook_failures_total")),
            2,
        ),
        (
            format!("{}\"dead\"{AT_SHUTDOWN}", label("alarm_hook_dropped_total")),
            2,
        ),
        (
            format!(
                "{}\"dead_grpc\"{AT_SHUTDOWN}",
                label("alarm_hook_dropped_total")
            ),
            2,
        ),
        (format!("{}\"dead_grpc\"}}", label("alarm_hook_queued")), 0),
        (format!("{}\"dead\"}}", label("alarm_hook_sent_total")), 0),
        (format!("{}\"dead\"}}", label("alarm_hook_queued")), 0),
    ] {
        let found = metric(&registry, &line)?;
        ensure!(found == want, "{line}: {found}");
    }
    Ok(())
}

#[tokio::test]
async fn the_queue_of_a_hook_has_a_bound() -> Result<()> {
    let registry = Registry::new("h", 1);
    let target = Target::webhook(&dead_url().await?)?;
    let metrics = HookMetrics::new(&registry)?;
    let (hook, task) = Hook::new("full".into(), target, metrics, Clock::System);
    let messages = (0..10_500).map(message).collect::<Result<Vec<_>>>()?;
    // A check as a whole, and no further one while as many wait.
    hook.queue(&messages.into());
    hook.queue(&[message(1)?].into());
    let labels = "{sw_backend_instance=\"h_1\",hook=\"full\"";
    let queued = metric(&registry, &format!("alarm_hook_queued{labels}"))?;
    let dropped = metric(
        &registry,
        &format!("alarm_hook_dropped_total{labels},reason=\"queue_full\""),
    )?;
    ensure!((queued, dropped) == (10_500, 1), "{queued} {dropped}");
    let of_all = "{sw_backend_instance=\"h_1\",queue=\"alarm-hooks\",unit=\"alarms\"}";
    ensure!(metric(&registry, &format!("queue_depth{of_all}"))? == 10_500);
    let bytes = "memory_bytes{sw_backend_instance=\"h_1\",owner=\"alarm-hooks\"}";
    ensure!(metric(&registry, bytes)? > 10_500 * 100);
    let stays = "queue_stay_seconds_count{sw_backend_instance=\"h_1\",queue=\"alarm-hooks\"}";
    ensure!(metric(&registry, stays)? == 0);
    // They leave it with the hook.
    drop((hook, task));
    ensure!(metric(&registry, stays)? == 1);
    Ok(())
}

#[tokio::test]
async fn other_hooks_take_over_and_one_that_hangs_does_not_stay() -> Result<()> {
    let registry = Registry::new("h", 1);
    let stop = CancellationToken::new();
    let mut hooks = Hooks::new(HookMetrics::new(&registry)?, Clock::System, stop);
    let (first, second) = (Webhook::refusing(0).await?, Webhook::refusing(0).await?);
    let target = |name: &str, url: &str| -> Result<Arc<NamedTarget>> {
        let target = Target::webhook(url)?;
        let name = name.to_owned();
        Ok(Arc::new(NamedTarget { name, target }))
    };
    // It takes connections and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let hanging = target("webhook-2", &format!("http://{}", listener.local_addr()?))?;
    hooks.replace(&[target("webhook-1", &first.url())?, Arc::clone(&hanging)]);
    hooks.queue(&[message(1)?]);
    // The same receiver goes on; another one under its name does not get what was meant for the first.
    hooks.replace(&[target("webhook-1", &first.url())?, hanging]);
    hooks.queue(&[message(2)?]);
    wait_until("the first one", DEADLINE, async || {
        ensure!(first.posted().len() == 2, "{:?}", first.posted());
        Ok(())
    })
    .await?;
    hooks.replace(&[target("webhook-1", &second.url())?]);
    hooks.queue(&[message(3)?]);
    wait_until("the second one", DEADLINE, async || {
        let second = second.posted();
        ensure!(second.len() == 1, "{second:?}");
        ensure!(second[0].body.contains("number_3_rule"), "{second:?}");
        Ok(())
    })
    .await?;
    ensure!(first.posted().len() == 2, "{:?}", first.posted());
    let dropped = "alarm_hook_dropped_total{sw_backend_instance=\"h_1\",hook=\"webhook-2\",reason=\"removed\"}";
    wait_until("the one that hangs", DEADLINE, async || {
        let count = metric(&registry, dropped)?;
        ensure!(count == 2, "{count}");
        Ok(())
    })
    .await?;
    tokio::time::timeout(DEADLINE, hooks.ended()).await?;
    Ok(())
}

#[tokio::test]
async fn a_hook_that_is_moved_keeps_its_queue_and_its_name() -> Result<()> {
    let registry = Registry::new("h", 1);
    let stop = CancellationToken::new();
    let mut hooks = Hooks::new(HookMetrics::new(&registry)?, Clock::System, stop);
    let slow = Webhook::refusing(1).await?;
    let (gone, new) = (Webhook::refusing(0).await?, Webhook::refusing(0).await?);
    let targets = |urls: &[String]| -> Result<Vec<Arc<NamedTarget>>> {
        let named = (1..).zip(urls).map(|(number, url)| {
            let (name, target) = (format!("webhook-{number}"), Target::webhook(url)?);
            Ok(Arc::new(NamedTarget { name, target }))
        });
        named.collect()
    };
    hooks.replace(&targets(&[gone.url(), slow.url()])?);
    hooks.queue(&[message(1)?]);
    // It is refused once, so that it waits while its place changes.
    wait_until("the first attempt", DEADLINE, async || {
        ensure!(slow.posted().len() == 1, "{:?}", slow.posted());
        Ok(())
    })
    .await?;
    hooks.replace(&targets(&[slow.url(), new.url()])?);
    hooks.queue(&[message(2)?]);
    tokio::time::timeout(DEADLINE, hooks.ended()).await?;
    let label = |name: &str| {
        format!("alarm_hook_sent_total{{sw_backend_instance=\"h_1\",hook=\"{name}\"}}")
    };
    // The name of the one that is gone is free for the new one.
    for (name, want) in [("webhook-1", 2), ("webhook-2", 2)] {
        let sent = metric(&registry, &label(name))?;
        ensure!(sent == want, "{name}: {sent}");
    }
    ensure!(slow.posted().len() == 3, "{:?}", slow.posted());
    let text = String::from_utf8(registry.text()?)?;
    ensure!(!text.contains("alarm_hook_dropped_total{"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_hook_is_asked_again_until_the_last_seconds_are_over() -> Result<()> {
    let registry = Registry::new("h", 1);
    let refusing = Webhook::refusing(2).await?;
    let stop = CancellationToken::new();
    let (name, target) = ("late".to_owned(), Target::webhook(&refusing.url())?);
    let metrics = HookMetrics::new(&registry)?;
    let (hook, task) = Hook::new(name, target, metrics, Clock::System);
    stop.cancel();
    hook.queue(&[message(1)?].into());
    drop(hook);
    tokio::time::timeout(DEADLINE, task.run(stop)).await?;
    let sent = "alarm_hook_sent_total{sw_backend_instance=\"h_1\",hook=\"late\"}";
    ensure!(metric(&registry, sent)? == 1, "{:?}", refusing.posted());
    Ok(())
}

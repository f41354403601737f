//! A profile task from its creation over the agent that is told of it to what its snapshots say.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use oap_proto::agent::{
    Commands, ProfileTaskCommandQuery, ProfileTaskFinishReport, ThreadSnapshot, ThreadStack,
};
use prost::Message;
use serde_json::{Value, json};

use crate::graphql::GraphQl;
use crate::peers::{JavaAgent, Reporter, Role};
use crate::questions::ensure_writable;
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

/// Tasks are looked for every ten seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// A task lasts a minute at least, and an agent reports its end when that is over.
const UNTIL_FINISHED: Duration = Duration::from_secs(180);

struct Agent {
    sender: Sender,
}

impl Agent {
    async fn call(&self, method: &str, calling: Calling, messages: Vec<Bytes>) -> Result<Bytes> {
        let reply = self.sender.call(method, calling, messages).await?;
        reply.map_err(|code| anyhow::anyhow!("{method}: {code:?}"))
    }

    /// Id of the task it is told of.
    async fn ask(&self) -> Result<String> {
        let query = ProfileTaskCommandQuery {
            service: "shop".into(),
            service_instance: "shop-1".into(),
            last_command_time: 0,
        };
        let query = vec![query.encode_to_vec().into()];
        let method = "/ProfileTask/getProfileTaskCommands";
        let reply = self.call(method, Calling::Unary, query).await?;
        let commands = Commands::decode(reply)?.commands;
        let command = commands.first().context("no command")?;
        let mut arguments = command.args.iter();
        let id = arguments.find(|argument| argument.key == "TaskId");
        Ok(id.context("no task id")?.value.clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_given_out_carried_out_and_analysed() -> Result<()> {
    let server = TestServer::builder("profiling", Store::Embedded)
        .start()
        .await?;
    let graphql = GraphQl::new(&server.http())?;
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let agent = Agent { sender };
    let request = json!({"serviceId": "c2hvcA==.1", "endpointName": " /order ", "duration": 5,
        "minDurationThreshold": 0, "dumpPeriod": 10, "maxSamplingCount": 5});
    let create = "mutation($r: ProfileTaskCreationRequest) {
        createProfileTask(creationRequest: $r) { id errorReason } }";
    // A service has one task at a time, however many ask at once.
    let asking = (0..5).map(|_| graphql.ask(create, json!({"r": request})));
    let answers = futures_util::future::try_join_all(asking).await?;
    let mut created = answers.iter().filter_map(|answer| answer["id"].as_str());
    let id = created.next().context("no task was created")?;
    let refused = answers.iter().filter(|a| a["errorReason"].is_string());
    ensure!(
        created.next().is_none() && refused.count() == 4,
        "{answers:?}"
    );

    let told = wait_until("the agent is told", DEADLINE, async || agent.ask().await).await?;
    ensure!(told == id, "{told}, created {id}");
    let start = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let served = Served::new("p", "shop", start, 100);
    agent
        .call(COLLECT, Calling::ClientStream, vec![served.bytes()])
        .await?;
    let snapshots = (0..3).map(|sequence| {
        let snapshot = ThreadSnapshot {
            task_id: id.into(),
            trace_segment_id: served.segment().trace_segment_id,
            time: start + i64::from(sequence) * 10,
            sequence,
            stack: Some(ThreadStack {
                code_signatures: vec!["main".into(), "work".into()],
            }),
        };
        Bytes::from(snapshot.encode_to_vec())
    });
    let method = "/skywalking.v3.ProfileTask/collectSnapshot";
    agent
        .call(method, Calling::ClientStream, snapshots.collect())
        .await?;
    let report = ProfileTaskFinishReport {
        service: "shop".into(),
        service_instance: "shop-1".into(),
        task_id: id.into(),
    };
    let report = vec![report.encode_to_vec().into()];
    agent
        .call("/ProfileTask/reportTaskFinish", Calling::Unary, report)
        .await?;
    server.flush().await?;

    let tasks = "{ getProfileTaskList(serviceId: \"c2hvcA==.1\") { id serviceName endpointName
        logs { instanceName operationType } } }";
    let tasks = graphql.ask(tasks, Value::Null).await?;
    let task = &tasks[0];
    ensure!(
        task["id"] == id && task["endpointName"] == "/order",
        "{tasks}"
    );
    let logs = task["logs"].as_array().context("no logs")?;
    let of = |operation: &str| {
        logs.iter()
            .filter(|log| log["operationType"] == operation)
            .count()
    };
    // Each answer with the task is logged.
    ensure!(
        of("NOTIFIED") >= 1 && of("EXECUTION_FINISHED") == 1,
        "{tasks}"
    );
    ensure!(
        logs.iter().all(|log| log["instanceName"] == "shop-1"),
        "{tasks}"
    );

    let listed = "query($t: String) { getProfileTaskSegmentList(taskID: $t) { segmentId } }";
    let listed = graphql.ask(listed, json!({"t": id})).await?;
    ensure!(listed == json!([{"segmentId": "segment-p"}]), "{listed}");
    let analysis = "query($r: [ProfileAnalyzeTimeRange!]!) {
        getProfileAnalyze(segmentId: \"segment-p\", timeRanges: $r) {
            tip trees { elements { codeSignature duration count } } } }";
    let range = json!([{"start": start, "end": start + 15}]);
    let found = graphql.ask(analysis, json!({"r": range})).await?;
    let frame = |code: &str| json!({"codeSignature": code, "duration": 10, "count": 2});
    let wanted = json!([{"elements": [frame("main"), frame("work")]}]);
    ensure!(found["trees"] == wanted, "{found}");
    server.stop().await
}

/// The genuine agent asks for tasks, samples the stack of a thread and reports the end.
#[tokio::test(flavor = "multi_thread")]
async fn the_java_agent_is_profiled_on_embedded() -> Result<()> {
    java_agent_is_profiled("profiling_java", Store::Embedded).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_java_agent_is_profiled_on_elasticsearch() -> Result<()> {
    java_agent_is_profiled("profiling_java_es", Store::Elasticsearch).await
}

async fn java_agent_is_profiled(name: &str, store: Store) -> Result<()> {
    let server = TestServer::builder(name, store)
        .env("SW_STORAGE_ES_FLUSH_INTERVAL", "2")
        .start()
        .await?;
    let graphql = GraphQl::new(&server.http())?;
    let oap = server.grpc();
    let agent = tokio::task::spawn_blocking(move || {
        let reporter = Reporter {
            oap: &oap,
            service: "slow",
            instance: "slow-1",
        };
        JavaAgent::start(Role::Stock, reporter)
    })
    .await?;
    wait_until("the store takes rows", DEADLINE, async || {
        ensure_writable(&graphql).await
    })
    .await?;
    let request = json!({"serviceId": "c2xvdw==.1", "endpointName": "/slow", "duration": 1,
        "minDurationThreshold": 0, "dumpPeriod": 10, "maxSamplingCount": 5});
    let create = "mutation($r: ProfileTaskCreationRequest) {
        createProfileTask(creationRequest: $r) { id errorReason } }";
    let created = graphql.ask(create, json!({"r": request})).await?;
    let id = created["id"]
        .as_str()
        .with_context(|| created.to_string())?;
    has_log(&graphql, "NOTIFIED", DEADLINE).await?;

    let browser = reqwest::Client::builder().no_proxy().build()?;
    let slow = format!("{}/slow", agent.url());
    let segment = wait_until("a request is profiled", DEADLINE, async || {
        let page = browser.get(&slow).send().await?.text().await?;
        ensure!(page == "at last", "{page}");
        let listed = "query($t: String) { getProfileTaskSegmentList(taskID: $t) { segmentId } }";
        let listed = graphql.ask(listed, json!({"t": id})).await?;
        Ok(listed[0]["segmentId"]
            .as_str()
            .context("none listed")?
            .to_owned())
    })
    .await?;
    wait_until("the stack is analysed", DEADLINE, async || {
        let spans = "query($s: String) { getProfiledSegment(segmentId: $s) {
            spans { endpointName startTime endTime } } }";
        let spans = graphql.ask(spans, json!({"s": segment})).await?;
        let spans = spans["spans"].as_array().context("no spans")?;
        let slow = spans.iter().find(|span| span["endpointName"] == "/slow");
        let slow = slow.context("another segment")?;
        let range = json!([{"start": slow["startTime"], "end": slow["endTime"]}]);
        let analysis = "query($s: String!, $r: [ProfileAnalyzeTimeRange!]!) {
            getProfileAnalyze(segmentId: $s, timeRanges: $r) {
                trees { elements { id parentId codeSignature duration count } } } }";
        let found = graphql
            .ask(analysis, json!({"s": segment, "r": range}))
            .await?;
        let frames = found["trees"][0]["elements"].as_array();
        let slowly = frames.and_then(|frames| {
            let is_slowly = |frame: &&Value| {
                let code = frame["codeSignature"].as_str().unwrap_or_default();
                code.contains("peers.Shop.slowly")
            };
            frames.iter().find(is_slowly)
        });
        let slowly = slowly.with_context(|| found.to_string())?;
        // It sleeps 600 ms and is looked at every ten.
        ensure!(
            slowly["duration"].as_i64() > Some(100) && slowly["count"].as_i64() > Some(5),
            "{slowly}"
        );
        Ok(())
    })
    .await?;
    has_log(&graphql, "EXECUTION_FINISHED", UNTIL_FINISHED).await?;
    server.stop().await
}

/// Waits until the only task has a log of the agent.
async fn has_log(graphql: &GraphQl, operation: &str, deadline: Duration) -> Result<()> {
    let tasks = "{ getProfileTaskList(serviceId: \"c2xvdw==.1\", endpointName: \"/slow\") {
        logs { instanceName operationType } } }";
    wait_until(operation, deadline, async || {
        let found = graphql.ask(tasks, Value::Null).await?;
        let logs = found[0]["logs"].as_array().context("no task")?;
        let is_there = logs
            .iter()
            .any(|log| log["operationType"] == operation && log["instanceName"] == "slow-1");
        ensure!(is_there, "{found}");
        Ok(())
    })
    .await
}

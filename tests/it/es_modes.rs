//! `-Dmode=init` and `-Dmode=no-init` on Elasticsearch: who creates what, who waits, and how each ends.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::http::StatusCode;
use tokio::net::TcpListener;

use crate::es_console::EsConsole;
use crate::oap_process::{OapCommand, few_metrics};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn no_init_waits_for_templates_and_for_nothing_else() -> Result<()> {
    const NAMESPACE: &str = "modes_wait";
    let folder = tempfile::tempdir()?;
    few_metrics(&folder.path().join("config"))?;
    let command = OapCommand::new(folder.path()).on_elasticsearch(NAMESPACE)?;
    let waiting = command.clone().env("JAVA_OPTS", "-Dmode=no-init");
    let console = EsConsole::new(NAMESPACE)?;

    let process = waiting.start().await?;
    let says = async |text: &str| {
        wait_until(text, DEADLINE, async || {
            let log = process.log();
            let line = log.lines().find(|line| line.contains(text));
            line.map(str::to_owned).with_context(|| log.clone())
        })
        .await
    };
    let line = says("waiting for storage").await?;
    ensure!(
        line.contains("-Dmode=no-init") && line.contains(NAMESPACE),
        "{line}"
    );
    ensure!(
        console.templates().await?.is_empty(),
        "it created templates"
    );
    // Two at once, as when a job is repeated.
    let init = command.env("JAVA_OPTS", "-Dmode=init");
    let (one, two) = tokio::try_join!(init.run(), init.run())?;
    for ended in [one, two] {
        ensure!(ended.status.success(), "{ended:?}");
        ensure!(ended.stdout.contains("-Dmode=init"), "{ended:?}");
    }
    says("storage is there").await?;
    process.stop().await?;

    // The next day: templates are there, its indices are not.
    let pattern = format!("{NAMESPACE}_*-*");
    console.ask("DELETE", &pattern, None).await?;
    let process = waiting.start().await?;
    let ready = wait_until("it goes on", DEADLINE, async || {
        let log = process.log();
        ensure!(log.contains("layout is complete"), "{log}");
        Ok(log)
    })
    .await;
    process.stop().await?;
    let indices = console
        .ask("GET", &format!("{pattern}/_alias"), None)
        .await?;
    console.clean().await?;
    let log = ready?;
    ensure!(!log.contains("waiting for storage"), "{log}");
    ensure!(
        indices.as_object().is_some_and(|i| !i.is_empty()),
        "{indices}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_created_again() -> Result<()> {
    const NAMESPACE: &str = "modes_again";
    let folder = tempfile::tempdir()?;
    few_metrics(&folder.path().join("config"))?;
    let command = OapCommand::new(folder.path()).on_elasticsearch(NAMESPACE)?;
    let init = command.env("JAVA_OPTS", "-Dmode=init");
    let (first, second) = (init.run().await?, init.run().await?);
    let console = EsConsole::new(NAMESPACE)?;
    // It has no days either, as the dashboards.
    let state = console
        .ask("GET", &format!("{NAMESPACE}_alarm_state"), None)
        .await;
    console.clean().await?;
    state?;
    ensure!(!first.stdout.contains("indices.created=0"), "{first:?}");
    ensure!(
        second
            .stdout
            .contains("templates.created=0 indices.created=0"),
        "{second:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn init_that_is_refused_ends_with_the_reason() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let refusal = r#"{"error":{"type":"illegal_argument_exception","reason":"no more shards"}}"#;
    let router = Router::new().fallback(async move || (StatusCode::BAD_REQUEST, refusal));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let ended = OapCommand::new(folder.path())
        .env("SW_STORAGE", "elasticsearch7")
        .env("SW_STORAGE_ES_CLUSTER_NODES", &address)
        .env("JAVA_OPTS", "-Dmode=init")
        .run()
        .await?;
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    ensure!(ended.stderr.contains("no more shards"), "{ended:?}");
    Ok(())
}

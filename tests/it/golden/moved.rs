//! The recorded scenario, played on the embedded store, then moved to Elasticsearch and back by `oap storage export` and `import`:
//! documents and answers must be those of the original on either.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Play, SETTINGS, allow_list, listed, server, turn};
use crate::oap_process::{Ended, OapCommand};
use crate::peers::Elasticsearch;
use crate::server::Store;

const NAME: &str = "golden_moved";

/// `oap storage` on a store, with the settings of the scenario.
fn tool(store: Store, data: &Path, arguments: &[&str]) -> Result<OapCommand> {
    let mut command = OapCommand::new(data).argument(format!("--data={}", data.display()));
    for argument in arguments {
        command = command.argument(*argument);
    }
    for (variable, value) in SETTINGS {
        command = command.env(variable, value);
    }
    if store == Store::Elasticsearch {
        let node = tokio::task::block_in_place(Elasticsearch::shared);
        let (user, password) = node.credentials().context("the shared node is open")?;
        command = command
            .env("SW_STORAGE", "elasticsearch7")
            .env("SW_NAMESPACE", NAME)
            .env("SW_STORAGE_ES_CLUSTER_NODES", &node.address())
            .env("SW_ES_USER", user)
            .env("SW_ES_PASSWORD", password);
    }
    Ok(command)
}

/// Of a run that must end well.
async fn ended_well(command: OapCommand) -> Result<Ended> {
    let ended = command.run().await?;
    ensure!(
        ended.status.success(),
        "{:?} {}",
        ended.status,
        ended.stderr
    );
    Ok(ended)
}

/// What `export` says, as a file.
async fn export(store: Store, data: &Path) -> Result<tempfile::NamedTempFile> {
    let exported = ended_well(tool(store, data, &["storage", "export"])?).await?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &exported.stdout)?;
    let count = format!("exported {} rows", exported.stdout.lines().count());
    ensure!(exported.stderr.contains(&count), "{}", exported.stderr);
    Ok(file)
}

async fn import(store: Store, data: &Path, lines: &Path) -> Result<()> {
    let command = tool(store, data, &["storage", "import"])?.input(lines);
    let imported = ended_well(command).await?;
    let count = std::fs::read_to_string(lines)?.lines().count();
    let count = format!("stored {count} rows");
    ensure!(imported.stderr.contains(&count), "{}", imported.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_a_moved_to_elasticsearch_and_back() -> Result<()> {
    let play = Play::default();
    let zone = play.transform.zone();
    let embedded = server(NAME, Store::Embedded, zone).start().await?;
    let replies = play.play(NAME, &embedded).await?;
    let first = embedded.leave().await?;
    let lines = export(Store::Embedded, first.path()).await?;

    let turn = turn(Store::Elasticsearch).await;
    import(Store::Elasticsearch, first.path(), lines.path()).await?;
    let elasticsearch = server(NAME, Store::Elasticsearch, zone).start().await?;
    let mut found = replies.clone();
    let skipped = play.compare(&elasticsearch, &mut found).await?;
    allow_list::check(&found, &skipped, &listed(Store::Elasticsearch))?;
    ended_well(tool(
        Store::Elasticsearch,
        first.path(),
        &["storage", "check"],
    )?)
    .await?;
    let lines = export(Store::Elasticsearch, first.path()).await?;
    elasticsearch.stop().await?;
    drop(turn);

    let second = tempfile::tempdir()?;
    // The second time changes nothing.
    for _ in 0..2 {
        import(Store::Embedded, second.path(), lines.path()).await?;
    }
    ended_well(tool(Store::Embedded, second.path(), &["storage", "check"])?).await?;
    let embedded = server(NAME, Store::Embedded, zone).start_on(second).await?;
    let mut found = replies;
    let skipped = play.compare(&embedded, &mut found).await?;
    allow_list::check(&found, &skipped, &listed(Store::Embedded))?;
    embedded.stop().await
}

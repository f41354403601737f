//! The levels of the log change while the program runs: by a file, at once after SIGHUP.

use std::time::Duration;

use anyhow::{Result, ensure};
use oap_proto::health::HealthCheckRequest;
use oap_proto::health::health_client::HealthClient;

use crate::oap_process::{OapCommand, OapProcess};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(30);

async fn said(process: &OapProcess, part: &str) -> Result<()> {
    wait_until(part, DEADLINE, async || {
        let log = process.log();
        ensure!(log.contains(part), "{log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn levels_change_while_it_runs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config/log-levels");
    std::fs::create_dir_all(folder.path().join("config"))?;
    let process = OapCommand::new(folder.path()).start().await?;
    std::fs::write(&file, "info,oap::status=debug\n")?;
    process.hang_up()?;
    said(&process, "info,oap::status=debug").await?;
    // What makes no sense changes nothing and is said with an example.
    std::fs::write(&file, "inof\n")?;
    process.hang_up()?;
    said(&process, "\"inof\" is no level").await?;
    said(&process, "the levels of the log stay as they are").await?;
    // Everything, from other crates, too.
    ensure!(!process.log().contains("TRACE"), "{}", process.log());
    std::fs::write(&file, "trace\n")?;
    process.hang_up()?;
    said(&process, "levels=\"trace\"").await?;
    let mut probe = HealthClient::connect(format!("http://{}", process.grpc())).await?;
    probe.check(HealthCheckRequest::default()).await?;
    said(&process, "TRACE").await?;
    std::fs::remove_file(&file)?;
    process.hang_up()?;
    said(&process, "levels=\"info\"").await?;
    process.stop().await
}

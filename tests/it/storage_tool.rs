//! `oap storage check`, `export` and `import` as an operator runs them, on the embedded store.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

use crate::oap_process::{Ended, OapCommand};
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};

const DAY_MS: i64 = 86_400_000;

fn tool(folder: &Path, arguments: &str) -> OapCommand {
    let command = OapCommand::new(folder).argument("storage");
    arguments
        .split_whitespace()
        .fold(command, |command, argument| command.argument(argument))
}

fn ensure_code(ended: &Ended, code: i32) -> Result<()> {
    ensure!(ended.status.code() == Some(code), "{ended:?}");
    Ok(())
}

/// A folder with a segment of yesterday and three of today.
async fn filled() -> Result<(tempfile::TempDir, [String; 2])> {
    let folder = tempfile::tempdir()?;
    let process = OapCommand::new(folder.path()).start().await?;
    let sender = Sender::connect(process.grpc(), process.http()).await?;
    let now = Timestamp::now().as_millisecond();
    let days = [now - DAY_MS, now];
    let starts = [days[0], now, now, now];
    let segments = starts.iter().enumerate();
    let segments = segments.map(|(n, at)| Served::new(n.to_string(), "shop", *at, 20).bytes());
    let outcome = sender
        .call(COLLECT, Calling::ClientStream, segments.collect())
        .await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    let used = tool(folder.path(), "export").run().await?;
    ensure_code(&used, 1)?;
    ensure!(
        used.stderr.contains("in use by another process"),
        "{used:?}"
    );
    process.stop().await?;
    let name = |ms| {
        anyhow::Ok(
            Timestamp::from_millisecond(ms)?
                .strftime("%Y%m%d")
                .to_string(),
        )
    };
    Ok((folder, [name(days[0])?, name(days[1])?]))
}

#[tokio::test]
async fn an_export_has_the_models_and_days_that_are_asked_for() -> Result<()> {
    let (folder, [yesterday, today]) = filled().await?;
    for (arguments, wanted) in [
        ("--model segment".to_owned(), 4),
        (format!("--model segment --from {today}"), 3),
        (format!("--model=segment --to {yesterday}"), 1),
        (
            format!("--model segment --to {today} --model service_cpm --from {today}"),
            6,
        ),
    ] {
        let ended = tool(folder.path(), &format!("export {arguments}"))
            .run()
            .await?;
        ensure_code(&ended, 0)?;
        ensure!(
            ended.stdout.lines().count() == wanted,
            "{arguments}: {ended:?}"
        );
        for line in ended.stdout.lines() {
            let row: Value = serde_json::from_str(line)?;
            let fields = row["fields"].as_object().context("no fields")?;
            ensure!(fields["time_bucket"] == row["time_bucket"], "{line}");
            if row["model"] == "segment" {
                ensure!(
                    fields["segment_id"] == row["id"] && fields["latency"] == 20,
                    "{line}"
                );
            }
        }
    }
    // Scripts that define fewer metrics than are stored.
    std::fs::create_dir_all(folder.path().join("config/oal"))?;
    let script = "service_cpm = from(Service.*).cpm();\n";
    std::fs::write(folder.path().join("config/oal/core.oal"), script)?;
    let fewer = tool(folder.path(), "export").run().await?;
    ensure_code(&fewer, 2)?;
    let left_out = fewer
        .stderr
        .lines()
        .find(|line| line.starts_with("left out"));
    ensure!(
        left_out.is_some_and(|l| l.contains("service_sla") && !l.contains("service_cpm")),
        "{fewer:?}"
    );
    let unknown = tool(folder.path(), "export --model nothing").run().await?;
    ensure_code(&unknown, 1)?;
    ensure!(unknown.stderr.contains("no model nothing"), "{unknown:?}");
    Ok(())
}

#[tokio::test]
async fn lines_that_cannot_be_stored_are_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lines = folder.path().join("lines");
    let traffic = |bucket: &str| {
        format!(
            r#"{{"model":"service_traffic","id":"YQ==.1","time_bucket":{bucket},"fields":{{"name":"a","node_type":0}}}}"#
        )
    };
    let good = traffic("202609151059");
    let unknown = good.replace("service_traffic", "telepathy");
    for (text, code, words) in [
        (
            format!("{good}\n\n{good}\n"),
            0,
            &["stored 2 rows of 1 models"][..],
        ),
        (
            format!("{unknown}\n{good}"),
            2,
            &["stored 1 rows", "left out 1 rows", "telepathy 1"],
        ),
        (
            format!("{good}\n{}\n", traffic("20251399")),
            2,
            &["line 2", "no date", "left out 1 rows"],
        ),
        (
            format!(
                "{}\n{good}\n{}\n",
                traffic("20991231"),
                traffic("209912312359")
            ),
            2,
            &[
                "line 1: service_traffic YQ==.1: the day of 20991231 has not come",
                "stored 1 rows",
                "left out 2 rows of days after ",
            ],
        ),
        (
            format!("{good}\n{{\"model\":"),
            1,
            &["line 2 is not a line of an export", "1 rows before it"],
        ),
    ] {
        std::fs::write(&lines, &text)?;
        let ended = tool(folder.path(), "import").input(&lines).run().await?;
        ensure_code(&ended, code)?;
        for word in words {
            ensure!(ended.stderr.contains(word), "{word}: {ended:?}");
        }
    }
    let files = std::fs::read_dir(folder.path().join("data"))?.collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = files.iter().map(|file| file.file_name()).collect();
    let is_ahead = |name: &OsString| name.to_string_lossy().contains("2099");
    ensure!(!names.iter().any(is_ahead), "{names:?}");
    Ok(())
}

/// Names and contents of a folder.
fn contents(folder: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let files = folder.read_dir()?.collect::<Result<Vec<_>, _>>()?;
    let files = files.iter().map(|file| {
        let contents = std::fs::read(file.path())?;
        anyhow::Ok((file.file_name(), contents))
    });
    files.collect()
}

#[tokio::test]
async fn an_export_changes_nothing_and_names_what_is_damaged() -> Result<()> {
    let (folder, [yesterday, today]) = filled().await?;
    let data = folder.path().join("data");
    let before = contents(&data)?;
    let ended = tool(folder.path(), "export").run().await?;
    ensure_code(&ended, 0)?;
    ensure!(
        ended.stdout.contains(r#""model":"ui_template""#),
        "{ended:?}"
    );
    ensure!(contents(&data)? == before);

    let damaged = format!("records-{yesterday}.db");
    std::fs::write(data.join(&damaged), "nonsense ".repeat(999))?;
    let before = contents(&data)?;
    for arguments in [
        "export",
        "export",
        &format!("export --from {today}"),
        "alarm",
    ] {
        let ended = match arguments {
            "alarm" => {
                let command = OapCommand::new(folder.path()).argument("alarm");
                command.argument("explain").run().await?
            }
            _ => tool(folder.path(), arguments).run().await?,
        };
        ensure_code(&ended, 1)?;
        ensure!(ended.stderr.contains(&damaged), "{arguments}: {ended:?}");
        ensure!(contents(&data)? == before, "{arguments}");
    }
    std::fs::remove_file(data.join(&damaged))?;
    let ended = tool(folder.path(), "export --model segment").run().await?;
    ensure_code(&ended, 0)?;
    ensure!(ended.stdout.lines().count() == 3, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_check_tells_what_is_there_and_what_is_wrong() -> Result<()> {
    let (folder, [yesterday, today]) = filled().await?;
    let ended = tool(folder.path(), "check").run().await?;
    ensure_code(&ended, 0)?;
    for text in [
        "meta.db",
        &format!("metrics-{yesterday}.db"),
        &format!("records-{today}.db"),
        "well",
    ] {
        ensure!(ended.stdout.contains(text), "{text}: {ended:?}");
    }
    let damaged = format!("records-{yesterday}.db");
    std::fs::write(
        folder.path().join("data").join(&damaged),
        "nonsense ".repeat(999),
    )?;
    let ended = tool(folder.path(), "check").run().await?;
    ensure_code(&ended, 2)?;
    let problem = ended
        .stdout
        .lines()
        .find(|line| line.starts_with("problem: "));
    ensure!(problem.is_some_and(|p| p.contains(&damaged)), "{ended:?}");
    ensure!(
        ended
            .stdout
            .contains(&format!("records-{today}.db: format")),
        "{ended:?}"
    );

    let nowhere = tool(folder.path(), "check --data nowhere").run().await?;
    ensure_code(&nowhere, 1)?;
    ensure!(nowhere.stderr.contains("no folder nowhere"), "{nowhere:?}");
    ensure!(!folder.path().join("nowhere").exists());
    Ok(())
}

//! `oap storage …`: a look at the store, and its rows out of it and into another one. The server does not run meanwhile.
//!
//! Rows go through in parts of bounded size, so that memory does not depend on how much is stored.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::time::Instant;

use super::stages::Program;
use super::store::{self, Purpose};
use super::zone;
use crate::config::{Configuration, Selection, Settings, StorageCommand, StorageSettings};
use crate::model::row::Row;
use crate::model::schema::{Model, ModelKind, Schema};
use crate::model::time_bucket::{DAY_MS, day_of};
use crate::storage::elasticsearch::Elasticsearch;
use crate::storage::embedded::Embedded;
use crate::storage::transfer::{LineError, Tally, append_line, read_line};
use crate::storage::{Backend, Inspection, Store, WriteOutcome};
use crate::util::clock::Clock;

/// Rows of one write, and bytes of their lines.
const BATCH_ROWS: usize = 1000;
const BATCH_BYTES: usize = 8 << 20;
/// A line that is longer is of no export: segments have at most 4 MiB.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(2);
/// How often a store that puts rows off is asked again, and how long after the first time.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// What a server takes that lies furthest ahead: a profile task that begins in a day has the time of its end, a quarter of
/// an hour later. Days beyond would have files or indices until they come, and then as long as their TTL says.
const MAX_AHEAD_MS: i64 = DAY_MS + 15 * 60 * 1000;
/// Rows that are left out are named up to this number.
const NAMED: u64 = 10;

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Well,
    /// Something is wrong with the store, or rows were left out; it was said what.
    Problems,
}

/// Does what a command says. Answers go to the standard output, progress to the standard error.
pub async fn run(
    configuration: &Configuration,
    command: &StorageCommand,
) -> anyhow::Result<Verdict> {
    let settings = &configuration.settings;
    let schema = Program::compile(configuration)?.schema(settings);
    match command {
        StorageCommand::Check => check(settings, &schema).await,
        StorageCommand::Export(selection) => {
            existing_folder(settings)?;
            let store = open(settings, Purpose::Read).await?;
            export(&store, &schema, selection, std::io::stdout().lock()).await
        }
        StorageCommand::Import => {
            let store = open(settings, Purpose::Write).await?;
            store.install(&schema).await?;
            let latest = zone(settings)?.day(Clock::System.now_ms() + MAX_AHEAD_MS);
            let latest = latest.context("the clock is outside the years 1970 to 9999")?;
            let import = Import::new(&store, &schema, latest);
            let verdict = import.run(std::io::stdin()).await?;
            store.completed();
            Ok(verdict)
        }
    }
}

async fn open(settings: &Settings, purpose: Purpose) -> anyhow::Result<Store> {
    store::open(settings, &zone(settings)?, &Clock::System, purpose).await
}

/// A wrong `--data` shall not look like an empty store.
pub(super) fn existing_folder(settings: &Settings) -> anyhow::Result<()> {
    match &settings.storage {
        StorageSettings::Embedded(embedded) => ensure!(
            embedded.dir.is_dir(),
            "there is no folder {}, name the one of the embedded store with --data",
            embedded.dir.display()
        ),
        StorageSettings::Elasticsearch(_) => {}
    }
    Ok(())
}

async fn check(settings: &Settings, schema: &Schema) -> anyhow::Result<Verdict> {
    existing_folder(settings)?;
    let inspection: Inspection = match &settings.storage {
        StorageSettings::Embedded(embedded) => {
            let dir = embedded.dir.clone();
            tokio::task::spawn_blocking(move || Embedded::inspect(&dir)).await??
        }
        StorageSettings::Elasticsearch(es) => {
            let es = Elasticsearch::new((&**es).into(), zone(settings)?, Clock::System)?;
            es.inspect(schema).await?
        }
    };
    let mut out = std::io::stdout().lock();
    for line in &inspection.found {
        writeln!(out, "{line}")?;
    }
    for problem in &inspection.problems {
        writeln!(out, "problem: {problem}")?;
    }
    match inspection.problems.len() {
        0 => {
            writeln!(out, "everything is well")?;
            Ok(Verdict::Well)
        }
        n => {
            writeln!(out, "{n} problems")?;
            Ok(Verdict::Problems)
        }
    }
}

fn selected<'a>(schema: &'a Schema, selection: &Selection) -> anyhow::Result<Vec<&'a Arc<Model>>> {
    if selection.models.is_empty() {
        return Ok(schema.models().iter().collect());
    }
    let models = selection.models.iter().map(|name| {
        let model = schema.model(name);
        model.with_context(|| {
            format!(
                "there is no model {name}; `oap storage check` and the scripts in oal/ name them"
            )
        })
    });
    models.collect()
}

async fn export(
    store: &Store,
    schema: &Schema,
    selection: &Selection,
    mut out: impl Write,
) -> anyhow::Result<Verdict> {
    let models = selected(schema, selection)?;
    let (from, to) = (
        selection.from.unwrap_or(0),
        selection.to.unwrap_or(u64::MAX),
    );
    store.refresh().await?;
    let mut progress = Progress::new("exported");
    for model in models {
        for day in store.days(model).await? {
            // What has no day belongs to every day.
            if day != 0 && !(from..=to).contains(&day) {
                continue;
            }
            let mut after: Option<String> = None;
            loop {
                let page = store.page(model, day, after.as_deref()).await?;
                let mut lines = Vec::new();
                for row in &page.rows {
                    append_line(&mut lines, row)?;
                    progress.count(&row.model);
                }
                out.write_all(&lines).context("failed to write")?;
                progress.show(&format!("{} {day}", model.name));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
    }
    out.flush().context("failed to write")?;
    progress.finish();
    let left_out = match selection.models.is_empty() {
        true => store.unknown_models(schema).await?,
        false => BTreeSet::new(),
    };
    if left_out.is_empty() {
        return Ok(Verdict::Well);
    }
    let names: Vec<String> = left_out.into_iter().collect();
    eprintln!(
        "left out models that the scripts here do not define: {}",
        names.join(", ")
    );
    Ok(Verdict::Problems)
}

/// Rows on their way into a store.
struct Import<'a> {
    store: &'a Store,
    schema: &'a Schema,
    /// The last day (`yyyyMMdd`) that rows may be of.
    latest: u64,
    rows: Vec<(u64, Row)>,
    bytes: usize,
    stored: Progress,
    unknown: Tally,
    ahead: Tally,
    rejected: Tally,
}

impl<'a> Import<'a> {
    fn new(store: &'a Store, schema: &'a Schema, latest: u64) -> Import<'a> {
        Import {
            store,
            schema,
            latest,
            rows: vec![],
            bytes: 0,
            stored: Progress::new("stored"),
            unknown: Tally::default(),
            ahead: Tally::default(),
            rejected: Tally::default(),
        }
    }

    /// Nothing else happens in this process, so that reading may block.
    async fn run(mut self, input: impl Read) -> anyhow::Result<Verdict> {
        let mut input = BufReader::new(input);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let mut bounded = (&mut input).take(MAX_LINE_BYTES);
            if bounded
                .read_until(b'\n', &mut line)
                .context("failed to read")?
                == 0
            {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            match read_line(self.schema, &line) {
                Ok(row) if self.is_ahead(&row) => {
                    if self.ahead.total() < NAMED {
                        eprintln!(
                            "line {number}: {} {}: the day of {} has not come",
                            row.model.name, row.id, row.time_bucket
                        );
                    }
                    self.ahead.add(&row.model.name);
                }
                Ok(row) => {
                    self.bytes += line.len();
                    self.rows.push((number, row));
                }
                Err(LineError::UnknownModel(model)) => self.unknown.add(&model),
                Err(error) => {
                    self.write().await?;
                    let stored = self.stored.tally.total();
                    bail!("line {number} {error}; {stored} rows before it are stored");
                }
            }
            if self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
                self.write().await?;
                self.stored.show(&format!("up to line {number}"));
            }
        }
        self.write().await?;
        self.store.refresh().await?;
        self.stored.finish();
        let ahead = format!("of days after {}, which have not come", self.latest);
        for (tally, why) in [
            (
                &self.unknown,
                "of models that the scripts here do not define",
            ),
            (&self.ahead, ahead.as_str()),
            (&self.rejected, "that the store refused"),
        ] {
            if tally.total() > 0 {
                eprintln!("left out {} rows {why}: {tally}", tally.total());
            }
        }
        match self.unknown.total() + self.ahead.total() + self.rejected.total() {
            0 => Ok(Verdict::Well),
            _ => Ok(Verdict::Problems),
        }
    }

    fn is_ahead(&self, row: &Row) -> bool {
        let is_dated = row.model.kind != ModelKind::Management;
        is_dated && day_of(row.time_bucket) > self.latest
    }

    /// Writes what was read, and again what the store puts off.
    async fn write(&mut self) -> anyhow::Result<()> {
        self.bytes = 0;
        let (mut numbers, mut rows): (Vec<u64>, Vec<Row>) = self.rows.drain(..).unzip();
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        while !rows.is_empty() {
            let mut again = (vec![], vec![]);
            let reason = match self.store.write(&rows).await {
                Ok(outcomes) => {
                    let mut put_off = String::new();
                    for ((number, row), outcome) in numbers.into_iter().zip(rows).zip(outcomes) {
                        match outcome {
                            WriteOutcome::Stored => self.stored.count(&row.model),
                            WriteOutcome::Rejected(reason) => {
                                if self.rejected.total() < NAMED {
                                    eprintln!(
                                        "line {number}: {} {}: {reason}",
                                        row.model.name, row.id
                                    );
                                }
                                self.rejected.add(&row.model.name);
                            }
                            WriteOutcome::Retry(reason) => {
                                put_off = reason;
                                again.0.push(number);
                                again.1.push(row);
                            }
                        }
                    }
                    put_off
                }
                Err(error) => {
                    again = (numbers, rows);
                    error.to_string()
                }
            };
            (numbers, rows) = again;
            if rows.is_empty() {
                break;
            }
            attempts += 1;
            let stored = self.stored.tally.total();
            ensure!(
                attempts < ATTEMPTS,
                "the store does not take rows: {reason}; {stored} are stored, an import can be repeated"
            );
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }
}

/// Counts rows and says now and then how many there are.
struct Progress {
    what: &'static str,
    tally: Tally,
    start: Instant,
    said: Instant,
}

impl Progress {
    fn new(what: &'static str) -> Progress {
        Progress {
            what,
            tally: Tally::default(),
            start: Instant::now(),
            said: Instant::now(),
        }
    }

    fn count(&mut self, model: &Model) {
        self.tally.add(&model.name);
    }

    fn show(&mut self, place: &str) {
        if self.said.elapsed() >= PROGRESS {
            self.said = Instant::now();
            eprintln!("{place}: {} rows {}", self.tally.total(), self.what);
        }
    }

    fn finish(&self) {
        let (rows, models) = (self.tally.total(), self.tally.models());
        let seconds = self.start.elapsed().as_secs_f64();
        eprintln!(
            "{} {rows} rows of {models} models in {seconds:.1} s",
            self.what
        );
    }
}

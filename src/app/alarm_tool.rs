//! `oap alarm explain`: what rules would have made of the values that are stored, check by check.
//!
//! A server may go on meanwhile, also on the embedded store: each page that is read sees what is stored by then.
//!
//! Every check is given the last value of its own minute, of which a running server has seen by then what had come by second
//! 16: the store does not know when a value came. What hangs on that is marked. What lies before the first day that is asked for is read as far as it decides how the first checks end, but not told.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use jiff::ToSpan;

use super::stages::Program;
use super::storage_tool::existing_folder;
use super::store::{self, Purpose};
use super::zone;
use crate::alarm::entity::{AlarmEntity, EntityKind};
use crate::alarm::running::{last_checked, limits};
use crate::alarm::window::{Limits, Outcome, Window};
use crate::config::{AlarmSelection, Configuration};
use crate::dsl::alarm::AlarmRule;
use crate::model::minute_value::Calculated;
use crate::model::row::Row;
use crate::model::schema::Model;
use crate::model::scope::Scope;
use crate::model::time_bucket::{Downsampling, Zone, start_of};
use crate::storage::{Backend, Store};
use crate::util::clock::Clock;

const MINUTE_MS: i64 = 60_000;
/// Minutes with matching values that are held at once, for one rule.
const MAX_MATCHES: usize = 1_000_000;

/// Follows what a check found with the value of its own minute only.
const IF_IN_TIME: &str = " if the value came by second 16";

/// What is stored of the metric of a rule, as the rule sees it.
#[derive(Debug)]
struct Seen {
    span: Span,
    values: u64,
    entities: BTreeMap<String, Found>,
    undecodable: u64,
    /// Also those before the time that is told.
    matches: usize,
}

/// The time that is explained, in whole minutes since the epoch.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Values count from here on.
    lead: i64,
    /// The first check that is told.
    first: i64,
    /// The last one.
    last: i64,
}

/// An entity with its minutes since the epoch and whether they match.
#[derive(Debug)]
struct Found {
    name: String,
    is_about: bool,
    /// Whether it has values in the time that is told.
    is_told: bool,
    /// Minutes that match, with their values as text.
    matching: BTreeMap<i64, String>,
}

/// Explains the rules that are asked for, one after the other.
pub async fn explain(
    configuration: &Configuration,
    selection: &AlarmSelection,
    mut out: impl Write,
) -> anyhow::Result<()> {
    let settings = &configuration.settings;
    let program = Program::compile(configuration)?;
    let rules = selected(&program.alarms.rules, selection)?;
    let (schema, zone) = (program.schema(settings), zone(settings)?);
    existing_folder(settings)?;
    let store = store::open(settings, &zone, &Clock::System, Purpose::Look).await?;
    store.refresh().await?;
    for note in &program.alarms.notes {
        writeln!(out, "alarm-settings.yml, {note}")?;
    }
    for rule in rules {
        let metric = &rule.fields.metric;
        let (Some(model), Some(scope)) = (schema.model(metric), program.scope(metric)) else {
            continue;
        };
        let span = Span::new(rule, selection, &zone, Clock::System.now_ms());
        let mut seen = Seen::new(span);
        let first_day = zone.day(span.lead.saturating_mul(MINUTE_MS)).unwrap_or(0);
        for day in store.days(model).await? {
            let is_wanted = selection.to.is_none_or(|to| day <= to) && day >= first_day;
            if is_wanted {
                seen.read(&store, model, day, (rule, scope, &zone)).await?;
            }
        }
        seen.tell(rule, &zone, &mut out)?;
    }
    out.flush().context("failed to write")
}

fn selected<'a>(
    rules: &'a [AlarmRule],
    selection: &AlarmSelection,
) -> anyhow::Result<Vec<&'a AlarmRule>> {
    ensure!(
        !rules.is_empty(),
        "alarm-settings.yml has no rules, or SW_ALARM switches them off"
    );
    for name in &selection.rules {
        if !rules.iter().any(|rule| rule.fields.name == *name) {
            let names: Vec<&str> = rules.iter().map(|r| r.fields.name.as_str()).collect();
            bail!(
                "there is no rule {name} in alarm-settings.yml, only {}",
                names.join(", ")
            );
        }
    }
    let is_wanted = |rule: &&AlarmRule| {
        selection.rules.is_empty() || selection.rules.contains(&rule.fields.name)
    };
    Ok(rules.iter().filter(is_wanted).collect())
}

impl Span {
    /// No check is told that has not been at `now_ms`.
    fn new(rule: &AlarmRule, selection: &AlarmSelection, zone: &Zone, now_ms: i64) -> Span {
        let minute = |at| Some(zone.epoch_ms(at)?.div_euclid(MINUTE_MS));
        let first = selection.from.and_then(|from| minute(start_of(from)?));
        let end = selection
            .to
            .and_then(|to| minute(start_of(to)?.checked_add(1.day()).ok()?));
        let now = last_checked(now_ms).0;
        let Limits {
            period,
            count,
            silence,
        } = limits(rule);
        // A window is full after its period, enough checks found so after the count, and an alarm is over after the silence.
        let lead = period
            .saturating_add(i64::try_from(count).unwrap_or(i64::MAX))
            .saturating_add(silence.max(0));
        let first = first.unwrap_or(0);
        Span {
            lead: first.saturating_sub(lead).max(0),
            first,
            last: end.map_or(now, |end| now.min(end - 1)),
        }
    }
}

impl Seen {
    fn new(span: Span) -> Seen {
        Seen {
            span,
            values: 0,
            entities: BTreeMap::new(),
            undecodable: 0,
            matches: 0,
        }
    }

    async fn read(
        &mut self,
        store: &Store,
        model: &Arc<Model>,
        day: u64,
        about: (&AlarmRule, Scope, &Zone),
    ) -> anyhow::Result<()> {
        let mut after: Option<String> = None;
        loop {
            let page = store.page(model, day, after.as_deref()).await?;
            for row in &page.rows {
                self.add(model, row, about);
            }
            let name = &about.0.fields.name;
            ensure!(
                self.matches <= MAX_MATCHES,
                "more than {MAX_MATCHES} minutes match {name}, ask for fewer days with --from and --to"
            );
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn add(&mut self, model: &Model, row: &Row, (rule, scope, zone): (&AlarmRule, Scope, &Zone)) {
        if Downsampling::of(row.time_bucket) != Some(Downsampling::Minute) {
            return;
        }
        let start = start_of(row.time_bucket).and_then(|at| zone.epoch_ms(at));
        let cells = row.cells.get(model.entity_columns.len()..);
        let value = cells.and_then(|cells| Calculated::from_cells(model, cells));
        let (Some(at_ms), Some(value), Some(id), Some(kind)) = (
            start,
            value,
            row.cell("entity_id").as_text(),
            EntityKind::of(scope),
        ) else {
            return;
        };
        let minute = at_ms.div_euclid(MINUTE_MS);
        if !(self.span.lead..=self.span.last).contains(&minute) {
            return;
        }
        let is_told = minute >= self.span.first;
        self.values += u64::from(is_told);
        if !self.entities.contains_key(id) {
            let Ok(entity) = AlarmEntity::parse(kind, id) else {
                self.undecodable += u64::from(is_told);
                return;
            };
            let found = Found {
                is_about: rule.is_about(&entity.name),
                is_told: false,
                name: entity.name,
                matching: BTreeMap::new(),
            };
            self.entities.insert(id.to_owned(), found);
        }
        let (is_match, text) = match &value {
            Calculated::Number(value) => (rule.matches_number(*value), value.to_string()),
            Calculated::List(values) => {
                let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
                (rule.matches_list(values), texts.join(","))
            }
        };
        let Some(found) = self.entities.get_mut(id) else {
            return;
        };
        found.is_told |= is_told;
        if is_match && found.is_about {
            found.matching.insert(minute, text);
            self.matches += 1;
        }
    }

    fn tell(&self, rule: &AlarmRule, zone: &Zone, out: &mut impl Write) -> anyhow::Result<()> {
        let fields = &rule.fields;
        let op = serde_json::to_value(fields.op)?;
        let op = op.as_str().unwrap_or_default();
        let threshold = fields.threshold.iter();
        let threshold = threshold.map(|t| t.map_or_else(|| "-".to_owned(), |t| t.to_string()));
        let threshold: Vec<String> = threshold.collect();
        let told = || self.entities.values().filter(|found| found.is_told);
        let left_out = told().filter(|found| !found.is_about);
        let matching = told().map(|found| found.matching.range(self.span.first..).count());
        writeln!(
            out,
            "{}: {} {op} {} in {} of {} minutes, found by {} checks; {} checks silent after an alarm",
            fields.name,
            fields.metric,
            threshold.join(","),
            fields.count,
            fields.period,
            fields.count,
            fields.silence_period.max(0)
        )?;
        writeln!(
            out,
            "  {} values of {} entities, {} of which its names leave out; {} values match",
            self.values,
            told().count(),
            left_out.count(),
            matching.sum::<usize>()
        )?;
        let later = match fields.period > 1 {
            true => "the next check sees what comes later",
            false => "with a period of 1 no check sees what comes later",
        };
        writeln!(
            out,
            "  a check is at second 16 and sees of its own minute what has come by then; {later}"
        )?;
        if self.undecodable > 0 {
            let values = self.undecodable;
            writeln!(out, "  {values} values are of ids that name no entity")?;
        }
        for found in self.entities.values() {
            found.tell(rule, self.span, zone, out)?;
        }
        Ok(())
    }
}

impl Found {
    /// A line for each check from the first match until everything is as before it, or the time is over.
    fn tell(
        &self,
        rule: &AlarmRule,
        span: Span,
        zone: &Zone,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let limits = limits(rule);
        let mut ahead = self.matching.iter().peekable();
        let (mut fired, mut doubtful) = (0, 0);
        let mut lines = Vec::new();
        while let Some((first, _)) = ahead.peek().filter(|(first, _)| **first <= span.last) {
            let mut window = Window::new(**first);
            let mut minute = **first;
            while minute <= span.last {
                let value = ahead
                    .next_if(|(at, _)| **at == minute)
                    .map(|(_, text)| text);
                if value.is_some() {
                    window.add(minute, true, limits);
                }
                let outcome = window.check(minute, limits);
                if minute >= span.first {
                    let is_alarm = outcome == Outcome::Fires;
                    // Without the value of this minute too few would match.
                    let is_doubtful = value.is_some() && window.matching() == limits.count;
                    fired += usize::from(is_alarm);
                    doubtful += usize::from(is_alarm && is_doubtful);
                    let value = value.map_or("no match", String::as_str);
                    lines.push(format!(
                        "    {}  {value}: {}{}",
                        wall_clock(zone, minute),
                        words(outcome, rule),
                        if is_doubtful { IF_IN_TIME } else { "" }
                    ));
                }
                minute += 1;
                if window.is_like_new() {
                    break;
                }
            }
        }
        if !lines.is_empty() {
            let doubtful = match doubtful {
                0 => String::new(),
                count => format!(", {count} of which only{IF_IN_TIME}"),
            };
            writeln!(out, "  {}: {fired} alarms{doubtful}", self.name)?;
            for line in lines {
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }
}

fn wall_clock(zone: &Zone, minute: i64) -> String {
    let at = zone.civil(minute * MINUTE_MS);
    at.map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M").to_string())
}

fn words(outcome: Outcome, rule: &AlarmRule) -> String {
    let count = rule.fields.count;
    match outcome {
        Outcome::Fires => "alarm".to_owned(),
        Outcome::TooFewMinutes(found) => format!("quiet, {found} of {count} minutes match"),
        Outcome::TooFewChecks(found) => {
            format!("quiet, found by {found} of {count} checks")
        }
        Outcome::Silent(left) => format!("silent, for {} more checks", left.max(0)),
    }
}

#[cfg(test)]
mod tests;

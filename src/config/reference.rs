//! The page that describes every setting, made from the shipped `application.yml`, its comments and what the settings
//! themselves say about keys, defaults and effects.

use std::collections::BTreeMap;

use serde_norway::Value;

use super::modules::{Support, choices, providers};
use super::{Arguments, Environment, JavaOpts, Setting, build, files, raw};

/// A key of the shipped file, or one that its comments name.
#[derive(Debug, Default)]
struct Entry {
    /// `module`, `module.provider`, `module.provider.key`; keys within keys behind a further dot.
    path: String,
    comment: String,
    /// As it is written; `""` if there are keys below it.
    text: String,
}

/// What is decided outside of `application.yml`.
const ELSEWHERE: &str = "\
| name | default | effect |
|---|---|---|
| `JAVA_OPTS` | (empty) | Split at white space. `-Dmode=init` creates what the store needs and ends, `-Dmode=no-init` waits for it instead of creating it. `-DNAME=value` comes before the variable `NAME`. `-Dmodule.provider.key=value` replaces a key of the selected provider. `-Duser.timezone` is the time zone. `-Xmx` is what queues and values may take together. Other options are named once in the log. |
| `JAVA_TOOL_OPTIONS`, `_JAVA_OPTIONS` | (empty) | The same, as every JVM reads them: the first before `JAVA_OPTS`, the second after it, with quotes around what has white space. |
| `TZ` | that of the machine | Time zone of minutes, hours and days, which names of indices follow; `-Duser.timezone` comes before it. |
| `OAP_LOG` | `info` | Levels of the log, such as `warn` or `info,oap::storage=debug`. |
| `OAP_LOG_FORMAT` | `plain` | `plain` or `json`. |
| `--config DIR` | | Looked in first for every file. |
| `--data DIR` | `data` | Where the embedded store and refused rows are. |
| `--lenient` | | As the first argument: others that make no sense are named in the log and ignored. |
";

const HEAD: &str = "\
# Settings

Made by `oap config docs` from the shipped [application.yml](../config/application.yml) and what the program does with it; the tests
compare. A value is looked for in this order: `-Dmodule.provider.key=value` in `JAVA_OPTS`, then what the file says; there, `${NAME:default}`
is `-DNAME=value` in `JAVA_OPTS`, else the variable `NAME`, else the key `NAME` beside it, else the default. The result is read as YAML again, so that a
text may carry quotes of its own. So a variable counts where the file names it: an `application.yml` of 8.1.0 lacks those that this server adds, whose
keys are set with `-D` then. `oap config print` shows what is in effect and why, `oap config check` what is wrong.

The selector of a module names its provider; `-` switches the module off. A key that the file does not have has the default of
the table too, but as in the original `recordDataTTL` is 7 then, `metricsDataTTL` 3, `bulkActions` 2000, `slowDBAccessThreshold` `default:200` and
`acceptMetricsService` false.

";

/// The whole page, as Markdown.
pub fn page() -> String {
    let text = shipped();
    let entries = entries(text);
    let mut page = HEAD.to_owned();
    for module in entries.iter().filter(|e| !e.path.contains('.')) {
        let name = module.path.as_str();
        let below = |e: &&Entry| e.path.split('.').next() == Some(name);
        let own: Vec<&Entry> = entries.iter().filter(below).collect();
        page += &format!("## {name}\n\n{}\n\n", module.comment);
        describe_module(&mut page, name, &own, text);
    }
    page + "## Outside of the file\n\n" + ELSEWHERE
}

fn shipped() -> &'static str {
    files::built_in(files::APPLICATION)
}

fn describe_module(page: &mut String, module: &str, own: &[&Entry], text: &str) {
    let selector = own.iter().find(|e| e.path.ends_with(".selector"));
    let (variable, default) = selector.map_or_else(Default::default, |e| template(&e.text));
    let supports = providers(module).unwrap_or_default();
    *page += &format!(
        "Provider: {variable}, by default `{default}`. There is {}.\n\n",
        choices(supports)
    );
    let mut seen: Vec<(String, String)> = Vec::new();
    for (provider, support) in supports {
        let prefix = format!("{module}.{provider}.");
        let keys: Vec<&Entry> = own
            .iter()
            .copied()
            .filter(|e| e.path.starts_with(&prefix) && !has_below(own, e))
            .collect();
        let variable = variable.trim_matches('`');
        let effective = effective(text, variable, provider, &prefix);
        let table = table(&prefix, &keys, effective.as_deref());
        if table.is_empty() {
            continue;
        }
        *page += &format!("### {module}.{provider}\n\n");
        *page += match support {
            Support::Works => "",
            Support::Missing => "This server does not have it.\n\n",
        };
        let mut lines: Vec<&str> = table.lines().collect();
        lines.sort_unstable();
        let sorted = lines.join("\n");
        match seen.iter().find(|(_, same)| *same == sorted) {
            Some((other, _)) => {
                *page += &format!("The keys of `{module}.{other}`.\n\n");
            }
            None => {
                let head = "| key | variable | default | effect |\n|---|---|---|---|";
                *page += &format!("{head}\n{table}\n");
            }
        }
        seen.push(((*provider).to_owned(), sorted));
    }
}

/// Whether it is a map.
fn has_below(own: &[&Entry], entry: &Entry) -> bool {
    let prefix = format!("{}.", entry.path);
    own.iter().any(|e| e.path.starts_with(&prefix))
}

/// A line for each key: those of the file in their order, then others that the server asks for.
fn table(prefix: &str, keys: &[&Entry], effective: Option<&[Setting]>) -> String {
    let mut table = String::new();
    let known: BTreeMap<&str, &Setting> = effective
        .unwrap_or_default()
        .iter()
        .filter_map(|s| Some((s.path.strip_prefix(prefix)?, s)))
        .collect();
    let in_file: BTreeMap<&str, &Entry> = keys
        .iter()
        .filter_map(|e| Some((e.path.strip_prefix(prefix)?, *e)))
        .collect();
    let names = keys.iter().filter_map(|e| e.path.strip_prefix(prefix));
    let others = known.keys().copied().filter(|k| !in_file.contains_key(k));
    for key in names.chain(others) {
        let entry = in_file.get(key);
        let (variable, written) = entry.map_or_else(Default::default, |e| template(&e.text));
        let default = known
            .get(key)
            .map_or(written.as_str(), |s| s.value.as_str());
        let default = match default {
            "" => "(empty)".to_owned(),
            text => format!("`{text}`"),
        };
        let comment = entry.map_or("", |e| e.comment.as_str());
        let effect = match known.get(key) {
            Some(s) if !s.has_effect && comment.is_empty() => "no effect".to_owned(),
            Some(s) if !s.has_effect => format!("no effect here ({comment})"),
            _ => comment.to_owned(),
        };
        let effect = effect.replace('|', "\\|");
        table += &format!("| `{key}` | {variable} | {default} | {effect} |\n");
    }
    table
}

/// What the server makes of a provider; `None` if it does not have it.
fn effective(text: &str, selector: &str, provider: &str, prefix: &str) -> Option<Vec<Setting>> {
    let mut variables = vec![(selector, provider)];
    if prefix.starts_with("cluster.") {
        // A node of a cluster must know its own address.
        variables.push(("SW_CORE_GRPC_HOST", "127.0.0.1"));
    }
    let environment: Environment = variables.into_iter().collect();
    let java = JavaOpts::default();
    let raw = raw::read(files::APPLICATION, text, &environment, &java).ok()?;
    let built = build::settings(&raw, &java, &environment, &Arguments::default()).ok()?;
    let own = built.effective.into_iter();
    Some(own.filter(|s| s.path.starts_with(prefix)).collect())
}

/// Variable, in quotes of code, and default of `${VARIABLE:default}`; another text is its own default.
fn template(text: &str) -> (String, String) {
    let inner = text.strip_prefix("${").and_then(|t| t.strip_suffix('}'));
    match inner.and_then(|t| t.split_once(':')) {
        Some((name, default)) => (format!("`{name}`"), default.trim_matches('"').to_owned()),
        None => (String::new(), text.to_owned()),
    }
}

/// Reads our own file: two spaces for each level, a comment above what it is about, `#   key: default   # effect` for a
/// key that is not there.
fn entries(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let depth = (line.len() - trimmed.len()) / 2;
        if trimmed.is_empty() {
            comment.clear();
        } else if let Some(said) = trimmed.strip_prefix('#') {
            match absent(said) {
                Some((key, default, effect)) if open.len() >= 2 => {
                    entries.push(Entry {
                        path: format!("{}.{}.{key}", open[0], open[1]),
                        comment: effect.to_owned(),
                        text: default.to_owned(),
                    });
                }
                _ => comment.push(said.trim()),
            }
        } else if let Some(item) = trimmed.strip_prefix("- ") {
            if let Some(list) = entries.last_mut() {
                let comma = if list.text.is_empty() { "" } else { "," };
                list.text = format!("{}{comma}{item}", list.text);
            }
        } else if let Some((key, value)) = trimmed.split_once(':') {
            open.truncate(depth);
            open.push(key.to_owned());
            entries.push(Entry {
                path: open.join("."),
                comment: comment.join(" "),
                text: plain(value.trim()),
            });
            comment.clear();
        }
    }
    entries
}

/// `   key: default   # effect`
fn absent(said: &str) -> Option<(&str, &str, &str)> {
    let (setting, effect) = said.strip_prefix("   ")?.split_once(" # ")?;
    let (key, default) = setting.split_once(':')?;
    let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric());
    is_key.then(|| (key, default.trim(), effect.trim()))
}

/// A scalar without its quotes.
fn plain(text: &str) -> String {
    match serde_norway::from_str(text) {
        Ok(Value::String(plain)) => plain,
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_is_what_the_settings_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        let page = page();
        let mut lines = page.lines().zip(stored.lines());
        let first = lines.find(|(now, then)| now != then);
        assert!(
            page == stored,
            "docs/configuration.md is stale: cargo run -- config docs > docs/configuration.md; first difference: {first:?}"
        );
    }

    #[test]
    fn every_setting_with_an_effect_says_which() {
        let page = page();
        let sections = page
            .split("### ")
            .filter(|s| !s.contains("does not have it"));
        let silent: Vec<&str> = sections
            .flat_map(str::lines)
            .filter(|l| l.ends_with("|  |"))
            .collect();
        assert!(
            silent.is_empty(),
            "a comment above each of these in config/application.yml: {silent:#?}"
        );
    }

    #[test]
    fn a_key_that_is_not_in_the_file_is_described_all_the_same() {
        let page = page();
        for line in [
            "| `maxMessageSize` |  | `0` |",
            "| `persistentPeriod` |  | `3` |",
            "| `downsampling` |  | `Hour,Day` |",
            "| `restPort` | `SW_CORE_REST_PORT` | `12800` |",
            "| `traceAnalysis` |  | `true` |",
        ] {
            assert!(page.contains(line), "{line}");
        }
    }
}

//! Compares index templates with the recorded ones.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::json::{canon, quote};

const PARTS: [&str; 5] = ["index_patterns", "order", "settings", "mappings", "aliases"];

/// The result by template name without namespace; the text is empty where the template is as recorded.
#[derive(Debug, Default)]
pub struct Report {
    pub templates: BTreeMap<String, String>,
    /// Templates of ours that were not recorded; not counted.
    pub additional: Vec<String>,
}

/// `want` and `got` map template names to templates.
pub fn compare(
    want: (&Map<String, Value>, &str),
    got: (&Map<String, Value>, &str),
) -> anyhow::Result<Report> {
    let ((want, want_namespace), (got, got_namespace)) = (want, got);
    let mut report = Report::default();
    let prefixes = (format!("{want_namespace}_"), format!("{got_namespace}_"));
    for (name, template) in want {
        let renamed: Value =
            serde_json::from_str(&template.to_string().replace(&prefixes.0, &prefixes.1))?;
        let model = name.strip_prefix(&prefixes.0).unwrap_or(name);
        let text = match got.get(&format!("{}{model}", prefixes.1)) {
            None => "no template".to_owned(),
            Some(found) => differences(&renamed, found),
        };
        report.templates.insert(model.to_owned(), text);
    }
    let is_additional = |name: &&str| !report.templates.contains_key(*name);
    report.additional = got
        .keys()
        .filter_map(|name| name.strip_prefix(&prefixes.1))
        .filter(is_additional)
        .map(str::to_owned)
        .collect();
    Ok(report)
}

fn differences(want: &Value, got: &Value) -> String {
    let text = |v: Option<&Value>| v.map(canon);
    let parts = PARTS.iter().filter_map(|part| {
        let (w, g) = (want.get(*part), got.get(*part));
        (text(w) != text(g)).then(|| format!("{part} expected {} got {}", quote(w), quote(g)))
    });
    parts.collect::<Vec<_>>().join("; ")
}

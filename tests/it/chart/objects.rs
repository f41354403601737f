//! Which fields the objects of a Kubernetes version have: `tests/data/kubernetes-*.json` hold, for the kinds that the chart renders, name
//! and type of every field, taken from the API description of that version (`k8s.io/kubernetes`, `api/openapi-spec/swagger.json`): `[` and `{` before a
//! type are lists and maps of it, `!` a field that must be there. Stricter than a server: a field that nobody knows is a mistake.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// What is rendered for custom resources of others.
const FOREIGN: [&str; 2] = ["monitoring.coreos.com/v1", "config.istio.io/v1alpha2"];

/// The kinds of one version.
pub(super) struct Kinds(Value);

impl Kinds {
    /// Of the oldest version for those before 1.19, whose other fields are the same for what is rendered; else of the newest one.
    pub(super) fn of(version: &str) -> Result<Kinds> {
        let minor: u32 = version.split('.').nth(1).context("no version")?.parse()?;
        let file = if minor < 19 { "1.18" } else { "1.33" };
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/data/kubernetes-{file}.json"));
        let mut kinds: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        if minor < 21 {
            // It was of the same form, and is gone from the newest description.
            let kind = kinds["kinds"]["policy/v1 PodDisruptionBudget"].take();
            if let (Some(all), false) = (kinds["kinds"].as_object_mut(), kind.is_null()) {
                all.remove("policy/v1 PodDisruptionBudget");
                all.insert("policy/v1beta1 PodDisruptionBudget".to_owned(), kind);
            }
        }
        Ok(Kinds(kinds))
    }

    /// Whether all of an object is known and has the right types.
    pub(super) fn check(&self, object: &Value) -> Result<()> {
        let text = |key: &str| object[key].as_str().with_context(|| format!("no {key}"));
        if FOREIGN.contains(&text("apiVersion")?) {
            return Ok(());
        }
        let kind = format!("{} {}", text("apiVersion")?, text("kind")?);
        let of_kind = self.0["kinds"][&kind].as_str();
        let definition = of_kind.with_context(|| format!("there is no {kind}"))?;
        ensure!(object["metadata"]["name"].is_string(), "it has no name");
        self.value(definition, object).with_context(|| kind)
    }

    fn value(&self, ty: &str, value: &Value) -> Result<()> {
        if value.is_null() {
            return Ok(());
        }
        if let Some(item) = ty.strip_prefix('[') {
            let items = value.as_array().context("not a list")?;
            for (i, v) in items.iter().enumerate() {
                ensure!(!v.is_null(), "[{i}] is null");
                self.value(item, v).with_context(|| format!("[{i}]"))?;
            }
            return Ok(());
        }
        if let Some(item) = ty.strip_prefix('{') {
            let entries = value.as_object().context("not a map")?;
            for (key, v) in entries {
                self.value(item, v).with_context(|| key.clone())?;
            }
            return Ok(());
        }
        let is_right = match ty {
            "any" => true,
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64(),
            "number" => value.is_number(),
            "scalar" => value.is_string() || value.is_number(),
            definition => return self.fields(definition, value),
        };
        ensure!(is_right, "{value} is not a {ty}");
        Ok(())
    }

    fn fields(&self, definition: &str, value: &Value) -> Result<()> {
        let known = self.0["definitions"][definition].as_object();
        let known = known.with_context(|| format!("no definition {definition}"))?;
        let fields = value
            .as_object()
            .with_context(|| format!("not a {definition}"))?;
        for (name, ty) in known {
            let must = ty.as_str().is_some_and(|t| t.starts_with('!'));
            let is_there = fields.get(name).is_some_and(|v| !v.is_null());
            ensure!(!must || is_there, "{definition} lacks {name}");
        }
        for (name, v) in fields {
            let Some(ty) = known.get(name).and_then(Value::as_str) else {
                bail!("{definition} has no {name}");
            };
            self.value(ty.trim_start_matches('!'), v)
                .with_context(|| name.clone())?;
        }
        Ok(())
    }
}

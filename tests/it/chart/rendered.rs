//! Runs helm, which `tests/peers/prepare.sh` builds, and takes apart what it renders.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize as _;
use serde_json::Value;

use crate::peers::installed;

/// The folder of the chart.
pub(super) fn chart() -> String {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("chart/skywalking");
    folder.display().to_string()
}

/// What helm says; an error if it fails.
pub(super) fn helm(arguments: &[&str]) -> Result<String> {
    let home = tempfile::tempdir()?;
    let output = Command::new(installed("helm").join("helm"))
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .output()
        .context("failed to run helm, see tests/peers/README.md")?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "helm {arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A release to be rendered.
pub(super) struct Release {
    chart: String,
    name: String,
    values: String,
    set: Vec<String>,
    kubernetes: String,
}

impl Default for Release {
    fn default() -> Release {
        Release {
            chart: chart(),
            name: "skywalking".to_owned(),
            values: String::new(),
            set: vec![],
            kubernetes: "1.33.0".to_owned(),
        }
    }
}

impl Release {
    pub(super) fn named(mut self, name: &str) -> Release {
        name.clone_into(&mut self.name);
        self
    }

    /// Of another chart than that of the project.
    pub(super) fn of(mut self, chart: &Path) -> Release {
        self.chart = chart.display().to_string();
        self
    }

    /// Text of a values file.
    pub(super) fn values(mut self, values: &str) -> Release {
        values.clone_into(&mut self.values);
        self
    }

    /// As `--set`.
    pub(super) fn set(mut self, set: &[&str]) -> Release {
        self.set.extend(set.iter().map(|s| (*s).to_owned()));
        self
    }

    pub(super) fn kubernetes(mut self, version: &str) -> Release {
        version.clone_into(&mut self.kubernetes);
        self
    }

    /// Its objects, in namespace `skywalking`.
    pub(super) fn render(&self) -> Result<Vec<Value>> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(&file, &self.values)?;
        let path = file.path().display().to_string();
        let mut arguments = vec![
            "template",
            &self.name,
            &self.chart,
            "-n",
            "skywalking",
            "-f",
            &path,
        ];
        arguments.extend(["--kube-version", &self.kubernetes]);
        arguments.extend(self.set.iter().flat_map(|s| ["--set", s]));
        let text = helm(&arguments)?;
        let documents = serde_norway::Deserializer::from_str(&text);
        let mut objects = Vec::new();
        for document in documents {
            // Unlike the type of JSON, this one refuses a key that is there twice.
            let object = serde_norway::Value::deserialize(document)?;
            let object = serde_json::to_value(object)?;
            if !object.is_null() {
                objects.push(object);
            }
        }
        Ok(objects)
    }
}

/// The object of a kind and name.
pub(super) fn of_kind<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    let found = objects
        .iter()
        .find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
    found.with_context(|| format!("no {kind} {name}"))
}

/// `NAME=value` of a container in order, `NAME=<path>` for a reference to a field, `NAME=<key>` for one to a secret.
pub(super) fn env(container: &Value) -> Vec<String> {
    let variables = container["env"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let variables = variables.iter().map(|v| {
        let name = v["name"].as_str().unwrap_or_default();
        match &v["value"] {
            Value::String(value) => format!("{name}={value}"),
            _ => {
                let from = &v["valueFrom"];
                let field = from["fieldRef"]["fieldPath"].as_str();
                let key = from["secretKeyRef"]["key"].as_str();
                format!("{name}=<{}>", field.or(key).unwrap_or_default())
            }
        }
    });
    variables.collect()
}

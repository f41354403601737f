//! The requests of the user interface of 8.1.0: fixed ones, with names of what they are about put in, and those of widgets.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const FIXED: &str = include_str!("../../data/ui-8.1.0.jsonl");

/// What is asked about, by the name that stands for it in a request.
#[derive(Debug, Clone)]
pub struct Names(BTreeMap<&'static str, Value>);

/// A request as it is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UiRequest {
    pub page: String,
    pub query: String,
    pub variables: Value,
}

impl Names {
    pub fn new(names: impl IntoIterator<Item = (&'static str, Value)>) -> Names {
        Names(names.into_iter().collect())
    }

    /// The names put in: for a whole value, or within a text.
    fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => match self.0.get(text.as_str()) {
                Some(value) => value.clone(),
                None => self.fill_text(text).into(),
            },
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.iter().map(|(k, v)| (k.clone(), self.fill(v)));
                Value::Object(fields.collect())
            }
            other => other.clone(),
        }
    }

    fn fill_text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.0 {
            if let Some(value) = value.as_str() {
                text = text.replace(name, value);
            }
        }
        text
    }

    fn text(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }
}

/// The fixed requests.
pub fn fixed(names: &Names) -> Result<Vec<UiRequest>> {
    let lines = FIXED.lines().map(serde_json::from_str::<UiRequest>);
    lines
        .map(|request| {
            let request = request?;
            Ok(UiRequest {
                query: names.fill_text(&request.query),
                variables: names.fill(&request.variables),
                page: request.page,
            })
        })
        .collect()
}

/// What the widgets of dashboards (the answer of `getAllTemplates`) ask. Each tab is a page.
pub fn of_templates(templates: &Value, names: &Names) -> Result<Vec<UiRequest>> {
    let fixed = fixed(names)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut all = vec![];
    for template in list(templates) {
        let name = template["name"].as_str().context("no name")?;
        let text = template["configuration"]
            .as_str()
            .context("no configuration")?;
        let groups: Value = serde_json::from_str(text).with_context(|| name.to_owned())?;
        let mut take = |widget: &Value, is_database, page: &str| {
            all.extend(of_widget(widget, is_database, page, names, &fixed)?);
            anyhow::Ok(())
        };
        for group in list(&groups) {
            if template["type"] != "DASHBOARD" {
                take(&group, false, name)?;
                continue;
            }
            for tab in list(&group["children"]) {
                let page = format!("{name}: {}", tab["name"].as_str().unwrap_or_default());
                for widget in list(&tab["children"]) {
                    take(&widget, group["type"] == "database", &page)?;
                }
            }
        }
    }
    Ok(all)
}

/// One request for each metric of a widget.
fn of_widget(
    widget: &Value,
    is_database: bool,
    page: &str,
    names: &Names,
    fixed: &[UiRequest],
) -> Result<Vec<UiRequest>> {
    let text = |key: &str| widget[key].as_str().unwrap_or_default();
    let operation = text("queryMetricType");
    let document = fixed
        .iter()
        .find(|r| r.query.contains(&format!("{operation}: {operation}(")))
        .with_context(|| format!("nothing asks {operation}: {widget}"))?;
    let list = |key: &str| -> Vec<String> {
        let parts = text(key).split(',').map(|part| part.trim().to_owned());
        parts.filter(|part| !part.is_empty()).collect()
    };
    let scope = match is_database {
        true => "Service",
        false => text("entityType"),
    };
    let service = match is_database {
        true => "{databaseName}",
        false => "{serviceName}",
    };
    let condition = |metric: &str| {
        if matches!(operation, "sortMetrics" | "readSampledRecords") {
            let is_of_one = is_database || widget["parentService"] == true;
            let parent = is_of_one.then(|| names.text(service));
            let order = widget["sortOrder"].as_str().unwrap_or("DES");
            return json!({"name": metric, "parentService": parent, "normal": !is_database,
                "scope": scope, "topN": 10, "order": order});
        }
        let mut entity = json!({"scope": scope, "normal": !is_database});
        if scope != "All" {
            entity["serviceName"] = names.text(service).clone();
        }
        match scope {
            "ServiceInstance" => {
                entity["serviceInstanceName"] = names.text("{instanceName}").clone()
            }
            "Endpoint" => entity["endpointName"] = names.text("{endpointName}").clone(),
            _ => {}
        }
        json!({"name": metric, "entity": entity})
    };
    let metrics = list("metricName");
    ensure!(!metrics.is_empty(), "no metric: {widget}");
    let request = |metric: &String| {
        let mut variables =
            json!({"condition": condition(metric), "duration": names.text("{duration}")});
        if operation == "readLabeledMetricsValues" {
            variables["labels"] = json!(list("labelsIndex"));
        }
        UiRequest {
            page: page.to_owned(),
            query: document.query.clone(),
            variables,
        }
    };
    Ok(metrics.iter().map(request).collect())
}

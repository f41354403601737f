//! Other names for services, instances, endpoints and addresses.
//!
//! Letters and digits are rotated by half their number. That keeps lengths, so a cut name stays the cut of its name; it
//! keeps where words begin and end, so searches find the same; and done twice it gives the name back.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::wire::Edit;

/// Limits of service and instance names, and of endpoint names, in UTF-16 units.
const LIMITS: [usize; 2] = [70, 150];
/// Stands for whoever is not observed.
const USER: &str = "User";
/// Keys of JSON whose value is a name.
const KEYS: [&str; 13] = [
    "service",
    "serviceInstance",
    "operationName",
    "peer",
    "parentService",
    "parentServiceInstance",
    "parentEndpoint",
    "networkAddressUsedAtPeer",
    "serviceName",
    "serviceInstanceName",
    "endpointName",
    "destServiceName",
    "destServiceInstanceName",
];

/// Every name of the recording.
#[derive(Debug, Default)]
pub struct Names(HashSet<String>);

impl Names {
    fn add(&mut self, name: &str) {
        if name == USER {
            return;
        }
        self.0.insert(name.to_owned());
        for limit in LIMITS {
            let units: Vec<u16> = name.encode_utf16().take(limit).collect();
            self.0.insert(String::from_utf16_lossy(&units));
        }
    }

    /// Adds the names in a JSON message or in the variables of a question.
    pub fn learn(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value.as_str() {
                        Some(name) if KEYS.contains(&key.as_str()) => self.add(name),
                        _ => self.learn(value),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            Value::String(text) => self.learn_logic_endpoint(text),
            _ => {}
        }
    }

    fn learn_logic_endpoint(&mut self, tag: &str) {
        if let Some(name) = logic_endpoint(tag)
            .as_ref()
            .and_then(|t| t["name"].as_str())
        {
            self.add(name);
        }
    }

    /// The text with other names: a name, the text of a logic endpoint, an id, or anything else, which stays.
    pub fn rename(&self, text: &str) -> String {
        if self.0.contains(text) {
            return rotate(text);
        }
        if let Some(mut tag) = logic_endpoint(text) {
            let name = tag["name"].as_str().map(rotate);
            tag.insert("name".into(), name.into());
            return Value::Object(tag).to_string();
        }
        let parts = text.split_inclusive(['.', '_', '-']);
        parts.map(|part| self.rename_part(part)).collect()
    }

    /// A part of an id with what separates it from the next.
    fn rename_part(&self, part: &str) -> String {
        let encoded = part.trim_end_matches(['.', '_', '-']);
        let name = STANDARD.decode(encoded).map(String::from_utf8);
        match name {
            Ok(Ok(name)) if self.0.contains(&name) => {
                STANDARD.encode(rotate(&name)) + &part[encoded.len()..]
            }
            _ => part.to_owned(),
        }
    }
}

/// Learns from an encoded message; changes nothing.
impl Edit for Names {
    fn text(&mut self, text: &str, is_name: bool) -> String {
        if is_name {
            self.add(text);
        } else {
            self.learn_logic_endpoint(text);
        }
        text.to_owned()
    }

    fn time(&mut self, epoch_ms: i64) -> i64 {
        epoch_ms
    }
}

/// The tag of a logic endpoint that has a name.
fn logic_endpoint(tag: &str) -> Option<Map<String, Value>> {
    let tag: Map<String, Value> = serde_json::from_str(tag).ok()?;
    tag.contains_key("name").then_some(tag)
}

/// The other name.
pub fn rotate(name: &str) -> String {
    let turn = |c: char, first: u8, half: u8| {
        let at = (c as u8 - first + half) % (2 * half);
        char::from(first + at)
    };
    name.chars()
        .map(|c| match c {
            'a'..='z' => turn(c, b'a', 13),
            'A'..='Z' => turn(c, b'A', 13),
            '0'..='9' => turn(c, b'0', 5),
            other => other,
        })
        .collect()
}

#[test]
fn ids_and_names_are_renamed_and_back() -> Result<()> {
    let mut names = Names::default();
    names.learn(&serde_json::json!({
        "service": "shop", "spans": [{"operationName": "/buy/1", "tags": [{"value": "{\"name\":\"sale\"}"}]}],
    }));
    let shop = STANDARD.encode("shop");
    let other = STANDARD.encode("fubc");
    let user = STANDARD.encode(USER);
    for (text, renamed) in [
        ("shop".to_owned(), "fubc".to_owned()),
        ("/buy/1".to_owned(), "/ohl/6".to_owned()),
        ("sale".to_owned(), "fnyr".to_owned()),
        (
            "{\"name\":\"sale\",\"latency\":1}".to_owned(),
            "{\"name\":\"fnyr\",\"latency\":1}".to_owned(),
        ),
        (format!("{user}.0-{shop}.1"), format!("{user}.0-{other}.1")),
        (
            format!("{shop}.1_{}", STANDARD.encode("/buy/1")),
            format!("{other}.1_{}", STANDARD.encode("/ohl/6")),
        ),
        ("shopping".to_owned(), "shopping".to_owned()),
        (USER.to_owned(), USER.to_owned()),
    ] {
        ensure!(
            names.rename(&text) == renamed,
            "{text}: {}",
            names.rename(&text)
        );
    }
    let back = rotate(&rotate("Ünder-Score_09 z"));
    ensure!(back == "Ünder-Score_09 z", "{back}");
    Ok(())
}

//! Reads the recorded files of `tests/data/golden-a`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Folder of the recording.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden-a")
}

/// Text of a file, unpacked if its name ends in `.gz`.
pub fn read(path: &Path) -> Result<String> {
    let bytes =
        std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    let mut text = String::new();
    let is_packed = path.extension().is_some_and(|e| e == "gz");
    if is_packed {
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text)
    } else {
        bytes.as_slice().read_to_string(&mut text)
    }
    .with_context(|| format!("failed to unpack {}", path.display()))?;
    Ok(text)
}

/// One value per line.
pub fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    read(path)?
        .lines()
        .filter(|line| !line.is_empty())
        .enumerate()
        .map(|(i, line)| {
            serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), i + 1))
        })
        .collect()
}

/// A question with its recorded answer.
#[derive(Debug, Clone, Deserialize)]
pub struct Question {
    pub name: String,
    /// Absent for a raw request.
    pub query: Option<String>,
    #[serde(default)]
    pub variables: Value,
    /// A raw request instead of a query.
    pub http: Option<RawRequest>,
    pub status: u16,
    /// Null for an error page; `{"_text": …}` for other text.
    pub response: Value,
    #[serde(default, rename = "compare", deserialize_with = "is_count")]
    pub is_count_only: bool,
    /// Names are not those of the recording, so another order of equal values is right.
    #[serde(skip)]
    pub has_other_names: bool,
}

/// A raw HTTP request.
#[derive(Debug, Clone, Deserialize)]
pub struct RawRequest {
    pub method: String,
    pub path: String,
    pub body: Option<String>,
}

fn is_count<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(Option::<String>::deserialize(from)?.as_deref() == Some("count"))
}

/// A stored document.
#[derive(Debug, Clone, Deserialize)]
pub struct Document {
    #[serde(alias = "_index")]
    pub index: String,
    #[serde(rename = "_id")]
    pub id: String,
    #[serde(rename = "_source")]
    pub source: Map<String, Value>,
}

/// Circumstances of the recording.
#[derive(Debug, Clone, Deserialize)]
pub struct Meta {
    /// `yyyyMMdd` of all message times.
    pub scenario_day: String,
    pub namespace: String,
}

/// The questions in the order they were asked; some depend on earlier ones.
pub fn questions() -> Result<Vec<Question>> {
    lines(&folder().join("graphql.jsonl.gz"))
}

/// Every recorded document.
pub fn documents() -> Result<Vec<Document>> {
    lines(&folder().join("es-docs.jsonl.gz"))
}

pub fn meta() -> Result<Meta> {
    Ok(serde_json::from_str(&read(&folder().join("meta.json"))?)?)
}

//! Rows as documents: written straight into the bytes of a bulk request, read back from `_source` (storage 2.5, 8.2).

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::model::row::{Cell, Row};
use crate::model::schema::{ColumnType, Model};
use crate::storage::StorageError;

/// The fields of a document, not read yet: numbers are read from their digits, as [`serde_json::Value`] may give a double
/// that differs in its last bit.
pub type Source = HashMap<String, Box<RawValue>>;

/// Appends the document of a row as one line of JSON. Null cells are left out: a JSON null in a column that is copied
/// fails on later 7.x servers.
pub fn append(out: &mut Vec<u8>, row: &Row) -> std::io::Result<()> {
    out.push(b'{');
    let start = out.len();
    for (column, cell) in row.model.columns.iter().zip(&row.cells) {
        let before = out.len();
        if before > start {
            out.push(b',');
        }
        write!(out, "\"{}\":", column.name)?;
        if !append_cell(out, cell)? {
            out.truncate(before);
        }
    }
    if row.model.stores_time_bucket {
        if out.len() > start {
            out.push(b',');
        }
        write!(out, "\"time_bucket\":{}", row.time_bucket)?;
    }
    out.extend_from_slice(b"}\n");
    Ok(())
}

/// False if there is nothing to write.
fn append_cell(out: &mut Vec<u8>, cell: &Cell) -> std::io::Result<bool> {
    match cell {
        Cell::Null => return Ok(false),
        Cell::Double(n) if !n.is_finite() => return Ok(false),
        Cell::Long(n) => write!(out, "{n}")?,
        Cell::Double(n) => serde_json::to_writer(&mut *out, n)?,
        Cell::Text(text) => append_text(out, text)?,
        Cell::Bytes(bytes) => {
            out.push(b'"');
            let start = out.len();
            out.resize(start + bytes.len().div_ceil(3) * 4, 0);
            let target = out.get_mut(start..).unwrap_or_default();
            STANDARD
                .encode_slice(bytes, target)
                .map_err(std::io::Error::other)?;
            out.push(b'"');
        }
    }
    Ok(true)
}

/// Appends a JSON string.
pub fn append_text(out: &mut Vec<u8>, text: &str) -> std::io::Result<()> {
    serde_json::to_writer(out, text)?;
    Ok(())
}

/// The cells of a document in the order of the columns; absent ones are null.
pub fn cells(model: &Model, source: &Source) -> Result<Vec<Cell>, StorageError> {
    let damaged = |column: &str| {
        StorageError::Damaged(format!(
            "column {column} of model {} holds another type",
            model.name
        ))
    };
    model
        .columns
        .iter()
        .map(
            |column| match source.get(column.name).map(|raw| raw.get()) {
                None | Some("null") => Ok(Cell::Null),
                Some(raw) => cell(column.ty, raw).ok_or_else(|| damaged(column.name)),
            },
        )
        .collect()
}

fn cell(ty: ColumnType, raw: &str) -> Option<Cell> {
    Some(match ty {
        ColumnType::Int | ColumnType::Long => {
            let whole = raw.parse().ok();
            Cell::Long(whole.or_else(|| double(raw).map(|n| n as i64))?)
        }
        ColumnType::Double => Cell::Double(double(raw)?),
        ColumnType::Keyword | ColumnType::Table | ColumnType::Json => {
            Cell::text(text(raw)?.as_ref())
        }
        ColumnType::Binary => Cell::Bytes(STANDARD.decode(text(raw)?.as_ref()).ok()?.into()),
    })
}

/// The double that is nearest to a JSON number.
fn double(raw: &str) -> Option<f64> {
    raw.parse().ok().filter(|n: &f64| n.is_finite())
}

fn text(raw: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Some(serde_json::from_str::<Text<'_>>(raw).ok()?.0)
}

/// Reads a double exactly, for fields of answers.
pub fn exact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let raw = Option::<Box<RawValue>>::deserialize(deserializer)?;
    raw.map(|raw| {
        let not_a_number = || serde::de::Error::custom(format!("{raw} is not a number"));
        double(raw.get()).ok_or_else(not_a_number)
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::model::metrics::{Entrance, Function, Input, MetricDefinition, Value};
    use crate::model::schema::Schema;
    use crate::model::scope::Scope;

    fn row(model: &str, time_bucket: u64, cells: Vec<Cell>) -> Row {
        let schema = Schema::build(&[], &[], &[], false);
        Row {
            model: Arc::clone(schema.model(model).unwrap()),
            id: "id".to_owned(),
            time_bucket,
            cells,
        }
    }

    fn line(row: &Row) -> String {
        let mut out = vec![];
        append(&mut out, row).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn segment(endpoint: Cell, data: &'static [u8]) -> Row {
        let text = |t: &str| Cell::text(t);
        let cells = vec![
            text("s1"),
            text("t1"),
            text("/a \"b\"\n - t1"),
            text("b3JkZXI=.1"),
            text("b3JkZXI=.1_aQ=="),
            endpoint,
            text("b3JkZXI=.1_L2E="),
            Cell::Long(1_600_167_570_005),
            Cell::Long(1_600_167_570_105),
            Cell::Long(100),
            Cell::Long(0),
            Cell::Bytes(Bytes::from_static(data)),
            Cell::Long(3),
        ];
        row("segment", 20_200_915_105_930, cells)
    }

    #[test]
    fn a_document_is_one_line_without_nulls() {
        assert_eq!(
            line(&segment(Cell::Null, b"\x0a\xff\x00\x01")),
            concat!(
                r#"{"segment_id":"s1","trace_id":"t1","statement":"/a \"b\"\n - t1","service_id":"b3JkZXI=.1","#,
                r#""service_instance_id":"b3JkZXI=.1_aQ==","endpoint_id":"b3JkZXI=.1_L2E=","start_time":1600167570005,"#,
                r#""end_time":1600167570105,"latency":100,"is_error":0,"data_binary":"Cv8AAQ==","version":3,"#,
                r#""time_bucket":20200915105930}"#,
                "\n"
            )
        );
        let traffic = vec![Cell::text("order"), Cell::Long(0)];
        assert_eq!(
            line(&row("service_traffic", 202_009_151_059, traffic)),
            "{\"name\":\"order\",\"node_type\":0}\n"
        );
        assert_eq!(
            line(&row("service_traffic", 0, vec![Cell::Null, Cell::Null])),
            "{}\n"
        );
    }

    #[test]
    fn a_document_is_read_back_as_it_was_written() {
        for data in [&b""[..], b"1", b"12", b"123"] {
            let written = segment(Cell::text("/ä/{id}"), data);
            let source: Source = serde_json::from_str(&line(&written)).unwrap();
            assert_eq!(cells(&written.model, &source).unwrap(), written.cells);
        }
    }

    /// Every function, after the same measures.
    fn aggregates(measures: &[i32]) -> Vec<(Function, Value)> {
        let functions = [
            Function::LongAvg,
            Function::DoubleAvg,
            Function::Sum,
            Function::Max,
            Function::Min,
            Function::MaxDouble,
            Function::MinDouble,
            Function::Cpm,
            Function::Percent,
            Function::Apdex,
            Function::Histogram {
                step: 100,
                max_steps: 20,
            },
            Function::Percentile { precision: 10 },
            Function::Rank {
                rank: 99,
                precision: 10,
            },
        ];
        let aggregate = |function: Function| {
            let mut value = function.empty();
            for n in measures.iter().copied() {
                let apdex = Input::Apdex {
                    latency: n.into(),
                    is_ok: n % 3 != 0,
                    threshold: 500,
                };
                let double = Input::Double(f64::from(n) / 4.0);
                for input in [
                    Input::Long(n.into()),
                    double,
                    Input::Match(n % 2 == 0),
                    apdex,
                ] {
                    function.accept(&mut value, input);
                }
            }
            (function, value)
        };
        functions.map(aggregate).into()
    }

    proptest! {
        #[test]
        fn values_come_back_out_of_documents(measures in prop::collection::vec(any::<i32>(), 0..9), name in any::<String>()) {
            for (function, value) in aggregates(&measures) {
                let metric = MetricDefinition {
                    name: "m".to_owned(),
                    scope: Scope::Service,
                    filters: vec![],
                    function,
                    entrance: Entrance::One,
                };
                let model = Arc::new(Model::of_metric(&metric, false));
                let mut written = vec![Cell::text(name.as_str()); model.entity_columns.len()];
                written.extend(function.to_cells(&value, 20_200_915));
                let row = Row { model, id: "id".to_owned(), time_bucket: 20_200_915, cells: written };
                let source: Source = serde_json::from_str(&line(&row)).unwrap();
                let read = cells(&row.model, &source).unwrap();
                prop_assert_eq!(read[0].as_text(), Some(name.as_str()));
                let read = function.from_cells(&read[row.model.entity_columns.len()..]);
                prop_assert_eq!(read, Some(value));
            }
        }
    }

    #[test]
    fn a_number_is_read_to_its_last_bit() {
        for digits in ["0.1", "3.0e2", "-7", "1.7976931348623157e308", "5e-324"] {
            let want: f64 = digits.parse().unwrap();
            assert_eq!(cell(ColumnType::Double, digits), Some(Cell::Double(want)));
        }
        for (raw, want) in [
            ("12", Some(12)),
            ("12.9", Some(12)),
            ("9223372036854775807", Some(i64::MAX)),
            ("\"12\"", None),
            ("true", None),
            ("[1]", None),
        ] {
            assert_eq!(cell(ColumnType::Long, raw), want.map(Cell::Long), "{raw}");
        }
        for raw in ["1e999", "\"1\"", "{}"] {
            assert_eq!(cell(ColumnType::Double, raw), None, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn any_double_comes_back_out_of_a_document(number in any::<f64>()) {
            prop_assume!(number.is_finite());
            let mut out = vec![];
            append_cell(&mut out, &Cell::Double(number)).unwrap();
            let read = cell(ColumnType::Double, std::str::from_utf8(&out).unwrap());
            prop_assert_eq!(read, Some(Cell::Double(number)));
        }
    }

    #[test]
    fn a_column_of_another_type_is_damage() {
        let model = row("service_traffic", 0, vec![]).model;
        let source: Source = serde_json::from_str(r#"{"name": 7}"#).unwrap();
        let error = cells(&model, &source).unwrap_err();
        assert!(error.to_string().contains("column name"), "{error}");
    }
}

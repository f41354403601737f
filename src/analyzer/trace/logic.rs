//! Logic endpoints: operations that agents mark with the tag `x-le` (8.1.0 spec, B.6; coercions: correction 10).

use std::sync::Arc;

use serde_json::Value;

use super::segment::{Segment, Span};
use super::span::latency;
use crate::analyzer::naming::cut;
use crate::analyzer::request::push_source;
use crate::analyzer::{Analyzer, Facts};
use crate::model::scope::{DetectPoint, RequestType};
use crate::model::source::{Names, Request};

struct Logic<'a> {
    name: std::borrow::Cow<'a, str>,
    latency: i32,
    status: bool,
}

impl Analyzer {
    pub(super) fn local_span(
        &mut self,
        segment: &Segment<'_>,
        span: &Span<'_>,
        minute: u64,
        facts: &mut Facts,
    ) {
        for tag in span.tags.iter().filter(|tag| tag.key == "x-le") {
            if let Some(object) = parse(tag.value) {
                let logic = match object.get("logic-span").map(as_bool) {
                    Some(Some(true)) => Some(Logic {
                        name: span.operation_name.into(),
                        latency: latency(span),
                        status: !span.is_error,
                    }),
                    Some(None) => None,
                    Some(Some(false)) | None => described(&object),
                };
                self.push_logic(segment, logic, minute, facts);
            }
        }
    }

    pub(super) fn logic_endpoint(
        &mut self,
        segment: &Segment<'_>,
        span: &Span<'_>,
        minute: u64,
        facts: &mut Facts,
    ) {
        for tag in span.tags.iter().filter(|tag| tag.key == "x-le") {
            let logic = parse(tag.value).as_ref().and_then(described);
            self.push_logic(segment, logic, minute, facts);
        }
    }

    fn push_logic(
        &mut self,
        segment: &Segment<'_>,
        logic: Option<Logic<'_>>,
        minute: u64,
        facts: &mut Facts,
    ) {
        let Some(logic) = logic else { return };
        let names = self.settings.names;
        let service = cut(segment.service, names.service);
        let name = cut(&logic.name, names.endpoint);
        let group = self.endpoints.group(service, name);
        let set = self.entities.request(
            service,
            cut(segment.service_instance, names.service),
            group.as_deref().unwrap_or(name),
        );
        let request = Request {
            latency: logic.latency,
            status: logic.status,
            response_code: 0,
            ty: RequestType::Logic,
            detect_point: DetectPoint::Server,
            component_id: 0,
        };
        let names = Names::Request(Arc::clone(&set.names));
        push_source(&set.endpoint, names, minute, request, facts);
    }
}

/// The object in a tag; a tag without one is ignored, the segment stays.
fn parse(text: &str) -> Option<serde_json::Map<String, Value>> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

fn described(object: &serde_json::Map<String, Value>) -> Option<Logic<'static>> {
    let name = match object.get("name")? {
        Value::String(name) => name.clone(),
        Value::Number(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
        _ => return None,
    };
    Some(Logic {
        name: name.into(),
        latency: as_int(object.get("latency")?)?,
        status: as_bool(object.get("status")?)?,
    })
}

/// Java's narrowing of whatever number or numeric text there is.
fn as_int(value: &Value) -> Option<i32> {
    match value {
        Value::Number(n) => n
            .as_i64()
            .or_else(|| n.as_f64().map(|f| f as i64))
            .map(|n| n as i32),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Whether it says `true`; a number does not.
fn as_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        Value::String(text) => Some(text.eq_ignore_ascii_case("true")),
        Value::Number(_) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_coerced_like_the_original_does() {
        for (latency, want) in [
            (r#""12""#, Some(12)),
            ("3.7", Some(3)),
            ("99999999999", Some(1_215_752_191)),
            (r#""text""#, None),
            ("null", None),
            ("[]", None),
        ] {
            let tag = format!(r#"{{"name":"a","latency":{latency},"status":"true"}}"#);
            let logic = parse(&tag).as_ref().and_then(described);
            assert_eq!(
                logic.map(|l| (l.latency, l.status)),
                want.map(|n| (n, true))
            );
        }
        for (status, want) in [
            ("true", Some(true)),
            (r#""TRUE""#, Some(true)),
            (r#""yes""#, Some(false)),
            ("1", Some(false)),
            ("null", None),
            ("[true]", None),
        ] {
            let tag = format!(r#"{{"name":"a","latency":1,"status":{status}}}"#);
            let logic = parse(&tag).as_ref().and_then(described);
            assert_eq!(logic.map(|l| l.status), want, "{status}");
        }
        for (name, want) in [("7", Some("7")), ("true", Some("true")), ("null", None)] {
            let tag = format!(r#"{{"name":{name},"latency":1,"status":true}}"#);
            let logic = parse(&tag).as_ref().and_then(described);
            assert_eq!(logic.map(|l| l.name.into_owned()).as_deref(), want);
        }
        assert!(parse("").is_none() && parse("[]").is_none());
    }
}

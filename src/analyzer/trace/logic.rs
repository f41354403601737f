//! Logic endpoints: operations that agents mark with the tag `x-le` (8.1.0 spec, B.6; coercions: correction 10).

use oap_proto::agent::{SegmentObject, SpanObject};
use serde_json::Value;

use super::span::latency;
use crate::analyzer::naming::cut;
use crate::analyzer::request::push_source;
use crate::analyzer::{Analyzer, Facts};
use crate::model::scope::{DetectPoint, RequestType};
use crate::model::source::Request;

struct Logic<'a> {
    name: std::borrow::Cow<'a, str>,
    latency: i32,
    status: bool,
}

impl Analyzer {
    pub(super) fn local_span(
        &mut self,
        segment: &SegmentObject,
        span: &SpanObject,
        minute: u64,
        facts: &mut Facts,
    ) {
        for tag in span.tags.iter().filter(|tag| tag.key == "x-le") {
            if let Some(object) = parse(&tag.value) {
                let logic = if object.get("logic-span").is_some_and(as_bool) {
                    Some(Logic {
                        name: span.operation_name.as_str().into(),
                        latency: latency(span),
                        status: !span.is_error,
                    })
                } else {
                    described(&object)
                };
                self.push_logic(segment, logic, minute, facts);
            }
        }
    }

    pub(super) fn logic_endpoint(
        &mut self,
        segment: &SegmentObject,
        span: &SpanObject,
        minute: u64,
        facts: &mut Facts,
    ) {
        for tag in span.tags.iter().filter(|tag| tag.key == "x-le") {
            let logic = parse(&tag.value).as_ref().and_then(described);
            self.push_logic(segment, logic, minute, facts);
        }
    }

    fn push_logic(
        &mut self,
        segment: &SegmentObject,
        logic: Option<Logic<'_>>,
        minute: u64,
        facts: &mut Facts,
    ) {
        let Some(logic) = logic else { return };
        let names = self.settings.names;
        let service = cut(&segment.service, names.service);
        let name = cut(&logic.name, names.endpoint);
        let group = self.endpoints.group(service, name);
        let set = self.entities.request(
            service,
            cut(&segment.service_instance, names.service),
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
        push_source(&set.endpoint, Some(&set.names), minute, request, facts);
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
        status: as_bool(object.get("status")?),
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

fn as_bool(value: &Value) -> bool {
    match value {
        Value::Bool(b) => *b,
        Value::String(text) => text.eq_ignore_ascii_case("true"),
        _ => false,
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
        assert!(parse("").is_none() && parse("[]").is_none());
    }
}

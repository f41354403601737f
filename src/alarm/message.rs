//! An alarm as it is stored and sent (8.1.0 spec, H.4).

use std::collections::HashSet;
use std::sync::Arc;

use oap_proto::alarm as proto;
use serde::Serialize;

use super::entity::AlarmEntity;
use crate::model::row::{Cell, Row};
use crate::model::schema::Model;

/// An alarm. The fields have the order and names of the original's JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlarmMessage {
    pub scope_id: i64,
    pub scope: &'static str,
    pub name: String,
    pub id0: String,
    pub id1: String,
    pub rule_name: String,
    pub alarm_message: String,
    /// Epoch milliseconds.
    pub start_time: i64,
}

impl AlarmMessage {
    pub fn new(entity: AlarmEntity, rule_name: &str, text: String, now_ms: i64) -> AlarmMessage {
        AlarmMessage {
            scope_id: entity.kind.scope_id(),
            scope: entity.kind.scope(),
            name: entity.name,
            id0: entity.id0,
            id1: entity.id1,
            rule_name: rule_name.to_owned(),
            alarm_message: text,
            start_time: now_ms,
        }
    }
}

impl From<&AlarmMessage> for proto::AlarmMessage {
    fn from(message: &AlarmMessage) -> proto::AlarmMessage {
        proto::AlarmMessage {
            scope_id: message.scope_id,
            scope: message.scope.to_owned(),
            name: message.name.clone(),
            id0: message.id0.clone(),
            id1: message.id1.clone(),
            rule_name: message.rule_name.clone(),
            alarm_message: message.alarm_message.clone(),
            start_time: message.start_time,
        }
    }
}

/// The body of a webhook: an array, with the characters escaped that the original escapes.
pub fn to_json(messages: &[AlarmMessage]) -> serde_json::Result<String> {
    let json = serde_json::to_string(messages)?;
    let mut escaped = String::with_capacity(json.len());
    // None of them can be outside of a text.
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '=' | '\'' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => escaped.push(c),
        }
    }
    Ok(escaped)
}

/// The rows of the alarms of one check. The first one of an entity has the id of the original, which lacks the rule; further
/// ones have the rule behind it.
pub fn to_rows(messages: &[AlarmMessage], model: &Arc<Model>, second: u64) -> Vec<Row> {
    let mut ids = HashSet::new();
    let rows = messages.iter().map(|message| {
        let AlarmMessage {
            scope_id, id0, id1, ..
        } = message;
        let mut id = format!("{second}_{scope_id}_{id0}_{id1}");
        if !ids.insert(id.clone()) {
            id = format!("{id}_{}", message.rule_name);
        }
        let cells = model.columns.iter().map(|column| match column.name {
            "scope" => Cell::Long(*scope_id),
            "name" => Cell::text(message.name.as_str()),
            "id0" => Cell::text(id0.as_str()),
            "id1" => Cell::text(id1.as_str()),
            "start_time" => Cell::Long(message.start_time),
            "alarm_message" => Cell::text(message.alarm_message.as_str()),
            _ => Cell::Null,
        });
        Row {
            model: Arc::clone(model),
            id,
            time_bucket: second,
            cells: cells.collect(),
        }
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm::entity::EntityKind;
    use crate::model::schema::Schema;

    fn message(rule: &str) -> AlarmMessage {
        let entity = AlarmEntity::parse(EntityKind::Service, "c2hvcA==.1").unwrap();
        AlarmMessage::new(
            entity,
            rule,
            "shop's <\"sla\"> & é\u{2028}".into(),
            1_600_167_570_123,
        )
    }

    #[test]
    fn the_body_of_a_webhook_is_that_of_the_original() {
        let json = to_json(&[message("a_rule")]).unwrap();
        let want = r#"[{"scopeId":1,"scope":"SERVICE","name":"shop","id0":"c2hvcA\u003d\u003d.1","id1":"","ruleName":"a_rule","alarmMessage":"shop\u0027s \u003c\"sla\"\u003e \u0026 é\u2028","startTime":1600167570123}]"#;
        assert_eq!(json, want);
    }

    #[test]
    fn alarms_of_one_entity_have_rows_of_their_own() {
        let schema = Schema::build(&[], &[], &[], false);
        let model = schema.model("alarm_record").unwrap();
        let messages = [message("a_rule"), message("b_rule")];
        let rows = to_rows(&messages, model, 20_200_915_105_930);
        let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let first = "20200915105930_1_c2hvcA==.1_";
        assert_eq!(ids, [first, &format!("{first}_b_rule")]);
        assert!(rows.iter().all(|row| row.time_bucket == 20_200_915_105_930));
        assert_eq!(rows[0].cell("scope").as_long(), Some(1));
        assert_eq!(
            rows[0].cell("start_time").as_long(),
            Some(1_600_167_570_123)
        );
        assert_eq!(rows[0].cell("id1").as_text(), Some(""));
        assert!(!rows[0].cells.contains(&Cell::Null));
    }
}

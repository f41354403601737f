//! Instance properties and heartbeats (8.1.0 spec, A.3).

use std::sync::Arc;

use bytes::Bytes;
use oap_proto::agent::{InstancePingPkg, InstanceProperties, KeyStringValuePair};
use prost::Message as _;
use serde_json::{Map, Value};

use super::naming::cut;
use super::trace::check_name;
use super::{Analyzer, Fact, Facts, Reject};
use crate::model::scope::NodeType;

impl Analyzer {
    pub(super) fn instance_properties(
        &mut self,
        bytes: &Bytes,
        facts: &mut Facts,
    ) -> Result<(), Reject> {
        let message = InstanceProperties::decode(bytes.clone()).map_err(|_| Reject::Undecodable)?;
        let properties = properties_json(&message.properties);
        self.instance_is_alive(
            &message.service,
            &message.service_instance,
            Some(properties.into()),
            facts,
        )
    }

    pub(super) fn keep_alive(&mut self, bytes: &Bytes, facts: &mut Facts) -> Result<(), Reject> {
        let message = InstancePingPkg::decode(bytes.clone()).map_err(|_| Reject::Undecodable)?;
        self.instance_is_alive(&message.service, &message.service_instance, None, facts)?;
        let name = cut(&message.service, self.settings.names.service);
        facts.push(Fact::Service {
            entity: self.entities.service(name, NodeType::Normal),
            minute: self.this_minute()?,
        });
        Ok(())
    }

    fn instance_is_alive(
        &mut self,
        service: &str,
        instance: &str,
        properties: Option<Arc<str>>,
        facts: &mut Facts,
    ) -> Result<(), Reject> {
        check_name(service)?;
        check_name(instance)?;
        let service = cut(service, self.settings.names.service);
        let instance = cut(instance, self.settings.names.instance);
        if service.is_empty() || instance.is_empty() {
            return Err(Reject::MissingId);
        }
        let minute = self.this_minute()?;
        if let Some(entity) = self.entities.instance(service, instance) {
            facts.push(Fact::Instance {
                entity,
                minute,
                last_ping: minute,
                properties,
            });
        }
        Ok(())
    }

    fn this_minute(&self) -> Result<u64, Reject> {
        self.zone
            .minute(self.clock.now_ms())
            .ok_or(Reject::TimeOutOfRange)
    }
}

/// Key of the joined addresses; what agents send is `ipv4`, once per address.
const ADDRESSES: &str = "ipv4s";

/// Properties as the original stores them: a compact JSON object in order of arrival, addresses joined, with the
/// characters escaped that its JSON library escapes for HTML.
fn properties_json(properties: &[KeyStringValuePair]) -> String {
    let mut object = Map::new();
    let mut addresses: Vec<&str> = Vec::new();
    for property in properties {
        if property.key == "ipv4" {
            addresses.push(&property.value);
        } else {
            object.insert(property.key.clone(), Value::from(property.value.as_str()));
        }
    }
    object.insert(ADDRESSES.to_owned(), Value::from(addresses.join(",")));
    escape_html(&Value::Object(object).to_string())
}

fn escape_html(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '=' => escaped.push_str("\\u003d"),
            '\'' => escaped.push_str("\\u0027"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyzer::AnalyzerSettings;
    use crate::model::id;
    use crate::model::message::Message;
    use crate::model::schema::Schema;
    use crate::model::time_bucket::Zone;
    use crate::stream::AddressBook;
    use crate::util::clock::Clock;

    #[test]
    fn properties_keep_order_and_join_addresses() {
        let pair = |key: &str, value: &str| KeyStringValuePair {
            key: key.into(),
            value: value.into(),
        };
        let json = properties_json(&[
            pair("OS Name", "Linux <&'=>"),
            pair("ipv4", "10.0.0.1"),
            pair("language", "java"),
            pair("ipv4", "10.0.0.2"),
            pair("OS Name", "x"),
        ]);
        assert_eq!(
            json,
            r#"{"OS Name":"x","language":"java","ipv4s":"10.0.0.1,10.0.0.2"}"#
        );
        assert_eq!(
            properties_json(&[pair("a", "<'&=>")]),
            r#"{"a":"\u003c\u0027\u0026\u003d\u003e","ipv4s":""}"#
        );
    }

    #[test]
    fn addresses_take_the_place_of_a_property_of_their_name() {
        let pair = |key: &str, value: &str| KeyStringValuePair {
            key: key.into(),
            value: value.into(),
        };
        for (properties, want) in [
            (vec![], r#"{"ipv4s":""}"#),
            (
                vec![pair("ipv4", ""), pair("ipv4", "b")],
                r#"{"ipv4s":",b"}"#,
            ),
            (
                vec![pair("ipv4s", "x"), pair("a", "1"), pair("ipv4", "y")],
                r#"{"ipv4s":"y","a":"1"}"#,
            ),
            (
                vec![pair("\"\\\n\u{1}\u{7f}", "\u{2028}\u{2029}ü😀/")],
                "{\"\\\"\\\\\\n\\u0001\u{7f}\":\"\\u2028\\u2029ü😀/\",\"ipv4s\":\"\"}",
            ),
        ] {
            assert_eq!(properties_json(&properties), want);
        }
    }

    #[test]
    fn an_instance_is_alive_when_the_server_says() {
        let now_ms = 1_600_167_570_000;
        let mut analyzer = Analyzer::new(
            Arc::new(AnalyzerSettings::default()),
            &Schema::build(&[], &[], &[], false),
            Zone::utc(),
            Clock::Fixed(Arc::new(now_ms.into())),
            Arc::new(AddressBook::new(1)),
        );
        let (service, service_instance) = ("s".repeat(71), "i".repeat(71));
        let properties = InstanceProperties {
            service: service.clone(),
            service_instance: service_instance.clone(),
            ..InstanceProperties::default()
        };
        let alive = InstancePingPkg {
            service,
            service_instance,
        };
        let service_id = id::service_id(&"s".repeat(70), true);
        let instance_id = id::instance_id(&service_id, &"i".repeat(70));
        let instance = |properties: &str| format!("{instance_id} 202009151059 {properties}");
        for (message, want) in [
            (
                Message::InstanceProperties(properties.encode_to_vec().into()),
                vec![instance(r#"{"ipv4s":""}"#)],
            ),
            (
                Message::KeepAlive(alive.encode_to_vec().into()),
                vec![instance("-"), format!("{service_id} 202009151059 Normal")],
            ),
        ] {
            let mut facts = Facts::new(1);
            analyzer.analyze(&message, &mut facts).unwrap();
            let facts = facts.take_shards().flatten().map(|fact| match fact {
                Fact::Instance {
                    entity,
                    minute,
                    last_ping,
                    properties,
                } => {
                    assert_eq!(last_ping, minute);
                    let properties = properties.as_deref().unwrap_or("-");
                    format!("{} {minute} {properties}", entity.id)
                }
                Fact::Service { entity, minute } => {
                    format!("{} {minute} {:?}", entity.id, entity.node_type)
                }
                other => panic!("{other:?}"),
            });
            assert_eq!(facts.collect::<Vec<_>>(), want);
        }
    }
}

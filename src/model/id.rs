//! Entity ids and document ids as 8.1.0 writes them (8.1.0 spec, C.1, C.3).
//!
//! Names are standard Base64 with padding, so `.`, `_` and `-` separate parts without ambiguity.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Name of the service, instance and endpoint that stand for the outside caller.
pub const USER: &str = "User";

/// An id that does not have the parts its kind must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} id {id:?} is malformed: expected {expected}")]
pub struct IdError {
    pub kind: &'static str,
    pub id: String,
    pub expected: &'static str,
}

/// Base64 of a name.
pub fn encode(name: &str) -> String {
    STANDARD.encode(name)
}

fn decode(kind: &'static str, id: &str, part: &str) -> Result<String, IdError> {
    let malformed = || IdError {
        kind,
        id: id.to_owned(),
        expected: "names in Base64 of UTF-8",
    };
    let bytes = STANDARD.decode(part).map_err(|_| malformed())?;
    String::from_utf8(bytes).map_err(|_| malformed())
}

/// `b64(name).1` for a real service, `b64(name).0` for every other node.
pub fn service_id(name: &str, is_normal: bool) -> String {
    let mut id = encode(name);
    id.push_str(if is_normal { ".1" } else { ".0" });
    id
}

/// `serviceId_b64(instance)`; endpoint ids have the same form.
pub fn instance_id(service_id: &str, instance: &str) -> String {
    let mut id = String::with_capacity(service_id.len() + 1 + instance.len() * 4 / 3 + 4);
    id.push_str(service_id);
    id.push('_');
    STANDARD.encode_string(instance, &mut id);
    id
}

/// `serviceId_b64(endpoint)`.
pub fn endpoint_id(service_id: &str, endpoint: &str) -> String {
    instance_id(service_id, endpoint)
}

/// `source-dest` of two service ids or two instance ids.
pub fn relation_id(source: &str, dest: &str) -> String {
    format!("{source}-{dest}")
}

/// `sourceServiceId-b64(sourceEndpoint)-destServiceId-b64(destEndpoint)`.
pub fn endpoint_relation_id(
    source_service_id: &str,
    source_endpoint: &str,
    dest_service_id: &str,
    dest_endpoint: &str,
) -> String {
    format!(
        "{source_service_id}-{}-{dest_service_id}-{}",
        encode(source_endpoint),
        encode(dest_endpoint)
    )
}

/// Service name and whether it is real.
pub fn parse_service_id(id: &str) -> Result<(String, bool), IdError> {
    let [name, kind] = split(id, '.').ok_or_else(|| IdError {
        kind: "service",
        id: id.to_owned(),
        expected: "2 parts at '.'",
    })?;
    Ok((decode("service", id, name)?, kind == "1"))
}

/// Service id and instance name.
pub fn parse_instance_id(id: &str) -> Result<(String, String), IdError> {
    parse_member("instance", id)
}

/// Service id and endpoint name.
pub fn parse_endpoint_id(id: &str) -> Result<(String, String), IdError> {
    parse_member("endpoint", id)
}

fn parse_member(kind: &'static str, id: &str) -> Result<(String, String), IdError> {
    let [service, name] = split(id, '_').ok_or_else(|| IdError {
        kind,
        id: id.to_owned(),
        expected: "2 parts at '_'",
    })?;
    Ok((service.to_owned(), decode(kind, id, name)?))
}

/// Source and dest id of a service or instance relation.
pub fn parse_relation_id(id: &str) -> Result<(String, String), IdError> {
    let [source, dest] = split(id, '-').ok_or_else(|| IdError {
        kind: "relation",
        id: id.to_owned(),
        expected: "2 parts at '-'",
    })?;
    Ok((source.to_owned(), dest.to_owned()))
}

/// The two ends of an endpoint relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRelation {
    pub source_service_id: String,
    pub source_endpoint: String,
    pub dest_service_id: String,
    pub dest_endpoint: String,
}

/// The four parts of an endpoint relation id, names decoded.
pub fn parse_endpoint_relation_id(id: &str) -> Result<EndpointRelation, IdError> {
    let [source_service, source_endpoint, dest_service, dest_endpoint] = split(id, '-')
        .ok_or_else(|| IdError {
            kind: "endpoint relation",
            id: id.to_owned(),
            expected: "4 parts at '-'",
        })?;
    Ok(EndpointRelation {
        source_service_id: source_service.to_owned(),
        source_endpoint: decode("endpoint relation", id, source_endpoint)?,
        dest_service_id: dest_service.to_owned(),
        dest_endpoint: decode("endpoint relation", id, dest_endpoint)?,
    })
}

/// Exactly `N` parts. Trailing empty parts do not count, as in Java's `String.split`.
fn split<const N: usize>(id: &str, separator: char) -> Option<[&str; N]> {
    let mut parts: Vec<&str> = id.split(separator).collect();
    while parts.len() > 1 && parts.last().is_some_and(|p| p.is_empty()) {
        parts.pop();
    }
    parts.try_into().ok()
}

/// `<bucket>_<entity id>`, or the bucket alone for scope All.
pub fn metrics_id(time_bucket: u64, entity_id: &str) -> String {
    let bucket = time_bucket.to_string();
    if entity_id.is_empty() {
        bucket
    } else {
        [&bucket, "_", entity_id].concat()
    }
}

/// Java's `String.hashCode`: over UTF-16 units, wrapping.
pub fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |h, unit| {
        h.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_match_the_recorded_examples() {
        assert_eq!(
            service_id("dubbox-provider", true),
            "ZHViYm94LXByb3ZpZGVy.1"
        );
        assert_eq!(service_id("User", false), "VXNlcg==.0");
        let service = service_id("dubbox-provider", true);
        assert_eq!(
            instance_id(&service, "pod-1@10.0.0.1"),
            "ZHViYm94LXByb3ZpZGVy.1_cG9kLTFAMTAuMC4wLjE="
        );
        assert_eq!(
            endpoint_relation_id("VXNlcg==.0", "User", &service, "/api/a?b"),
            "VXNlcg==.0-VXNlcg==-ZHViYm94LXByb3ZpZGVy.1-L2FwaS9hP2I="
        );
    }

    #[test]
    fn an_id_with_an_empty_name_cannot_be_parsed() {
        assert!(parse_endpoint_id(&endpoint_id("YQ==.1", "")).is_err());
        assert!(parse_service_id("bad").is_err());
        assert_eq!(
            parse_endpoint_id("YQ==.1_Yg=="),
            Ok(("YQ==.1".into(), "b".into()))
        );
    }

    /// Names of any kind, those of nothing but separators among them.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[._=|,;/+-]{1,8}",
            "[\\u{10000}-\\u{10ffff}\\u{d7ff}\\u{e000}\\u{fffd}]{1,40}",
        ]
        .prop_filter("names are not empty", |name| !name.is_empty())
    }

    proptest! {
        #[test]
        fn every_name_comes_back_out_of_its_id(
            [a, b, c, d] in [name(), name(), name(), name()],
            [is_a, is_c] in any::<[bool; 2]>(),
        ) {
            let (source, dest) = (service_id(&a, is_a), service_id(&c, is_c));
            prop_assert_eq!(parse_service_id(&source), Ok((a, is_a)));
            prop_assert_eq!(parse_service_id(&dest), Ok((c, is_c)));
            let (instance, other) = (instance_id(&source, &b), instance_id(&dest, &d));
            prop_assert_eq!(parse_instance_id(&instance), Ok((source.clone(), b.clone())));
            prop_assert_eq!(parse_endpoint_id(&endpoint_id(&dest, &d)), Ok((dest.clone(), d.clone())));
            for (from, to) in [(&source, &dest), (&instance, &other)] {
                let relation = relation_id(from, to);
                prop_assert_eq!(parse_relation_id(&relation), Ok((from.clone(), to.clone())));
            }
            let relation = endpoint_relation_id(&source, &b, &dest, &d);
            let parts = EndpointRelation {
                source_service_id: source,
                source_endpoint: b,
                dest_service_id: dest,
                dest_endpoint: d,
            };
            prop_assert_eq!(parse_endpoint_relation_id(&relation), Ok(parts));
        }

        #[test]
        fn ids_differ_where_names_do([a, b, c, d] in [name(), name(), name(), name()]) {
            let member = |service: &str, name: &str| instance_id(&service_id(service, true), name);
            let relation = |from: &str, to: &str| endpoint_relation_id("YQ==.1", from, "Yg==.0", to);
            prop_assert_eq!(member(&a, &b) == member(&c, &d), (&a, &b) == (&c, &d));
            prop_assert_eq!(relation(&a, &b) == relation(&c, &d), (&a, &b) == (&c, &d));
        }

        #[test]
        fn what_is_no_id_is_an_error_or_has_its_parts(id in prop_oneof![any::<String>(), "[A-D=._-]{0,24}"]) {
            if let Ok((name, is_normal)) = parse_service_id(&id) {
                let kind = id.rsplit('.').find(|part| !part.is_empty());
                prop_assert_eq!(is_normal, kind == Some("1"));
                prop_assert!(id.starts_with(&encode(&name)));
            }
            if let Ok((service, name)) = parse_endpoint_id(&id) {
                prop_assert!(id.starts_with(&endpoint_id(&service, &name)), "{}", id);
            }
            if let Ok((source, dest)) = parse_relation_id(&id) {
                prop_assert!(id.starts_with(&relation_id(&source, &dest)), "{}", id);
            }
            if let Ok(parts) = parse_endpoint_relation_id(&id) {
                prop_assert!(id.contains(&encode(&parts.source_endpoint)), "{}", id);
            }
        }
    }

    #[test]
    fn java_hash_matches_the_test_vectors() {
        assert_eq!(java_hash("abc"), 96354);
        let segment = "3f2a1c5b6d7e4f80a9b0c1d2e3f40516.40.15979245600010001";
        assert_eq!(java_hash(segment), -1_358_988_983);
        assert_eq!(java_hash(segment) % 10_000, -8983);
    }
}

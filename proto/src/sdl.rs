//! The query protocol of 8.1.0 as GraphQL schema definitions, one text per area.
//!
//! The order is the one in which the original lists the fields of `Query`. Resolvers are not here.

/// (file name, definitions). Together they are one schema; `Long` is the only scalar declared.
pub const QUERY_SDL: &[(&str, &str)] = &[
    ("common", include_str!("../query/common.graphqls")),
    ("metadata", include_str!("../query/metadata.graphqls")),
    ("topology", include_str!("../query/topology.graphqls")),
    ("metrics-v2", include_str!("../query/metrics-v2.graphqls")),
    ("metrics-v1", include_str!("../query/metrics-v1.graphqls")),
    ("aggregation", include_str!("../query/aggregation.graphqls")),
    ("record", include_str!("../query/record.graphqls")),
    ("trace", include_str!("../query/trace.graphqls")),
    ("alarm", include_str!("../query/alarm.graphqls")),
    ("log", include_str!("../query/log.graphqls")),
    ("profile", include_str!("../query/profile.graphqls")),
    ("ui", include_str!("../query/ui.graphqls")),
];

//! The wire contracts: what agents and clients may rely on, and the code generated from it.
//!
//! Agent services exist twice, under their 8.1.0 names without a package ([`legacy`]) and under `skywalking.v3`
//! ([`v3`]). Both use the same messages ([`agent`]), so one implementation can serve both. Whatever agents report
//! crosses the services as a [`RawMessage`].
//!
//! The query protocol is in [`QUERY_SDL`].
//!
//! Unknown fields of newer agents are ignored. Nothing here interprets a message.

mod raw;
mod sdl;

pub use raw::RawMessage;
pub use sdl::QUERY_SDL;

/// Messages of the agent protocol.
pub mod agent {
    include!(concat!(env!("OUT_DIR"), "/messages/skywalking.v3.rs"));
}

/// Services and clients under their 8.1.0 names, e.g. `/ManagementService/keepAlive`.
pub mod legacy {
    include!(concat!(env!("OUT_DIR"), "/services/_.rs"));
}

/// Services and clients under their later names, e.g. `/skywalking.v3.ManagementService/keepAlive`.
pub mod v3 {
    include!(concat!(env!("OUT_DIR"), "/services/skywalking.v3.rs"));
}

/// Messages of Envoy proxies, and the services that take them.
pub mod envoy {
    include!(concat!(env!("OUT_DIR"), "/messages/envoy.rs"));

    /// `/envoy.service.metrics.v2.MetricsService/StreamMetrics`
    pub mod metrics {
        include!(concat!(
            env!("OUT_DIR"),
            "/services/envoy.service.metrics.v2.rs"
        ));
    }

    /// `/envoy.service.accesslog.v2.AccessLogService/StreamAccessLogs`
    pub mod access_log {
        include!(concat!(
            env!("OUT_DIR"),
            "/services/envoy.service.accesslog.v2.rs"
        ));
    }
}

/// Messages of Istio's Mixer, and the service that takes them.
pub mod istio {
    include!(concat!(env!("OUT_DIR"), "/messages/istio.rs"));

    /// `/metric.HandleMetricService/HandleMetric`
    pub mod metric {
        include!(concat!(env!("OUT_DIR"), "/services/metric.rs"));
    }
}

/// The service that receives alarms, `/AlarmService/doAlarm`.
pub mod alarm {
    include!(concat!(env!("OUT_DIR"), "/alarm/_.rs"));
}

/// The service that knows settings, `/ConfigurationService/call`.
pub mod configuration {
    include!(concat!(env!("OUT_DIR"), "/configuration/_.rs"));
}

/// How nodes of a cluster share the aggregation, `/oap.cluster.v1.Exchange/Sync` and `/Push`.
pub mod cluster {
    include!(concat!(env!("OUT_DIR"), "/cluster/oap.cluster.v1.rs"));

    /// What nodes of the original send each other, `/RemoteService/call`.
    pub mod remote {
        include!(concat!(env!("OUT_DIR"), "/cluster/_.rs"));
    }
}

/// The service that receives values of metrics, `/MetricExportService/export`.
pub mod export {
    include!(concat!(env!("OUT_DIR"), "/export/_.rs"));
}

/// The health service, `/grpc.health.v1.Health/Check` and `/Watch`.
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

//! Requests that Istio's Mixer tells an adapter about (8.1.0 spec, A.7): each becomes a call of the mesh.

use std::collections::HashMap;

use bytes::Bytes;
use oap_proto::istio::{HandleMetricRequest, Instant, Value, value};
use prost::Message as _;

use super::mesh::{MeshMetric, MeshProtocol};
use super::{Analyzer, Facts, Reject};
use crate::model::scope::DetectPoint;

impl Analyzer {
    /// Analyses one encoded `HandleMetricRequest`. An instance that makes no sense does not take the others with it.
    pub(super) fn mixer(&mut self, bytes: &Bytes, facts: &mut Facts) -> Result<(), Reject> {
        let request =
            HandleMetricRequest::decode(bytes.clone()).map_err(|_| Reject::Undecodable)?;
        for instance in &request.instances {
            if let Err(reject) = self.mixer_instance(&Dimensions(&instance.dimensions), facts) {
                facts.rejected.push(reject);
            }
        }
        Ok(())
    }

    fn mixer_instance(
        &mut self,
        dimensions: &Dimensions<'_>,
        facts: &mut Facts,
    ) -> Result<(), Reject> {
        let method = dimensions.text("requestMethod")?;
        let path = dimensions.text("requestPath")?;
        let scheme = dimensions.text("requestScheme")?;
        let api_protocol = dimensions.text("apiProtocol")?;
        let code = dimensions.integer("responseCode")?;
        let is_http = [api_protocol, scheme]
            .iter()
            .any(|name| matches!(*name, "http" | "https"));
        let (protocol, endpoint, status) = if is_http {
            let endpoint = format!("{scheme}/{method}/{path}");
            (MeshProtocol::Http, endpoint, (200..400).contains(&code))
        } else {
            let endpoint = format!("{api_protocol}/{path}");
            (MeshProtocol::Grpc, endpoint, true)
        };
        let start = dimensions.nanos("requestTime")?;
        let end = dimensions.nanos("responseTime")?;
        let millis = |nanos: i128| nanos.div_euclid(1_000_000);
        let detect_point = match dimensions.text("reporter")? {
            "source" => DetectPoint::Client,
            _ => DetectPoint::Server,
        };
        let metric = MeshMetric {
            start_ms: millis(start)
                .try_into()
                .map_err(|_| Reject::TimeOutOfRange)?,
            source_service: &dimensions.service("sourceService", "sourceNamespace")?,
            source_instance: dimensions.text("sourceUID")?,
            dest_service: &dimensions.service("destinationService", "destinationNamespace")?,
            dest_instance: dimensions.text("destinationUID")?,
            endpoint: &endpoint,
            latency: millis(end - start)
                .try_into()
                .map_err(|_| Reject::TimeOutOfRange)?,
            response_code: code.try_into().map_err(|_| Reject::Undecodable)?,
            status,
            protocol,
            detect_point,
        };
        self.mesh_metric(&metric, facts)
    }
}

/// What an instance says. A value of another type counts as an empty one, as in the original.
struct Dimensions<'a>(&'a HashMap<String, Value>);

impl<'a> Dimensions<'a> {
    fn value(&self, name: &str) -> Result<Option<&'a value::Value>, Reject> {
        let value = self.0.get(name).ok_or(Reject::MissingDimension)?;
        Ok(value.value.as_ref())
    }

    fn text(&self, name: &str) -> Result<&'a str, Reject> {
        Ok(match self.value(name)? {
            Some(value::Value::StringValue(text)) => text,
            _ => "",
        })
    }

    fn integer(&self, name: &str) -> Result<i64, Reject> {
        Ok(match self.value(name)? {
            Some(value::Value::Int64Value(integer)) => *integer,
            _ => 0,
        })
    }

    /// Nanoseconds since the epoch.
    fn nanos(&self, name: &str) -> Result<i128, Reject> {
        let instant = match self.value(name)? {
            Some(value::Value::TimestampValue(time)) => time.value,
            _ => None,
        };
        let Instant { seconds, nanos } = instant.unwrap_or_default();
        Ok(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
    }

    /// Name of a service, with its namespace behind it if that is told, even an empty one.
    fn service(&self, name: &str, namespace: &str) -> Result<String, Reject> {
        let service = self.text(name)?;
        Ok(match self.text(namespace) {
            Ok(namespace) => format!("{service}.{namespace}"),
            Err(_) => service.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;

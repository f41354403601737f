//! A dynamic configuration service, `/ConfigurationService/call` over gRPC (8.1.0 spec, I).

use std::time::Duration;

use oap_proto::configuration::ConfigurationRequest;
use oap_proto::configuration::configuration_service_client::ConfigurationServiceClient;
use tonic::transport::{Channel, Endpoint};

use super::center::Values;
use super::key::Key;
use crate::cluster::clients::CenterError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(10);
/// What an answer may have.
const MAX_BYTES: usize = 8 << 20;

/// A client of the service.
#[derive(Debug)]
pub struct Dcs {
    client: ConfigurationServiceClient<Channel>,
    /// `host:port`
    address: String,
    cluster: String,
}

impl Dcs {
    pub(super) fn new(host: &str, port: u16, cluster: &str) -> Result<Dcs, CenterError> {
        let host = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let address = format!("{host}:{port}");
        let endpoint = Endpoint::new(format!("http://{address}"))
            .map_err(|_| CenterError(format!("{address} is no address")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT);
        let client = ConfigurationServiceClient::new(endpoint.connect_lazy());
        Ok(Dcs {
            client: client.max_decoding_message_size(MAX_BYTES),
            address,
            cluster: cluster.to_owned(),
        })
    }

    /// Names that are not asked for are passed over. No id of an earlier table is sent, so the table is always whole.
    pub(super) async fn read(&mut self, keys: &[Key]) -> Result<Values, CenterError> {
        let request = ConfigurationRequest {
            cluster_name: self.cluster.clone(),
            uuid: String::new(),
        };
        let answer = self.client.call(request).await;
        let answer = answer.map_err(|status| {
            let (code, cause) = (status.code(), std::error::Error::source(&status));
            let cause = cause.map(|cause| format!(": {}", CenterError::because(cause)));
            let (address, text) = (&self.address, status.message());
            let message = format!("{address}: answered {code:?}: {text}");
            CenterError(message + &cause.unwrap_or_default())
        })?;
        let table = answer.into_inner().config_table.into_iter();
        let known = table.filter_map(|item| Some((Key::of(&item.name)?, item.value.into_bytes())));
        Ok(known.filter(|(key, _)| keys.contains(key)).collect())
    }
}

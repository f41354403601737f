//! Apollo: the meta server tells where configuration services are, one of which has the namespace `application`.
//!
//! The interface is the documented one for clients in any language ("Other language client access guide", Apollo 1.x and
//! 2.x): `GET /services/config` at the meta server, `GET /configs/{appId}/{cluster}/{namespace}` at a service.

use std::collections::HashMap;

use serde::Deserialize;

use super::center::{TIMEOUT, Values};
use super::key::Key;
use crate::cluster::clients::{CenterError, Http, Question};

const NAMESPACE: &str = "application";

/// A client of both.
#[derive(Debug)]
pub struct Apollo {
    meta: Http,
    services: Http,
    app_id: String,
    cluster: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    homepage_url: String,
}

#[derive(Deserialize)]
struct Release {
    configurations: HashMap<String, String>,
}

impl Apollo {
    pub(super) fn new(
        meta_urls: &[String],
        app_id: &str,
        cluster: &str,
    ) -> Result<Apollo, CenterError> {
        Ok(Apollo {
            meta: Http::new(meta_urls, TIMEOUT)?,
            services: Http::new(&[], TIMEOUT)?,
            app_id: app_id.to_owned(),
            cluster: cluster.to_owned(),
        })
    }

    /// An application, cluster or namespace that Apollo does not know is an error, not one without values.
    pub(super) async fn read(&mut self, keys: &[Key]) -> Result<Values, CenterError> {
        let question = Question {
            path: &["services", "config"],
            query: &[("appId", &self.app_id)],
            ..Question::default()
        };
        let answer = self.meta.ask(&question).await?;
        if answer.status != 200 {
            return Err(answer.refused());
        }
        let services: Vec<Service> = answer.json()?;
        let urls: Vec<String> = services.into_iter().map(|s| s.homepage_url).collect();
        if urls.is_empty() {
            let message = "the meta server knows no configuration service";
            return Err(CenterError(message.to_owned()));
        }
        self.services.use_servers(&urls)?;
        let question = Question {
            path: &["configs", &self.app_id, &self.cluster, NAMESPACE],
            ..Question::default()
        };
        let answer = self.services.ask(&question).await?;
        if answer.status != 200 {
            return Err(answer.refused());
        }
        let mut release: Release = answer.json()?;
        let values = keys.iter().filter_map(|key| {
            let value = release.configurations.remove(key.name())?;
            Some((*key, value.into_bytes()))
        });
        Ok(values.collect())
    }
}

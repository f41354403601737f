//! Centres that do not let everybody in: what is said of those that refuse.

use anyhow::{Result, bail, ensure};
use oap::config::{CenterSettings, EtcdApi, Secret};
use oap::dynamic::{Center, Key};

use super::centers::{Peer, failure, values};
use super::doubles::Kind;
use crate::peers::{EtcdServer, NacosServer};

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_an_error_that_says_what_was_refused() -> Result<()> {
    use axum::http::StatusCode;

    for kind in [Kind::Apollo, Kind::Dcs] {
        let peer = Peer::double(kind).await?;
        let mut center = Center::new(&peer.settings(EtcdApi::Auto))?;
        let Peer::Double(double, _) = &peer else {
            bail!("a double")
        };
        for status in [StatusCode::FORBIDDEN, StatusCode::SERVICE_UNAVAILABLE] {
            double.known().failure = Some(status);
            let error = failure(&mut center).await?;
            ensure!(error.contains("something is wrong"), "{kind:?} {error}");
        }
    }
    let consul = Peer::consul()?;
    for (token, want) in [
        (
            "1f9f5a1c-2d5a-4f7e-9d0c-1a2b3c4d5e6f",
            "answered 403 ACL not found",
        ),
        ("", "answered 403 Permission denied"),
    ] {
        let mut center = Center::new(&CenterSettings::Consul {
            urls: vec![format!("http://{}", consul.address())],
            token: Secret::new(token),
        })?;
        let error = failure(&mut center).await?;
        ensure!(error == want, "{error}");
    }
    let folder = tempfile::tempdir()?;
    let closed = tokio::task::block_in_place(|| NacosServer::start(0, folder.path(), true));
    let nacos = |address: String, group: &str| {
        Center::new(&CenterSettings::Nacos {
            urls: vec![format!("http://{address}")],
            group: group.to_owned(),
            namespace: String::new(),
        })
    };
    let error = failure(&mut nacos(closed.address(), "the_group")?).await?;
    ensure!(error.starts_with("answered 403 "), "{error}");
    let open = Peer::nacos()?;
    let error = failure(&mut nacos(open.address(), "the group")?).await?;
    ensure!(error == "answered 400 invalid group", "{error}");
    let apollo = Peer::double(Kind::Apollo).await?;
    let mut center = Center::new(&CenterSettings::Apollo {
        meta_urls: vec![format!("http://{}", apollo.address())],
        cluster: "other".to_owned(),
        app_id: "app".to_owned(),
    })?;
    let error = failure(&mut center).await?;
    ensure!(error == "answered 404", "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_over_tls_needs_a_certificate_that_is_trusted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = tokio::task::block_in_place(|| EtcdServer::start_tls(folder.path()));
    let path = |name: &str| format!("{}/tests/data/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let pem = std::fs::read(path("loopback-cert.pem"))?;
    let put = reqwest::Client::builder()
        .no_proxy()
        .add_root_certificate(reqwest::Certificate::from_pem(&pem)?)
        .build()?;
    let url = format!(
        "https://{}/v2/keys/g/{}",
        server.address(),
        Key::SampleRate.name()
    );
    let put = put.put(url).form(&[("value", "5000")]);
    put.send().await?.error_for_status()?;
    let center = |authority: Option<&str>| {
        Center::new(&CenterSettings::Etcd {
            urls: vec![format!("https://{}", server.address())],
            group: "g".to_owned(),
            api: EtcdApi::Auto,
            trusted_ca_path: authority.map(|name| path(name).into()),
        })
    };
    let read = center(Some("loopback-cert.pem"))?.read(&Key::ALL).await?;
    ensure!(read == values([(Key::SampleRate, "5000")]), "{read:?}");
    for authority in [None, Some("ca.pem")] {
        let error = failure(&mut center(authority)?).await?;
        ensure!(error.contains("certificate"), "{error}");
    }
    for authority in ["none.pem", "loopback-key.pem"] {
        let error = center(Some(authority)).err().map(|error| error.to_string());
        let is_named = |error: String| error.contains("trustedCAPath") && error.contains(authority);
        ensure!(error.is_some_and(is_named), "{authority}");
    }
    Ok(())
}

//! An etcd that speaks TLS, and one that asks for a user, which 8.1.0 has no setting for.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster::{free, has_logged};
use crate::oap_process::{OapCommand, OapProcess, few_metrics};
use crate::peers::EtcdServer;

/// A node with these settings, and the folder that it needs.
async fn node(variables: &[(&str, &str)]) -> Result<(OapProcess, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    few_metrics(&folder.path().join("config"))?;
    let addresses = free(&["127.0.0.1"])?;
    let port = addresses[0].trim_start_matches("127.0.0.1:");
    let mut command = OapCommand::new(folder.path())
        .env("SW_CORE_GRPC_HOST", "127.0.0.1")
        .env("SW_CORE_GRPC_PORT", port)
        .env("SW_CLUSTER", "etcd");
    for (name, value) in variables {
        command = command.env(name, value);
    }
    Ok((command.start().await?, folder))
}

async fn ensure_stops(process: OapProcess) -> Result<()> {
    process.terminate()?;
    let ended = process.ended().await?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_by_both_interfaces() -> Result<()> {
    let data = tempfile::tempdir()?;
    let server = tokio::task::block_in_place(|| EtcdServer::start_tls(data.path()));
    let authority = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/tls/loopback-cert.pem"
    );
    let address = server.address();
    let tls = [
        ("SW_CLUSTER_ETCD_HOST_PORT", address.as_str()),
        ("SW_CLUSTER_ETCD_IS_SSL", "true"),
    ];
    for api in ["v2", "v3"] {
        let trusting = [
            ("SW_CLUSTER_ETCD_TRUSTED_CA_PATH", authority),
            ("SW_CLUSTER_ETCD_API", api),
        ];
        let (process, _folder) = node(&[&tls[..], &trusting].concat()).await?;
        has_logged(&process, "this node is announced").await?;
        has_logged(&process, "taken over").await?;
        ensure_stops(process).await?;
    }
    // Nobody has to trust a certificate that nobody vouches for.
    let (process, _folder) = node(&tls).await?;
    has_logged(&process, "certificate").await?;
    has_logged(&process, "isSSL, trustedCAPath and api must fit them").await?;
    ensure_stops(process).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_nobody_can_name_is_named_as_what_is_missing() -> Result<()> {
    for api in ["v2", "v3"] {
        let data = tempfile::tempdir()?;
        let server = tokio::task::block_in_place(|| EtcdServer::start(None, data.path(), true));
        let address = server.address();
        close(&address, api).await?;
        let (process, _folder) = node(&[
            ("SW_CLUSTER_ETCD_HOST_PORT", &address),
            ("SW_CLUSTER_ETCD_API", api),
        ])
        .await?;
        has_logged(
            &process,
            "etcd asks for a user, for which cluster.etcd has no key",
        )
        .await?;
        ensure_stops(process).await?;
    }
    Ok(())
}

/// Has etcd let nobody in who gives no password, by one of its interfaces.
async fn close(address: &str, api: &str) -> Result<()> {
    let everything = json!({"kv": {"read": ["/*"], "write": ["/*"]}});
    let calls: &[(Method, &str, Value)] = match api {
        "v2" => &[
            (
                Method::PUT,
                "v2/auth/users/root",
                json!({"user": "root", "password": "s3cret"}),
            ),
            (Method::PUT, "v2/auth/enable", Value::Null),
            (
                Method::PUT,
                "v2/auth/roles/guest",
                json!({"role": "guest", "revoke": everything}),
            ),
        ],
        _ => &[
            (
                Method::POST,
                "v3/auth/user/add",
                json!({"name": "root", "password": "s3cret"}),
            ),
            (Method::POST, "v3/auth/role/add", json!({"name": "root"})),
            (
                Method::POST,
                "v3/auth/user/grant",
                json!({"user": "root", "role": "root"}),
            ),
            (Method::POST, "v3/auth/enable", json!({})),
        ],
    };
    let client = reqwest::Client::builder().no_proxy().build()?;
    for (method, path, body) in calls {
        let asked = client.request(method.clone(), format!("http://{address}/{path}"));
        // The newer interface takes it for a token that it does not know.
        let asked = match api {
            "v2" => asked.basic_auth("root", Some("s3cret")),
            _ => asked,
        };
        let asked = asked.json(body);
        asked.send().await?.error_for_status()?;
    }
    Ok(())
}

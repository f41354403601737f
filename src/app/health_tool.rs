//! `oap health`, also as `swctl`: a probe for containers without a shell.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::config::Settings;

/// Within what a server that is well answers.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the HTTP port of the server with these settings; an error says what is wrong with it.
pub async fn ask(settings: &Settings) -> anyhow::Result<()> {
    let core = &settings.core;
    ensure!(
        core.rest_port != 0,
        "core.default.restPort is 0, so nobody knows the port of the server"
    );
    let host = match core.rest_host.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" | "[::]" => "[::1]",
        host => host,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = match bare.contains(':') {
        true => format!("[{bare}]"),
        false => bare.to_owned(),
    };
    let path = core.rest_context_path.trim_end_matches('/');
    let url = format!("http://{host}:{}{path}/healthcheck", core.rest_port);
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .build()?;
    let answer = client.get(&url).send().await;
    let answer = answer.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    ensure!(status.is_success(), "{url} answers {status}: {text}");
    Ok(())
}

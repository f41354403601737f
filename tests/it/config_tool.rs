//! `oap config check`, `oap config print`, `oap health` and what an entrypoint hands over, as an operator meets them.

use anyhow::{Result, ensure};

use crate::oap_process::OapCommand;

#[tokio::test]
async fn every_mistake_of_every_file_comes_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| {
        let path = folder.path().join("ext-config").join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
        std::fs::write(path, text)
    };
    write("oal/core.oal", "a = from(Service.nothing).longAvg();\n")?;
    write("gateways.yml", "gateways:\n- instances: [{port: 1}]\n")?;
    write("alarm-settings.yml", "rules:\n  a_rule:\n    op: '>'\n")?;
    write("component-libraries.yml", "Tomcat: [1\n")?;
    write("ui-initialized-templates.yml", "templates: 1\n")?;
    let check = OapCommand::new(folder.path())
        .argument("config")
        .argument("check")
        .env("SW_CORE_RECORD_DATA_TTL", "soon")
        .env("SW_STORAGE", "mysql")
        .env("SW_TELEMETRY_PROMETHEUS_PORT", "1")
        .env("JAVA_OPTS", "-Dcore.default.role=Chief");
    let ended = check.clone().run().await?;
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    for part in [
        "core.default.recordDataTTL is \"soon\" (from SW_CORE_RECORD_DATA_TTL)",
        "core.default.role is \"Chief\" (from -Dcore.default.role)",
        "storage.selector is \"mysql\"",
        "core.oal:1",
        "gateways[0].instances[0].host is missing",
        "alarm-settings.yml",
        "component-libraries.yml",
        "ui-initialized-templates.yml",
    ] {
        ensure!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    ensure!(!folder.path().join("data").exists());
    write("application.yml", "core: [\n")?;
    let apdex = folder.path().join("ext-config/service-apdex-threshold.yml");
    std::fs::write(apdex, b"default: 1\n\xff: 2\n")?;
    let ended = check.run().await?;
    for part in [
        "application.yml",
        "service-apdex-threshold.yml:2 is not UTF-8",
        "core.default.recordDataTTL is \"soon\" (from SW_CORE_RECORD_DATA_TTL)",
        "storage.selector is \"mysql\"",
        "gateways[0].instances[0].host is missing",
        "ui-initialized-templates.yml",
    ] {
        ensure!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    Ok(())
}

/// Files that nobody can read are all named, by a start too, which ends and waits for none of them.
#[tokio::test]
async fn a_start_names_every_file_that_is_none() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config");
    std::fs::create_dir_all(config.join("oal"))?;
    let path = |name: &str| config.join(name);
    let mut pipe = std::process::Command::new("mkfifo");
    ensure!(pipe.arg(path("gateways.yml")).status()?.success());
    std::fs::create_dir(path("alarm-settings.yml"))?;
    std::os::unix::fs::symlink("/dev/zero", path("component-libraries.yml"))?;
    std::os::unix::fs::symlink("..data/nothing", path("endpoint-name-grouping.yml"))?;
    std::fs::write(path("service-apdex-threshold.yml"), b"default: \xff\n")?;
    std::fs::write(
        path("oal/core.oal"),
        "a = from(Service.nothing).longAvg();\n",
    )?;
    let start = OapCommand::new(folder.path()).env("SW_CORE_RECORD_DATA_TTL", "soon");
    for command in [
        start.clone(),
        start.clone().env("JAVA_OPTS", "-Dmode=init"),
        start.argument("config").argument("check"),
    ] {
        let ended = command.run().await?;
        ensure!(ended.status.code() == Some(1), "{ended:?}");
        for part in [
            "config/gateways.yml: it is a pipe, not a file",
            "config/alarm-settings.yml: it is a directory, not a file",
            "config/component-libraries.yml: it is a device, not a file",
            "config/endpoint-name-grouping.yml: it is a link to nothing",
            "config/service-apdex-threshold.yml:1 is not UTF-8",
            "core.default.recordDataTTL is \"soon\"",
            "core.oal:1",
        ] {
            let times = ended.stderr.matches(part).count();
            ensure!(times == 1, "{part}, {times} times: {}", ended.stderr);
        }
    }
    Ok(())
}

/// What is wrong in the second file is not left for the second attempt.
#[tokio::test]
async fn a_start_names_the_mistakes_of_all_files() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config");
    std::fs::create_dir_all(config.join("oal"))?;
    let path = |name: &str| config.join(name);
    std::fs::write(
        path("oal/core.oal"),
        "a = from(Service.nothing).longAvg();\n",
    )?;
    std::fs::write(
        path("gateways.yml"),
        "gateways:\n- instances: [{port: 1}]\n",
    )?;
    let ended = OapCommand::new(folder.path()).run().await?;
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    for part in ["core.oal:1", "gateways[0].instances[0].host is missing"] {
        let times = ended.stderr.matches(part).count();
        ensure!(times == 1, "{part}, {times} times: {}", ended.stderr);
    }
    // Not what is wrong with the machine.
    std::fs::remove_dir_all(&config)?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let ended = OapCommand::new(folder.path())
        .env("SW_CORE_REST_PORT", &port)
        .run()
        .await?;
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    ensure!(ended.stderr.contains(&port), "{ended:?}");
    Ok(())
}

/// The file with log levels is looked for before anything else starts.
#[tokio::test]
async fn a_pipe_for_log_levels_keeps_nobody_waiting() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("config"))?;
    let mut pipe = std::process::Command::new("mkfifo");
    let path = folder.path().join("config/log-levels");
    ensure!(pipe.arg(path).status()?.success());
    let process = OapCommand::new(folder.path()).start().await?;
    let log = process.log();
    process.stop().await?;
    ensure!(log.contains("config/log-levels: it is a pipe"), "{log}");
    Ok(())
}

#[tokio::test]
async fn what_has_no_effect_is_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("ext-config");
    std::fs::create_dir_all(&config)?;
    let alarms = "rules:\n  a_rule: {metrics-name: gone, op: '>', threshold: 1}\ngRPCHook: {target_host: hooks, target_port: 9}\n";
    std::fs::write(config.join("alarm-settings.yml"), alarms)?;
    std::fs::write(config.join("gateways.yml"), "gatewais: []\n")?;
    let check = OapCommand::new(folder.path())
        .argument("config")
        .argument("check");
    let ended = check.run().await?;
    ensure!(ended.status.success(), "{ended:?}");
    for part in [
        "without effect: alarm-settings.yml, line 2: a_rule never fires: gone",
        "without effect: gateways.yml",
        "gatewais: unknown key",
        "the configuration is well",
    ] {
        ensure!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn files_that_settings_name_are_looked_at() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let check = OapCommand::new(folder.path())
        .argument("config")
        .argument("check");
    let ended = check.clone().run().await?;
    ensure!(ended.status.success(), "{ended:?}");
    ensure!(
        ended.stdout.contains("the configuration is well"),
        "{ended:?}"
    );
    let ended = check
        .env("SW_STORAGE", "elasticsearch7")
        .env("SW_STORAGE_ES_HTTP_PROTOCOL", "https")
        .env("SW_STORAGE_ES_SSL_JKS_PATH", "/no/trust.jks")
        .env("SW_CORE_GRPC_SSL_ENABLED", "true")
        .env("SW_CORE_GRPC_SSL_KEY_PATH", "/no/key.pem")
        .env("SW_CORE_GRPC_SSL_CERT_CHAIN_PATH", "/no/chain.pem")
        .run()
        .await?;
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    ensure!(ended.stderr.contains("/no/trust.jks"), "{ended:?}");
    ensure!(ended.stderr.contains("/no/chain.pem"), "{ended:?}");
    let mut pipe = std::process::Command::new("mkfifo");
    let path = folder.path().join("secrets");
    ensure!(pipe.arg(&path).status()?.success());
    let ended = OapCommand::new(folder.path())
        .argument("config")
        .argument("check")
        .env("SW_STORAGE", "elasticsearch7")
        .env("SW_ES_SECRETS_MANAGEMENT_FILE", &path.display().to_string())
        .run()
        .await?;
    ensure!(
        ended.stderr.contains("file of properties: it is a pipe"),
        "{ended:?}"
    );
    Ok(())
}

#[tokio::test]
async fn values_in_effect_are_printed_with_their_origins() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("config"))?;
    std::fs::write(folder.path().join("config/gateways.yml"), "gateways:\n")?;
    let ended = OapCommand::new(folder.path())
        .argument("config")
        .argument("print")
        .env("SW_AUTHENTICATION", "sesame")
        .run()
        .await?;
    ensure!(ended.status.success(), "{ended:?}");
    for line in [
        "core.default.gRPCHost = 127.0.0.1  # variable SW_CORE_GRPC_HOST",
        "core.default.recordDataTTL = 3  # default in application.yml",
        "receiver-sharing-server.default.authentication = ***  # variable SW_AUTHENTICATION",
        "file application.yml = built in",
        "file gateways.yml = config/gateways.yml",
    ] {
        ensure!(ended.stdout.lines().any(|l| l == line), "{line}: {ended:?}");
    }
    ensure!(!ended.stdout.contains("sesame"), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn arguments_of_an_entrypoint_are_named_and_ignored() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let process = OapCommand::new(folder.path())
        .argument("--lenient")
        .argument("--spring.profiles=a")
        .argument("start")
        .start()
        .await?;
    let log = process.log();
    process.stop().await?;
    let lines: Vec<&str> = log.lines().filter(|l| l.contains("no effect")).collect();
    ensure!(lines.len() == 1, "{log}");
    ensure!(lines[0].contains("--spring.profiles=a start"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_probe_tells_whether_the_server_is_well() -> Result<()> {
    // A node that only takes reports is asked too.
    for query in ["graphql", "-"] {
        let folder = tempfile::tempdir()?;
        let command = OapCommand::new(folder.path()).env("SW_QUERY", query);
        let process = command.start().await?;
        let (_, port) = process.http().rsplit_once(':').unwrap_or_default();
        let probe = command
            .clone()
            .env("SW_CORE_REST_PORT", port)
            .argument("health");
        let deadline = std::time::Duration::from_secs(20);
        crate::waiting::wait_until("it is well", deadline, async || {
            let ended = probe.run().await?;
            ensure!(
                ended.status.success() && ended.stderr.is_empty(),
                "{query}: {ended:?}"
            );
            Ok(())
        })
        .await?;
        process.stop().await?;
        let ended = probe.run().await?;
        ensure!(ended.status.code() == Some(1), "{ended:?}");
        ensure!(ended.stderr.contains("does not answer"), "{ended:?}");
    }
    Ok(())
}

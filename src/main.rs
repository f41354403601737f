//! Arguments → settings → start → wait for a signal → drain.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use oap::app::{self, storage_tool::Verdict};
use oap::config::{
    AlarmSelection, Arguments, Command, ConfigCommand, ConfigDirs, Configuration, Environment,
    StorageCommand, cli, reference,
};
use oap::telemetry::{
    self,
    log::{LevelFile, LogOutput},
};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match cli::command(std::env::args_os()) {
        Ok(Command::Run(arguments)) => run(&arguments).map(|()| ExitCode::SUCCESS),
        Ok(Command::Storage(arguments, command)) => storage(&arguments, &command),
        Ok(Command::Config(_, ConfigCommand::Docs)) => return say(&reference::page()),
        Ok(Command::Config(arguments, ConfigCommand::Check)) => check(&arguments),
        Ok(Command::Config(arguments, ConfigCommand::Print)) => print(&arguments),
        Ok(Command::Health(arguments)) => health(&arguments),
        Ok(Command::ExplainAlarms(arguments, selection)) => explain(&arguments, &selection),
        Ok(Command::Help) => return say(cli::HELP),
        Ok(Command::Version) => return say(cli::VERSION),
        Err(error) => return fail(&error.into()),
    };
    outcome.unwrap_or_else(|error| fail(&error))
}

#[tokio::main]
async fn storage(arguments: &Arguments, command: &StorageCommand) -> anyhow::Result<ExitCode> {
    let configuration = Configuration::load(arguments, &Environment::of_process())?;
    telemetry::log::init(&configuration.settings.log, LogOutput::Stderr)?;
    let verdict = app::storage_tool::run(&configuration, command).await?;
    Ok(match verdict {
        Verdict::Well => ExitCode::SUCCESS,
        Verdict::Problems => ExitCode::from(2),
    })
}

#[tokio::main]
async fn explain(arguments: &Arguments, selection: &AlarmSelection) -> anyhow::Result<ExitCode> {
    let configuration = Configuration::load(arguments, &Environment::of_process())?;
    telemetry::log::init(&configuration.settings.log, LogOutput::Stderr)?;
    app::alarm_tool::explain(&configuration, selection, std::io::stdout().lock()).await?;
    Ok(ExitCode::SUCCESS)
}

#[tokio::main(flavor = "current_thread")]
async fn check(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    app::config_tool::check(arguments, &Environment::of_process()).map(|report| say(&report))
}

fn print(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let configuration = Configuration::load(arguments, &Environment::of_process())?;
    Ok(say(&app::config_tool::effective(&configuration)))
}

#[tokio::main(flavor = "current_thread")]
async fn health(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let configuration = Configuration::load(arguments, &Environment::of_process())?;
    app::health_tool::ask(&configuration.settings).await?;
    Ok(ExitCode::SUCCESS)
}

/// The file with the levels of the log, in the directories of configuration files.
const LOG_LEVELS: &str = "log-levels";
/// Between two looks at it.
const LOG_LEVELS_PERIOD: Duration = Duration::from_secs(10);

/// Some tools send the same signal to the process and to its group.
const ONE_SIGNAL: Duration = Duration::from_secs(1);

#[tokio::main]
async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let environment = Environment::of_process();
    let all = |error| app::config_tool::with_all_mistakes(error, arguments, &environment);
    let configuration =
        Configuration::load(arguments, &environment).map_err(|error| all(error.into()))?;
    let control = telemetry::log::init(&configuration.settings.log, LogOutput::Stdout)?;
    app::introduce(&configuration);
    if app::is_init(&configuration) {
        return app::init(configuration).await.map_err(all);
    }
    let mut terminate = signal(SignalKind::terminate()).context("failed to watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch SIGINT")?;
    let paths = ConfigDirs::usual(arguments.config_dir.as_deref())?.paths(LOG_LEVELS);
    let mut hangup = signal(SignalKind::hangup()).context("failed to watch SIGHUP")?;
    let mut levels = LevelFile::new(paths, control);
    levels.look();
    tokio::spawn(async move {
        loop {
            // At once when told to, and now and then for those who cannot send a signal.
            tokio::select! {
                _ = hangup.recv() => {}
                () = tokio::time::sleep(LOG_LEVELS_PERIOD) => {}
            }
            levels.look();
        }
    });
    let running = app::start(configuration).await.map_err(all)?;
    let is_failure = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = running.failed() => true,
    };
    tracing::info!("shutting down");
    let second_signal = async {
        tokio::time::sleep(ONE_SIGNAL).await;
        // What came until now belongs to the first one.
        while let Some(Some(())) = terminate.recv().now_or_never() {}
        while let Some(Some(())) = interrupt.recv().now_or_never() {}
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        outcome = running.shutdown() => outcome?,
        () = second_signal => anyhow::bail!("ended by a second signal"),
    }
    anyhow::ensure!(!is_failure, "a part of the server failed, see the log");
    tracing::info!("everything is stored");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the command line asks for")]
fn say(text: &str) -> ExitCode {
    println!("{}", text.trim_end());
    ExitCode::SUCCESS
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("oap: {error:#}");
    ExitCode::FAILURE
}

//! Arguments → settings → start → wait for a signal → drain.

use std::process::ExitCode;

use anyhow::Context;
use oap::config::{Arguments, Command, Configuration, Environment, cli};
use oap::{app, telemetry};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Run(arguments)) => arguments,
        Ok(Command::Help) => return say(cli::HELP),
        Ok(Command::Version) => return say(cli::VERSION),
        Err(error) => return fail(&error.into()),
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

#[tokio::main]
async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let configuration = Configuration::load(arguments, &Environment::of_process())?;
    telemetry::log::init(&configuration.settings.log)?;
    app::introduce(&configuration);
    if app::is_init(&configuration) {
        return app::init(configuration).await;
    }
    let mut terminate = signal(SignalKind::terminate()).context("failed to watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch SIGINT")?;
    let running = app::start(configuration).await?;
    let is_failure = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = running.failed() => true,
    };
    tracing::info!("shutting down");
    tokio::select! {
        outcome = running.shutdown() => outcome?,
        _ = terminate.recv() => anyhow::bail!("ended by a second signal"),
        _ = interrupt.recv() => anyhow::bail!("ended by a second signal"),
    }
    anyhow::ensure!(!is_failure, "a part of the server failed, see the log");
    tracing::info!("everything is stored");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer to --help and --version")]
fn say(text: &str) -> ExitCode {
    println!("{}", text.trim_end());
    ExitCode::SUCCESS
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("oap: {error:#}");
    ExitCode::FAILURE
}

//! The real program in a process of its own, in a folder of its own, with no environment but what a test gives it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::peers::Elasticsearch;
use crate::waiting::wait_until;

/// Far above what a loaded machine needs.
const DEADLINE: Duration = Duration::from_secs(30);

/// Few metrics, so that creating their indices takes a moment only.
pub fn few_metrics(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder.join("oal"))?;
    for (script, text) in [
        (
            "core",
            "service_cpm = from(Service.*).cpm();\nservice_resp_time = from(Service.latency).longAvg();\n",
        ),
        ("java-agent", "// nothing\n"),
        ("dotnet-agent", "// nothing\n"),
        ("envoy", "// nothing\n"),
    ] {
        std::fs::write(folder.join(format!("oal/{script}.oal")), text)?;
    }
    Ok(())
}

/// How to start it.
#[derive(Debug, Clone)]
pub struct OapCommand {
    folder: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    /// Largest file that it may write, in KiB.
    file_limit_kib: Option<u32>,
    /// What its standard input is.
    input: Option<PathBuf>,
    /// What is run instead, with its first arguments.
    launcher: Vec<String>,
}

/// What became of a process that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A running one; killed when dropped.
#[derive(Debug)]
pub struct OapProcess {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    grpc: String,
    http: String,
}

impl OapCommand {
    /// In a folder, on free ports of the loopback interface.
    pub fn new(folder: &Path) -> OapCommand {
        let environment = [
            ("SW_CORE_GRPC_HOST", "127.0.0.1"),
            ("SW_CORE_GRPC_PORT", "0"),
            ("SW_CORE_REST_HOST", "127.0.0.1"),
            ("SW_CORE_REST_PORT", "0"),
        ];
        OapCommand {
            folder: folder.to_owned(),
            arguments: vec![],
            file_limit_kib: None,
            input: None,
            launcher: vec![],
            environment: environment
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        }
    }

    pub fn env(mut self, name: &str, value: &str) -> OapCommand {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With a namespace of the Elasticsearch that all tests share.
    pub fn on_elasticsearch(self, namespace: &str) -> Result<OapCommand> {
        let node = tokio::task::block_in_place(Elasticsearch::shared);
        let (user, password) = node.credentials().context("the shared node is open")?;
        Ok(self
            .env("SW_STORAGE", "elasticsearch7")
            .env("SW_NAMESPACE", namespace)
            .env("SW_STORAGE_ES_CLUSTER_NODES", &node.address())
            .env("SW_ES_USER", user)
            .env("SW_ES_PASSWORD", password))
    }

    /// With metrics of its own, at [`OapProcess::metrics_url`].
    pub fn with_metrics(self) -> OapCommand {
        self.env("SW_TELEMETRY", "prometheus")
            .env("SW_TELEMETRY_PROMETHEUS_HOST", "127.0.0.1")
            .env("SW_TELEMETRY_PROMETHEUS_PORT", "0")
    }

    pub fn argument(mut self, argument: impl Into<String>) -> OapCommand {
        self.arguments.push(argument.into());
        self
    }

    /// Runs this instead, which runs the program in its place; arguments follow.
    pub fn through(mut self, launcher: &[&str]) -> OapCommand {
        self.launcher = launcher.iter().map(|l| (*l).to_owned()).collect();
        self
    }

    /// Reads this file as its standard input.
    pub fn input(mut self, file: &Path) -> OapCommand {
        self.input = Some(file.to_owned());
        self
    }

    /// Writes beyond this size of a file fail, until [`OapProcess::lift_file_limit`].
    pub fn file_limit_kib(mut self, limit: u32) -> OapCommand {
        self.file_limit_kib = Some(limit);
        self
    }

    fn command(&self) -> Result<Command> {
        let oap = env!("CARGO_BIN_EXE_oap");
        let mut command = match (self.launcher.split_first(), self.file_limit_kib) {
            (Some((launcher, arguments)), _) => {
                let mut command = Command::new(launcher);
                command.args(arguments);
                command
            }
            (None, None) => Command::new(oap),
            (None, Some(limit)) => {
                // Blocks of 512 bytes; without the trap the signal would end it.
                let limit = format!(
                    "trap '' XFSZ; ulimit -S -f {}; exec {oap} \"$@\"",
                    limit * 2
                );
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &limit, "oap"]);
                shell
            }
        };
        command
            .current_dir(&self.folder)
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(match &self.input {
                Some(file) => Stdio::from(File::open(file)?),
                None => Stdio::null(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    /// Starts it and waits until it says that both ports are open.
    pub async fn start(&self) -> Result<OapProcess> {
        let mut process = self.spawn()?;
        let ports = wait_until("the ports are open", DEADLINE, async || {
            let is_over = process.child.try_wait()?.is_some();
            let address = |what| process.value_of(what, "address");
            match (address("agents report here"), address("the UI asks")) {
                (Some(grpc), Some(http)) => Ok(Some((grpc, http))),
                _ if is_over => Ok(None),
                _ => anyhow::bail!("not yet: {}", process.log()),
            }
        })
        .await?;
        (process.grpc, process.http) =
            ports.with_context(|| format!("it ended: {}", process.log()))?;
        Ok(process)
    }

    /// Runs it to its end.
    pub async fn run(&self) -> Result<Ended> {
        self.spawn()?.ended().await
    }

    fn spawn(&self) -> Result<OapProcess> {
        let mut child = self.command()?.spawn()?;
        Ok(OapProcess {
            stdout: Lines::read(child.stdout.take()),
            stderr: Lines::read(child.stderr.take()),
            child,
            grpc: String::new(),
            http: String::new(),
        })
    }
}

impl OapProcess {
    /// `host:port` of the gRPC port.
    pub fn grpc(&self) -> &str {
        &self.grpc
    }

    /// `host:port` of the HTTP port.
    pub fn http(&self) -> &str {
        &self.http
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.stdout.text() + &self.stderr.text()
    }

    /// Value of a field in the first log line with a text.
    pub fn value_of(&self, text: &str, field: &str) -> Option<String> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains(text))?;
        let (_, value) = line.split_once(&format!(" {field}="))?;
        Some(value.split_whitespace().next()?.to_owned())
    }

    /// Where its metrics are, if it was started with them.
    pub fn metrics_url(&self) -> Result<String> {
        let address = self.value_of("metrics of the server itself", "address");
        let address = address.with_context(|| self.log())?;
        Ok(format!("http://{address}/metrics"))
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        self.signal("TERM")
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) -> Result<()> {
        self.signal("HUP")
    }

    /// Stands still until [`OapProcess::go_on`].
    pub fn stand_still(&self) -> Result<()> {
        self.signal("STOP")
    }

    /// After [`OapProcess::stand_still`].
    pub fn go_on(&self) -> Result<()> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> Result<()> {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status()?;
        ensure!(status.success(), "{kill}: {status}");
        Ok(())
    }

    /// Ends it as a power failure of the process would: with SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Lets files grow again.
    pub fn lift_file_limit(&self) -> Result<()> {
        let pid = self.child.id().to_string();
        let limit = ["--pid", &pid, "--fsize=unlimited:"];
        let status = Command::new("prlimit").args(limit).status()?;
        ensure!(status.success(), "prlimit: {status}");
        Ok(())
    }

    /// Waits until it has ended by itself.
    pub async fn ended(mut self) -> Result<Ended> {
        let status = wait_until("the process ends", DEADLINE, async || {
            let status = self.child.try_wait()?;
            status.with_context(|| format!("still running: {}", self.log()))
        })
        .await?;
        Ok(Ended {
            status,
            stdout: self.stdout.whole(),
            stderr: self.stderr.whole(),
        })
    }

    /// Ends it as an operator does; it must say that everything is stored.
    pub async fn stop(self) -> Result<()> {
        self.terminate()?;
        let ended = self.ended().await?;
        ensure!(ended.status.success(), "{ended:?}");
        ensure!(ended.stdout.contains("everything is stored"), "{ended:?}");
        Ok(())
    }
}

impl Drop for OapProcess {
    fn drop(&mut self) {
        // It may have ended, which is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Lines of an output, read by a thread of their own.
#[derive(Debug, Default)]
struct Lines {
    text: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Lines {
    fn read(output: Option<impl Read + Send + 'static>) -> Lines {
        let mut lines = Lines::default();
        if let Some(output) = output {
            let text = Arc::clone(&lines.text);
            lines.reader = Some(thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                    text.push_str(&line);
                    text.push('\n');
                }
            }));
        }
        lines
    }

    fn text(&self) -> String {
        self.text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// All of it, once the process has ended.
    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
        self.text()
    }
}

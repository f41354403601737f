//! A real browser: open on a page, or asked once what a page looks like.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Result, ensure};

use super::{HOW_TO_INSTALL, Tail};

/// A browser without a window, ended when dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    tail: Tail,
}

impl Browser {
    /// Opens a page; the browser keeps its own files in `profile`.
    pub fn open(url: &str, profile: &Path) -> std::io::Result<Browser> {
        // The shell ends it, with the processes that it is made of, when this process closes its input.
        let mut child = Command::new("sh")
            .args(["-c", "\"$@\" & cat; kill 0", "browser"])
            .args(["chromium-headless-shell", "--no-sandbox", "--disable-gpu"])
            .arg("--no-proxy-server")
            .args(["--disable-dev-shm-usage", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", profile.display()))
            // Also keeps it running: without a debugging port it ends when the page is loaded.
            .args(["--remote-debugging-port=0", url])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let tail = Tail::default();
        if let Some(stderr) = child.stderr.take() {
            let tail = tail.clone();
            thread::spawn(move || tail.read(stderr, None));
        }
        Ok(Browser { child, tail })
    }

    /// The last that it said about itself.
    pub fn output(&self) -> String {
        format!("{:?}, {HOW_TO_INSTALL}", self.tail.text())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}

/// Saves what a page looks like in a window of this size as a PNG.
pub fn screenshot(url: &str, size: (u32, u32), is_dark: bool, file: &Path) -> Result<()> {
    let profile = tempfile::tempdir()?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let output = Command::new("chromium-headless-shell")
        .args(["--no-sandbox", "--disable-gpu", "--no-proxy-server"])
        .args(["--disable-dev-shm-usage", "--disable-background-networking"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={},{}", size.0, size.1))
        // 0 is dark, 1 is light.
        .arg(format!(
            "--blink-settings=preferredColorScheme={}",
            u8::from(!is_dark)
        ))
        .arg(format!("--screenshot={}", file.display()))
        .arg(url)
        .output()?;
    ensure!(file.is_file(), "{output:?}, {HOW_TO_INSTALL}");
    Ok(())
}

/// What a page consists of once its script has run for these milliseconds.
pub fn dom(url: &str, virtual_ms: u32) -> Result<String> {
    let profile = tempfile::tempdir()?;
    let output = Command::new("chromium-headless-shell")
        .args(["--no-sandbox", "--disable-gpu", "--no-proxy-server"])
        .args(["--disable-dev-shm-usage", "--disable-background-networking"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--virtual-time-budget={virtual_ms}"))
        .args(["--dump-dom", url])
        .output()?;
    ensure!(output.status.success(), "{output:?}, {HOW_TO_INSTALL}");
    Ok(String::from_utf8(output.stdout)?)
}

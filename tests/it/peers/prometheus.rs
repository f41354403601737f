//! The client library of Prometheus, which reads pages of metrics.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Result, anyhow, ensure};

use super::installed;

/// The families of a page of metrics as a client library of Prometheus reads them, one line of JSON each.
pub fn families(page: &str) -> Result<Vec<String>> {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/peers/prometheus-client/families.py"
    );
    let mut child = Command::new(installed("prometheus-client").join("bin/python"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let input = child.stdin.take();
    let writing = page.to_owned();
    let writer = thread::spawn(move || match input {
        Some(mut input) => input.write_all(writing.as_bytes()),
        None => Ok(()),
    });
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    writer
        .join()
        .map_err(|_| anyhow!("the writer panicked"))??;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(str::to_owned).collect())
}

//! What this process has used.

use anyhow::Context;

/// CPU seconds between two moments.
pub(crate) struct Cost(f64);

impl Cost {
    /// A moment to count from.
    pub(crate) fn start() -> anyhow::Result<Cost> {
        Ok(Cost(cpu_seconds()?))
    }

    /// What was used since.
    pub(crate) fn end(self) -> anyhow::Result<Cost> {
        Ok(Cost(cpu_seconds()? - self.0))
    }

    /// CPU seconds for 100,000 if this was for `count`.
    pub(crate) fn per_100_000(&self, count: usize) -> f64 {
        self.0 * 100_000.0 / count as f64
    }
}

/// One thread, and a clock that jumps to the next timer when nothing else is to be done.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().start_paused(true).build()?)
}

/// User and system time of this process.
fn cpu_seconds() -> anyhow::Result<f64> {
    two_times(11)
}

/// User and system time of processes that this one started and that have ended.
pub(crate) fn children_cpu_seconds() -> anyhow::Result<f64> {
    two_times(13)
}

/// Sum of two fields of `/proc/self/stat` behind the name, in ticks of 10 ms.
fn two_times(first: usize) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, after_name) = stat.rsplit_once(')').context("no name in the status")?;
    let times = after_name.split_whitespace().skip(first).take(2);
    let ticks: u64 = times
        .map(|field| field.parse::<u64>().context("no CPU time in the status"))
        .sum::<anyhow::Result<u64>>()?;
    Ok(ticks as f64 / 100.0)
}

/// Memory now and at its highest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: usize,
    pub(crate) peak: usize,
}

impl Memory {
    pub(crate) fn now() -> anyhow::Result<Memory> {
        Memory::of("self")
    }

    /// That of a process by its id.
    pub(crate) fn of(process: &str) -> anyhow::Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok());
            Ok::<_, anyhow::Error>(kilobytes.with_context(|| format!("no {name}"))? << 10)
        };
        Ok(Memory {
            resident: bytes("VmRSS:")?,
            peak: bytes("VmHWM:")?,
        })
    }
}

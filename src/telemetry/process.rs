//! What the process uses, under the names that Prometheus clients agree on. Read from `/proc` when asked.

use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, core::Collector};

/// Kernel time units per second in `/proc`, the same on every Linux architecture that matters here.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time, memory and file descriptors; empty where there is no `/proc`.
pub fn families() -> Vec<MetricFamily> {
    let Some(usage) = Usage::read() else {
        return Vec::new();
    };
    let mut families = Vec::new();
    if let Ok(cpu) = Counter::new(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
    ) {
        cpu.inc_by(usage.cpu_seconds);
        families.extend(cpu.collect());
    }
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            Some(usage.resident_bytes),
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            Some(usage.virtual_bytes),
        ),
        (
            "process_open_fds",
            "Number of open file descriptors.",
            usage.open_fds,
        ),
        (
            "process_max_fds",
            "Maximum number of open file descriptors.",
            usage.max_fds,
        ),
        (
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            usage.start_seconds,
        ),
    ] {
        if let (Some(value), Ok(gauge)) = (value, Gauge::new(name, help)) {
            gauge.set(value);
            families.extend(gauge.collect());
        }
    }
    families
}

struct Usage {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
    start_seconds: Option<f64>,
}

impl Usage {
    fn read() -> Option<Usage> {
        let read = |file| std::fs::read_to_string(file).ok();
        let stat = read("/proc/self/stat")?;
        let mut usage = Usage::parse(&stat, &read("/proc/self/status")?)?;
        usage.max_fds = read("/proc/self/limits").and_then(|limits| max_fds(&limits));
        usage.start_seconds = read("/proc/stat").and_then(|machine| started(&stat, &machine));
        usage.open_fds = std::fs::read_dir("/proc/self/fd")
            .ok()
            .map(|fds| fds.count() as f64);
        Some(usage)
    }

    /// CPU times are fields 14 and 15 of `stat`, whose second field may contain anything but ends with the last bracket.
    fn parse(stat: &str, status: &str) -> Option<Usage> {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            let kib = line.split_whitespace().next()?.parse::<f64>().ok()?;
            Some(kib * 1024.0)
        };
        Some(Usage {
            cpu_seconds: (field(stat, 14)? + field(stat, 15)?) / TICKS_PER_SECOND,
            virtual_bytes: bytes("VmSize:")?,
            resident_bytes: bytes("VmRSS:")?,
            open_fds: None,
            max_fds: None,
            start_seconds: None,
        })
    }
}

/// A numbered field of `stat`, from the third on.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let field = fields.split_whitespace().nth(number - 3)?;
    field.parse().ok()
}

/// Field 22 is when the process began, after the machine did.
fn started(stat: &str, machine: &str) -> Option<f64> {
    let booted = machine.lines().find_map(|l| l.strip_prefix("btime "))?;
    let booted: f64 = booted.trim().parse().ok()?;
    Some(booted + field(stat, 22)? / TICKS_PER_SECOND)
}

/// The soft limit; `None` if there is none.
fn max_fds(limits: &str) -> Option<f64> {
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_process_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 900 0 3 0 150 50 0 0 20 0 9 0 1000";
        let status = "Name:\ta\nVmPeak:\t 9 kB\nVmSize:\t 8 kB\nVmRSS:\t 2 kB\n";
        let usage = Usage::parse(stat, status).unwrap();
        assert_eq!(usage.cpu_seconds, 2.0);
        assert_eq!(
            (usage.virtual_bytes, usage.resident_bytes),
            (8192.0, 2048.0)
        );
        assert_eq!(started(stat, "cpu 1 2\nbtime 500\nctxt 1\n"), Some(510.0));
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\n";
        assert_eq!(max_fds(limits), Some(1024.0));
        assert_eq!(
            max_fds("Max open files  unlimited  unlimited  files\n"),
            None
        );
        assert!(Usage::parse("7 (a) S 1", status).is_none());
        assert!(Usage::parse(stat, "").is_none());
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::read().unwrap();
        assert!(usage.resident_bytes > 0.0 && usage.open_fds.is_some_and(|n| n > 0.0));
        assert!(usage.start_seconds.is_some_and(|at| at > 1.5e9));
    }
}

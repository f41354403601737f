//! Aggregation: facts about one entity meet in one shard, which owns their values and writes them as absolute rows.
//!
//! A shard is a task that owns plain maps. Increments of a minute are collected, then merged into the minute, hour and
//! day rows. Rows are whole and absolute, so that a write repeated is a write done once. What is stored is read back only
//! for buckets that began before this process could see all of them.

pub mod addresses;
pub mod increments;
mod merged;
pub mod metadata;
pub mod partitions;
pub mod plan;
mod read_back;
pub mod route;
pub mod rows;
pub mod shard;
mod shard_metrics;
pub mod task_book;
pub mod watched;

use std::time::Duration;

pub use addresses::AddressBook;
pub use increments::{Increment, Increments, Limit, Portion};
pub use partitions::Partitions;
pub use plan::{ApdexThresholds, Plan};
pub use read_back::Earlier;
pub use route::{Ground, Held, Route};
pub use shard::{Input, Shard, ShardMetrics};
pub use task_book::TaskBook;
pub use watched::Watched;

/// Rough bytes of one metric row in memory, for turning a budget of bytes into a number of rows.
pub const BYTES_PER_ROW: usize = 512;

/// The same of a service, instance, endpoint or address that is remembered.
pub const BYTES_PER_METADATA: usize = 256;

/// Settings of aggregation.
#[derive(Debug, Clone, Copy)]
pub struct StreamOptions {
    /// Pause between two looks at what changed; metadata is written at each.
    pub flush_interval: Duration,
    /// How long a change of a minute row waits for further ones before the row is written.
    pub minute_delay: Duration,
    /// The same for hour and day rows.
    pub coarse_delay: Duration,
    /// Whether hour rows are made (`core.default.downsampling`).
    pub with_hours: bool,
    /// Whether day rows are made.
    pub with_days: bool,
    /// Rows that one shard may hold; new ones beyond are shed and counted. Large tables count by their bytes.
    pub max_rows: usize,
    /// Services, endpoints, instances and addresses that one shard remembers.
    pub max_metadata: usize,
}

/// Longest pause between two looks where each costs little, so that what is reported is stored within two seconds.
const PROMPT: Duration = Duration::from_millis(1500);
/// How old a change of a minute value may become where each write costs as much as many changes together. With the time that
/// writing takes it can be seen within 15 s.
const GATHERED: Duration = Duration::from_secs(12);

impl StreamOptions {
    /// For a store to which few rows cost little, with the pause of the settings.
    pub fn prompt(period: Duration) -> StreamOptions {
        StreamOptions {
            flush_interval: period.min(PROMPT),
            ..StreamOptions::default()
        }
    }

    /// For a store to which every row costs much, with the pause of the settings.
    pub fn gathering(period: Duration) -> StreamOptions {
        StreamOptions {
            flush_interval: period,
            minute_delay: GATHERED.saturating_sub(period),
            ..StreamOptions::default()
        }
    }
}

impl Default for StreamOptions {
    fn default() -> StreamOptions {
        StreamOptions {
            flush_interval: Duration::from_secs(3),
            minute_delay: Duration::ZERO,
            coarse_delay: Duration::from_secs(48),
            with_hours: true,
            with_days: true,
            max_rows: 200_000,
            max_metadata: 200_000,
        }
    }
}

//! What may stand behind `bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{JsonArgs, duration};

/// Shorter, and a tenth of it is no time to count in.
const TIME_MIN: Duration = Duration::from_millis(100);
/// Longer than anybody looks at a progress line.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest record: some of them are under way at a time, in memory.
const RECORD_BYTES_MAX: u64 = 16 << 20;

/// `skypipe bench`
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// What to measure [default: all of it]
    #[arg(value_name = "WHAT", value_enum)]
    pub(crate) what: Vec<BenchWhat>,
    /// Measure for so long each, such as 10, 500ms or 1m
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = time)]
    pub(crate) time: Duration,
    /// Bytes of a record, such as 16 or 64K [default: 64K in bulk, else 128]
    #[arg(long, value_name = "SIZE", value_parser = record_bytes)]
    pub(crate) size: Option<usize>,
    /// How many at a time [default: 8 readers in fan-out, 64 writers in durable, 100 sessions in idle]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) clients: Option<u16>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
    /// Draw the figures too: rates over time as bars, times by how often they came
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchWhat {
    /// Bytes a second from one writer to one live reader
    Bulk,
    /// Small records a second from one writer to one live reader
    Messages,
    /// From send to receipt, at 1000 records a second
    Latency,
    /// Small records a second from one writer to several live readers, all together
    FanOut,
    /// Records that each wait until they are stored: the time of one writer's, the rate of many writers'
    Durable,
    /// Sessions that wait: how long they take to attach, and to get a record after they have waited
    Idle,
}

impl BenchArgs {
    /// What is measured, in this order.
    pub(crate) fn what(&self) -> &[BenchWhat] {
        if self.what.is_empty() { BenchWhat::value_variants() } else { &self.what }
    }
}

impl BenchWhat {
    /// The word people use.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Messages => "messages",
            Self::Latency => "latency",
            Self::FanOut => "fan-out",
            Self::Durable => "durable",
            Self::Idle => "idle",
        }
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    let fits = (TIME_MIN..=TIME_MAX).contains(&time);
    if fits { Ok(time) } else { Err(format!("from {TIME_MIN:?} to a day")) }
}

fn record_bytes(text: &str) -> Result<usize, String> {
    let bytes = skypipe_keys::parse_size(text)?;
    let fits = (1..=RECORD_BYTES_MAX).contains(&bytes);
    usize::try_from(bytes).ok().filter(|_| fits).ok_or_else(|| "from 1 byte to 16M".to_owned())
}

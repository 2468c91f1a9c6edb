//! What the writers and readers of one run do.

use serde::{Deserialize, Serialize};

/// Handed to each role as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Length of each record in bytes: at least 16, as it begins with its number and the time when it left.
    pub(crate) record_bytes: usize,
    /// Records that each writer sends.
    pub(crate) records: u64,
    /// Writers. A process each, but for [`Pace::Outstanding`], where one process has them all.
    pub(crate) writers: u16,
    /// How fast the writers go.
    pub(crate) pace: Pace,
    /// What a writer waits for at its end.
    pub(crate) until: Until,
    /// Which of the writers this process is.
    pub(crate) writer: u16,
}

/// How fast writers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// As fast as records are taken.
    Full,
    /// One record each so many microseconds. The reader tells how long each was on its way.
    Every(u64),
    /// The next record when the one before is acknowledged.
    Outstanding,
    /// Somebody else writes, a record now and then; the reader tells when each came.
    Awaited,
    /// Nobody writes. One process holds as many readers as there are records.
    Idle,
}

/// What a writer waits for at its end. A contender that has no such acknowledgement waits for the nearest it has, and names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Until {
    Delivered,
    Stored,
}

impl Task {
    /// One writer at full speed to live readers.
    pub(crate) fn live(record_bytes: usize, records: u64) -> Self {
        Self { record_bytes, records, writers: 1, pace: Pace::Full, until: Until::Delivered, writer: 0 }
    }

    /// One writer whose records are stored, with no reader there.
    pub(crate) fn stored(record_bytes: usize, records: u64) -> Self {
        Self { until: Until::Stored, ..Self::live(record_bytes, records) }
    }

    pub(crate) fn with_writers(self, writers: u16) -> Self {
        Self { writers, ..self }
    }

    pub(crate) fn with_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Bytes that all its writers send together.
    pub(crate) fn bytes(&self) -> u64 {
        self.record_bytes as u64 * self.records_of_all()
    }

    /// Records that all its writers send together.
    pub(crate) fn records_of_all(&self) -> u64 {
        self.records * u64::from(self.writers)
    }
}

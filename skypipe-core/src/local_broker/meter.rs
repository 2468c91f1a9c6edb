//! Counts what goes through a pipe. Two additions for each batch, and no lock: rates are for who looks twice to find out.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::broker::ReaderDown;
use crate::stat::{Amount, Traffic};
use crate::time::{Time, WallTime};

/// What went through one pipe since it began, or since its broker started.
pub(super) struct Meter {
    began: Time,
    /// Not before something goes through: most of very many pipes only rest.
    flows: OnceLock<Box<Flows>>,
}

#[derive(Default)]
struct Flows {
    written: Flow,
    read: Flow,
}

/// One direction.
#[derive(Default)]
struct Flow {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Meter {
    /// Counts from now on.
    pub(super) fn new(now: Time) -> Self {
        Self { began: now, flows: OnceLock::new() }
    }

    /// A writer sent this many records of so many encoded bytes.
    pub(super) fn came(&self, records: u64, bytes: usize) {
        self.flows.get_or_init(Box::default).written.add(records, bytes);
    }

    /// A reader is sent this.
    pub(super) fn goes(&self, message: &ReaderDown) {
        let (from, batch) = match message {
            ReaderDown::Batch { from, batch, .. } => (*from, batch),
            ReaderDown::Leased { batch, .. } => (batch.first(), batch),
            _ => return,
        };
        self.flows.get_or_init(Box::default).read.add(batch.ends_from(from), batch.encoded().len());
    }

    /// All of it, at `now`, on a clock that began at `wall_at_zero`.
    pub(super) fn traffic(&self, now: Time, wall_at_zero: WallTime) -> Traffic {
        let flows = self.flows.get();
        let amount = |flow: fn(&Flows) -> &Flow| flows.map_or_else(Amount::default, |flows| flow(flows).amount());
        let since = WallTime(wall_at_zero.0.saturating_add(self.began.0 / 1000));
        let (written, read) = (amount(|flows| &flows.written), amount(|flows| &flows.read));
        Traffic { since, counted: now.since(self.began), written, read }
    }
}

impl Flow {
    // The two numbers need not be of one moment, and order nothing else.
    fn add(&self, records: u64, bytes: usize) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn amount(&self) -> Amount {
        Amount { records: self.records.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

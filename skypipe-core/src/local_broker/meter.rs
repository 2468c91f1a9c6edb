//! Counts what goes through a pipe. Two additions for each batch, and no lock: rates are for who looks twice to find out.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::broker::ReaderDown;
use crate::env::Env;
use crate::stat::{Amount, Traffic};
use crate::time::{Time, WallTime};

/// What went through one pipe since it began, or since its broker started.
pub(super) struct Meter {
    since: WallTime,
    began: Time,
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
    pub(super) fn new(env: &Env) -> Self {
        Self { since: env.clock.wall(), began: env.now(), written: Flow::default(), read: Flow::default() }
    }

    /// A writer sent this many records of so many encoded bytes.
    pub(super) fn came(&self, records: u64, bytes: usize) {
        self.written.add(records, bytes);
    }

    /// A reader is sent this.
    pub(super) fn goes(&self, message: &ReaderDown) {
        match message {
            ReaderDown::Batch { from, batch, .. } => {
                self.read.add(batch.ends_from(*from), batch.encoded().len());
            }
            ReaderDown::Leased { batch, .. } => self.read.add(batch.ends_from(batch.first()), batch.encoded().len()),
            _ => {}
        }
    }

    /// All of it, at `now`.
    pub(super) fn traffic(&self, now: Time) -> Traffic {
        let (written, read) = (self.written.amount(), self.read.amount());
        Traffic { since: self.since, counted: now.since(self.began), written, read }
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

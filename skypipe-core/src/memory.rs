//! What a relay's memory is shared out to.

use crate::budget::Budget;

/// Bytes of memory that a relay takes, unless it is told otherwise.
pub const MEMORY_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// The least it can be told: with less a handful of writers would wait for each other.
pub const MEMORY_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// Most of what a link from another machine takes with TLS, QUIC or WebSocket, while it is idle.
pub const LINK_BYTES: u64 = 20 * 1024;
/// Most of what an attached stream takes while it is idle, its buffer of 4 KiB included.
pub const STREAM_BYTES: u64 = 8 * 1024;
/// What a pipe takes, and what each of its items and readers takes in it.
pub const PIPE_BYTES: u64 = 2 * 1024;
/// See [`PIPE_BYTES`].
pub const PARTY_BYTES: u64 = 512;

/// The budgets of one relay and its broker. They are apart so that what fills one of them cannot starve another: on a full disk writers may
/// fill theirs, and what makes room there is that readers read on.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Links, streams, pipes, items: what is refused with `E_BUSY` when there is no room.
    pub sessions: Budget,
    /// Frames from their first byte on, and batches until the last reader and the log have let go of them. They wait for room unread.
    pub intake: Budget,
    /// Batches read from the log, until they are sent. They wait for room in the log.
    pub reads: Budget,
}

impl Memory {
    /// Shares out what a process may take in all. Ten thousand sessions of 32 KiB fit half a gigabyte with 96 MiB for what comes in, 48 full
    /// windows of writers, and half of that for what is read; 3/32 are left to the program itself.
    pub fn of_process(bytes_max: u64) -> Self {
        let part = |of_32: u64| Budget::new(bytes_max / 32 * of_32);
        Self { sessions: part(20), intake: part(6), reads: part(3) }
    }
}

impl Memory {
    /// Whether what peers send or do not take runs short.
    pub fn is_pressed(&self) -> bool {
        self.intake.is_pressed() || self.reads.is_pressed()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::of_process(MEMORY_BYTES_MAX)
    }
}

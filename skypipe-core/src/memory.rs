//! What a relay's memory is shared out to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::budget::Budget;
use crate::identity::PublicKey;

/// Bytes of memory that a relay takes, unless it is told otherwise.
pub const MEMORY_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// The least it can be told: with less a handful of writers would wait for each other.
pub const MEMORY_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// Most of what a link from another machine takes with TLS, QUIC or WebSocket, while it is idle.
pub const LINK_BYTES: u64 = 20 * 1024;
/// Most of what an attached stream takes while it is idle, its buffer of 4 KiB included.
pub const STREAM_BYTES: u64 = 8 * 1024;
/// What a pipe takes that nobody uses, with its place in the log, beside what it rests as.
pub const PIPE_AT_REST_BYTES: u64 = 400;
/// What a pipe takes that somebody uses, and what each of its items and readers takes in it.
pub const PIPE_BYTES: u64 = 2 * 1024;
/// See [`PIPE_BYTES`].
pub const PARTY_BYTES: u64 = 512;

/// The budgets of one relay and its broker. They are apart so that what fills one of them cannot starve another: on a full disk writers may
/// fill theirs, and what makes room there is that readers read on.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Links, streams, pipes, items: what is refused with `E_BUSY` when there is no room.
    pub sessions: Budget,
    /// Those of it that pipes may take, with all that is in them: they stay when everybody has left, and whoever would read them needs a link.
    pub pipes: Budget,
    /// Frames from their first byte on, and batches until the last reader and the log have let go of them. They wait for room unread.
    pub intake: Budget,
    /// Batches read from the log, until they are sent. They wait for room in the log.
    pub reads: Budget,
    parts: Arc<Mutex<HashMap<PublicKey, Weak<Part>>>>,
}

/// What one key may have of a [`Memory`], however many links it has. The processes of the relay's own machine have all of it.
#[derive(Debug)]
pub struct Part {
    /// As [`Memory::intake`].
    pub intake: Budget,
    /// As [`Memory::reads`].
    pub reads: Budget,
    /// As [`Memory::pipes`], for those that the key owns.
    pub pipes: Budget,
}

/// A key has at most this part of each: whoever fills it holds up itself. Of half a gigabyte it is enough for 180,000 pipes that rest.
const PART: u64 = 4;
/// Eighths of what there is for sessions that pipes may have. Of half a gigabyte the rest is enough for a thousand links.
const PIPES_OF_8: u64 = 7;

impl Memory {
    /// Shares out what a process may take in all. Ten thousand sessions of 32 KiB fit half a gigabyte with 96 MiB for what comes in, 48 full
    /// windows of writers, and a third of that for what is read; an eighth is left to the program itself.
    pub fn of_process(bytes_max: u64) -> Self {
        let part = |of_32: u64| Budget::new(bytes_max / 32 * of_32);
        let sessions = part(20);
        let pipes = sessions.part(sessions.bytes_max() / 8 * PIPES_OF_8);
        Self { sessions, pipes, intake: part(6), reads: part(2), parts: Arc::default() }
    }

    /// What a caller with this key may have, or one without a key, on this machine.
    pub fn part_of(&self, key: Option<PublicKey>) -> Arc<Part> {
        let Some(key) = key else {
            let (intake, reads, pipes) = (self.intake.clone(), self.reads.clone(), self.pipes.clone());
            return Arc::new(Part { intake, reads, pipes });
        };
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get(&key).and_then(Weak::upgrade) {
            return part;
        }
        if parts.len() == parts.capacity() {
            parts.retain(|_, part| part.strong_count() > 0);
        }
        let of = |budget: &Budget| budget.part(budget.bytes_max() / PART);
        let pipes = self.pipes.part(self.sessions.bytes_max() / PART);
        let part = Arc::new(Part { intake: of(&self.intake), reads: of(&self.reads), pipes });
        parts.insert(key, Arc::downgrade(&part));
        part
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_part_over_all_its_links() {
        let memory = Memory::of_process(MEMORY_BYTES_MAX);
        let (first, second) = (memory.part_of(Some(PublicKey([1; 32]))), memory.part_of(Some(PublicKey([1; 32]))));
        assert!(Arc::ptr_eq(&first, &second));
        let all = first.intake.take(memory.intake.bytes_max() / PART);
        assert!(all.is_some() && second.intake.take(1).is_none());
        assert!(memory.part_of(Some(PublicKey([2; 32]))).intake.take(1).is_some());
        assert!(memory.part_of(None).intake.take(memory.intake.bytes_max() / 2).is_some());
    }

    #[test]
    fn pipes_leave_room_for_those_who_read_them() {
        let memory = Memory::of_process(MEMORY_BYTES_MAX);
        let own = memory.part_of(None);
        let all = own.pipes.take(own.pipes.bytes_max());
        let more = memory.part_of(Some(PublicKey([1; 32]))).pipes.take(PIPE_BYTES);
        assert!(all.is_some() && more.is_none() && own.pipes.take(PIPE_BYTES).is_none());
        assert!(memory.sessions.take(1000 * (LINK_BYTES + STREAM_BYTES)).is_some());
    }

    #[test]
    fn parts_of_keys_that_left_are_forgotten() {
        let memory = Memory::default();
        for number in 0..10_000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_le_bytes());
            drop(memory.part_of(Some(PublicKey(key))));
        }
        assert!(memory.parts.lock().unwrap().len() < 100);
    }
}

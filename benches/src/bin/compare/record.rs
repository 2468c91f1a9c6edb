//! The records of a run and the sum over them.

use serde::{Deserialize, Serialize};

use crate::task::{Pace, Task};

/// Where the time stands in a record, in nanoseconds of the monotonic clock: behind its number. Not part of the sum.
const TIME: std::ops::Range<usize> = 8..16;
/// The writer's number stands above the record's.
const WRITER_SHIFT: u32 = 48;

/// Makes the records of one writer, each in the same memory: random bytes with the record's number before them.
pub(crate) struct Records {
    bytes: Vec<u8>,
    number: u64,
}

impl Records {
    pub(crate) fn of(task: &Task, writer: u16) -> Self {
        Self { bytes: noise(task.record_bytes), number: u64::from(writer) << WRITER_SHIFT }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        self.bytes[..TIME.start].copy_from_slice(&self.number.to_le_bytes());
        self.number += 1;
        &self.bytes
    }

    /// The next one, which says when it left.
    pub(crate) fn next_at(&mut self, now: u64) -> &[u8] {
        self.bytes[TIME].copy_from_slice(&now.to_le_bytes());
        self.next()
    }
}

/// The same noise each time, with a newline in 256 bytes or so, as random data has.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    let mut bytes: Vec<u8> = (0..length).map(|_| next()).collect();
    bytes[TIME].fill(0);
    bytes
}

/// What came, or what should have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Over the CRC32C of each record: in their order where there is one writer, else in any.
    pub(crate) sum: u64,
}

impl Digest {
    /// Of all that the writers of a task send.
    pub(crate) fn expected(task: &Task) -> Self {
        let mut arrivals = Arrivals::of(&Task { pace: Pace::Full, ..task.clone() });
        for writer in 0..task.writers {
            let mut records = Records::of(task, writer);
            (0..task.records).for_each(|_| arrivals.take(records.next()));
        }
        arrivals.digest
    }

    fn add(&mut self, crc: u32, length: usize, is_ordered: bool) {
        self.records += 1;
        self.bytes += length as u64;
        self.sum = if is_ordered { self.sum.rotate_left(7) ^ u64::from(crc) } else { self.sum + u64::from(crc) };
    }
}

/// Checks and counts what comes, however it is cut.
pub(crate) struct Arrivals {
    record_bytes: usize,
    expected: u64,
    is_ordered: bool,
    pace: Pace,
    digest: Digest,
    /// Of the record that is not whole yet: its sum and length, or itself where it carries the time.
    crc: u32,
    length: usize,
    open: Vec<u8>,
    /// Nanoseconds on the way, or the time of arrival, of each record that carries or wants one.
    times: Vec<u64>,
}

impl Arrivals {
    pub(crate) fn of(task: &Task) -> Self {
        Self {
            record_bytes: task.record_bytes,
            expected: task.bytes(),
            is_ordered: task.writers == 1,
            pace: task.pace,
            digest: Digest::default(),
            crc: 0,
            length: 0,
            open: Vec::with_capacity(task.record_bytes),
            times: Vec::new(),
        }
    }

    /// Takes what came next.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        match self.pace {
            Pace::Full | Pace::Outstanding | Pace::Idle => self.sum(bytes),
            Pace::Every(_) | Pace::Awaited => self.gather(bytes),
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.digest.bytes + self.length as u64 >= self.expected
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn into_times(self) -> Vec<u64> {
        self.times
    }

    fn sum(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(self.record_bytes - self.length));
            self.crc = crc32c::crc32c_append(self.crc, part);
            self.length += part.len();
            if self.length == self.record_bytes {
                self.digest.add(self.crc, self.length, self.is_ordered);
                (self.crc, self.length) = (0, 0);
            }
            bytes = rest;
        }
    }

    fn gather(&mut self, mut bytes: &[u8]) {
        let now = crate::now();
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(self.record_bytes - self.open.len()));
            self.open.extend_from_slice(part);
            if self.open.len() == self.record_bytes {
                self.close(now);
            }
            bytes = rest;
        }
    }

    fn close(&mut self, now: u64) {
        let mut left = [0; TIME.end - TIME.start];
        left.copy_from_slice(&self.open[TIME]);
        self.open[TIME].fill(0);
        self.times.push(now.saturating_sub(u64::from_le_bytes(left)));
        self.digest.add(crc32c::crc32c(&self.open), self.record_bytes, self.is_ordered);
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Until;

    const TASK: Task =
        Task { record_bytes: 40, records: 5, writers: 1, pace: Pace::Full, until: Until::Delivered, writer: 0 };

    fn sent(task: &Task) -> Vec<Vec<u8>> {
        let mut records = Records::of(task, 0);
        (0..task.records).map(|_| records.next().to_vec()).collect()
    }

    fn digest(task: &Task, records: &[Vec<u8>], cut: usize) -> Digest {
        let mut arrivals = Arrivals::of(task);
        records.concat().chunks(cut).for_each(|part| arrivals.take(part));
        arrivals.digest()
    }

    #[test]
    fn what_arrives_is_the_same_however_it_is_cut() {
        for pace in [Pace::Full, Pace::Awaited] {
            let task = Task { pace, ..TASK };
            for cut in [1, 7, 40, 41, 200] {
                assert_eq!(digest(&task, &sent(&task), cut), Digest::expected(&task));
            }
        }
    }

    #[test]
    fn a_record_lost_doubled_changed_or_moved_is_seen() {
        let whole = sent(&TASK);
        let mut changed = [whole.clone(), whole.clone(), whole.clone(), whole];
        changed[0].remove(2);
        changed[1][3] = changed[1][2].clone();
        changed[2][1][39] ^= 1;
        changed[3].swap(0, 4);
        for records in changed {
            assert_ne!(digest(&TASK, &records, 64), Digest::expected(&TASK));
        }
    }

    #[test]
    fn records_of_several_writers_come_in_any_order() {
        let task = Task { writers: 2, ..TASK };
        let (mut first, mut second) = (Records::of(&task, 0), Records::of(&task, 1));
        let mut arrivals = Arrivals::of(&task);
        for _ in 0..task.records {
            arrivals.take(second.next());
            arrivals.take(first.next());
        }
        assert!(arrivals.is_complete());
        assert_eq!(arrivals.digest(), Digest::expected(&task));
    }
}

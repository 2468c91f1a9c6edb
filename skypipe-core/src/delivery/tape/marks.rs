//! When what was written, and how much there was by then: coarse, and of bounded length.

use std::collections::VecDeque;

use crate::id::Seq;
use crate::time::WallTime;

/// Most marks of one pipe: each of its parts is then at most a 500th of what is kept.
const MARKS_MAX: usize = 1024;
/// No finer than that: nobody asks for parts of a second of a day.
const APART_MS_MIN: u64 = 1000;
/// A mark stands at least after so many bytes, so that a small limit of bytes is kept well.
const APART_BYTES_MIN: u64 = 4096;

/// All before this place was written before this moment, and was so many bytes in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Mark {
    /// The place.
    pub place: Seq,
    /// Encoded bytes of all that came before it.
    pub bytes: u64,
    /// The moment.
    pub at: WallTime,
}

/// Marks in the order of their places.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marks: VecDeque<Mark>,
    /// Encoded bytes of all records that ever came.
    bytes: u64,
    /// How far apart marks are in bytes; doubles when there are too many.
    apart_bytes: u64,
    apart_ms: u64,
}

impl Marks {
    /// Records of `bytes` encoded bytes come at `place`.
    pub(super) fn pass(&mut self, place: Seq, bytes: u64, at: WallTime) {
        let (apart_bytes, apart_ms) = (self.apart_bytes.max(APART_BYTES_MIN), self.apart_ms.max(APART_MS_MIN));
        let is_due = |last: &Mark| self.bytes - last.bytes >= apart_bytes || at.0.saturating_sub(last.at.0) >= apart_ms;
        if self.marks.back().is_none_or(is_due) {
            self.insert(Mark { place, bytes: self.bytes, at });
        }
        self.bytes += bytes;
    }

    /// Adds a mark, as they were when they were saved.
    pub(super) fn insert(&mut self, mark: Mark) {
        if self.marks.back().is_some_and(|last| last.place >= mark.place) {
            return;
        }
        self.bytes = self.bytes.max(mark.bytes);
        self.marks.push_back(mark);
        if self.marks.len() > MARKS_MAX {
            self.apart_bytes = self.apart_bytes.max(APART_BYTES_MIN) * 2;
            self.apart_ms = self.apart_ms.max(APART_MS_MIN) * 2;
            let mut at = 0;
            self.marks.retain(|_| {
                at += 1;
                at % 2 == 1
            });
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Mark> + '_ {
        self.marks.iter().copied()
    }

    pub(super) fn last(&self) -> Option<Mark> {
        self.marks.back().copied()
    }

    /// All below is forgotten. The mark before stays: it tells how much that was.
    pub(super) fn forget(&mut self, below: Seq) {
        while self.marks.get(1).is_some_and(|second| second.place <= below) {
            self.marks.pop_front();
        }
    }

    /// From here on is what came at `at` and later, and little more.
    pub(super) fn since(&self, at: WallTime) -> Seq {
        let behind = self.marks.partition_point(|mark| mark.at <= at);
        behind.checked_sub(1).and_then(|before| self.marks.get(before)).map_or(Seq(0), |mark| mark.place)
    }

    /// All below was there before `at`.
    pub(super) fn older_than(&self, at: WallTime) -> Seq {
        self.since(at)
    }

    /// From here on are at most `bytes` encoded bytes, but for what came since the last mark.
    pub(super) fn newest_bytes(&self, bytes: u64) -> Seq {
        let behind = self.marks.partition_point(|mark| self.bytes - mark.bytes > bytes);
        self.marks.get(behind).or(self.marks.back()).map_or(Seq(0), |mark| mark.place)
    }

    /// Encoded bytes of what stands at this place and behind, and little more.
    pub(super) fn bytes_from(&self, place: Seq) -> u64 {
        let behind = self.marks.partition_point(|mark| mark.place <= place);
        let before = behind.checked_sub(1).and_then(|before| self.marks.get(before)).map_or(0, |mark| mark.bytes);
        self.bytes - before
    }

    /// When the first of them but one is older than `age`.
    pub(super) fn next_older(&self, age_ms: u64) -> Option<WallTime> {
        self.marks.get(1).map(|second| WallTime(second.at.0.saturating_add(age_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_tell_age_and_size_and_stay_few() {
        let mut marks = Marks::default();
        for n in 0..100_000 {
            marks.pass(Seq(n), 1000, WallTime(n * 100));
        }
        assert!(marks.marks.len() <= MARKS_MAX);
        let since = marks.since(WallTime(5_000_000)).0;
        assert!((49_000..=50_000).contains(&since), "{since}");
        let newest = marks.newest_bytes(10_000_000).0;
        assert!((90_000..=91_000).contains(&newest), "{newest}");
        marks.forget(Seq(50_000));
        assert!(marks.marks[0].place <= Seq(50_000) && marks.marks[1].place > Seq(50_000));
        assert_eq!(marks.since(WallTime(0)), Seq(0));
    }
}

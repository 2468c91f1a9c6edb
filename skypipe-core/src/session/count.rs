//! How many whole records stand below a number, when some numbers are pieces of long records.

use std::collections::VecDeque;

use crate::id::Seq;

/// Most long records remembered one by one. Beyond, the two oldest count as one: the count below a number in the
/// middle of them is then too low by at most what they hold.
const SPANS_MAX: usize = 1024;

/// Records that together take more numbers than they are.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    to: u64,
    records: u64,
}

/// Counts the records of one item.
#[derive(Debug, Default)]
pub(super) struct RecordCount {
    pieces: u64,
    records: u64,
    /// Where the record begins that has no last piece yet.
    open: Option<u64>,
    spans: VecDeque<Span>,
    /// Numbers that are no records of their own, of spans already forgotten.
    forgotten: u64,
}

impl RecordCount {
    /// A record or piece took the next number.
    pub(super) fn push(&mut self, last: bool) {
        let at = self.pieces;
        self.pieces += 1;
        if !last {
            self.open.get_or_insert(at);
            return;
        }
        self.records += 1;
        if let Some(from) = self.open.take() {
            self.spans.push_back(Span { from, to: self.pieces, records: 1 });
            self.bound();
        }
    }

    /// Whole records so far.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Whole records below `seq`; the end mark is none.
    pub(super) fn below(&self, seq: Seq) -> u64 {
        let at = seq.0.min(self.open.unwrap_or(self.pieces));
        let mut count = at.saturating_sub(self.forgotten);
        for span in self.spans.iter().take_while(|span| span.from < at) {
            let extra = if span.to <= at { span.to - span.from - span.records } else { at - span.from };
            count = count.saturating_sub(extra);
        }
        count
    }

    /// Nobody will ask for a number below `seq` again.
    pub(super) fn forget(&mut self, seq: Seq) {
        while let Some(span) = self.spans.front().filter(|span| span.to <= seq.0) {
            self.forgotten += span.to - span.from - span.records;
            self.spans.pop_front();
        }
    }

    fn bound(&mut self) {
        if self.spans.len() <= SPANS_MAX {
            return;
        }
        if let (Some(old), Some(next)) = (self.spans.pop_front(), self.spans.front_mut()) {
            next.records += old.records + (next.from - old.to);
            next.from = old.from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_whole_records_only() {
        let mut count = RecordCount::default();
        for last in [true, false, false, true, true, false] {
            count.push(last);
        }
        assert_eq!(count.records(), 3);
        let below: Vec<u64> = (0..8).map(|seq| count.below(Seq(seq))).collect();
        assert_eq!(below, [0, 1, 1, 1, 2, 3, 3, 3]);
        count.forget(Seq(4));
        assert_eq!((count.below(Seq(4)), count.below(Seq(5))), (2, 3));
    }

    #[test]
    fn many_long_records_stay_bounded() {
        let mut count = RecordCount::default();
        for _ in 0..10_000 {
            count.push(false);
            count.push(true);
            count.push(true);
        }
        assert!(count.spans.len() <= SPANS_MAX);
        assert_eq!(count.below(Seq(30_000)), 20_000);
        assert!(count.below(Seq(15_000)) <= 10_000);
        assert_eq!(count.below(Seq(29_999)), 19_999);
    }
}

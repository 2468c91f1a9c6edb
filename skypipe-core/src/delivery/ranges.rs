//! Sets of numbers, kept as ranges.

use std::ops::Range;

use crate::id::Seq;

/// A set of numbers as sorted ranges that neither touch nor overlap. Records are acknowledged in order, so there are as many ranges
/// as readers that began in different places: nearly always one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range<Seq>>);

impl Ranges {
    /// Adds all of `range`.
    pub fn insert(&mut self, range: Range<Seq>) {
        if range.start >= range.end {
            return;
        }
        let from = self.0.partition_point(|r| r.end < range.start);
        let to = self.0.partition_point(|r| r.start <= range.end);
        let merged = match self.0.get(from..to) {
            Some([first, .., last]) => first.start.min(range.start)..last.end.max(range.end),
            Some([only]) => only.start.min(range.start)..only.end.max(range.end),
            _ => range,
        };
        self.0.splice(from..to, [merged]);
    }

    /// Removes all from `end` on.
    pub fn truncate(&mut self, end: Seq) {
        self.0.retain(|r| r.start < end);
        if let Some(last) = self.0.last_mut() {
            last.end = last.end.min(end);
        }
    }

    /// The lowest number from `from` on that is not in the set.
    pub fn first_gap(&self, from: Seq) -> Seq {
        match self.0.iter().find(|r| r.end > from) {
            Some(range) if range.start <= from => range.end,
            _ => from,
        }
    }

    /// Where the next range begins at or behind `from`, if one does.
    pub fn next_start(&self, from: Seq) -> Option<Seq> {
        self.0.iter().map(|r| r.start).find(|&start| start >= from)
    }

    /// Whether no number is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<Seq>> + '_ {
        self.0.iter().cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_set_it_stands_for(inserts in proptest::collection::vec((0u64..40, 0u64..12), 0..20), from in 0u64..60, cut in 0u64..60) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (start, length) in inserts {
                ranges.insert(Seq(start)..Seq(start + length));
                model.extend(start..start + length);
            }
            let members: Vec<u64> = ranges.iter().flat_map(|r| r.start.0..r.end.0).collect();
            prop_assert_eq!(&members, &model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(ranges.first_gap(Seq(from)).0, (from..).find(|n| !model.contains(n)).unwrap());
            let touching = ranges.iter().zip(ranges.iter().skip(1)).any(|(a, b)| a.end >= b.start);
            prop_assert!(!touching);
            ranges.truncate(Seq(cut));
            let members: Vec<u64> = ranges.iter().flat_map(|r| r.start.0..r.end.0).collect();
            prop_assert_eq!(&members, &model.range(..cut).copied().collect::<Vec<_>>());
        }
    }
}

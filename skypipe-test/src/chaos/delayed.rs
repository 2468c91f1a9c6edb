//! Datagrams on their way: they arrive when their time has come, not in the order in which they left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokio::time::Instant;

/// Datagrams on their way in one direction of one client; one more is lost, as in a router.
const DATAGRAMS_MAX: usize = 1024;

/// What is on its way in one direction.
#[derive(Default)]
pub(super) struct Delayed {
    /// When, then in which order they came: those due at once keep their order.
    waiting: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    pushed: u64,
}

impl Delayed {
    pub(super) fn push(&mut self, due: Instant, datagram: Vec<u8>) {
        if self.waiting.len() < DATAGRAMS_MAX {
            self.waiting.push(Reverse((due, self.pushed, datagram)));
            self.pushed += 1;
        }
    }

    /// When the next one arrives.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((due, ..))| *due)
    }

    /// The next one that has arrived.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        (self.next_due()? <= now).then(|| self.waiting.pop())?.map(|Reverse((_, _, datagram))| datagram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn they_arrive_in_their_time_and_are_bounded() {
        let (mut delayed, now) = (Delayed::default(), Instant::now());
        delayed.push(now + Duration::from_secs(1), vec![1]);
        delayed.push(now, vec![2]);
        delayed.push(now, vec![3]);
        assert_eq!([delayed.pop(now), delayed.pop(now), delayed.pop(now)], [Some(vec![2]), Some(vec![3]), None]);
        assert_eq!(delayed.pop(now + Duration::from_secs(1)), Some(vec![1]));
        (0..2 * DATAGRAMS_MAX).for_each(|_| delayed.push(now, vec![]));
        assert_eq!(std::iter::from_fn(|| delayed.pop(now)).count(), DATAGRAMS_MAX);
    }
}

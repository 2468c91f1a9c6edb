//! Sessions that ended, for as long as their last acknowledgement may be under way.

use std::collections::{HashMap, VecDeque};

use crate::delivery::limits::{CLOSED_KEPT, CLOSED_MAX};
use crate::delivery::{Closed, Fact};
use crate::id::SessionId;
use crate::time::WallTime;

/// The last numbers of ended sessions, the oldest first to be forgotten.
#[derive(Default)]
pub(super) struct ClosedSessions {
    by_session: HashMap<SessionId, Closed>,
    in_order: VecDeque<SessionId>,
}

impl ClosedSessions {
    pub(super) fn get(&self, session: SessionId) -> Option<Closed> {
        self.by_session.get(&session).copied()
    }

    pub(super) fn insert(&mut self, closed: Closed) {
        if self.by_session.insert(closed.session, closed).is_none() {
            self.in_order.push_back(closed.session);
        }
        while self.in_order.len() > CLOSED_MAX || self.oldest_is_over(closed.at) {
            self.in_order.pop_front().map(|session| self.by_session.remove(&session));
        }
    }

    /// Applies a fact of the broker's own log.
    pub(super) fn replay(&mut self, fact: Fact) {
        match fact {
            Fact::Closed(closed) => self.insert(closed),
            Fact::Snapshot(facts) => facts.into_iter().for_each(|fact| self.replay(fact)),
            _ => {}
        }
    }

    /// All that is still worth knowing at `now`, as one fact.
    pub(super) fn snapshot(&self, now: WallTime) -> Fact {
        let young = |closed: &&Closed| !is_over(closed, now);
        let closed = self.in_order.iter().filter_map(|session| self.by_session.get(session)).filter(young);
        Fact::Snapshot(closed.copied().map(Fact::Closed).collect())
    }

    fn oldest_is_over(&self, now: WallTime) -> bool {
        let oldest = self.in_order.front().and_then(|session| self.by_session.get(session));
        oldest.is_some_and(|closed| is_over(closed, now))
    }
}

fn is_over(closed: &Closed, now: WallTime) -> bool {
    u128::from(now.0.saturating_sub(closed.at.0)) > CLOSED_KEPT.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Seq;

    fn closed(name: u32, at: u64) -> Closed {
        let mut session = SessionId([0; 16]);
        session.0[..4].copy_from_slice(&name.to_le_bytes());
        Closed { session, next: Seq(1), ended: true, delivered: true, at: WallTime(at) }
    }

    #[test]
    fn the_old_and_the_too_many_are_forgotten() {
        let mut sessions = ClosedSessions::default();
        sessions.insert(closed(1, 0));
        sessions.insert(closed(2, 1000));
        sessions.insert(closed(3, CLOSED_KEPT.as_millis() as u64 + 500));
        assert!(sessions.get(closed(1, 0).session).is_none() && sessions.get(closed(2, 0).session).is_some());
        (0..CLOSED_MAX as u32).for_each(|n| sessions.insert(closed(100 + n, CLOSED_KEPT.as_millis() as u64)));
        assert_eq!((sessions.by_session.len(), sessions.in_order.len()), (CLOSED_MAX, CLOSED_MAX));
    }

    #[test]
    fn they_survive_a_snapshot() {
        let (mut before, mut after) = (ClosedSessions::default(), ClosedSessions::default());
        before.insert(closed(1, 5));
        after.replay(before.snapshot(WallTime(6)));
        assert_eq!(after.get(closed(1, 5).session), Some(closed(1, 5)));
    }
}

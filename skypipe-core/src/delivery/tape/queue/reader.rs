//! One reader of a queue, and what a record is in its hands or waiting for some.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::broker::LeaseId;
use crate::caller::Holder;
use crate::error::Code;
use crate::id::{Epoch, Seq, SessionId};
use crate::time::{Time, WallTime};

use super::super::super::hands::InHands;
use super::super::super::item::Link;
use super::super::super::limits::PREFETCH_MAX;
use super::super::long::Point;

/// One reader.
#[derive(Debug)]
pub(in super::super) struct Reader {
    pub(in super::super) epoch: Epoch,
    pub(in super::super) link: Link,
    pub(in super::super) holder: Holder,
    pub(super) joined: u64,
    pub(super) credit: i64,
    /// Records it takes at a time.
    pub(super) prefetch: u32,
    /// It ends when there is nothing for it.
    pub(super) no_wait: bool,
    pub(super) leased: InHands,
    /// Leases that are on disk and not sent over this link.
    pub(super) unsent: BTreeSet<Seq>,
    /// Of the record that it is being sent in parts: how many it was sent.
    pub(super) part: Option<Point>,
    /// What became of its verdicts.
    pub(super) told: VecDeque<(LeaseId, Option<Code>)>,
    /// Acknowledgements that are not on disk yet.
    pub(super) unconfirmed: BTreeMap<Seq, LeaseId>,
    /// The last it was done with, as many as it may have at a time: it may not have heard so, and says it again.
    pub(super) finished: VecDeque<(Seq, u32)>,
    pub(super) leaving: bool,
    pub(super) is_in_turn: bool,
}

/// A record in a reader's hands.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Lease {
    pub(in super::super) reader: SessionId,
    /// How often it was handed out, this time included.
    pub(in super::super) attempt: u32,
    pub(super) until: Time,
    /// Whether it may have left the relay: else it was not handed out.
    pub(super) is_sent: bool,
}

impl Lease {
    /// How often its record was handed out.
    pub(super) fn attempts(self) -> u32 {
        self.attempt.saturating_sub(u32::from(!self.is_sent))
    }
}

/// A record that is to be handed out, not in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Waiting {
    /// How often it was handed out.
    pub(in super::super) attempts: u32,
    /// When it is ready.
    pub(in super::super) due: WallTime,
}

impl Reader {
    pub(in super::super) fn new(epoch: Epoch, holder: Holder, joined: u64) -> Self {
        Self {
            epoch,
            link: Link::Attached,
            holder,
            joined,
            credit: 0,
            prefetch: 1,
            no_wait: false,
            leased: InHands::default(),
            unsent: BTreeSet::new(),
            part: None,
            told: VecDeque::new(),
            unconfirmed: BTreeMap::new(),
            finished: VecDeque::new(),
            leaving: false,
            is_in_turn: false,
        }
    }

    pub(super) fn finish(&mut self, place: Seq, attempt: u32) {
        self.finished.push_back((place, attempt));
        if self.finished.len() > PREFETCH_MAX as usize {
            self.finished.pop_front();
        }
    }

    /// What it is sent next: a record that was begun before all else.
    pub(super) fn next_unsent(&self) -> Option<Point> {
        self.part.or_else(|| self.unsent.first().map(|place| Point::from(*place)))
    }

    /// It has not got this record any more.
    pub(super) fn let_go(&mut self, place: Seq) {
        self.leased.let_go(place);
        self.unsent.remove(&place);
        self.part = self.part.filter(|part| part.place != place);
    }

    /// Records that may be in its hands.
    pub(super) fn holds(&self) -> u64 {
        self.leased.places().len() as u64
    }

    /// Whether it is served in turn. Of one that reads other queues too its hands tell, when it is its turn.
    pub(super) fn wants_turn(&self) -> bool {
        let has_room = || self.credit > 0 && self.leased.places().len() < self.prefetch as usize;
        self.link == Link::Attached && !self.leaving && (self.leased.are_shared() || has_room())
    }

    /// Takes a record into its hands, if they have room.
    pub(super) fn take(&mut self, place: Seq) -> bool {
        self.wants_turn() && self.leased.take(place, self.prefetch)
    }
}

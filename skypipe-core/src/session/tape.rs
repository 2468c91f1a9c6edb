//! What a reader's session knows of a queue or broadcast: where it is, and what it has in its hands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::broker::{Had, LeaseId, Mark, Mode, OnTape, ReaderUp, ReaderWelcome, Start, Verdict};
use crate::error::Code;
use crate::name::PipePath;

/// The reader's side of a tape.
#[derive(Debug, Default)]
pub(super) struct TapeSide {
    /// The mode of the pipe, once the broker said it.
    mode: Mode,
    /// Behind what was received of a broadcast.
    received: Mark,
    /// Behind what the application is done with.
    acked: Mark,
    is_ack_due: bool,
    /// Records of a queue that were handed to this reader, and are not settled.
    held: BTreeSet<LeaseId>,
    /// The one of them that did not come whole yet.
    part: Option<LeaseId>,
    /// What was said of them and not confirmed.
    said: BTreeMap<LeaseId, Verdict>,
    /// What is to be said over this link.
    to_say: VecDeque<(LeaseId, Verdict)>,
    /// It takes no more records of a queue, and whether that is to be said over this link.
    is_full: bool,
    is_full_due: bool,
}

impl TapeSide {
    pub(super) fn is_tape(&self) -> bool {
        self.mode != Mode::Default
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// The broker answered: what was said and not confirmed is said again.
    pub(super) fn attached(&mut self, welcome: ReaderWelcome, is_first: bool) {
        self.mode = welcome.mode;
        // The answer to its first attach may never have come.
        if (is_first || self.received == Mark::default()) && self.mode == Mode::Broadcast {
            self.received = Mark { position: welcome.position, records: 0 };
        }
        self.to_say = self.said.iter().map(|(lease, verdict)| (lease.clone(), *verdict)).collect();
        self.is_ack_due = self.mode == Mode::Broadcast && self.acked != Mark::default();
        self.is_full_due = self.is_full;
    }

    /// Where a returning reader goes on.
    pub(super) fn resume(&self, mut on_tape: OnTape) -> OnTape {
        on_tape.resume_at = (self.mode == Mode::Broadcast).then(|| self.received.clone());
        on_tape.has = self.whole();
        on_tape
    }

    /// What a returning reader of many has of this pipe.
    pub(super) fn had(&self, pipe: PipePath) -> Had {
        let at = (self.mode == Mode::Broadcast).then(|| self.received.clone());
        Had { pipe, at, leases: self.whole() }
    }

    /// What it need not be sent again.
    fn whole(&self) -> Vec<LeaseId> {
        self.held.iter().filter(|lease| self.part.as_ref() != Some(lease)).cloned().collect()
    }

    /// The broker gave the session up. A broadcast goes on where it was, a durable cursor or not, and says again what it acknowledged; what
    /// was in hand of a queue is somebody else's. Gives what was said to be done and the broker may never have heard.
    pub(super) fn start_over(&mut self, on_tape: &mut OnTape) -> Vec<LeaseId> {
        // Who only looks into a queue goes on where it was, too.
        if self.mode == Mode::Broadcast || self.received != Mark::default() {
            on_tape.start = Start::At(self.received.clone());
            on_tape.resume_at = Some(self.received.clone());
        }
        self.held.clear();
        self.part = None;
        self.to_say.clear();
        let said = std::mem::take(&mut self.said).into_iter();
        said.filter(|(_, verdict)| *verdict == Verdict::Done).map(|(lease, _)| lease).collect()
    }

    /// What was acknowledged need not be said again.
    pub(super) fn forget_acknowledged(&mut self) {
        self.acked = Mark::default();
    }

    /// Whether a record was said to be done and the broker did not answer.
    pub(super) fn is_unanswered(&self) -> bool {
        self.said.values().any(|verdict| *verdict == Verdict::Done)
    }

    /// The same, or something of a broadcast may not be known: there only a durable cursor outlives the reader.
    pub(super) fn is_unknown(&self, on_tape: &OnTape) -> bool {
        self.is_unanswered() || (on_tape.cursor.is_some() && self.acked != Mark::default())
    }

    pub(super) fn received(&mut self, mark: Mark) {
        self.received = mark;
    }

    pub(super) fn leased(&mut self, lease: LeaseId, is_whole: bool) {
        self.part = (!is_whole).then(|| lease.clone());
        self.held.insert(lease);
    }

    /// Whether this is the reader's, and nothing was said of it.
    pub(super) fn wants(&self, lease: &LeaseId) -> bool {
        self.held.contains(lease) && self.said.get(lease).is_none_or(|verdict| *verdict == Verdict::Extend)
    }

    /// The rest of a record that came in part will not come.
    pub(super) fn tear(&mut self, lease: &LeaseId) {
        self.held.remove(lease);
        self.part = None;
    }

    pub(super) fn has_in_hands(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether the broker still counts this as the reader's.
    pub(super) fn holds(&self, lease: &LeaseId) -> bool {
        self.held.contains(lease)
    }

    pub(super) fn ack_to(&mut self, mark: Mark) {
        self.is_ack_due |= mark != self.acked;
        self.acked = mark;
    }

    /// The application says what became of a record; false when it is not this reader's any more, or was said already.
    pub(super) fn settle(&mut self, lease: LeaseId, verdict: Verdict) -> bool {
        if !self.held.contains(&lease) || self.said.contains_key(&lease) {
            return false;
        }
        if verdict != Verdict::Extend {
            self.said.insert(lease.clone(), verdict);
        }
        self.to_say.push_back((lease, verdict));
        true
    }

    /// The broker knows what was said of a record. Gives false when it was not this reader's any more.
    pub(super) fn settled(&mut self, lease: &LeaseId, error: Option<Code>) -> bool {
        self.said.remove(lease);
        !self.held.remove(lease) || error.is_none()
    }

    /// No more records of a queue are wanted.
    pub(super) fn take_no_more(&mut self) {
        self.is_full_due = self.mode == Mode::Queue && !self.is_full;
        self.is_full = self.mode == Mode::Queue;
    }

    /// Whether the broker knows all that was said.
    pub(super) fn is_settled(&self) -> bool {
        self.said.is_empty()
    }

    pub(super) fn can_send(&self) -> bool {
        self.is_ack_due || self.is_full_due || !self.to_say.is_empty()
    }

    pub(super) fn next_up(&mut self) -> Option<ReaderUp> {
        if std::mem::take(&mut self.is_ack_due) {
            return Some(ReaderUp::AckTo(self.acked.clone()));
        }
        // Before anything is refused: else that came back at once.
        if std::mem::take(&mut self.is_full_due) {
            return Some(ReaderUp::Prefetch(0));
        }
        self.to_say.pop_front().map(|(lease, verdict)| ReaderUp::Settle { lease, verdict })
    }
}

//! The pipes that a reader's session reads: one, or all that match a pattern.

use std::collections::{BTreeMap, VecDeque};

use crate::broker::{LeaseId, Mark, Mode, OnTape, PATTERN_PIPES_MAX, ReaderUp, ReaderWelcome, Verdict};
use crate::error::{Code, Error};
use crate::id::PipeNo;
use crate::name::PipePath;
use crate::session::tape::TapeSide;

/// The pipes that a session reads, and what is to be said of them.
#[derive(Debug)]
pub(super) struct Pipes {
    are_many: bool,
    /// At most [`PATTERN_PIPES_MAX`].
    sides: BTreeMap<PipePath, Side>,
    /// How they are called on this link.
    numbers: BTreeMap<PipeNo, PipePath>,
    /// From which pipe comes what comes down.
    from: Option<PipePath>,
    /// Of which pipe is what goes up, as the broker was told last.
    of: Option<PipeNo>,
    /// Those of which something is to be said. Each at most once.
    due: VecDeque<PipePath>,
    /// Those of which the broker is to be told over this link what is here, before all else; none when it was told.
    had: Option<VecDeque<PipePath>>,
    /// The broker has told all pipes that there were when this reader attached first: others began later.
    are_known: bool,
    /// Of many: no more records of queues are wanted, and whether that is to be said over this link.
    are_full: bool,
    are_full_due: bool,
    /// Pipes of which the broker does not know all that was said.
    unsettled: usize,
}

/// One of them.
#[derive(Debug, Default)]
struct Side {
    tape: TapeSide,
    /// How it is called on this link, if it joined there.
    no: Option<PipeNo>,
    is_due: bool,
}

impl Pipes {
    /// This pipe alone, or many.
    pub(super) fn new(one: Option<PipePath>) -> Self {
        Self {
            are_many: one.is_none(),
            sides: one.iter().map(|pipe| (pipe.clone(), Side::default())).collect(),
            numbers: BTreeMap::new(),
            from: one,
            of: None,
            due: VecDeque::new(),
            had: None,
            are_known: false,
            are_full: false,
            are_full_due: false,
            unsettled: 0,
        }
    }

    pub(super) fn are_many(&self) -> bool {
        self.are_many
    }

    /// Of many: whether the broker knows which there were at first, so that this reader goes on over a new link.
    pub(super) fn are_known(&self) -> bool {
        self.are_known
    }

    /// The mode of the one there is.
    pub(super) fn mode(&self) -> Option<Mode> {
        let one = if self.are_many { None } else { self.sides.values().next() };
        one.map(|side| side.tape.mode())
    }

    /// Whether records have places, and no numbers of their writers.
    pub(super) fn are_on_tape(&self) -> bool {
        self.are_many || self.sides.values().all(|side| side.tape.is_tape())
    }

    /// The pipe from which comes what comes now.
    pub(super) fn here(&self) -> PipePath {
        self.from.clone().unwrap_or_default()
    }

    /// Where a returning reader of one pipe goes on. Of many it is said pipe by pipe.
    pub(super) fn resume(&self, on_tape: OnTape) -> OnTape {
        match self.sides.values().next().filter(|_| !self.are_many) {
            Some(side) => side.tape.resume(on_tape),
            None => on_tape,
        }
    }

    /// The broker answered.
    pub(super) fn attached(&mut self, welcome: ReaderWelcome, is_first: bool) {
        self.due.clear();
        self.sides.values_mut().for_each(|side| (side.is_due, side.no) = (false, None));
        if !self.are_many {
            self.sides.values_mut().for_each(|side| side.tape.attached(welcome.clone(), is_first));
            self.sides.keys().cloned().collect::<Vec<_>>().iter().for_each(|pipe| self.mark_due(pipe));
            return;
        }
        (self.from, self.of, self.are_full_due) = (None, None, self.are_full);
        self.numbers.clear();
        if self.are_known {
            self.had = Some(self.sides.keys().cloned().collect());
        } else {
            self.sides.clear();
            self.unsettled = 0;
        }
    }

    /// A pipe joins, for the first time or over a new link. Gives what was said of its records and may not have been heard.
    pub(super) fn joins(
        &mut self,
        no: PipeNo,
        pipe: PipePath,
        welcome: ReaderWelcome,
        is_new: bool,
    ) -> Result<Vec<LeaseId>, Error> {
        if !self.are_many || welcome.mode == Mode::Default {
            return Err(out_of_place());
        }
        if self.sides.len() >= PATTERN_PIPES_MAX && !self.sides.contains_key(&pipe) {
            return Err(Error::new(Code::Protocol, "the broker names more pipes than one reader reads"));
        }
        self.numbers.insert(no, pipe.clone());
        // One that has joined already was removed, and this is another of its name.
        let is_same = |side: &Side| side.no.is_none() && side.tape.mode() == welcome.mode;
        let is_known = self.sides.get(&pipe).is_some_and(is_same);
        let unheard = self.change(&pipe, |side| {
            let mut unheard = Vec::new();
            if !is_known {
                side.tape = TapeSide::default();
            } else if is_new {
                unheard = side.tape.start_over(&mut OnTape::default());
                side.tape.forget_acknowledged();
            }
            side.tape.attached(welcome, is_new || !is_known);
            side.no = Some(no);
            unheard
        });
        Ok(unheard)
    }

    /// All joined that there are. What did not is not there any more.
    pub(super) fn all_joined(&mut self) -> Result<(), Error> {
        if !self.are_many {
            return Err(out_of_place());
        }
        let gone = self.sides.iter().filter(|(_, side)| side.no.is_none()).map(|(pipe, _)| pipe.clone());
        gone.collect::<Vec<_>>().iter().for_each(|pipe| self.forget(pipe));
        self.are_known = true;
        Ok(())
    }

    /// What comes from now on is from this pipe.
    pub(super) fn from(&mut self, no: PipeNo) -> Result<(), Error> {
        self.from = Some(self.numbers.get(&no).ok_or_else(out_of_place)?.clone());
        Ok(())
    }

    /// A pipe is not there any more.
    pub(super) fn gone(&mut self, no: PipeNo) -> Result<(), Error> {
        let pipe = self.numbers.remove(&no).ok_or_else(out_of_place)?;
        // Another one may have begun under its name.
        if self.sides.get(&pipe).is_some_and(|side| side.no == Some(no)) {
            self.forget(&pipe);
        }
        Ok(())
    }

    pub(super) fn received(&mut self, mark: Mark) -> Result<(), Error> {
        self.change_here(|side| side.tape.received(mark))
    }

    /// A record of a queue came, or a part of it.
    pub(super) fn leased(&mut self, lease: LeaseId, is_whole: bool) -> Result<(), Error> {
        self.change_here(|side| side.tape.leased(lease, is_whole))
    }

    /// Whether this is the reader's, and nothing was said of it.
    pub(super) fn wants(&self, pipe: &PipePath, lease: &LeaseId) -> bool {
        self.sides.get(pipe).is_some_and(|side| side.tape.wants(lease))
    }

    /// The rest of a record that came in part will not come.
    pub(super) fn tear(&mut self, pipe: &PipePath, lease: &LeaseId) {
        self.change(pipe, |side| side.tape.tear(lease));
    }

    /// The broker knows what was said of a record. Gives false when it was not this reader's any more.
    pub(super) fn settled(&mut self, lease: &LeaseId, error: Option<Code>) -> Result<bool, Error> {
        self.change_here(|side| side.tape.settled(lease, error))
    }

    /// Whether the broker still counts this as the reader's.
    pub(super) fn holds(&self, pipe: &PipePath, lease: &LeaseId) -> bool {
        self.sides.get(pipe).is_some_and(|side| side.tape.holds(lease))
    }

    /// Whether records of this queue are in the reader's hands.
    pub(super) fn has_in_hands(&self, pipe: &PipePath) -> bool {
        self.sides.get(pipe).is_some_and(|side| side.tape.has_in_hands())
    }

    pub(super) fn ack_to(&mut self, pipe: &PipePath, mark: Mark) {
        if self.sides.contains_key(pipe) {
            self.change(pipe, |side| side.tape.ack_to(mark));
        }
    }

    /// The application says what became of a record; false when it is not this reader's any more.
    pub(super) fn settle(&mut self, pipe: &PipePath, lease: LeaseId, verdict: Verdict) -> bool {
        self.sides.contains_key(pipe) && self.change(pipe, |side| side.tape.settle(lease, verdict))
    }

    /// No more records of queues are wanted.
    pub(super) fn take_no_more(&mut self) {
        if self.are_many {
            self.are_full_due = !self.are_full;
            self.are_full = true;
            return;
        }
        for pipe in self.sides.keys().cloned().collect::<Vec<_>>() {
            self.change(&pipe, |side| side.tape.take_no_more());
        }
    }

    /// Whether the broker knows all that was said.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// Whether a record was said to be done and the broker did not answer.
    pub(super) fn are_unanswered(&self) -> bool {
        self.sides.values().any(|side| side.tape.is_unanswered())
    }

    /// The same, or a durable cursor may not stand where it should.
    pub(super) fn are_unknown(&self, on_tape: &OnTape) -> bool {
        self.sides.values().any(|side| side.tape.is_unknown(on_tape))
    }

    /// The broker gave the session up. Gives what was said of records and may not have been heard.
    pub(super) fn start_over(&mut self, on_tape: &mut OnTape) -> Vec<(PipePath, LeaseId)> {
        let (mut unused, mut unheard) = (OnTape::default(), Vec::new());
        let on_tape = if self.are_many { &mut unused } else { on_tape };
        for pipe in self.sides.keys().cloned().collect::<Vec<_>>() {
            let of_pipe = self.change(&pipe, |side| side.tape.start_over(on_tape));
            unheard.extend(of_pipe.into_iter().map(|lease| (pipe.clone(), lease)));
        }
        unheard
    }

    pub(super) fn can_send(&self) -> bool {
        self.are_full_due || self.had.is_some() || !self.due.is_empty()
    }

    pub(super) fn next_up(&mut self) -> Option<ReaderUp> {
        // Before anything is refused, or joined again: else what is refused came back at once.
        if std::mem::take(&mut self.are_full_due) {
            return Some(ReaderUp::Prefetch(0));
        }
        if let Some(had) = &mut self.had {
            let said = had.pop_front().and_then(|pipe| Some(self.sides.get(&pipe)?.tape.had(pipe)));
            if said.is_none() {
                self.had = None;
            }
            return Some(said.map_or(ReaderUp::HadAll, ReaderUp::Had));
        }
        while let Some(pipe) = self.due.front() {
            let Some(side) = self.sides.get_mut(pipe).filter(|side| side.tape.can_send()) else {
                self.done_with_first();
                continue;
            };
            if side.no.is_some() && self.of != side.no {
                self.of = side.no;
                return side.no.map(ReaderUp::Of);
            }
            return side.tape.next_up();
        }
        None
    }

    fn done_with_first(&mut self) {
        let first = self.due.pop_front();
        if let Some(side) = first.and_then(|pipe| self.sides.get_mut(&pipe)) {
            side.is_due = false;
        }
    }

    fn change_here<R>(&mut self, change: impl FnOnce(&mut Side) -> R) -> Result<R, Error> {
        let pipe = self.from.clone().filter(|pipe| self.sides.contains_key(pipe)).ok_or_else(out_of_place)?;
        Ok(self.change(&pipe, change))
    }

    /// Changes what is known of a pipe, which is known from now on, and sees what there is to say of it.
    fn change<R>(&mut self, pipe: &PipePath, change: impl FnOnce(&mut Side) -> R) -> R {
        let side = self.sides.entry(pipe.clone()).or_default();
        let was_settled = side.tape.is_settled();
        let result = change(side);
        let is_settled = side.tape.is_settled();
        self.unsettled = self.unsettled + usize::from(!is_settled) - usize::from(!was_settled);
        self.mark_due(pipe);
        result
    }

    /// What is to be said of a pipe waits until it has joined over this link.
    fn mark_due(&mut self, pipe: &PipePath) {
        let are_many = self.are_many;
        let is_there = |side: &&mut Side| !are_many || side.no.is_some();
        let Some(side) = self.sides.get_mut(pipe).filter(is_there) else { return };
        if side.tape.can_send() && !std::mem::replace(&mut side.is_due, true) {
            self.due.push_back(pipe.clone());
        }
    }

    fn forget(&mut self, pipe: &PipePath) {
        let side = self.sides.remove(pipe);
        self.unsettled -= usize::from(side.is_some_and(|side| !side.tape.is_settled()));
    }
}

fn out_of_place() -> Error {
    Error::new(Code::Protocol, "the broker speaks of a pipe that it has not named")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Had;
    use crate::id::Seq;

    fn path(name: &str) -> PipePath {
        PipePath::from_segments([name.as_bytes()])
    }

    fn welcome(mode: Mode) -> ReaderWelcome {
        ReaderWelcome { mode, position: Seq(0).into() }
    }

    fn mark(place: u64) -> Mark {
        Mark { position: Seq(place).into(), records: 0 }
    }

    fn lease(place: u64) -> LeaseId {
        LeaseId { position: Seq(place).into(), attempt: 1 }
    }

    /// A reader of the broadcast `b` and the queue `q`, over its first link.
    fn two() -> Pipes {
        let mut pipes = Pipes::new(None);
        pipes.attached(ReaderWelcome::default(), true);
        pipes.joins(PipeNo(0), path("b"), welcome(Mode::Broadcast), false).unwrap();
        pipes.joins(PipeNo(1), path("q"), welcome(Mode::Queue), false).unwrap();
        pipes.all_joined().unwrap();
        pipes
    }

    fn said(pipes: &mut Pipes) -> Vec<ReaderUp> {
        std::iter::from_fn(|| pipes.next_up()).collect()
    }

    #[test]
    fn what_is_said_names_its_pipe_first() {
        let mut pipes = two();
        pipes.from(PipeNo(1)).unwrap();
        pipes.leased(lease(4), true).unwrap();
        assert!(
            pipes.settle(&path("q"), lease(4), Verdict::Done) && !pipes.settle(&path("b"), lease(4), Verdict::Done)
        );
        pipes.ack_to(&path("b"), mark(3));
        pipes.ack_to(&path("gone"), mark(3));
        let done = ReaderUp::Settle { lease: lease(4), verdict: Verdict::Done };
        let wanted = [ReaderUp::Of(PipeNo(1)), done, ReaderUp::Of(PipeNo(0)), ReaderUp::AckTo(mark(3))];
        assert_eq!(said(&mut pipes), wanted);
        assert!(!pipes.can_send() && !pipes.is_settled());
        assert!(pipes.settled(&lease(4), None).unwrap() && pipes.is_settled());
    }

    #[test]
    fn over_a_new_link_it_says_what_it_has_and_then_again_what_was_not_confirmed() {
        let mut pipes = two();
        pipes.from(PipeNo(0)).unwrap();
        pipes.received(mark(7)).unwrap();
        pipes.ack_to(&path("b"), mark(5));
        pipes.from(PipeNo(1)).unwrap();
        pipes.leased(lease(4), true).unwrap();
        pipes.settle(&path("q"), lease(4), Verdict::Done);
        said(&mut pipes);
        assert!(pipes.are_known());
        pipes.attached(ReaderWelcome::default(), false);
        let had = |name, at, leases| ReaderUp::Had(Had { pipe: path(name), at, leases });
        let wanted = [had("b", Some(mark(7)), Vec::new()), had("q", None, vec![lease(4)]), ReaderUp::HadAll];
        assert_eq!(said(&mut pipes), wanted);
        pipes.joins(PipeNo(5), path("q"), welcome(Mode::Queue), false).unwrap();
        let done = ReaderUp::Settle { lease: lease(4), verdict: Verdict::Done };
        assert_eq!(said(&mut pipes), [ReaderUp::Of(PipeNo(5)), done]);
        // The other one did not join again: it is gone.
        pipes.all_joined().unwrap();
        pipes.ack_to(&path("b"), mark(7));
        assert!(!pipes.can_send() && pipes.from(PipeNo(0)).is_err());
    }

    #[test]
    fn what_was_not_told_at_first_begins_again() {
        let mut pipes = Pipes::new(None);
        pipes.attached(ReaderWelcome::default(), true);
        pipes.joins(PipeNo(0), path("b"), welcome(Mode::Broadcast), false).unwrap();
        pipes.attached(ReaderWelcome::default(), false);
        assert!(!pipes.are_known() && !pipes.can_send());
    }

    #[test]
    fn a_pipe_that_is_gone_takes_with_it_what_was_said() {
        let mut pipes = two();
        pipes.from(PipeNo(1)).unwrap();
        pipes.leased(lease(4), true).unwrap();
        pipes.settle(&path("q"), lease(4), Verdict::Done);
        // Another one of its name has joined before that is told.
        pipes.joins(PipeNo(2), path("q"), welcome(Mode::Queue), false).unwrap();
        assert!(pipes.is_settled() && !pipes.holds(&path("q"), &lease(4)));
        pipes.gone(PipeNo(1)).unwrap();
        pipes.from(PipeNo(2)).unwrap();
        pipes.leased(lease(0), true).unwrap();
        assert!(pipes.holds(&path("q"), &lease(0)));
        pipes.gone(PipeNo(2)).unwrap();
        assert!(!pipes.holds(&path("q"), &lease(0)) && pipes.gone(PipeNo(2)).is_err());
    }

    #[test]
    fn one_pipe_knows_nothing_of_many() {
        let mut pipes = Pipes::new(Some(path("b")));
        assert!(pipes.joins(PipeNo(0), path("q"), welcome(Mode::Queue), false).is_err());
        assert!(pipes.all_joined().is_err() && pipes.from(PipeNo(0)).is_err() && pipes.gone(PipeNo(0)).is_err());
    }
}

//! A look into a queue: what waits in it is shown, and nothing is handed out. It leaves no trace in the log.

use crate::batch::Batch;
use crate::broker::{ReaderAttach, ReaderDown, ReaderUp, Start};
use crate::error::{Code, Error};
use crate::id::{Epoch, ItemNo, Seq, SessionId};

use super::super::super::default::{Next, expired, fenced};
use super::super::super::limits::{READERS_MAX, TAPE};
use super::super::Tape;
use super::super::long::Point;
use super::Queue;

/// One who looks.
#[derive(Debug)]
pub(super) struct Look {
    epoch: Epoch,
    credit: i64,
    /// All below was shown.
    next: Point,
    /// What came later is not shown.
    until: Seq,
    leaving: bool,
}

impl Queue {
    /// Somebody begins to look. Who looked before and lost its link begins anew, where it was.
    ///
    /// # Errors
    /// `E_EMPTY` when there is nothing to see, `E_BUSY`, `E_SESSION_EXPIRED`.
    pub(super) fn look(&mut self, tape: &Tape, attach: &ReaderAttach) -> Result<(), Error> {
        if attach.resume.is_some() || self.readers.contains_key(&attach.session) {
            return Err(expired());
        }
        if self.readers.len() + self.looks.len() >= READERS_MAX {
            return Err(Error::new(Code::Busy, "the pipe has as many readers as it may"));
        }
        if self.shown_from(tape.low, tape.durable).is_none() {
            return Err(Error::new(Code::Empty, "there is nothing in the queue"));
        }
        let credit = i64::try_from(attach.credit).unwrap_or(i64::MAX);
        let next = match &attach.tape.start {
            Start::At(mark) => tape.behind(mark),
            _ => None,
        };
        let next = next.unwrap_or(tape.low.into());
        let look = Look { epoch: attach.epoch, credit, next, until: tape.durable, leaving: false };
        self.looks.insert(attach.session, look);
        Ok(())
    }

    /// Who looks says something. What it acknowledges means nothing.
    pub(super) fn look_up(&mut self, tape: &mut Tape, session: SessionId, message: &ReaderUp) {
        if let Some(look) = self.looks.get_mut(&session) {
            match message {
                ReaderUp::Credit(bytes) => {
                    look.credit = look.credit.saturating_add(i64::try_from(*bytes).unwrap_or(i64::MAX));
                }
                ReaderUp::Leave { .. } => look.leaving = true,
                _ => {}
            }
            tape.wake(session);
        }
    }

    /// The next thing to show; none for a session that does not look.
    pub(super) fn next_of_look(&mut self, tape: &Tape, session: SessionId, epoch: Epoch) -> Option<Next<ReaderDown>> {
        let look = self.looks.get(&session)?;
        if look.epoch != epoch {
            return Some(Next::End(Some(fenced())));
        }
        let (next, until) = (look.next.max(tape.low.into()), look.until);
        let Some(place) = self.shown_from(next.place, until).filter(|_| !look.leaving) else {
            self.looks.remove(&session);
            return Some(Next::Message(ReaderDown::Finished));
        };
        if look.credit <= 0 {
            return Some(Next::Wait);
        }
        if let Some(long) = tape.long(place) {
            let from = long.part(if place == next.place { next } else { place.into() });
            return Some(Next::FromLog { item: long.item, from, bytes_max: u64::try_from(look.credit).unwrap_or(1) });
        }
        Some(match tape.in_memory(place).map(|(_, batch)| batch.clone()) {
            Some(batch) => self.show(session, place, &batch).map_or(Next::Wait, Next::Message),
            None => Next::FromLog { item: TAPE, from: place, bytes_max: 1 },
        })
    }

    /// A record to show, from memory or from the log.
    pub(super) fn show(&mut self, session: SessionId, place: Seq, batch: &Batch) -> Option<ReaderDown> {
        let look = self.looks.get_mut(&session).filter(|look| look.next.place <= place)?;
        look.next = place.plus(1).into();
        look.credit -= batch.encoded().len() as i64;
        Some(ReaderDown::Batch { from: batch.first(), position: place.into(), batch: batch.clone() })
    }

    /// A part of a record to show.
    pub(super) fn show_part(
        &mut self,
        tape: &Tape,
        session: SessionId,
        item: ItemNo,
        batch: &Batch,
    ) -> Option<ReaderDown> {
        let from = self.looks.get(&session)?.next;
        let place = self.shown_from(from.place, Seq(u64::MAX))?;
        let point = if place == from.place { from } else { place.into() };
        let long = tape.long(place).filter(|long| long.item == item && long.has_next(point, batch))?;
        let look = self.looks.get_mut(&session)?;
        look.next = long.behind(place, batch);
        look.credit -= batch.encoded().len() as i64;
        Some(ReaderDown::Batch { from: long.part(point), position: long.position(place, batch), batch: batch.clone() })
    }

    /// What was to be shown is gone.
    pub(super) fn pass_over(&mut self, session: SessionId, to: Seq) {
        if let Some(look) = self.looks.get_mut(&session) {
            look.next = look.next.max(to.into());
        }
    }

    /// The first record from here on that nobody is done with.
    fn shown_from(&self, from: Seq, until: Seq) -> Option<Seq> {
        Some(self.done.first_gap(from)).filter(|place| *place < until)
    }
}

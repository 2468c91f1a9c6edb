//! What readers do to a tape, whichever mode it has.

use std::sync::Arc;

use crate::broker::{ReaderAttach, ReaderDown, ReaderUp, Settings, Take};
use crate::caller::Holder;
use crate::error::{Code, Error};
use crate::id::{Epoch, Position, Seq, SessionId};
use crate::time::Time;

use super::super::default::Next;
use super::super::hands::Hands;
use super::{Side, TapePipe, side};

impl TapePipe {
    /// A reader attaches or returns. It is welcome once [`TapePipe::reader_welcome`] says so.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`, `E_BUSY`, `E_EMPTY`; `E_UNSUPPORTED` for items, `E_USAGE` for a position of another pipe.
    pub fn attach_reader(&mut self, attach: &ReaderAttach, holder: Holder, now: Time) -> Result<(), Error> {
        if attach.take == Take::Item {
            let mode = self.mode().word();
            return Err(Error::new(Code::Unsupported, format!("in a {mode} there are no items to take")));
        }
        side!(self, |side, tape| side.attach(tape, attach, holder, now))?;
        if attach.take != Take::Peek {
            self.tape.reader_came();
        }
        Ok(())
    }

    /// The welcome of an attached reader, once its joining is durable: where it begins.
    pub fn reader_welcome(&mut self, session: SessionId, epoch: Epoch) -> Option<Result<Position, Error>> {
        side!(self, |side, tape| side.welcome(tape, session, epoch))
    }

    /// A reader says something.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`, `E_PROTOCOL`.
    pub fn reader_up(&mut self, session: SessionId, epoch: Epoch, message: ReaderUp, now: Time) -> Result<(), Error> {
        let tape = &mut self.tape;
        match &mut self.side {
            Side::Queue(queue) => queue.up(tape, session, epoch, message, now),
            Side::Broadcast(broadcast) => broadcast.up(tape, session, epoch, message),
        }
    }

    /// This reader reads other pipes too: what it has in its hands of all their queues counts together.
    pub fn share_hands(&mut self, session: SessionId, hands: &Arc<Hands>, now: Time) {
        if let Side::Queue(queue) = &mut self.side {
            queue.share_hands(&mut self.tape, session, hands.clone(), now);
        }
    }

    /// The next message down to a reader that reads other pipes too, which may be sent so many bytes at the moment.
    pub fn next_for_member(&mut self, session: SessionId, epoch: Epoch, credit: i64) -> Next<ReaderDown> {
        side!(self, |side, _tape| side.set_credit(session, credit));
        self.next_for_reader(session, epoch)
    }

    /// Whether there was something for this reader when its hands were full.
    pub fn is_hungry(&self, session: SessionId) -> bool {
        matches!(&self.side, Side::Queue(queue) if queue.is_hungry(session))
    }

    /// The hands of a reader that found them full have room.
    pub fn look_again(&mut self, session: SessionId, now: Time) {
        if let Side::Queue(queue) = &mut self.side {
            queue.look_again(&mut self.tape, session, now);
        }
    }

    /// The reader's link broke.
    pub fn reader_away(&mut self, session: SessionId, epoch: Epoch, now: Time) {
        side!(self, |side, tape| side.reader_away(tape, session, epoch, now));
    }

    /// A record is with the dead letters.
    pub fn buried(&mut self, place: Seq) {
        if let Side::Queue(queue) = &mut self.side {
            queue.buried(&mut self.tape, place);
        }
    }

    /// Takes the settings that somebody who attached has brought, as far as they say something.
    pub fn set(&mut self, settings: Settings) {
        self.tape.set(settings);
    }
}

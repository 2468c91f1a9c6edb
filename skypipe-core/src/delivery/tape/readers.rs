//! What readers do to a tape, whichever mode it has.

use crate::broker::{ReaderAttach, ReaderUp, Settings, Take};
use crate::caller::Holder;
use crate::error::{Code, Error};
use crate::id::{Epoch, Position, Seq, SessionId};
use crate::time::Time;

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
        self.tape.reader_came();
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

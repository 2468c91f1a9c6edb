//! What writers do to a tape.

use crate::batch::{Batch, EndKind};
use crate::broker::{Mode, WriterDown, WriterResume, WriterWelcome};
use crate::caller::Holder;
use crate::error::{Code, Error};
use crate::id::{Epoch, ItemNo, Seq, SessionId};
use crate::time::Time;

use super::super::default::{Effect, Next, expired, fenced};
use super::super::fact::Fact;
use super::super::item::Link;
use super::super::limits::ITEMS_MAX;
use super::super::writers::Came;
use super::long::Part;
use super::writer::Writer;
use super::{Pending, Side, Tape, TapePipe, side};

impl TapePipe {
    /// A writer attaches or returns. It is welcome once [`TapePipe::writer_welcome`] says so.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`, `E_RESUME_AHEAD`, `E_BUSY`; `E_STORAGE` when the log failed.
    pub fn attach_writer(
        &mut self,
        session: SessionId,
        epoch: Epoch,
        resume: Option<WriterResume>,
        holder: Holder,
    ) -> Result<(), Error> {
        let tape = &mut self.tape;
        match (tape.writers.get(&session), resume) {
            (Some(writer), _) if !writer.holder.admits(holder) => Err(expired()),
            (Some(writer), _) if writer.gone_at.is_some() => {
                Err(Error::new(Code::Busy, "the session is being given up; what there is of it is known soon"))
            }
            (Some(_), resume) => tape.return_writer(session, epoch, resume.unwrap_or_default()),
            (None, Some(_)) => Err(expired()),
            (None, None) => tape.join_writer(session, epoch, holder),
        }
    }

    /// The welcome of an attached writer, once its joining is durable.
    pub fn writer_welcome(&mut self, session: SessionId, epoch: Epoch) -> Option<Result<WriterWelcome, Error>> {
        let (readers, tape) = (self.counts().readers, &mut self.tape);
        let (confirmed, upto, window, mode) = (tape.confirmed, tape.joined_upto(), tape.window(), tape.mode);
        let Some(writer) = tape.writers.get_mut(&session) else { return Some(Err(tape.unknown())) };
        if writer.epoch != epoch {
            return Some(Err(fenced()));
        }
        (writer.joined <= upto).then(|| {
            writer.reader_told = readers > 0;
            let (ack, credit) = (writer.welcome_ack(confirmed), writer.welcome_credit(window));
            Ok(WriterWelcome { next: writer.accepted, ack, credit, readers, mode })
        })
    }

    /// A batch comes in.
    ///
    /// # Errors
    /// `E_FENCED`; `E_PROTOCOL` when the batch cannot be the next one or there was no credit for it; the attach must be closed then.
    pub fn batch(&mut self, session: SessionId, epoch: Epoch, batch: Batch, now: Time) -> Result<Came, Error> {
        let is_queue = self.tape.mode == Mode::Queue;
        let writer = self.tape.attached_writer(session, epoch)?;
        if batch.session() != session {
            return Err(protocol("a batch of another session"));
        }
        if !writer.spend(batch.encoded().len()) {
            return Err(protocol("a batch without credit for it"));
        }
        let (accepted, ended, has_open) = (writer.accepted, writer.end.is_some(), writer.open.is_some());
        let behind = batch.first().plus(u64::from(batch.count()));
        let is_known = behind <= accepted;
        if batch.first() > accepted
            || (ended && batch.next() > accepted && !is_known)
            || (!is_known && batch.first() < accepted)
        {
            return Err(protocol("a batch that is not the next one"));
        }
        if self.tape.read_only.is_some() {
            // The writer hears why from below, behind the last acknowledgement.
            return Ok(Came::Fine);
        }
        let part = Part::of(&batch)?;
        if part.is_none() && is_queue && batch.count() > 1 {
            return Err(protocol("a batch of a queue has one record"));
        }
        if batch.is_beside() {
            return Err(protocol("a batch that stands for another record"));
        }
        if batch.is_end() && has_open && !part.is_some_and(|part| part.ends) {
            return Err(protocol("an end before that of its record"));
        }
        let end = batch.end();
        let encoded = batch.encoded().len();
        if is_known || batch.count() == 0 {
            self.tape.refund(session, encoded);
        } else if let Some(part) = part {
            if let Some(place) = self.tape.put_part(session, batch, part, now)? {
                side!(self, |side, tape| side.came(tape, place..place.plus(1), now));
            }
        } else if has_open {
            return Err(protocol("a record between the parts of another"));
        } else {
            let places = self.tape.put(session, batch, now);
            if let Some(writer) = self.tape.writers.get_mut(&session) {
                writer.accept(behind, encoded, places.end);
            }
            side!(self, |side, tape| side.came(tape, places, now));
        }
        if let Some(mark) = end.filter(|_| !ended) {
            self.tape.end_writer(session, mark.kind, behind.plus(1));
        }
        Ok(Came::Fine)
    }

    /// The writer gives up: what it wrote stays.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`, or `E_ACCESS` when the pipe was removed.
    pub fn abort(&mut self, session: SessionId, epoch: Epoch, now: Time) -> Result<(), Error> {
        self.tape.attached_writer(session, epoch)?;
        self.lost(session, now);
        Ok(())
    }

    /// The writer's link broke.
    pub fn writer_away(&mut self, session: SessionId, epoch: Epoch, now: Time) {
        let Ok(writer) = self.tape.attached_writer(session, epoch) else { return };
        writer.link = Link::Away(now);
        self.tape.drop_if_heard(session);
    }

    /// The next message down to a writer.
    pub fn next_for_writer(&mut self, session: SessionId, epoch: Epoch) -> Next<WriterDown> {
        let is_untold = self.tape.writers.get(&session).is_some_and(|writer| !writer.reader_told);
        let is_read_first = is_untold && self.counts().readers > 0;
        let tape = &mut self.tape;
        let (confirmed, window) = (tape.confirmed, tape.window());
        let Some(writer) = tape.writers.get_mut(&session) else {
            return Next::End(tape.removed.then(|| tape.unknown()));
        };
        if writer.epoch != epoch {
            return Next::End(Some(fenced()));
        }
        let message = if let Some(notice) = writer.take_notice() {
            WriterDown::Notice(notice)
        } else if let Some(ack) = writer.take_ack(confirmed) {
            WriterDown::Ack(ack)
        } else if let Some(credit) = writer.take_credit(window) {
            WriterDown::Credit(credit)
        } else if is_read_first {
            writer.reader_told = true;
            WriterDown::HasReader
        } else {
            return tape.read_only_error().map_or(Next::Wait, |error| Next::End(Some(error)));
        };
        tape.drop_if_heard(session);
        Next::Message(message)
    }
}

impl Tape {
    fn attached_writer(&mut self, session: SessionId, epoch: Epoch) -> Result<&mut Writer, Error> {
        let unknown = self.unknown();
        let writer = self.writers.get_mut(&session).ok_or(unknown)?;
        if writer.epoch == epoch { Ok(writer) } else { Err(fenced()) }
    }

    fn join_writer(&mut self, session: SessionId, epoch: Epoch, holder: Holder) -> Result<(), Error> {
        if let Some(error) = self.read_only_error() {
            return Err(error);
        }
        if self.writers.len() >= ITEMS_MAX {
            return Err(Error::new(Code::Busy, "the pipe has as many writers as it may"));
        }
        let no = self.next_item;
        self.next_item = ItemNo(no.0 + 1);
        let joined = self.append(Fact::WriterJoined { session, epoch, item: no, holder });
        self.when_durable(joined, Pending::Wake(session));
        self.writers.insert(session, Writer::new(no, epoch, holder, joined));
        self.say_full(session);
        Ok(())
    }

    fn return_writer(&mut self, session: SessionId, epoch: Epoch, resume: WriterResume) -> Result<(), Error> {
        let Some(writer) = self.writers.get_mut(&session) else { return Err(expired()) };
        if epoch <= writer.epoch {
            return Err(fenced());
        }
        if resume.stored.max(resume.settled) > writer.accepted {
            return Err(Error::new(Code::ResumeAhead, "the writer claims as stored what was never stored here"));
        }
        (writer.epoch, writer.link) = (epoch, Link::Attached);
        let returned = self.append(Fact::Returned { session, epoch });
        if let Some(writer) = self.writers.get_mut(&session) {
            writer.joined = returned;
        }
        self.when_durable(returned, Pending::Wake(session));
        self.wake(session);
        Ok(())
    }

    fn end_writer(&mut self, session: SessionId, kind: EndKind, next: Seq) {
        let Some(no) = self.writers.get(&session).map(|writer| writer.no) else { return };
        let append = self.append(Fact::Ended { item: no, kind, next });
        self.when_durable(append, Pending::Writer(session));
        if let Some(writer) = self.writers.get_mut(&session) {
            writer.end = Some((kind, next, append));
            writer.accepted = next;
        }
    }

    /// A reader is there: writers may have waited for one.
    pub(super) fn reader_came(&mut self) {
        let waits = |writer: &Writer| !writer.reader_told && writer.link == Link::Attached;
        let waiting = self.writers.iter().filter(|(_, writer)| waits(writer)).map(|(session, _)| *session);
        let waiting: Vec<SessionId> = waiting.collect();
        waiting.into_iter().for_each(|session| self.wake(session));
    }

    fn refund(&mut self, session: SessionId, bytes: usize) {
        if let Some(writer) = self.writers.get_mut(&session) {
            writer.refund(bytes);
        }
        self.wake(session);
    }

    /// Something of this writer is durable.
    pub(super) fn on_disk(&mut self, session: SessionId) {
        if let Some(writer) = self.writers.get_mut(&session) {
            writer.settle_one();
        }
        self.settle(session);
    }

    /// Wakes the writer if it has something to hear.
    pub(super) fn settle(&mut self, session: SessionId) {
        let (confirmed, window) = (self.confirmed, self.window());
        if self.writers.get(&session).is_some_and(|writer| writer.has_news(confirmed, window)) {
            self.wake(session);
        }
        self.drop_if_heard(session);
    }

    /// A writer goes once it heard all there is to hear, or was given up and the log has all of it.
    fn drop_if_heard(&mut self, session: SessionId) {
        let gone_at = self.writers.get(&session).and_then(|writer| writer.gone_at);
        if gone_at.is_some_and(|append| append <= self.confirmed) {
            return self.drop_writer(session);
        }
        let Some(writer) = self.writers.get(&session).filter(|writer| writer.is_over(self.confirmed)) else { return };
        if writer.heard_all() {
            self.drop_writer(session);
        }
    }

    /// The writer is given up. Returns whether it had not ended. Whoever returns is told how much of it is stored, and keeps no more than
    /// the rest: so it goes only when that much is on disk.
    pub(super) fn writer_lost(&mut self, session: SessionId) -> bool {
        let Some(writer) = self.writers.get(&session).filter(|writer| writer.gone_at.is_none()) else { return false };
        // Of a record that was not written to its end there is nothing.
        let (no, open) = (writer.no, writer.end.is_none());
        let next = writer.open.map_or(writer.accepted, |open| open.first);
        if open {
            let append = self.append(Fact::Ended { item: no, kind: EndKind::Aborted, next });
            if let Some(writer) = self.writers.get_mut(&session) {
                writer.end = Some((EndKind::Aborted, next, append));
                writer.accepted = next;
            }
            self.drop_open(session);
        }
        if self.appended <= self.confirmed || self.read_only.is_some() {
            self.drop_writer(session);
            return open;
        }
        let append = self.appended;
        if let Some(writer) = self.writers.get_mut(&session) {
            writer.gone_at = Some(append);
        }
        self.when_durable(append, Pending::Writer(session));
        open
    }

    /// The log failed: what is not on disk never will be.
    pub(super) fn drop_those_given_up(&mut self) {
        let given_up = self.writers.iter().filter(|(_, writer)| writer.gone_at.is_some());
        let given_up: Vec<SessionId> = given_up.map(|(session, _)| *session).collect();
        given_up.into_iter().for_each(|session| self.drop_writer(session));
    }

    fn drop_writer(&mut self, session: SessionId) {
        let Some(writer) = self.writers.remove(&session) else { return };
        let ended = writer.end.is_some_and(|(kind, ..)| kind != EndKind::Aborted);
        let next = if self.read_only.is_some() { writer.stored().min(writer.accepted) } else { writer.accepted };
        self.effects.push(Effect::Closed { session, next, ended, delivered: writer.heard_all() });
        self.wake(session);
    }
}

fn protocol(text: &'static str) -> Error {
    Error::new(Code::Protocol, text)
}

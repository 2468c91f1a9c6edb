//! A reader's side of its session.

mod items;
mod on_tape;

use std::collections::{BTreeMap, VecDeque};

use crate::batch::{BATCH_BYTES_MAX, Batch, EndKind};
use crate::broker::{LeaseId, Mode, Notice, ReaderAttach, ReaderCursor, ReaderDown, ReaderUp, ReaderWelcome, Verdict};
use crate::error::{Code, Error};
use crate::event::Event;
use crate::id::{Position, Seq, SessionId};
use crate::name::PipePath;
use crate::record::{Chunk, Taken};
use crate::session::connection::{Connection, Draw};
use crate::session::cursor::Cursor;
use crate::session::pipes::Pipes;
use crate::session::wants::{Outcome, ReaderWants};
use crate::time::Time;

use on_tape::Part;

/// Encoded bytes on their way to a reader, or waiting in it, unless told otherwise: fills a link of 300 Mbit/s over
/// 100 ms, and is little memory.
pub const READER_WINDOW_BYTES: u64 = 4 * 1024 * 1024;
/// The smallest window: a batch in the application's hands and one on its way.
pub const READER_WINDOW_BYTES_MIN: u64 = 2 * BATCH_BYTES_MAX as u64;
/// Most writers whose items are not known to be taken: a broker that never says so does not fill the reader's memory. From half
/// of it on no more is asked for; the other half is room for what is on its way.
const CURSORS_MAX: usize = 256 * 1024;
/// Most writers named when the reader resumes: what the wire carries in one frame. Of a writer not named the broker sends
/// again what it does not know to be acknowledged, and the reader knows what it has.
const RESUME_MAX: usize = 16 * 1024;
/// Most messages waiting for the application: what a window holds of the smallest batches, and the ends between them.
const INBOX_MAX: usize = 256 * 1024;

#[derive(Debug)]
enum Arrival {
    Chunk(Chunk),
    End {
        writer: SessionId,
        kind: EndKind,
        next: Seq,
        alone: bool,
    },
    Gap {
        writer: SessionId,
        from: Seq,
        to: Seq,
    },
    /// All below came before, in a session that was lost.
    Had {
        writer: SessionId,
        next: Seq,
    },
    Missing {
        pipe: PipePath,
        from: Position,
        to: Position,
        records: u64,
    },
}

/// Checks and orders what comes, and says what to acknowledge and how much more may come.
#[derive(Debug)]
pub struct ReaderSession {
    wants: ReaderWants,
    connection: Connection,
    session: SessionId,
    /// By writer, until its item is known to be taken.
    cursors: BTreeMap<SessionId, Cursor>,
    /// The writer heard last: the broker goes on with it first, so that no long record is torn.
    heard: Option<SessionId>,
    /// Half a record of that writer is here.
    mid_record: bool,
    /// Writers whose acknowledgement must be sent.
    dirty: VecDeque<SessionId>,
    inbox: VecDeque<Arrival>,
    /// How many of them are of a session that was lost.
    inbox_lost: usize,
    /// Whether what the application has in its hands is of a session that was lost.
    is_lost_in_hands: bool,
    /// Encoded bytes in the inbox and in the application's hands.
    held: u64,
    /// Those in the application's hands.
    handed: u64,
    /// Encoded bytes the broker may still send; below zero by at most one batch.
    granted: i64,
    leave: Option<Leave>,
    /// Nothing more is wanted once the last acknowledgements have left.
    closing: bool,
    finished: bool,
    /// The application wants no more than what it has in its hands.
    stopping: bool,
    /// Whether the broker gave this session up once.
    was_lost: bool,
    /// What it had of an item then was counted as taken before the item came to its end here.
    was_torn: bool,
    /// An item taken alone was acknowledged to its end: a reader that does not keep on wants no second one.
    has_item: bool,
    /// The record of a queue that comes in parts.
    part: Option<Part>,
    pipes: Pipes,
    outcome: Outcome,
    failure: Option<(Code, String)>,
    events: Vec<Event>,
}

#[derive(Clone, Copy, Debug)]
struct Leave {
    part: bool,
    sent: bool,
}

impl ReaderSession {
    /// A session that attaches at once.
    pub fn new(session: SessionId, mut wants: ReaderWants, now: Time) -> Self {
        wants.window_bytes = wants.window_bytes.clamp(READER_WINDOW_BYTES_MIN, i64::MAX as u64 / 2);
        Self {
            connection: Connection::new(wants.patience, now),
            pipes: Pipes::new(wants.pipe.clone()),
            wants,
            session,
            cursors: BTreeMap::new(),
            heard: None,
            mid_record: false,
            dirty: VecDeque::new(),
            inbox: VecDeque::new(),
            inbox_lost: 0,
            is_lost_in_hands: false,
            held: 0,
            handed: 0,
            granted: 0,
            leave: None,
            closing: false,
            finished: false,
            stopping: false,
            was_lost: false,
            was_torn: false,
            has_item: false,
            part: None,
            outcome: Outcome::default(),
            failure: None,
            events: Vec::new(),
        }
    }

    /// The state of its link.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The next run of records; the one before is given back, which makes room for more, but not acknowledged.
    pub fn next_chunk(&mut self) -> Option<Chunk> {
        self.held -= std::mem::take(&mut self.handed);
        while let Some(arrival) = self.inbox.pop_front() {
            self.is_lost_in_hands = self.inbox_lost > 0;
            self.inbox_lost = self.inbox_lost.saturating_sub(1);
            match arrival {
                // A part of a record that is not this reader's any more, or that it is done with.
                Arrival::Chunk(chunk) if chunk.lease.as_ref().is_some_and(|id| !self.pipes.wants(&chunk.pipe, id)) => {
                    self.held -= chunk.batch.encoded().len() as u64;
                }
                Arrival::Chunk(chunk) if !self.wants.filter.wants(&chunk.batch) => {
                    self.held -= chunk.batch.encoded().len() as u64;
                    self.take(chunk.taken(chunk.next()));
                }
                Arrival::Chunk(chunk) => {
                    self.handed = chunk.batch.encoded().len() as u64;
                    self.outcome.records += chunk.batch.ends_from(chunk.from);
                    self.outcome.bytes += chunk.bodies().len() as u64;
                    return Some(chunk);
                }
                Arrival::End { writer, kind, next, alone } => self.pass_end(writer, kind, next, alone),
                Arrival::Gap { writer, from, to } => self.pass_gap(writer, from, to),
                Arrival::Missing { pipe, from, to, records } => {
                    self.outcome.gap = true;
                    self.events.push(Event::Missing { pipe, from, to, records });
                }
                Arrival::Had { writer, next } => self.ack(writer, next),
            }
        }
        None
    }

    /// The mode of the pipe, once the broker has said it; of many the one that was asked for.
    pub fn mode(&self) -> Mode {
        self.pipes.mode().or(self.wants.mode).unwrap_or_default()
    }

    /// The application is done with this.
    pub fn take(&mut self, taken: Taken) {
        match taken {
            Taken::Numbers(writer, next) => self.ack(writer, next),
            Taken::Place(pipe, mark) => self.pipes.ack_to(&pipe, mark),
            Taken::Lease(pipe, lease) => drop(self.settle(&pipe, lease, Verdict::Done)),
            Taken::Part => {}
        }
    }

    /// The application says what became of a record of a queue. False when that is not this reader's any more, or was said already.
    pub fn settle(&mut self, pipe: &PipePath, lease: LeaseId, verdict: Verdict) -> bool {
        if !self.pipes.holds(pipe, &lease) && verdict == Verdict::Done {
            // The session that had it was given up: nobody is there to refuse it.
            self.events.push(Event::LeaseLost { pipe: pipe.clone(), lease });
            return false;
        }
        self.pipes.settle(pipe, lease, verdict)
    }

    /// Whether this is still the reader's.
    pub fn holds(&self, pipe: &PipePath, lease: &LeaseId) -> bool {
        self.pipes.holds(pipe, lease)
    }

    /// Whether the broker knows all that was said of records of a queue.
    pub fn is_settled(&self) -> bool {
        self.pipes.is_settled()
    }

    /// The application is done with all below `next` of this writer.
    pub fn ack(&mut self, writer: SessionId, next: Seq) {
        if self.is_lost_in_hands {
            // The broker has put it back. Should this session be given it again, it passes over it then.
            return;
        }
        let Some(cursor) = self.cursors.get_mut(&writer) else { return };
        let next = next.min(cursor.received);
        if next > cursor.acked {
            cursor.acked = next;
            self.mark_dirty(writer);
        }
    }

    /// The reader leaves; see [`ReaderUp::Leave`]. What waits in it is dropped.
    pub fn leave(&mut self, part: bool) {
        if !self.connection.was_attached() {
            self.connection.close();
        }
        if self.leave.is_some() {
            return;
        }
        // One that is done has nothing to ask for any more.
        self.leave = (!self.finished).then_some(Leave { part, sent: false });
        self.inbox.clear();
        (self.held, self.handed, self.inbox_lost) = (0, 0, 0);
    }

    /// Nothing more is handed over. Records of a queue that wait here go to somebody else at once.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.pipes.take_no_more();
        for chunk in self.drop_leased(None) {
            self.refuse(chunk);
        }
    }

    /// Whether the application wants no more.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Nothing more is wanted of the session. The last acknowledgements still go out over the link there is; then, to the broker,
    /// the link breaks.
    pub fn close(&mut self) {
        self.closing = true;
        if !self.connection.is_attached() || (self.dirty.is_empty() && !self.pipes.can_send()) {
            self.connection.close();
        }
    }

    /// All messages left this process.
    pub fn flushed(&mut self) {
        if self.closing {
            self.connection.close();
        }
    }

    /// Whether the broker said that this reader is done, and all of it was handed over.
    pub fn is_finished(&self) -> bool {
        self.finished && self.inbox.is_empty()
    }

    /// What it got so far.
    pub fn outcome(&self) -> Outcome {
        let torn = self.was_torn || (self.was_lost && self.cursors.values().any(|cursor| !cursor.ended));
        Outcome {
            incomplete: self.outcome.incomplete || (self.finished && torn && self.leave.is_none()),
            ..self.outcome
        }
    }

    /// The error with which the session ended, once all that came before it was handed over.
    pub fn failure(&self) -> Option<Error> {
        self.failure.as_ref().filter(|_| self.inbox.is_empty()).map(|(code, text)| Error::new(*code, text.clone()))
    }

    /// An attach begins; gives what to send.
    pub fn begin(&mut self, now: Time) -> ReaderAttach {
        let epoch = self.connection.begin(now);
        let credit = self.wants.window_bytes.saturating_sub(self.held);
        self.granted = i64::try_from(credit).unwrap_or(i64::MAX);
        let resume = match self.pipes.are_many() {
            false => (epoch.0 > 1).then(|| self.resume()),
            true => self.pipes.are_known().then(Vec::new),
        };
        ReaderAttach {
            session: self.session,
            epoch,
            mode: self.wants.mode,
            take: self.wants.take,
            keep: self.wants.keep,
            no_wait: self.wants.no_wait,
            credit,
            mid_record: self.mid_record,
            tape: if resume.is_some() { self.pipes.resume(self.wants.tape.clone()) } else { self.wants.tape.clone() },
            resume,
        }
    }

    /// The broker answered the attach. It hears again what was acknowledged: the last words over the old link may be lost.
    pub fn attached(&mut self, welcome: ReaderWelcome, now: Time) {
        if self.connection.is_over() {
            return;
        }
        if !self.may_filter(welcome.mode) {
            return;
        }
        self.pipes.attached(welcome, self.connection.epoch().0 == 1);
        self.events.extend(self.connection.attached(now));
        let writers: Vec<SessionId> = self.cursors.iter().filter(|(_, c)| c.acked > Seq(0)).map(|(&w, _)| w).collect();
        writers.into_iter().for_each(|writer| self.mark_dirty(writer));
        if let Some(leave) = &mut self.leave {
            leave.sent = false;
        }
    }

    /// A message came down.
    pub fn down(&mut self, message: ReaderDown) {
        self.connection.is_good();
        let taken = match message {
            ReaderDown::Batch { from, batch, position } if self.pipes.are_on_tape() => {
                self.take_place(from, batch, position)
            }
            ReaderDown::Batch { from, batch, position } => self.take_batch(from, batch, position),
            ReaderDown::Leased { lease, time, batch } => self.take_lease(lease, time, batch),
            ReaderDown::Settled { lease, error } => self.take_settled(lease, error),
            ReaderDown::Missing { from, to, records } => self.take_missing(from, to, records),
            ReaderDown::Joins { no, pipe, welcome, is_new } => self.take_pipe(no, pipe, welcome, is_new),
            ReaderDown::AllJoined => self.pipes.all_joined(),
            ReaderDown::From(no) => self.pipes.from(no),
            ReaderDown::Gone(no) => self.pipes.gone(no),
            ReaderDown::ItemEnd { writer, kind, next, alone } => self.take_end(writer, kind, next, alone),
            ReaderDown::Gap { writer, from, to } => self.take_gap(writer, from, to),
            ReaderDown::Notice(Notice::Middle { writer, from }) => self.take_middle(writer, from),
            ReaderDown::Notice(notice) => {
                self.take_notice(notice);
                Ok(())
            }
            ReaderDown::Taken { writer } => {
                let torn = self.cursors.remove(&writer).is_some_and(|cursor| !cursor.ended);
                self.was_torn |= self.was_lost && torn;
                Ok(())
            }
            ReaderDown::Finished => {
                self.finish();
                Ok(())
            }
        };
        match taken {
            Err(error) => self.fail(&error),
            Ok(()) if self.inbox.len() > INBOX_MAX || self.cursors.len() > CURSORS_MAX => {
                self.fail(&Error::new(Code::Protocol, "the broker sends more than this reader asked for"));
            }
            Ok(()) => {}
        }
    }

    /// The link broke, or the attach failed.
    pub fn lost(&mut self, error: Error, now: Time, draw: Draw) {
        if self.connection.is_over() {
            return;
        }
        if self.closing {
            self.connection.close();
        } else if error.code() == Code::SessionExpired {
            self.connection.lost(&error, now, draw.jitter);
            self.session = draw.session;
            if self.connection.is_confirmed() {
                self.start_over();
            }
            self.connection.renew();
        } else if self.connection.survives(&error) {
            self.connection.lost(&error, now, draw.jitter);
        } else {
            self.fail(&error);
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Time, draw: Draw) {
        match self.connection.tick(now, draw.jitter) {
            Ok(event) => self.events.extend(event),
            Err(error) => self.fail(&error),
        }
    }

    /// Whether [`ReaderSession::next_up`] has something.
    pub fn can_send(&self) -> bool {
        self.connection.is_attached()
            && (!self.dirty.is_empty()
                || self.pipes.can_send()
                || self.leave.is_some_and(|leave| !leave.sent)
                || self.grant().is_some())
    }

    /// The next message to send over this link.
    pub fn next_up(&mut self) -> Option<ReaderUp> {
        if !self.connection.is_attached() {
            return None;
        }
        while let Some(writer) = self.dirty.pop_front() {
            if let Some(cursor) = self.cursors.get_mut(&writer) {
                cursor.dirty = false;
                return Some(ReaderUp::Ack(ReaderCursor { writer, next: cursor.acked.min(cursor.given) }));
            }
        }
        if let Some(up) = self.pipes.next_up() {
            return Some(up);
        }
        if let Some(leave) = self.leave.as_mut().filter(|leave| !leave.sent) {
            leave.sent = true;
            return Some(ReaderUp::Leave { part: leave.part });
        }
        let grant = self.grant()?;
        self.granted += grant as i64;
        Some(ReaderUp::Credit(grant))
    }

    /// What the application should hear.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// How much more may come, once it is worth a message: half a window.
    fn grant(&self) -> Option<u64> {
        let promised = self.granted.saturating_add(i64::try_from(self.held).unwrap_or(i64::MAX));
        let room = i64::try_from(self.wants.window_bytes).unwrap_or(i64::MAX).saturating_sub(promised);
        let room = u64::try_from(room).unwrap_or(0);
        let wants_more = self.leave.is_none() && !self.closing && self.cursors.len() < CURSORS_MAX / 2;
        (wants_more && room >= self.wants.window_bytes / 2).then_some(room)
    }

    /// Takes a batch off the credit. Gives false when nothing is wanted any more.
    fn spend(&mut self, batch: &Batch) -> Result<bool, Error> {
        if self.granted <= 0 && self.leave.is_none() {
            return Err(Error::new(Code::Protocol, "the broker sends more than this reader asked for"));
        }
        self.granted -= batch.encoded().len() as i64;
        Ok(self.leave.is_none())
    }

    fn arrive(&mut self, chunk: Chunk) {
        self.held += chunk.batch.encoded().len() as u64;
        self.inbox.push_back(Arrival::Chunk(chunk));
    }

    fn take_notice(&mut self, notice: Notice) {
        if notice == Notice::SessionLost {
            self.start_over();
        } else {
            self.events.push(Event::Notice(notice));
        }
    }

    /// The broker gave the session up: this goes on as a new reader that remembers what it has seen.
    fn start_over(&mut self) {
        if self.pipes.are_on_tape() {
            self.start_tape_over();
            return;
        }
        let has_acked = self.cursors.values().any(|cursor| cursor.acked > Seq(0));
        let is_end = |arrival: &Arrival| matches!(arrival, Arrival::End { alone: true, .. });
        let has_item = self.has_item || self.inbox.iter().any(is_end);
        if has_item && !self.wants.keep {
            self.fail(&Error::new(
                Code::SessionExpired,
                "the item was read to its end, but the relay gave this reader up before it said so",
            ));
        } else if self.leave.is_some() && has_acked {
            self.fail(&Error::new(Code::Unknown, "whether the relay knows what was taken is unknown"));
        } else if self.leave.is_some() {
            self.finished = true;
            self.connection.close();
        } else {
            self.was_lost = true;
            // The new session was given nothing yet.
            self.cursors.values_mut().for_each(Cursor::lose);
            self.dirty.clear();
            (self.heard, self.mid_record) = (None, false);
            (self.inbox_lost, self.is_lost_in_hands) = (self.inbox.len(), true);
            self.events.push(Event::NewReader);
        }
    }

    fn fail(&mut self, error: &Error) {
        self.failure.get_or_insert_with(|| (error.code(), error.text().to_owned()));
        self.connection.close();
    }
}

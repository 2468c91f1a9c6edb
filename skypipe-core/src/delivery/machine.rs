//! One pipe of any mode, as its broker drives it.

use std::sync::Arc;

use crate::batch::Batch;
use crate::broker::{
    Mode, ReaderAttach, ReaderDown, ReaderUp, ReaderWelcome, Settings, WriterDown, WriterResume, WriterWelcome,
};
use crate::caller::{Holder, ProcessId};
use crate::error::{Code, Error};
use crate::id::{Epoch, ItemNo, Position, Seq, SessionId};
use crate::name::PipeRef;
use crate::stat::ReaderStat;
use crate::time::{Time, WallTime};

use super::default::{Counts, DefaultPipe, Effect, Extent, Next};
use super::fact::Fact;
use super::hands::Hands;
use super::rest::Rest;
use super::room::Room;
use super::tape::{Long, TapePipe};
use super::writers::Came;

/// A pipe of any mode. Each call does what the one of the same name does in [`DefaultPipe`] or [`TapePipe`].
#[derive(Debug)]
pub enum Machine {
    /// Stored until read, then live to all.
    Default(Box<DefaultPipe>),
    /// A queue or a broadcast.
    Tape(Box<TapePipe>),
}

/// Calls the same of whichever it is.
macro_rules! each {
    ($($(#[$doc:meta])* fn $name:ident($self:ident: $this:ty $(, $arg:ident: $type:ty)*) $(-> $result:ty)?;)*) => {
        $($(#[$doc])* pub fn $name($self: $this $(, $arg: $type)*) $(-> $result)? {
            match $self {
                Self::Default(pipe) => pipe.$name($($arg),*),
                Self::Tape(pipe) => pipe.$name($($arg),*),
            }
        })*
    };
}

impl Machine {
    each! {
        /// Its owner and path.
        fn pipe(self: &Self) -> &PipeRef;
        /// What is to be done now, in order.
        fn take_effects(self: &mut Self) -> Vec<Effect>;
        /// Whether the pipe has ceased to exist; it must not be used further.
        fn is_gone(self: &Self) -> bool;
        /// Numbers for people.
        fn counts(self: &Self) -> Counts;
        /// How its readers are, in no order.
        fn reader_stats(self: &Self) -> Vec<ReaderStat>;
        /// What the pipe takes memory for.
        fn parties(self: &Self) -> usize;
        /// Each writer may have so many encoded bytes under way from now on.
        fn writers_may(self: &mut Self, window_bytes: u64);
        /// Whether this session belongs to the pipe.
        fn knows(self: &Self, session: SessionId) -> bool;
        /// Sessions that are away, with the process behind each where there is one.
        fn away(self: &Self) -> Vec<(SessionId, Option<ProcessId>)>;
        /// Whether this session is without a link.
        fn is_away(self: &Self, session: SessionId) -> bool;
        /// When [`Machine::tick`] wants to be called next, if nothing else happens.
        fn next_tick(self: &Self) -> Option<Time>;
        /// Does what is due at `now`.
        fn tick(self: &mut Self, now: Time);
        /// Ends everything: the pipe is removed by a person.
        fn remove(self: &mut Self);
        /// Appends all that waits in memory: the program is about to stop.
        fn flush(self: &mut Self);
        /// Applies one fact from the log.
        fn replay(self: &mut Self, fact: Fact);
        /// All facts of the pipe as of now, as one, appended.
        fn log_snapshot(self: &mut Self);
        /// Which quota is used up now, if one is.
        fn quota(self: &mut Self, used_up: Option<Room>, now: Time);
        /// Writers wait from now on.
        fn waits_for_room(self: &mut Self, room: Room, now: Time);
        /// There is room again of this kind.
        fn has_room(self: &mut Self, room: Room);
        /// Whether writers wait for room.
        fn waits(self: &Self) -> bool;
        /// The log failed.
        fn turn_read_only(self: &mut Self, cause: &Error);
        /// A writer attaches or returns.
        ///
        /// # Errors
        /// What the pipe refuses with.
        fn attach_writer(self: &mut Self, session: SessionId, epoch: Epoch, resume: Option<WriterResume>, holder: Holder) -> Result<(), Error>;
        /// The welcome of an attached writer, once its joining is durable.
        fn writer_welcome(self: &mut Self, session: SessionId, epoch: Epoch) -> Option<Result<WriterWelcome, Error>>;
        /// A batch comes in.
        ///
        /// # Errors
        /// What is wrong with it; the attach must be closed then.
        fn batch(self: &mut Self, session: SessionId, epoch: Epoch, batch: Batch, now: Time) -> Result<Came, Error>;
        /// The writer's link broke.
        fn writer_away(self: &mut Self, session: SessionId, epoch: Epoch, now: Time);
        /// The reader's link broke.
        fn reader_away(self: &mut Self, session: SessionId, epoch: Epoch, now: Time);
        /// The next message down to a writer.
        fn next_for_writer(self: &mut Self, session: SessionId, epoch: Epoch) -> Next<WriterDown>;
        /// The next message down to a reader.
        fn next_for_reader(self: &mut Self, session: SessionId, epoch: Epoch) -> Next<ReaderDown>;
    }

    /// A pipe with nothing in it. `wall_at_zero` is the wall clock at [`Time`] 0.
    pub fn new(pipe: PipeRef, mode: Mode, wall_at_zero: WallTime) -> Self {
        match mode {
            Mode::Default => Self::Default(Box::new(DefaultPipe::new(pipe))),
            mode => Self::Tape(Box::new(TapePipe::new(pipe, mode, wall_at_zero))),
        }
    }

    /// A pipe that rested; see [`DefaultPipe::awake`].
    pub fn awake(pipe: PipeRef, rest: &Rest, now: Time, extent: impl Fn(ItemNo) -> Extent) -> Self {
        Self::Default(Box::new(DefaultPipe::awake(pipe, rest, now, extent)))
    }

    /// The pipe as it rests; `None` while it does not. Queues and broadcasts never do.
    pub fn rest(&self) -> Option<Rest> {
        match self {
            Self::Default(pipe) => pipe.rest(),
            Self::Tape(_) => None,
        }
    }

    /// How the pipe hands out its records.
    pub fn mode(&self) -> Mode {
        match self {
            Self::Default(_) => Mode::Default,
            Self::Tape(pipe) => pipe.mode(),
        }
    }

    /// Takes what somebody who attaches says of how the pipe is to be kept.
    pub fn set(&mut self, settings: Settings) {
        if let Self::Tape(pipe) = self {
            pipe.set(settings);
        }
    }

    /// The next `count` entries given to the log are durable.
    pub fn stored(&mut self, count: u64, now: Time) {
        match self {
            Self::Default(pipe) => pipe.stored(count),
            Self::Tape(pipe) => pipe.stored(count, now),
        }
    }

    /// Gives a session up.
    pub fn lost(&mut self, session: SessionId, now: Time) {
        match self {
            Self::Default(pipe) => pipe.lost(session),
            Self::Tape(pipe) => pipe.lost(session, now),
        }
    }

    /// The writer gives up what it did not end.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`, or `E_ACCESS` when the pipe was removed.
    pub fn abort(&mut self, session: SessionId, epoch: Epoch, now: Time) -> Result<(), Error> {
        match self {
            Self::Default(pipe) => pipe.abort(session, epoch),
            Self::Tape(pipe) => pipe.abort(session, epoch, now),
        }
    }

    /// A reader attaches or returns.
    ///
    /// # Errors
    /// What the pipe refuses with.
    pub fn attach_reader(&mut self, attach: &ReaderAttach, holder: Holder, now: Time) -> Result<(), Error> {
        match self {
            Self::Default(pipe) => pipe.attach_reader(attach, holder),
            Self::Tape(pipe) => pipe.attach_reader(attach, holder, now),
        }
    }

    /// The welcome of an attached reader, once its joining is durable.
    pub fn reader_welcome(&mut self, session: SessionId, epoch: Epoch) -> Option<Result<ReaderWelcome, Error>> {
        let mode = self.mode();
        let at = match self {
            Self::Default(pipe) => pipe.reader_welcome(session, epoch)?.map(|()| Position::default()),
            Self::Tape(pipe) => pipe.reader_welcome(session, epoch)?,
        };
        Some(at.map(|position| ReaderWelcome { mode, position }))
    }

    /// A reader says something.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`; `E_PROTOCOL` for what it may not say.
    pub fn reader_up(&mut self, session: SessionId, epoch: Epoch, message: ReaderUp, now: Time) -> Result<(), Error> {
        let pipe = match self {
            Self::Default(pipe) => pipe,
            Self::Tape(pipe) => return pipe.reader_up(session, epoch, message, now),
        };
        match message {
            ReaderUp::Credit(bytes) => pipe.credit(session, epoch, bytes),
            ReaderUp::Ack(cursor) => pipe.acknowledge(session, epoch, cursor, now),
            ReaderUp::Leave { part } => pipe.leave(session, epoch, part),
            _ => Err(Error::new(Code::Protocol, "a message of a reader of another kind of pipe")),
        }
    }

    /// A reader of many pipes attaches or returns to this queue or broadcast. What it has in its hands of all queues counts together.
    ///
    /// # Errors
    /// As [`Machine::attach_reader`]; `E_MODE` for a default pipe.
    pub fn attach_member(
        &mut self,
        attach: &ReaderAttach,
        holder: Holder,
        hands: &Arc<Hands>,
        now: Time,
    ) -> Result<(), Error> {
        let Self::Tape(pipe) = self else {
            return Err(Error::new(Code::Mode, "a default pipe is read by itself"));
        };
        pipe.attach_reader(attach, holder, now)?;
        pipe.share_hands(attach.session, hands, now);
        Ok(())
    }

    /// The next message down to a reader of many pipes, which may be sent so many bytes at the moment.
    pub fn next_for_member(&mut self, session: SessionId, epoch: Epoch, credit: i64) -> Next<ReaderDown> {
        match self {
            Self::Default(_) => Next::Wait,
            Self::Tape(pipe) => pipe.next_for_member(session, epoch, credit),
        }
    }

    /// Whether there was something for a reader of many pipes when its hands were full.
    pub fn is_hungry(&self, session: SessionId) -> bool {
        matches!(self, Self::Tape(pipe) if pipe.is_hungry(session))
    }

    /// The hands of a reader of many pipes have room again.
    pub fn look_again(&mut self, session: SessionId, now: Time) {
        if let Self::Tape(pipe) = self {
            pipe.look_again(session, now);
        }
    }

    /// A batch from the log, for a reader that was sent there: `at` is its first number there.
    pub fn from_log(
        &mut self,
        session: SessionId,
        epoch: Epoch,
        (item, at): (ItemNo, Seq),
        batch: &Batch,
        now: Time,
    ) -> Option<ReaderDown> {
        match self {
            Self::Default(pipe) => pipe.from_log(session, epoch, item, batch),
            Self::Tape(pipe) => pipe.from_log(session, epoch, (item, at), batch, now),
        }
    }

    /// What a reader was sent to the log for is damaged or gone there, up to `to`.
    pub fn missing(
        &mut self,
        session: SessionId,
        epoch: Epoch,
        item: ItemNo,
        from: Seq,
        to: Seq,
    ) -> Option<ReaderDown> {
        match self {
            Self::Default(pipe) => pipe.missing(session, epoch, item, from, to),
            Self::Tape(pipe) => pipe.missing(session, epoch, item, from, to),
        }
    }

    /// A record of a queue is with the dead letters.
    pub fn buried(&mut self, place: Seq) {
        if let Self::Tape(pipe) = self {
            pipe.buried(place);
        }
    }

    /// The record in parts that has this place in a queue or broadcast.
    pub fn long(&self, place: Seq) -> Option<Long> {
        match self {
            Self::Default(_) => None,
            Self::Tape(pipe) => pipe.long(place),
        }
    }

    /// Whether the pipe has this item.
    pub fn has_item(&self, item: ItemNo) -> bool {
        match self {
            Self::Default(pipe) => pipe.has_item(item),
            Self::Tape(pipe) => pipe.has_item(item),
        }
    }

    /// The items whose end is not known.
    pub fn open_items(&self) -> Vec<ItemNo> {
        match self {
            Self::Default(pipe) => pipe.open_items(),
            Self::Tape(_) => Vec::new(),
        }
    }

    /// Makes the pipe ready after the last fact: `extent` says what of an item's batches the log has.
    pub fn recovered(&mut self, now: Time, extent: impl Fn(ItemNo) -> Extent) {
        match self {
            Self::Default(pipe) => pipe.recovered(now, extent),
            Self::Tape(pipe) => pipe.recovered(now, extent),
        }
    }
}

//! The trait at the heart: everything that holds pipes is a [`Broker`].
//!
//! ```text
//!   writer ── WriterUp ──▶ ┌────────┐ ── ReaderDown ──▶ reader
//!          ◀─ WriterDown ─ │ Broker │ ◀── ReaderUp ────
//!                          └────────┘
//! ```
//!
//! Attaching yields two halves that carry small messages: up from the client, down from the broker. The same messages are the
//! frames on the wire, so a relay passes them between a link and a broker, and a wrapper passes them between two brokers,
//! without knowing what they mean.

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use futures::{Sink, Stream};

use crate::batch::{Batch, EndKind};
use crate::caller::Caller;
use crate::error::{Code, Error};
use crate::id::{Epoch, PipeNo, Position, Seq, SessionId};
use crate::name::{Owner, Pattern, PatternRef, PipePath, PipeRef};
use crate::stat::PipeStat;
use crate::time::WallTime;

/// Holds pipes. An attach is one attempt over one link: when it breaks, the session above it attaches again with the
/// next epoch and says where to go on.
///
/// # Contract
/// * A call names its [`Caller`]; a broker that wraps another passes caller and session on unchanged.
/// * `stored` in an [`Ack`] is said only of what is on this broker's own disk, or was said so by the broker beneath.
/// * Dropping both halves of an attach is a broken link. What it means depends on [`Caller::peer`].
#[async_trait]
pub trait Broker: Send + Sync {
    /// The modes and acknowledgements this broker has.
    fn features(&self) -> Features;

    /// Attaches or resumes a writer.
    ///
    /// # Errors
    /// `E_MODE`, `E_ACCESS`, `E_BUSY`, `E_STORAGE`, `E_FENCED`, `E_SESSION_EXPIRED`, `E_RESUME_AHEAD`, or a broken link.
    ///
    /// # Cancel safety
    /// A dropped call may have attached: it then counts as a broken link, and the next epoch takes over.
    async fn attach_writer(&self, caller: &Caller, pipe: &PipeRef, attach: WriterAttach)
    -> Result<WriterHalves, Error>;

    /// Attaches or resumes a reader. When this returns, its joining is on disk.
    ///
    /// # Errors
    /// As [`Broker::attach_writer`], and `E_EMPTY` when the reader would not wait and there is nothing to take.
    ///
    /// # Cancel safety
    /// As [`Broker::attach_writer`].
    async fn attach_reader(&self, caller: &Caller, pipe: &PipeRef, attach: ReaderAttach)
    -> Result<ReaderHalves, Error>;

    /// Attaches or resumes one reader of all queues and broadcasts that match, those too that begin later. It begins none. When this
    /// returns, its joining is on disk in all that there are; a returning one first says what it has, [`ReaderUp::Had`].
    ///
    /// What comes down is of the pipe that [`ReaderDown::From`] named last, what goes up of the one that [`ReaderUp::Of`] did. Pipes
    /// have numbers, which [`ReaderDown::Joins`] gives them, for as long as the link lasts.
    ///
    /// # Errors
    /// As [`Broker::attach_reader`]; `E_UNSUPPORTED` from a broker that cannot, `E_USAGE` for what only one pipe can be asked,
    /// `E_QUOTA` when more pipes match than one reader may read.
    ///
    /// # Cancel safety
    /// As [`Broker::attach_writer`].
    async fn attach_pattern_reader(
        &self,
        caller: &Caller,
        pattern: &PatternRef,
        attach: ReaderAttach,
    ) -> Result<ReaderHalves, Error> {
        let _ = (caller, pattern, attach);
        Err(no_patterns())
    }

    /// One page of the caller's pipes, in order of their paths.
    ///
    /// # Errors
    /// `E_ACCESS` without the right to read, or a broken link.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    async fn list(&self, caller: &Caller, query: ListQuery) -> Result<ListPage, Error>;

    /// What there is to know of one pipe.
    ///
    /// # Errors
    /// `E_ACCESS` when there is none, or no right to it; or a broken link.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    async fn stat(&self, caller: &Caller, pipe: &PipeRef) -> Result<PipeStat, Error>;

    /// Removes a pipe with all it stores. Its writers and readers end with `E_ACCESS`. When this returns, the removal is on disk.
    ///
    /// # Errors
    /// `E_ACCESS` when there is none, or no right to it; `E_STORAGE`, or a broken link.
    ///
    /// # Cancel safety
    /// A dropped call may have removed the pipe.
    async fn remove(&self, caller: &Caller, pipe: &PipeRef) -> Result<(), Error>;

    /// The program is about to stop: writes down what must be kept. From now on a broken link means nothing, its session goes on
    /// with the next host.
    ///
    /// # Cancel safety
    /// A dropped call has begun: broken links mean nothing already, and some of what must be kept may not be written. Call it again.
    async fn drain(&self) {}
}

/// What a broker offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Features {
    /// Queues.
    pub queue: bool,
    /// Broadcasts.
    pub broadcast: bool,
    /// Says `stored`, and means the disk.
    pub stored: bool,
    /// Says `delivered`.
    pub delivered: bool,
    /// Nothing can be stored or taken any more until the broker is opened anew: its disk failed. What is there can be read.
    pub read_only: bool,
    /// Readers of patterns.
    pub patterns: bool,
}

/// Most pipes that one reader of a pattern reads: some 10 MB of a relay's memory. Past it the pattern is to be divided among several.
pub const PATTERN_PIPES_MAX: usize = 16_384;

/// What a broker says that reads one pipe at a time.
pub(crate) fn no_patterns() -> Error {
    Error::new(Code::Unsupported, "this relay does not read patterns; a newer one does")
}

/// How a pipe hands out its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[repr(u8)]
pub enum Mode {
    /// Stored until read, then live to all.
    #[default]
    Default = 0,
    /// Each record to one reader.
    Queue = 1,
    /// Every record to every reader.
    Broadcast = 2,
}

impl Mode {
    /// The mode of this stable number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Default),
            1 => Some(Self::Queue),
            2 => Some(Self::Broadcast),
            _ => None,
        }
    }

    /// The word people use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Queue => "queue",
            Self::Broadcast => "broadcast",
        }
    }
}

/// How a writer attaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterAttach {
    /// The session, drawn at random by the client; it is the item's identity as well.
    pub session: SessionId,
    /// Which attach of the session this is, from 1.
    pub epoch: Epoch,
    /// The mode the pipe must have; none means the one it has.
    pub mode: Option<Mode>,
    /// How the pipe is to be kept from now on.
    pub settings: Settings,
    /// Where to go on, from the second attach on.
    pub resume: Option<WriterResume>,
}

/// How a queue or a broadcast is kept. What says nothing leaves what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// How often a record of a queue is handed out before it goes to the dead letters.
    pub max_deliveries: Option<u32>,
    /// How long a record of a queue is its reader's, unless the reader extends it.
    pub lease: Option<Duration>,
    /// What a broadcast keeps.
    pub retain: Retain,
}

impl Settings {
    /// These, and what they say nothing of from `others`.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            max_deliveries: self.max_deliveries.or(others.max_deliveries),
            lease: self.lease.or(others.lease),
            retain: Retain {
                age: self.retain.age.or(others.retain.age),
                bytes: self.retain.bytes.or(others.retain.bytes),
                records: self.retain.records.or(others.retain.records),
            },
        }
    }
}

/// What a broadcast keeps: as much as all of these allow, and its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Retain {
    /// Records no older than this.
    pub age: Option<Duration>,
    /// So many encoded bytes.
    pub bytes: Option<u64>,
    /// So many records.
    pub records: Option<u64>,
}

/// What a returning writer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WriterResume {
    /// The lowest number not yet acknowledged: all below is settled.
    pub settled: Seq,
    /// All below this number was said to be on disk.
    pub stored: Seq,
}

/// The broker's answer to a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterWelcome {
    /// The number to go on with; batches below it need not be sent again.
    pub next: Seq,
    /// What is settled so far.
    pub ack: Ack,
    /// Encoded bytes of batches the writer may send now. Each batch takes its length off; one batch may be sent
    /// whenever more than zero is left.
    pub credit: u64,
    /// How many readers get this writer's records now, as they come.
    pub readers: u32,
    /// The mode of the pipe. Of a queue each batch has one record.
    pub mode: Mode,
}

/// Messages up from a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriterUp {
    /// Records, in order; the last one carries the end mark.
    Batch(Batch),
    /// The writer gives its item up: it ends as aborted.
    Abort,
}

/// Messages down to a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriterDown {
    /// How far the records are.
    Ack(Ack),
    /// So many more bytes may be sent.
    Credit(u64),
    /// The first reader is there that gets this writer's records as they come; of one that was there before, the welcome tells.
    HasReader,
    /// Something a person wants to know.
    Notice(Notice),
}

/// How far a writer's records are. Each number is exclusive and only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ack {
    /// Each record below is `stored` or `delivered`: it need not be kept, it will not be lost.
    pub settled: Seq,
    /// Each record below is on disk, synced, or was taken after it was.
    pub stored: Seq,
    /// Each record below was acknowledged by every reader it was owed to, at least one.
    pub delivered: Seq,
}

/// How a reader attaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderAttach {
    /// The session, drawn at random by the client.
    pub session: SessionId,
    /// Which attach of the session this is, from 1.
    pub epoch: Epoch,
    /// The mode the pipe must have; none means the one it has.
    pub mode: Option<Mode>,
    /// What it wants.
    pub take: Take,
    /// Go on after the end: start again instead of ending.
    pub keep: bool,
    /// Do not wait: what is there now, or `E_EMPTY`.
    pub no_wait: bool,
    /// Encoded bytes of batches the broker may send at once; as [`WriterWelcome::credit`], in the other direction.
    pub credit: u64,
    /// Whether it has half a record of the writer it names first in `resume`: nothing of another writer comes before the rest.
    pub mid_record: bool,
    /// Where to go on, from the second attach on: every session whose item is not known to be taken, the one heard last first.
    pub resume: Option<Vec<ReaderCursor>>,
    /// What matters to queues and broadcasts only.
    pub tape: OnTape,
}

/// How a reader attaches to a queue or a broadcast.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OnTape {
    /// How the pipe is to be kept from now on.
    pub settings: Settings,
    /// Where a new reader of a broadcast begins.
    pub start: Start,
    /// The durable cursor of a broadcast that it reads with: where that stopped it goes on.
    pub cursor: Option<String>,
    /// What a returning reader of a broadcast has, and one that was given up and begins anew.
    pub resume_at: Option<Mark>,
    /// Records of a queue that it takes at a time; 0 is 1.
    pub prefetch: u32,
    /// What a returning reader of a queue has in its hands.
    pub has: Vec<LeaseId>,
}

/// Where a new reader of a broadcast begins.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Start {
    /// With what comes from now on.
    #[default]
    Now,
    /// With the oldest record that is kept.
    Beginning,
    /// So many records back.
    Last(u64),
    /// With what came so long ago, and little more.
    Ago(Duration),
    /// With what came from this moment on, and little more.
    Since(WallTime),
    /// Here.
    At(Mark),
}

/// A place behind some records of a run.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Mark {
    /// Where the run stands.
    pub position: Position,
    /// How many of its records lie before the place.
    pub records: u32,
}

/// One handing out of one record of a queue. Whoever holds a later one of the same record has a larger `attempt`: it is the fencing token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId {
    /// Where the record stands.
    pub position: Position,
    /// How often it was handed out, this time included.
    pub attempt: u32,
}

/// What a reader says of a record in its hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is done with.
    Done,
    /// Somebody is to have it once more.
    Refused {
        /// Not before so long.
        delay: Duration,
    },
    /// It takes longer: the lease begins anew.
    Extend,
}

/// The broker's answer to a reader.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ReaderWelcome {
    /// The mode of the pipe.
    pub mode: Mode,
    /// Where a reader of a broadcast begins; it goes on there if it returns with nothing.
    pub position: Position,
}

/// What a reader wants of a default pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[repr(u8)]
pub enum Take {
    /// The oldest ended item alone, or else live.
    #[default]
    Any = 0,
    /// Exactly one item, alone, finished or not.
    Item = 1,
    /// A look at what is stored, without taking it.
    Peek = 2,
}

impl Take {
    /// The kind of this stable number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Any),
            1 => Some(Self::Item),
            2 => Some(Self::Peek),
            _ => None,
        }
    }
}

/// How far a returning reader is in one writer's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderCursor {
    /// The writer's session.
    pub writer: SessionId,
    /// The next number it has not received.
    pub next: Seq,
}

/// Messages up from a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReaderUp {
    /// So many more bytes may be sent.
    Credit(u64),
    /// All below `next` of this writer's session was handed to the application or written out; the end mark counts as one.
    Ack(ReaderCursor),
    /// All up to this place of a broadcast was handed to the application or written out.
    AckTo(Mark),
    /// What became of a record of a queue. Answered by [`ReaderDown::Settled`], but for [`Verdict::Extend`] of what it holds.
    Settle {
        /// Which handing out.
        lease: LeaseId,
        /// What became of it.
        verdict: Verdict,
    },
    /// Of a queue it takes so many records at a time from now on; with 0 it stays and takes no more.
    Prefetch(u32),
    /// The reader leaves. With `part` it keeps what it acknowledged of an item taken alone (`-n`); without, such an item
    /// goes back whole. Answered by [`ReaderDown::Finished`].
    Leave {
        /// Whether the acknowledged part of an item taken alone is taken for good.
        part: bool,
    },
    /// What follows is of this pipe, until the next of these. Of a reader of many.
    Of(PipeNo),
    /// A returning reader of many says what it has of one pipe: behind the answer to its attach, before anything else.
    Had(Had),
    /// It has nothing else.
    HadAll,
}

/// What a returning reader of many has of one pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Had {
    /// Which pipe.
    pub pipe: PipePath,
    /// As [`OnTape::resume_at`].
    pub at: Option<Mark>,
    /// As [`OnTape::has`].
    pub leases: Vec<LeaseId>,
}

/// Messages down to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReaderDown {
    /// Records of one writer. The reader is not owed those numbered below `from`.
    Batch {
        /// The first number that is this reader's.
        from: Seq,
        /// Where the batch stands in the pipe.
        position: Position,
        /// The records.
        batch: Batch,
    },
    /// A writer's item is over for this reader: behind its last batch, before its acknowledgement.
    ItemEnd {
        /// The writer's session.
        writer: SessionId,
        /// How it ended.
        kind: EndKind,
        /// Whether the reader had this item alone; else it was live.
        alone: bool,
        /// The number behind its end mark, which the reader acknowledges.
        next: Seq,
    },
    /// Records of this writer, `from` up to but not including `to`, are gone; `to` comes next.
    Gap {
        /// The writer's session.
        writer: SessionId,
        /// First number that is missing.
        from: Seq,
        /// First number that is not.
        to: Seq,
    },
    /// That this reader took the writer's whole item is durable: it need not be named when the reader resumes.
    Taken {
        /// The writer's session.
        writer: SessionId,
    },
    /// A record of a queue, for this reader alone.
    Leased {
        /// Which handing out.
        lease: LeaseId,
        /// For so long, unless it is extended.
        time: Duration,
        /// The record.
        batch: Batch,
    },
    /// What a reader said of a record is on disk; or it had no right to say it, and nothing happened.
    Settled {
        /// Which handing out.
        lease: LeaseId,
        /// `E_LEASE_LOST` when it was not the reader's any more.
        error: Option<Code>,
    },
    /// Records of a queue or broadcast are gone that this reader was owed.
    Missing {
        /// Where the first one stood.
        from: Position,
        /// Where the next one stands that is not.
        to: Position,
        /// How many.
        records: u64,
    },
    /// Something a person wants to know.
    Notice(Notice),
    /// The reader is done, and what it took is durably taken. Nothing follows.
    Finished,
    /// A pipe that matches joins what a reader of many reads.
    Joins {
        /// How it is called on this link.
        no: PipeNo,
        /// Which pipe.
        pipe: PipePath,
        /// What a reader of this pipe alone is answered.
        welcome: ReaderWelcome,
        /// The reader is a new one there: what it had in its hands is somebody else's.
        is_new: bool,
    },
    /// All pipes joined that were there when the reader attached. One that it had and that has not joined again is gone.
    AllJoined,
    /// What follows is of this pipe, until the next of these.
    From(PipeNo),
    /// A pipe was removed, or this reader is done with it.
    Gone(PipeNo),
}

/// Things a person wants to know; said once on stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// This reader gets the item of `writer` from `from` on, not from its start.
    Middle {
        /// The writer's session.
        writer: SessionId,
        /// The first number it gets.
        from: Seq,
    },
    /// More than one writer writes what a live reader gets.
    SecondWriter,
    /// Writing waits for room: `E_NO_SPACE` on the broker's disk, or `E_QUOTA` in the pipe's or owner's share of it.
    WaitsForRoom {
        /// Which room.
        code: Code,
        /// The same for people.
        text: String,
    },
    /// There is room again.
    HasRoom,
    /// The session had been given up when it returned; a reader goes on as a new one.
    SessionLost,
    /// A line from a newer broker.
    Other(String),
}

/// The two halves of a writer's attach.
pub struct WriterHalves {
    /// The broker's answer.
    pub welcome: WriterWelcome,
    /// Takes what goes up. Ready whenever the broker reads; credit is the writer's to keep.
    pub up: UpSink<WriterUp>,
    /// Gives what comes down, and ends with an error when the link breaks.
    pub down: DownStream<WriterDown>,
}

/// The two halves of a reader's attach.
pub struct ReaderHalves {
    /// The broker's answer.
    pub welcome: ReaderWelcome,
    /// Takes what goes up.
    pub up: UpSink<ReaderUp>,
    /// Gives what comes down, and ends with an error when the link breaks.
    pub down: DownStream<ReaderDown>,
}

/// The half that takes messages up.
pub type UpSink<T> = Pin<Box<dyn Sink<T, Error = Error> + Send>>;
/// The half that gives messages down.
pub type DownStream<T> = Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>;

/// Most pipes in one page of a list.
pub const LIST_PAGE_MAX: u32 = 1000;

/// What to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Whose pipes.
    pub owner: Owner,
    /// Only pipes that match.
    pub pattern: Pattern,
    /// Only pipes behind this one, for the next page.
    pub after: Option<PipePath>,
    /// At most so many, and at most [`LIST_PAGE_MAX`].
    pub limit: u32,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ListPage {
    /// The pipes, in order of their paths.
    pub pipes: Vec<PipeStat>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// A broker behind a pointer, as callers share it.
pub type SharedBroker = std::sync::Arc<dyn Broker>;

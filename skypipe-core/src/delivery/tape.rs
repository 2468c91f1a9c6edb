//! A pipe whose records stand on one tape, in the order in which they came: a queue or a broadcast.
//!
//! ```text
//!              low                    durable        next
//!   forgotten   │  on disk               │ on its way  │
//!  ─────────────┼────────────────────────┼─────────────┼──▶ places
//!               └── handed to readers ───┘
//! ```
//!
//! Each record takes one place. Only what is on disk is handed out, so that a place has the same record for everybody, also after a crash,
//! and a lease is known to every relay that comes after. What writers do is the same in both modes and stands here and in [`writers`];
//! what readers get is [`queue`] or [`broadcast`].

mod broadcast;
mod long;
mod marks;
mod queue;
mod readers;
mod replay;
mod room;
#[cfg(test)]
mod tests;
mod writer;
mod writers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use crate::batch::Batch;
use crate::broker::{LeaseId, Mode, Notice, ReaderDown, Settings};
use crate::caller::ProcessId;
use crate::error::{Code, Error};
use crate::id::{Epoch, ItemNo, Seq, SessionId};
use crate::name::PipeRef;
use crate::stat::ReaderStat;
use crate::time::{Time, WallTime};

use self::broadcast::Broadcast;
pub use self::long::Long;
use self::long::Longs;
pub use self::marks::Mark as TapeMark;
use self::marks::Marks;
use self::queue::Queue;
use self::room::Full;
use self::writer::Writer;
use super::default::{Counts, Effect, Next, unknown};
use super::fact::Fact;
use super::item::Link;
use super::limits::{FORGET_STEP, LIVE_WINDOW_BYTES, TAPE, WRITER_CREDIT_BYTES};
use super::read_only::{NEVER, ReadOnly};

/// Encoded bytes after which the log is told how far each writer is: what a relay that starts again reads at most to find out.
const PROGRESS_BYTES: u64 = 1024 * 1024;

/// A queue or a broadcast.
#[derive(Debug)]
pub struct TapePipe {
    pub(super) tape: Tape,
    side: Side,
}

/// Who gets what is on the tape.
#[derive(Debug)]
enum Side {
    Queue(Box<Queue>),
    Broadcast(Box<Broadcast>),
}

/// Calls the same of both.
macro_rules! side {
    ($self:ident, |$side:ident, $tape:ident| $call:expr) => {{
        let $tape = &mut $self.tape;
        match &mut $self.side {
            Side::Queue($side) => $call,
            Side::Broadcast($side) => $call,
        }
    }};
}
use side;

/// The tape, and who writes on it.
#[derive(Debug)]
pub(super) struct Tape {
    pipe: PipeRef,
    mode: Mode,
    settings: Settings,
    /// The wall clock at [`Time`] 0.
    wall_at_zero: WallTime,
    /// All below is not needed any more.
    low: Seq,
    /// The log was told so of all below.
    forgotten: Seq,
    /// All below is on disk.
    durable: Seq,
    /// The place of the next record.
    next: Seq,
    /// The newest records, as far as they are in memory.
    window: VecDeque<(Seq, Batch)>,
    window_bytes: usize,
    marks: Marks,
    writers: BTreeMap<SessionId, Writer>,
    /// The number of the next writer, or of the next record in parts.
    next_item: ItemNo,
    /// Records in parts, by place.
    long: Longs,
    /// Encoded bytes since the log was told how far each writer is.
    unsaid_bytes: u64,
    /// Those of whom it is not.
    unsaid: BTreeSet<SessionId>,
    appended: u64,
    confirmed: u64,
    pending: VecDeque<(u64, Pending)>,
    writer_window: u64,
    full: Option<Full>,
    read_only: Option<ReadOnly>,
    damaged: bool,
    effects: Vec<Effect>,
    opened: bool,
    removed: bool,
    gone: bool,
}

/// What is done when an entry of the log is durable.
#[derive(Debug)]
enum Pending {
    /// The tape is on disk up to this place.
    Tape(SessionId, Seq),
    /// A part of this writer's open record is on disk.
    Part(SessionId),
    /// Look again at this writer.
    Writer(SessionId),
    /// Wake this session.
    Wake(SessionId),
    /// The readers' side knows.
    Side(Saved),
}

/// What the readers' side has saved.
#[derive(Debug)]
enum Saved {
    /// These leases of a reader.
    Leased(SessionId, Vec<(Seq, u32)>),
    /// All that led to this answer to a reader's verdict.
    Told(SessionId, LeaseId, Option<Code>),
    /// That these places are done with.
    Done(Vec<Range<Seq>>),
    /// A durable cursor, up to this place.
    Cursor(String, Seq),
}

impl TapePipe {
    /// A pipe with nothing in it; `wall_at_zero` is the wall clock at [`Time`] 0.
    pub fn new(pipe: PipeRef, mode: Mode, wall_at_zero: WallTime) -> Self {
        let side = match mode {
            Mode::Queue => Side::Queue(Box::default()),
            Mode::Default | Mode::Broadcast => Side::Broadcast(Box::default()),
        };
        Self { tape: Tape::new(pipe, mode, wall_at_zero), side }
    }

    /// Its owner and path.
    pub fn pipe(&self) -> &PipeRef {
        &self.tape.pipe
    }

    /// How it hands out its records.
    pub fn mode(&self) -> Mode {
        self.tape.mode
    }

    /// What is to be done now, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.tape.effects)
    }

    /// Whether the pipe has ceased to exist; it must not be used further.
    pub fn is_gone(&self) -> bool {
        self.tape.gone
    }

    /// Numbers for people.
    pub fn counts(&self) -> Counts {
        let open = self.tape.writers.values().filter(|writer| writer.end.is_none()).count();
        let mut counts = Counts { writers: open as u32, damaged: self.tape.damaged, ..Counts::default() };
        match &self.side {
            Side::Queue(queue) => queue.count(&self.tape, &mut counts),
            Side::Broadcast(broadcast) => broadcast.count(&self.tape, &mut counts),
        }
        counts
    }

    /// How its readers are, in no order.
    pub fn reader_stats(&self) -> Vec<ReaderStat> {
        match &self.side {
            Side::Queue(queue) => queue.reader_stats(),
            Side::Broadcast(broadcast) => broadcast.reader_stats(&self.tape),
        }
    }

    /// Writers and readers: what the pipe takes memory for.
    pub fn parties(&self) -> usize {
        let readers = match &self.side {
            Side::Queue(queue) => queue.parties(),
            Side::Broadcast(broadcast) => broadcast.parties(),
        };
        self.tape.writers.len() + readers + self.tape.long.len() / 8
    }

    /// Each writer may have so many encoded bytes under way from now on.
    pub fn writers_may(&mut self, window_bytes: u64) {
        let before = std::mem::replace(&mut self.tape.writer_window, window_bytes.min(WRITER_CREDIT_BYTES));
        if self.tape.writer_window > before {
            self.tape.wake_writers();
        }
        self.tape.shrink();
    }

    /// Whether this session belongs to the pipe.
    pub fn knows(&self, session: SessionId) -> bool {
        self.tape.writers.contains_key(&session) || self.reader_link(session).is_some()
    }

    /// Sessions that are away, with the process behind each where there is one.
    pub fn away(&self) -> Vec<(SessionId, Option<ProcessId>)> {
        let writers = self.tape.writers.iter().filter(|(_, writer)| matches!(writer.link, Link::Away(_)));
        let mut away: Vec<_> = writers.map(|(session, writer)| (*session, writer.holder.process())).collect();
        match &self.side {
            Side::Queue(queue) => away.extend(queue.away()),
            Side::Broadcast(broadcast) => away.extend(broadcast.away()),
        }
        away
    }

    /// Whether this session is without a link.
    pub fn is_away(&self, session: SessionId) -> bool {
        let writer = self.tape.writers.get(&session).map(|writer| writer.link);
        matches!(writer.or_else(|| self.reader_link(session)), Some(Link::Away(_)))
    }

    fn reader_link(&self, session: SessionId) -> Option<Link> {
        match &self.side {
            Side::Queue(queue) => queue.link(session),
            Side::Broadcast(broadcast) => broadcast.link(session),
        }
    }

    /// The next `count` entries given to the log are durable.
    pub fn stored(&mut self, count: u64, now: Time) {
        self.tape.confirmed += count;
        while self.tape.pending.front().is_some_and(|(append, _)| *append <= self.tape.confirmed) {
            let Some((_, pending)) = self.tape.pending.pop_front() else { break };
            match pending {
                Pending::Tape(session, place) => {
                    self.tape.durable = place;
                    self.tape.on_disk(session);
                }
                Pending::Part(session) => self.tape.on_disk(session),
                Pending::Writer(session) => self.tape.settle(session),
                Pending::Wake(session) => self.tape.wake(session),
                Pending::Side(saved) => side!(self, |side, tape| side.saved(tape, saved)),
            }
        }
        side!(self, |side, tape| side.more(tape, now));
        self.tape.shrink();
        self.tape.forget_on_disk();
    }

    /// When [`TapePipe::tick`] wants to be called next, if nothing else happens.
    pub fn next_tick(&self) -> Option<Time> {
        let writers = self.tape.writers.values().filter_map(Writer::lost_at);
        let side = match &self.side {
            Side::Queue(queue) => queue.next_tick(&self.tape),
            Side::Broadcast(broadcast) => broadcast.next_tick(&self.tape),
        };
        writers.chain(side).chain(self.tape.next_room_tick()).min()
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Time) {
        let overdue = |writer: &Writer| writer.lost_at().is_some_and(|at| at <= now);
        let lost: Vec<SessionId> = self.tape.writers.iter().filter(|(_, w)| overdue(w)).map(|(s, _)| *s).collect();
        lost.into_iter().for_each(|session| self.lost(session, now));
        side!(self, |side, tape| side.tick(tape, now));
        self.tape.tick_room(now);
    }

    /// Gives a session up: its process is dead, or it was away for too long.
    pub fn lost(&mut self, session: SessionId, now: Time) {
        if self.tape.writers.contains_key(&session) {
            let aborted = self.tape.writer_lost(session);
            if aborted && let Side::Broadcast(broadcast) = &mut self.side {
                broadcast.say(&mut self.tape, &Notice::Other("a writer vanished before its end".to_owned()));
            }
        }
        side!(self, |side, tape| side.lost(tape, session, now));
    }

    /// Ends everything: the pipe is removed by a person.
    pub fn remove(&mut self) {
        let mut sessions: Vec<SessionId> = self.tape.writers.keys().copied().collect();
        side!(self, |side, _tape| sessions.extend(side.clear()));
        self.tape.removed = true;
        self.tape.writers.clear();
        self.tape.window.clear();
        self.tape.long = Longs::default();
        self.tape.gone = true;
        if self.tape.opened {
            self.tape.append(Fact::Removed);
        }
        self.tape.effects.push(Effect::Gone);
        sessions.into_iter().for_each(|session| self.tape.wake(session));
    }

    /// Tells the log all that is known: the program is about to stop.
    pub fn flush(&mut self) {
        self.tape.say_progress();
    }

    /// The next message down to a reader.
    pub fn next_for_reader(&mut self, session: SessionId, epoch: Epoch) -> Next<ReaderDown> {
        side!(self, |side, tape| side.next(tape, session, epoch))
    }

    /// A batch from the log for a reader that was sent to it; `None` when the reader does not want it any more.
    pub fn from_log(
        &mut self,
        session: SessionId,
        epoch: Epoch,
        (item, at): (ItemNo, Seq),
        batch: &Batch,
        now: Time,
    ) -> Option<ReaderDown> {
        if item != TAPE {
            return side!(self, |side, tape| side.fetched_part(tape, session, epoch, item, batch, now));
        }
        if batch.is_beside() && self.tape.long(at).is_none() {
            // What told where its parts are is damaged.
            return self.missing(session, epoch, item, at, at.plus(1));
        }
        side!(self, |side, tape| side.fetched(tape, session, epoch, at, batch, now))
    }

    /// What a reader was sent to the log for is damaged or gone there, up to `to`. Of a record in parts all is missing.
    pub fn missing(
        &mut self,
        session: SessionId,
        epoch: Epoch,
        item: ItemNo,
        from: Seq,
        to: Seq,
    ) -> Option<ReaderDown> {
        self.tape.damaged = true;
        let places = match item {
            TAPE => from..to.min(self.tape.durable).max(from.plus(1)),
            item => {
                let place = self.tape.long.place_of(item)?;
                place..place.plus(1)
            }
        };
        side!(self, |side, tape| side.missing(tape, session, epoch, places.start, places.end))
    }

    /// The record in parts that has this place.
    pub fn long(&self, place: Seq) -> Option<Long> {
        self.tape.long(place)
    }

    /// Whether parts of this item are of use still.
    pub fn has_item(&self, item: ItemNo) -> bool {
        item == TAPE || self.tape.has_item(item)
    }

    /// The items of records of which more parts are to come.
    pub fn open_items(&self) -> Vec<ItemNo> {
        self.tape.open_items()
    }
}

impl Tape {
    fn new(pipe: PipeRef, mode: Mode, wall_at_zero: WallTime) -> Self {
        Self {
            pipe,
            mode,
            settings: Settings::default(),
            wall_at_zero,
            low: Seq(0),
            forgotten: Seq(0),
            durable: Seq(0),
            next: Seq(0),
            window: VecDeque::new(),
            window_bytes: 0,
            marks: Marks::default(),
            writers: BTreeMap::new(),
            next_item: ItemNo(0),
            long: Longs::default(),
            unsaid_bytes: 0,
            unsaid: BTreeSet::new(),
            appended: 0,
            confirmed: 0,
            pending: VecDeque::new(),
            writer_window: WRITER_CREDIT_BYTES,
            full: None,
            read_only: None,
            damaged: false,
            effects: Vec::new(),
            opened: false,
            removed: false,
            gone: false,
        }
    }

    /// The wall clock at `now`.
    fn wall(&self, now: Time) -> WallTime {
        WallTime(self.wall_at_zero.0.saturating_add(now.0 / 1000))
    }

    fn wake(&mut self, session: SessionId) {
        if self.effects.last() != Some(&Effect::Wake(session)) {
            self.effects.push(Effect::Wake(session));
        }
    }

    fn wake_writers(&mut self) {
        let writers: Vec<SessionId> = self.writers.keys().copied().collect();
        writers.into_iter().for_each(|session| self.wake(session));
    }

    /// Appends a fact and returns its number.
    fn append(&mut self, fact: Fact) -> u64 {
        if self.read_only.is_some() {
            return NEVER;
        }
        if !std::mem::replace(&mut self.opened, true) {
            self.append(Fact::Opened { pipe: self.pipe.clone(), mode: self.mode });
        }
        self.appended += 1;
        self.effects.push(Effect::Fact(fact));
        self.appended
    }

    fn when_durable(&mut self, append: u64, then: Pending) {
        if append != NEVER {
            self.pending.push_back((append, then));
        }
    }

    /// Appends a fact of the readers' side, which hears when it is durable.
    fn save(&mut self, fact: Fact, saved: Saved) {
        let append = self.append(fact);
        self.when_durable(append, Pending::Side(saved));
    }

    /// Takes new settings, as far as they say something.
    fn set(&mut self, settings: Settings) {
        let new = settings.or(self.settings);
        if new != self.settings && self.read_only.is_none() {
            self.settings = new;
            self.append(Fact::Settings(new));
        }
    }

    /// Puts the records of a batch in their places; nothing of it was there before.
    fn put(&mut self, session: SessionId, batch: Batch, now: Time) -> Range<Seq> {
        let places = self.lay(session, batch, 0, now);
        self.say_progress_if_due();
        places
    }

    /// The same, for who still has something to say to the log of it. So many encoded bytes lie beside the tape.
    fn lay(&mut self, session: SessionId, batch: Batch, beside: u64, now: Time) -> Range<Seq> {
        let places = self.next..self.next.plus(u64::from(batch.count()));
        let bytes = batch.encoded().len();
        self.next = places.end;
        self.marks.pass(places.start, bytes as u64 + beside, self.wall(now));
        self.window_bytes += bytes;
        self.window.push_back((places.start, batch.clone()));
        // The pipe must be known in the log before what is in it.
        if !self.opened {
            self.opened = true;
            self.append(Fact::Opened { pipe: self.pipe.clone(), mode: self.mode });
        }
        self.appended += 1;
        self.effects.push(Effect::Tape(places.start, batch));
        self.when_durable(self.appended, Pending::Tape(session, places.end));
        self.unsaid.insert(session);
        self.unsaid_bytes += bytes as u64;
        places
    }

    fn say_progress_if_due(&mut self) {
        if self.unsaid_bytes >= PROGRESS_BYTES {
            self.say_progress();
        }
    }

    /// Tells the log how far each writer is: that stands in no entry of the tape but the writers' own batches.
    fn say_progress(&mut self) {
        if std::mem::take(&mut self.unsaid_bytes) > 0 {
            let unsaid = std::mem::take(&mut self.unsaid);
            let writers = unsaid.iter().filter_map(|session| self.writers.get(session));
            let writers = writers.map(|writer| (writer.no, writer.accepted)).collect();
            self.append(Fact::Progress { next: self.next, writers, mark: self.marks.last() });
        }
    }

    /// How far all writers are.
    fn progress(&self) -> Fact {
        let writers = self.writers.values().map(|writer| (writer.no, writer.accepted)).collect();
        Fact::Progress { next: self.next, writers, mark: self.marks.last() }
    }

    /// The batch in memory that holds this place, and where it begins.
    fn in_memory(&self, place: Seq) -> Option<(Seq, &Batch)> {
        let at = self.window.partition_point(|(at, batch)| at.plus(u64::from(batch.count())) <= place);
        self.window.get(at).map(|(at, batch)| (*at, batch)).filter(|(at, _)| *at <= place)
    }

    /// Lets go of what is on disk, the oldest first, beyond what readers are likely to ask for.
    fn shrink(&mut self) {
        let keep_bytes = if self.writer_window < WRITER_CREDIT_BYTES { 0 } else { LIVE_WINDOW_BYTES };
        while let Some((at, batch)) = self.window.front() {
            let next = at.plus(u64::from(batch.count()));
            let is_free = next <= self.low || (next <= self.durable && self.window_bytes > keep_bytes);
            if !is_free {
                break;
            }
            self.window_bytes -= batch.encoded().len();
            self.window.pop_front();
        }
        if self.window.is_empty() {
            self.window = VecDeque::new();
        }
    }

    /// All below is not needed any more, and the log knows.
    fn forget(&mut self, below: Seq) {
        if below > self.low {
            self.low = below;
            self.marks.forget(below);
            self.shrink();
        }
        self.forget_on_disk();
    }

    /// Lets the log forget what is not needed, many records at a time: it must first know how far their writers were, since nothing else
    /// tells then.
    fn forget_on_disk(&mut self) {
        let is_idle = self.low == self.next && self.writers.values().all(|writer| writer.end.is_some());
        let has_long = self.long.first().is_some_and(|place| place < self.low);
        let is_due = self.low.0 - self.forgotten.0 >= FORGET_STEP || has_long || (is_idle && self.low > self.forgotten);
        if is_due && self.read_only.is_none() {
            self.say_progress();
            self.append(Fact::Cut { below: self.low });
            self.forgotten = self.low;
            self.effects.push(Effect::Forget(TAPE, self.low));
            self.forget_long();
        }
    }

    /// Every reader it was owed to has acknowledged all below.
    fn delivered(&mut self, below: Seq) {
        let mut woken = Vec::new();
        for (session, writer) in &mut self.writers {
            if writer.deliver(below) {
                woken.push(*session);
            }
        }
        woken.into_iter().for_each(|session| self.settle(session));
    }

    fn unknown(&self) -> Error {
        unknown(self.removed)
    }
}

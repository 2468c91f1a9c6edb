//! A pipe in the default mode: stored until read, then live to all.
//!
//! [`DefaultPipe`] is rules 1 to 6 of `docs/design.md` as a pure state machine. Events come in as method calls with `now`; what must be
//! done comes out as [`Effect`]s, in order; what a party gets next is asked for with [`DefaultPipe::next_for_writer`] and
//! [`DefaultPipe::next_for_reader`], so that nothing is queued for a party that does not read.
//!
//! ```text
//!  writers.rs   attach, batch, end, loss        ─┐
//!  readers.rs   attach, acknowledge, leave, loss ├─▶ items (item.rs), readers (reader.rs) ──▶ effects
//!  assign.rs    what a reader that comes gets   ─┤
//!  room.rs      no room: who waits, what goes   ─┤
//!  read_only.rs the log failed: what is left    ─┤
//!  serve.rs     what a party gets next          ─┤
//!  replay.rs    facts from the log              ─┘
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use crate::batch::{Batch, EndKind};
use crate::broker::{Mode, Notice};
use crate::caller::ProcessId;
use crate::error::{Code, Error};
use crate::id::{ItemNo, Seq, SessionId};
use crate::name::PipeRef;
use crate::stat::{Lag, ReaderStat};
use crate::time::Time;

use super::fact::Fact;
use super::item::{Item, Link};
use super::limits::{
    AWAY_LOST, FORGET_STEP, LIVE_WINDOW_BYTES, PROMPT, STORED_CREDIT_BYTES, UNREAD_OPEN, WRITER_CREDIT_BYTES,
    WRITER_CREDIT_BYTES_MIN,
};
use super::read_only::{NEVER, ReadOnly};
use super::reader::{Cursor, Holds, Reader, Readers};
use super::room::Full;

/// What the driver does for the machine, in the order given.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append this fact to the log.
    Fact(Fact),
    /// Append this batch to the log.
    Batch(ItemNo, Batch),
    /// Append this batch to the tape in the log, from this place on.
    Tape(Seq, Batch),
    /// Give the record at this place of a queue to the dead letters, and say so with [`Machine::buried`](super::Machine::buried).
    Bury(Seq),
    /// Batches of this item wholly below the number are not needed any more, once all that was appended before is durable.
    Forget(ItemNo, Seq),
    /// This session has something to get, or its halves are to end.
    Wake(SessionId),
    /// A session came to its end: keep its last number for a day.
    Closed {
        /// The session.
        session: SessionId,
        /// The number behind a writer's last; 0 of a reader.
        next: Seq,
        /// Whether it came to its proper end.
        ended: bool,
        /// Whether all of a writer's records were delivered.
        delivered: bool,
    },
    /// The pipe does not exist any more.
    Gone,
}

/// What a party gets next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// This message.
    Message(T),
    /// Batches of this item from the log, from this number on: to be given to [`DefaultPipe::from_log`].
    FromLog {
        /// Which item.
        item: ItemNo,
        /// The number wanted.
        from: Seq,
        /// How many bytes the reader takes now: reading more would hold memory for a reader that stalls.
        bytes_max: u64,
    },
    /// Nothing now; an effect wakes it.
    Wait,
    /// Nothing ever: the attach is over, with an error if there is one.
    End(Option<Error>),
}

/// A default pipe.
#[derive(Debug)]
pub struct DefaultPipe {
    pub(super) pipe: PipeRef,
    pub(super) items: BTreeMap<ItemNo, Item>,
    pub(super) writers: BTreeMap<SessionId, ItemNo>,
    pub(super) readers: Readers,
    pub(super) next_item: ItemNo,
    /// Readers that came so far.
    pub(super) arrivals: u64,
    /// Entries given to the log so far, and how many of them are durable.
    pub(super) appended: u64,
    pub(super) durable: u64,
    /// Who hears when an entry is durable, in order of entries.
    pub(super) pending: VecDeque<(u64, Pending)>,
    /// Encoded bytes of all items that are neither in the log nor delivered.
    pub(super) unlogged_bytes: usize,
    /// Encoded bytes of all items in memory.
    pub(super) window_bytes: usize,
    /// The items a clock matters to: with something unlogged, or with a writer that is away.
    pub(super) watched: BTreeSet<ItemNo>,
    /// Writers wait for room.
    pub(super) full: Option<Full>,
    /// The log failed: nothing can be stored or taken any more.
    pub(super) read_only: Option<ReadOnly>,
    /// Something could not be read back from the log.
    pub(super) damaged: bool,
    /// Encoded bytes that writers may have under way, all together.
    pub(super) writer_window: u64,
    /// Writers that are there and whose items have no end yet.
    pub(super) sending: u64,
    pub(super) effects: Vec<Effect>,
    /// The log knows of the pipe.
    pub(super) opened: bool,
    /// A person removed the pipe.
    pub(super) removed: bool,
    pub(super) gone: bool,
}

/// What is done when an entry of the log is durable.
#[derive(Debug)]
pub(super) enum Pending {
    /// Settle this item.
    Item(ItemNo),
    /// Wake this session.
    Wake(SessionId),
    /// This reader has left.
    Left(SessionId),
    /// Count these numbers of an item as acknowledged: whoever had it alone has taken them for good.
    Took(ItemNo, Range<Seq>),
    /// Tell this reader that its taking of this writer's item is durable.
    Taken(SessionId, SessionId),
    /// The log may forget this item's numbers below: a fact there says that they were delivered.
    Forget(ItemNo, Seq),
}

/// Numbers for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items not wholly taken.
    pub items: u64,
    /// Those that have ended.
    pub ended: u64,
    /// Items whose writer is attached or away.
    pub writers: u32,
    /// Readers attached or away.
    pub readers: u32,
    /// Records of a queue in readers' hands.
    pub leased: u64,
    /// Records of a queue that the next readers with room get.
    pub ready: u64,
    /// Records of a queue that wait for their time.
    pub delayed: u64,
    /// Records of a queue that readers had in their hands when they were lost.
    pub released: u64,
    /// Encoded bytes that wait in memory and are not in the log.
    pub unlogged_bytes: u64,
    /// Something of it could not be read back from the log.
    pub damaged: bool,
}

impl DefaultPipe {
    /// A pipe with nothing in it.
    pub fn new(pipe: PipeRef) -> Self {
        Self {
            pipe,
            items: BTreeMap::new(),
            writers: BTreeMap::new(),
            readers: Readers::new(),
            next_item: ItemNo(0),
            arrivals: 0,
            appended: 0,
            durable: 0,
            pending: VecDeque::new(),
            unlogged_bytes: 0,
            window_bytes: 0,
            watched: BTreeSet::new(),
            full: None,
            read_only: None,
            damaged: false,
            writer_window: WRITER_CREDIT_BYTES,
            sending: 0,
            effects: Vec::new(),
            opened: false,
            removed: false,
            gone: false,
        }
    }

    /// Its owner and path.
    pub fn pipe(&self) -> &PipeRef {
        &self.pipe
    }

    /// What is to be done now, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Whether the pipe has ceased to exist; it must not be used further.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Numbers for people.
    pub fn counts(&self) -> Counts {
        let there = || self.items.values().filter(|item| !item.over);
        Counts {
            items: there().count() as u64,
            ended: there().filter(|item| item.end.is_some()).count() as u64,
            writers: there().filter(|item| item.end.is_none()).count() as u32,
            readers: self.readers.values().filter(|r| r.leaving.is_none() && !matches!(r.holds, Holds::Peek(_))).count()
                as u32,
            unlogged_bytes: self.unlogged_bytes as u64,
            damaged: self.damaged,
            ..Counts::default()
        }
    }

    /// How its readers are, in no order. Who only looks is owed nothing, and is none of them.
    pub fn reader_stats(&self) -> Vec<ReaderStat> {
        let here = self.readers.iter().filter(|(_, r)| r.leaving.is_none() && !matches!(r.holds, Holds::Peek(_)));
        let owed = |no: &ItemNo, cursor: &Cursor| self.items.get(no).map_or(0, |item| cursor.owed(item.records_end()));
        here.map(|(session, reader)| {
            let records = match &reader.holds {
                Holds::Alone(no, cursor) => owed(no, cursor),
                Holds::Live(live) => live.cursors.iter().map(|(no, cursor)| owed(no, cursor)).sum(),
                Holds::Waiting | Holds::Peek(_) => 0,
            };
            let mut stat = ReaderStat::new(Some(session.tag()), reader.link.presence());
            stat.lag = Lag { records, bytes: None };
            stat
        })
        .collect()
    }

    /// Items and readers, those that are about to go included: what the pipe takes memory for.
    pub fn parties(&self) -> usize {
        self.items.len() + self.readers.len()
    }

    /// Writers may have so many encoded bytes under way together from now on, at most [`WRITER_CREDIT_BYTES`]. What it was told it may send it may.
    pub fn writers_may(&mut self, window_bytes: u64) {
        let before = std::mem::replace(&mut self.writer_window, window_bytes.min(WRITER_CREDIT_BYTES));
        if self.writer_window > before {
            let writers: Vec<SessionId> = self.writers.keys().copied().collect();
            writers.into_iter().for_each(|session| self.wake(session));
        }
        // What stands in memory for readers, and is on disk, makes room. A pipe that nobody came to yet is not over.
        if self.writer_window < before && !self.items.is_empty() {
            let items: Vec<ItemNo> = self.items.keys().copied().collect();
            items.into_iter().for_each(|item| self.refresh(item));
            self.vanish_if_empty();
        }
    }

    /// What the writer of an item may have under way now: the most where it goes to the disk anyway; nothing more where it waits for room, and nothing before the log says that it is
    /// there. On a full disk it is welcome sooner; should the relay crash then, nothing of it was with any reader. Writers share what there
    /// is: else a few of them would fill what is kept in memory for readers that keep up, and all of it would go to the disk.
    pub(super) fn window(&self, no: ItemNo) -> Option<u64> {
        let item = self.items.get(&no).filter(|item| item.joined <= self.durable && !self.waits())?;
        let goes_to_disk = item.stored > Seq(0) && self.has_memory() && !self.is_prompt(no);
        let all = if goes_to_disk { STORED_CREDIT_BYTES } else { self.writer_window };
        Some((all / self.sending.max(1)).max(WRITER_CREDIT_BYTES_MIN))
    }

    /// Whether memory is not short.
    fn has_memory(&self) -> bool {
        self.writer_window == WRITER_CREDIT_BYTES
    }

    /// Whether this session belongs to the pipe.
    pub fn knows(&self, session: SessionId) -> bool {
        self.writers.contains_key(&session) || self.readers.contains_key(&session)
    }

    /// The items whose end is not known.
    pub fn open_items(&self) -> Vec<ItemNo> {
        self.items.iter().filter(|(_, item)| item.end.is_none()).map(|(no, _)| *no).collect()
    }

    /// Whether the pipe has this item.
    pub fn has_item(&self, item: ItemNo) -> bool {
        self.items.contains_key(&item)
    }

    /// Sessions that are away, with the process behind each where there is one.
    pub fn away(&self) -> Vec<(SessionId, Option<ProcessId>)> {
        let is_away = |link: Link| matches!(link, Link::Away(_));
        let writers =
            self.items.values().filter(|i| i.end.is_none() && is_away(i.link)).map(|i| (i.session, i.holder.process()));
        let readers =
            self.readers.iter().filter(|(_, r)| is_away(r.link)).map(|(session, r)| (*session, r.holder.process()));
        writers.chain(readers).collect()
    }

    /// The place of the next reader in the order in which they come.
    pub(super) fn next_arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// Cursors of all live readers together.
    pub(super) fn cursors(&self) -> usize {
        let cursors = |reader: &Reader| match &reader.holds {
            Holds::Live(live) => live.cursors.len(),
            _ => 0,
        };
        self.readers.values().map(|reader| cursors(reader)).sum()
    }

    /// Whether this session is without a link.
    pub fn is_away(&self, session: SessionId) -> bool {
        let is_away = |link: Link| matches!(link, Link::Away(_));
        let item = self.writers.get(&session).and_then(|no| self.items.get(no));
        item.is_some_and(|item| is_away(item.link)) || self.readers.get(&session).is_some_and(|r| is_away(r.link))
    }

    /// Says something to every writer that has not ended.
    pub fn say_to_writers(&mut self, notice: &Notice) {
        let mut told = Vec::new();
        for item in self.items.values_mut().filter(|item| item.end.is_none() || !item.heard_all()) {
            item.notify(notice.clone());
            told.push(item.session);
        }
        told.into_iter().for_each(|session| self.wake(session));
    }

    /// The error for a session that is not of this pipe, or not any more.
    pub(super) fn unknown(&self) -> Error {
        unknown(self.removed)
    }

    /// The next `count` entries given to the log are durable.
    pub fn stored(&mut self, count: u64) {
        self.durable += count;
        self.settle_pending();
        if self.pending.is_empty() {
            // Most pipes are idle most of the time.
            self.pending = VecDeque::new();
        }
        self.vanish_if_empty();
    }

    fn settle_pending(&mut self) {
        while self.pending.front().is_some_and(|(append, _)| *append <= self.durable) {
            let Some((_, pending)) = self.pending.pop_front() else { break };
            match pending {
                Pending::Item(item) => {
                    self.refresh(item);
                    self.offer_abort(item);
                }
                Pending::Wake(session) => self.wake(session),
                Pending::Left(session) => self.left(session),
                Pending::Took(item, numbers) => self.took(item, numbers),
                Pending::Taken(reader, writer) => self.say_taken(reader, writer),
                Pending::Forget(item, below) => self.forget(item, below),
            }
        }
    }

    /// When [`DefaultPipe::tick`] wants to be called next, if nothing else happens.
    pub fn next_tick(&self) -> Option<Time> {
        let loggable = self.watched().filter(|_| self.read_only.is_none());
        let unlogged = loggable.filter_map(|(_, item)| item.unlogged_since()).map(|since| since.plus(PROMPT));
        let writers = self.watched().filter_map(|(no, item)| match (item.link, item.end) {
            (Link::Away(since), None) => Some(since.plus(self.patience(no))),
            _ => None,
        });
        let readers = self.readers.values().filter_map(|reader| match reader.link {
            Link::Away(since) => Some(since.plus(AWAY_LOST)),
            Link::Attached => None,
        });
        unlogged.chain(writers).chain(readers).chain(self.next_room_tick()).min()
    }

    /// Does what is due at `now`: slow records go to the log, sessions away for too long are lost.
    pub fn tick(&mut self, now: Time) {
        let slow = |item: &Item| item.unlogged_since().is_some_and(|since| since.plus(PROMPT) <= now);
        let slow: Vec<ItemNo> = self.watched().filter(|(_, item)| slow(item)).map(|(no, _)| no).collect();
        for item in slow {
            self.mark_lagging(item);
            self.log_item(item);
        }
        let overdue = |link: Link, patience| matches!(link, Link::Away(since) if since.plus(patience) <= now);
        let writers = self.watched().filter(|(no, i)| i.end.is_none() && overdue(i.link, self.patience(*no)));
        let readers = self.readers.iter().filter(|(_, reader)| overdue(reader.link, AWAY_LOST));
        let lost: Vec<SessionId> =
            writers.map(|(_, i)| i.session).chain(readers.map(|(session, _)| *session)).collect();
        lost.into_iter().for_each(|session| self.lost(session));
        self.tick_room(now);
    }

    /// Gives a session up: its process is dead, or it was away for too long.
    pub fn lost(&mut self, session: SessionId) {
        if let Some(&item) = self.writers.get(&session) {
            self.abort_item(item);
        }
        if self.readers.contains_key(&session) {
            self.reader_lost(session);
        }
        self.vanish_if_empty();
    }

    /// Ends everything: the pipe is removed by a person.
    pub fn remove(&mut self) {
        let sessions: Vec<SessionId> = self.writers.keys().chain(self.readers.keys()).copied().collect();
        self.removed = true;
        self.items.clear();
        self.watched.clear();
        self.writers.clear();
        self.readers.clear();
        self.vanish_if_empty();
        sessions.into_iter().for_each(|session| self.wake(session));
    }

    /// Appends all that waits in memory: the program is about to stop.
    pub fn flush(&mut self) {
        let items: Vec<ItemNo> = self.items.keys().copied().collect();
        items.into_iter().for_each(|item| self.log_item(item));
    }

    fn watched(&self) -> impl Iterator<Item = (ItemNo, &Item)> {
        self.watched.iter().filter_map(|no| Some((*no, self.items.get(no)?)))
    }

    pub(super) fn wake(&mut self, session: SessionId) {
        if self.effects.last() != Some(&Effect::Wake(session)) {
            self.effects.push(Effect::Wake(session));
        }
    }

    /// Appends a fact and returns its number.
    pub(super) fn append(&mut self, fact: Fact) -> u64 {
        if self.read_only.is_some() {
            return NEVER;
        }
        if !std::mem::replace(&mut self.opened, true) {
            self.append(Fact::Opened { pipe: self.pipe.clone(), mode: Mode::Default });
        }
        self.appended += 1;
        self.effects.push(Effect::Fact(fact));
        self.appended
    }

    /// What is to be done when all appended entries up to this one are durable.
    pub(super) fn when_durable(&mut self, append: u64, then: Pending) {
        if append != NEVER {
            self.pending.push_back((append, then));
        }
    }

    /// Changes an item and keeps the sum of unlogged bytes right.
    pub(super) fn with_item<R>(&mut self, no: ItemNo, change: impl FnOnce(&mut Item) -> R) -> Option<R> {
        let item = self.items.get_mut(&no)?;
        let before = (item.unlogged_bytes(), item.window_bytes());
        self.sending -= u64::from(item.is_sending());
        let result = change(item);
        self.sending += u64::from(item.is_sending());
        self.unlogged_bytes = self.unlogged_bytes + item.unlogged_bytes() - before.0;
        self.window_bytes = self.window_bytes + item.window_bytes() - before.1;
        if item.unlogged_bytes() > 0 || (item.end.is_none() && item.link != Link::Attached) {
            self.watched.insert(no);
        } else {
            self.watched.remove(&no);
        }
        Some(result)
    }

    /// Whether records of the item reach somebody soon without the log.
    pub(super) fn is_prompt(&self, no: ItemNo) -> bool {
        let mut cursors = self.readers.values().filter_map(|reader| reader.has_live(no)).peekable();
        cursors.peek().is_some() && cursors.all(|cursor| !cursor.lagging)
    }

    /// Whether a reader takes what is in the item's window, so that it should not have to come from the log: others that stand still must not
    /// cost it that. Not while memory is short.
    fn serves_from_window(&self, no: ItemNo) -> bool {
        let front = self.items.get(&no).and_then(|item| item.window.front()).map(|slot| slot.batch.first());
        let takes = |reader: &Reader, front| {
            reader.credit > 0
                && reader.link == Link::Attached
                && reader.has_live(no).is_some_and(|cursor| cursor.acked >= front)
        };
        self.has_memory() && front.is_some_and(|front| self.readers.values().any(|reader| takes(reader, front)))
    }

    /// Appends the item's window to the log.
    pub(super) fn log_item(&mut self, no: ItemNo) {
        let Some(item) = self.items.get(&no).filter(|_| self.read_only.is_none()) else { return };
        if let Some(from) = item.unlogged_from() {
            self.log_hole(no, from);
            let mut append = self.appended;
            let batches = self.with_item(no, |item| item.log_window(&mut append)).unwrap_or_default();
            self.appended = append;
            if let (Some(last), Some(item)) = (batches.last(), self.items.get_mut(&no)) {
                item.logged = last.next();
            }
            self.effects.extend(batches.into_iter().map(|batch| Effect::Batch(no, batch)));
            self.when_durable(append, Pending::Item(no));
        }
        self.log_end(no);
    }

    /// Says in the log that what lies between its last batch and `to` was delivered: any other hole there is damage.
    fn log_hole(&mut self, no: ItemNo, to: Seq) {
        let Some(item) = self.items.get_mut(&no).filter(|item| item.logged < to) else { return };
        let from = std::mem::replace(&mut item.logged, to);
        item.holes.insert(from..to);
        self.append(Fact::Took { reader: EVERYBODY, item: no, from, to });
    }

    /// Appends the end of the item once all before it is appended or delivered.
    fn log_end(&mut self, no: ItemNo) {
        let Some(item) = self.items.get(&no).filter(|_| self.read_only.is_none()) else { return };
        let Some(end) = item.end.filter(|end| end.append.is_none() && item.is_logged()) else { return };
        self.log_hole(no, Seq(end.next.0 - 1));
        let append = self.append(Fact::Ended { item: no, kind: end.kind, next: end.next });
        self.when_durable(append, Pending::Item(no));
        if let Some(end) = self.items.get_mut(&no).and_then(|item| item.end.as_mut()) {
            end.append = Some(append);
        }
    }

    /// Looks at an item again after an acknowledgement or a sync.
    pub(super) fn refresh(&mut self, no: ItemNo) {
        let Some(delivered) = self.delivered(no) else { return };
        let (durable, window) = (self.durable, self.window(no));
        let others = self.window_bytes - self.items[&no].window_bytes();
        let keeps = self.is_prompt(no) || self.serves_from_window(no);
        let keep_bytes = if keeps { LIVE_WINDOW_BYTES.saturating_sub(others) } else { 0 };
        let session = self.items[&no].session;
        let news = self.with_item(no, |item| {
            item.delivered = item.delivered.max(delivered);
            item.settle(durable, keep_bytes, window)
        });
        if news == Some(true) {
            self.wake(session);
        }
        self.log_delivered(no);
        self.log_end(no);
        self.finish_item(no);
    }

    /// Says in the log what of it was delivered, some at a time: only then may it forget that. Else a relay that starts again knew neither
    /// how far the writer was nor that nobody is owed these numbers. While writers wait for room that is at once.
    fn log_delivered(&mut self, no: ItemNo) {
        let (waits, read_only) = (self.waits(), self.read_only.is_some());
        let Some(item) = self.items.get_mut(&no).filter(|item| !item.over && !read_only) else { return };
        let (from, to) = (item.forgotten, item.delivered.min(item.logged));
        // What is delivered to its end is forgotten as a whole.
        let is_whole = item.end.is_some_and(|end| item.delivered >= end.next);
        let is_due = to > from && !is_whole && (waits || (!item.is_forgetting && to.0 - from.0 >= FORGET_STEP));
        if !is_due {
            return;
        }
        (item.forgotten, item.is_forgetting) = (to, true);
        item.holes.insert(from..to);
        let append = self.append(Fact::Took { reader: EVERYBODY, item: no, from, to });
        self.when_durable(append, Pending::Forget(no, to));
    }

    fn forget(&mut self, no: ItemNo, below: Seq) {
        let Some(item) = self.items.get_mut(&no).filter(|item| !item.over) else { return };
        item.is_forgetting = false;
        self.effects.push(Effect::Forget(no, below));
        self.log_delivered(no);
    }

    /// How far everybody has acknowledged the item, and somebody has.
    fn delivered(&self, no: ItemNo) -> Option<Seq> {
        let by_somebody = self.items.get(&no)?.first_left();
        let by_all = self.readers.values().filter_map(|reader| reader.has_live(no)).map(|cursor| cursor.acked).min();
        Some(by_all.map_or(by_somebody, |all| all.min(by_somebody)))
    }

    /// An item of which nothing is left is over; it goes once its writer has heard of it or is away.
    fn finish_item(&mut self, no: ItemNo) {
        let durable = self.durable;
        let Some(item) = self.items.get_mut(&no) else { return };
        let Some(end) = item.end.filter(|end| end.append.is_some_and(|append| append <= durable)) else { return };
        if item.delivered >= end.next && !item.over {
            item.over = true;
            let (session, ended) = (item.session, end.kind != EndKind::Aborted);
            let next = if ended { end.next } else { item.accepted };
            self.effects.push(Effect::Closed { session, next, ended, delivered: true });
            self.effects.push(Effect::Forget(no, Seq(u64::MAX)));
            self.wake(session);
        }
        self.drop_item_if_over(no);
    }

    pub(super) fn drop_item_if_over(&mut self, no: ItemNo) {
        let done = |item: &Item| item.over && (item.link != Link::Attached || item.heard_all());
        if let Some(item) = self.items.get(&no).filter(|item| done(item)) {
            let session = item.session;
            self.unlogged_bytes -= item.unlogged_bytes();
            self.window_bytes -= item.window_bytes();
            self.sending -= u64::from(item.is_sending());
            self.watched.remove(&no);
            self.items.remove(&no);
            self.writers.remove(&session);
            self.wake(session);
        }
    }

    pub(super) fn vanish_if_empty(&mut self) {
        if self.items.is_empty() && self.readers.is_empty() && !self.gone {
            self.gone = true;
            if self.opened {
                self.append(Fact::Removed);
            }
            self.effects.push(Effect::Gone);
        }
    }

    /// How long the writer of this item may be away.
    fn patience(&self, no: ItemNo) -> std::time::Duration {
        let waits = |holds: &Holds| match holds {
            Holds::Alone(item, _) => *item == no,
            Holds::Live(live) => live.cursors.contains_key(&no),
            Holds::Waiting | Holds::Peek(_) => false,
        };
        if self.readers.values().any(|reader| waits(&reader.holds)) { AWAY_LOST } else { UNREAD_OPEN }
    }

    fn mark_lagging(&mut self, no: ItemNo) {
        let accepted = self.items.get(&no).map(|item| item.accepted).unwrap_or_default();
        for cursor in self.readers.values_mut().filter_map(|reader| reader.cursor(no)) {
            cursor.lagging |= cursor.acked < accepted;
        }
    }
}

/// The reader of record of what was delivered to everybody it was owed to, and therefore never logged.
pub(super) const EVERYBODY: SessionId = SessionId([0xff; 16]);
/// The reader of record in a snapshot: some reader that need not be there any more.
pub(super) const SOMEBODY: SessionId = SessionId([0; 16]);

/// What the log has of an item.
pub type Extent = Vec<Range<Seq>>;

/// As [`DefaultPipe::unknown`], where the pipe is borrowed: a session of a removed pipe must not begin again without a word.
pub(super) fn unknown(removed: bool) -> Error {
    if removed { Error::new(Code::Access, "the pipe was removed") } else { expired() }
}

pub(super) fn fenced() -> Error {
    Error::new(Code::Fenced, "a newer attach of this session took over")
}

pub(super) fn expired() -> Error {
    Error::new(Code::SessionExpired, "the session is not known here any more")
}

//! What readers do to a default pipe.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use crate::batch::EndKind;
use crate::broker::{Notice, ReaderAttach, ReaderCursor, ReaderDown, Take};
use crate::caller::Holder;
use crate::error::{Code, Error};
use crate::id::{Epoch, ItemNo, Seq, SessionId};
use crate::time::Time;

use super::default::{DefaultPipe, EVERYBODY, Effect, Pending, expired, fenced, unknown};
use super::fact::Fact;
use super::item::Link;
use super::limits::{CURSORS_MAX, READERS_MAX};
use super::reader::{Cursor, Holds, Reader};

impl DefaultPipe {
    /// A reader attaches or returns. It is welcome once [`DefaultPipe::reader_welcome`] says so.
    ///
    /// # Errors
    /// `E_EMPTY`, `E_FENCED`, `E_SESSION_EXPIRED`, `E_BUSY`.
    pub fn attach_reader(&mut self, attach: &ReaderAttach, holder: Holder) -> Result<(), Error> {
        if self.readers.get(&attach.session).is_some_and(|reader| !reader.holder.admits(holder)) {
            return Err(expired());
        }
        match (self.readers.contains_key(&attach.session), &attach.resume) {
            (true, cursors) => self.return_reader(attach, cursors.as_deref().unwrap_or_default()),
            (false, Some(_)) => {
                self.vanish_if_empty();
                Err(expired())
            }
            (false, None) => self.join_reader(attach, holder),
        }
    }

    /// The welcome of an attached reader, once its joining is durable: until then a crash would make a stranger of it.
    pub fn reader_welcome(&mut self, session: SessionId, epoch: Epoch) -> Option<Result<(), Error>> {
        let durable = self.confirmed();
        match self.attached_reader(session, epoch) {
            Ok(reader) => (reader.joined <= durable).then_some(Ok(())),
            Err(error) => Some(Err(error)),
        }
    }

    /// More may be sent to a reader.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`.
    pub fn credit(&mut self, session: SessionId, epoch: Epoch, bytes: u64) -> Result<(), Error> {
        let reader = self.attached_reader(session, epoch)?;
        reader.credit = reader.credit.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.wake(session);
        Ok(())
    }

    /// A reader acknowledges all below a number of a writer's session.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`; `E_PROTOCOL` when that was never sent.
    pub fn acknowledge(&mut self, session: SessionId, epoch: Epoch, ack: ReaderCursor, now: Time) -> Result<(), Error> {
        let item = self.writers.get(&ack.writer).copied();
        let end = item.and_then(|no| self.items.get(&no)?.end);
        // Its readers may have more of it than is known here: its writer is not there to send it again.
        let aborted = end.is_some_and(|end| end.kind == EndKind::Aborted);
        let is_read_only = self.read_only.is_some();
        let reader = self.attached_reader(session, epoch)?;
        if is_read_only {
            return Ok(());
        }
        reader.idle_since = Some(now);
        let alone = matches!(reader.holds, Holds::Alone(..));
        let Some((no, cursor)) = item.and_then(|no| Some((no, reader.cursor(no)?))) else { return Ok(()) };
        if ack.next > cursor.sent && !aborted {
            return Err(Error::new(Code::Protocol, "an acknowledgement of what was never sent"));
        }
        let acked = cursor.acked.max(ack.next.min(cursor.sent));
        if std::mem::take(&mut cursor.start_unknown) {
            cursor.start = acked;
        }
        let from = cursor.acked.max(cursor.start);
        cursor.acked = acked;
        self.acknowledged(session, no, from, alone);
        self.vanish_if_empty();
        Ok(())
    }

    /// A reader leaves; with `part` it keeps what it acknowledged of an item taken alone.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`.
    pub fn leave(&mut self, session: SessionId, epoch: Epoch, part: bool) -> Result<(), Error> {
        if self.attached_reader(session, epoch)?.leaving.is_none() {
            self.part_with(session, part, true);
        }
        self.wake(session);
        Ok(())
    }

    /// The reader's link broke.
    pub fn reader_away(&mut self, session: SessionId, epoch: Epoch, now: Time) {
        let (durable, is_read_only) = (self.durable, self.read_only.is_some());
        let Ok(reader) = self.attached_reader(session, epoch) else { return };
        if is_read_only {
            return self.reader_gone(session);
        }
        // One that leaves is known until its leaving is durable: who is not known has left for good.
        if reader.leaving.is_some_and(|left| left <= durable) || matches!(reader.holds, Holds::Peek(_)) {
            self.readers.remove(&session);
            return self.vanish_if_empty();
        }
        reader.link = Link::Away(now);
        if let Some(live) = reader.live() {
            live.cursors.values_mut().for_each(|cursor| cursor.lagging = true);
        }
    }

    pub(super) fn attached_reader(&mut self, session: SessionId, epoch: Epoch) -> Result<&mut Reader, Error> {
        let removed = self.removed;
        let reader = self.readers.get_mut(&session).ok_or_else(|| unknown(removed))?;
        if reader.epoch == epoch { Ok(reader) } else { Err(fenced()) }
    }

    fn join_reader(&mut self, attach: &ReaderAttach, holder: Holder) -> Result<(), Error> {
        if self.readers.len() >= READERS_MAX || self.cursors() + self.items.len() > CURSORS_MAX {
            return Err(Error::new(Code::Busy, "the pipe has as many readers as it may"));
        }
        let holds = match attach.take {
            Take::Peek => self.peek(),
            take => self.assign(attach.session, take, attach.no_wait),
        };
        let empty = match &holds {
            Holds::Peek(items) => items.is_empty(),
            Holds::Alone(..) => false,
            Holds::Waiting | Holds::Live(_) => attach.no_wait,
        };
        if empty && (attach.no_wait || attach.take == Take::Peek) {
            self.vanish_if_empty();
            return Err(Error::new(Code::Empty, "there is nothing to take now"));
        }
        let reader = Reader {
            epoch: attach.epoch,
            link: Link::Attached,
            holder,
            take: attach.take,
            keep: attach.keep,
            no_wait: attach.no_wait,
            arrival: self.next_arrival(),
            joined: 0,
            holds: Holds::Waiting,
            given: 0,
            credit: i64::try_from(attach.credit).unwrap_or(i64::MAX),
            outbox: VecDeque::new(),
            leaving: None,
            idle_since: None,
            second_writer_told: false,
        };
        self.readers.insert(attach.session, Box::new(reader));
        self.give(attach.session, holds);
        self.log_joining(attach.session);
        Ok(())
    }

    /// The reader is there once the log says so. A peek takes nothing, so it leaves no trace.
    fn log_joining(&mut self, session: SessionId) {
        let Some(reader) = self.readers.get(&session) else { return };
        if matches!(reader.holds, Holds::Peek(_)) {
            return;
        }
        let joining = reader.joining(session);
        let joined = self.append(joining);
        self.when_durable(joined, Pending::Wake(session));
        if let Some(reader) = self.readers.get_mut(&session) {
            reader.joined = joined;
        }
    }

    /// A known reader returns.
    fn return_reader(&mut self, attach: &ReaderAttach, cursors: &[ReaderCursor]) -> Result<(), Error> {
        let numbers: Vec<(ItemNo, Seq)> =
            cursors.iter().filter_map(|c| Some((*self.writers.get(&c.writer)?, c.next))).collect();
        let Some(reader) = self.readers.get_mut(&attach.session) else { return Err(expired()) };
        if attach.epoch <= reader.epoch {
            return Err(fenced());
        }
        reader.epoch = attach.epoch;
        reader.link = Link::Attached;
        reader.credit = i64::try_from(attach.credit).unwrap_or(i64::MAX);
        reader.rewind();
        for (no, next) in &numbers {
            if let Some(cursor) = reader.cursor(*no) {
                // Of an aborted item it may have more than is known here; the end is still to be told.
                let aborted = self.items[no].end.filter(|end| end.kind == EndKind::Aborted);
                let next = aborted.map_or(*next, |end| Seq(end.next.0 - 1).min(*next));
                cursor.sent = cursor.start.max(next);
                if cursor.wants_start && cursor.sent > cursor.start {
                    (cursor.start_unknown, cursor.wants_start) = (true, false);
                }
            }
        }
        if let Some(live) = reader.live() {
            // The writer it heard last goes on first, so that nothing comes between the pieces of a record.
            if let Some((no, _)) = numbers.first()
                && let Some(cursor) = live.cursors.get_mut(no)
            {
                cursor.open_record = attach.mid_record;
            }
            let items: Vec<ItemNo> = numbers.iter().map(|n| n.0).chain(live.cursors.keys().copied()).collect();
            items.into_iter().for_each(|no| live.queue(no));
        }
        // What it names and does not hold any more it has taken for good; it did not hear of that.
        let gone =
            |cursor: &&ReaderCursor| self.writers.get(&cursor.writer).is_none_or(|no| reader.cursor(*no).is_none());
        let taken: Vec<SessionId> = cursors.iter().filter(gone).map(|cursor| cursor.writer).collect();
        taken.into_iter().for_each(|writer| reader.say(ReaderDown::Taken { writer }));
        self.say_middles(attach.session, &numbers);
        self.wake(attach.session);
        self.log_return(attach.session, attach.epoch);
        self.end_or_restart(attach.session);
        Ok(())
    }

    /// It is welcome once the log says that it is back. What nobody joined in the log leaves no trace there.
    fn log_return(&mut self, session: SessionId, epoch: Epoch) {
        if !matches!(self.readers.get(&session), Some(reader) if !matches!(reader.holds, Holds::Peek(_))) {
            return;
        }
        let returned = self.append(Fact::Returned { session, epoch });
        self.when_durable(returned, Pending::Wake(session));
        if let Some(reader) = self.readers.get_mut(&session) {
            reader.joined = returned;
        }
    }

    /// That it gets an item from its middle may have gone down with the link: it is told again of what it does not name.
    fn say_middles(&mut self, session: SessionId, named: &[(ItemNo, Seq)]) {
        let Some(reader) = self.readers.get(&session) else { return };
        let held: Vec<(ItemNo, &Cursor)> = match &reader.holds {
            Holds::Alone(no, cursor) => vec![(*no, cursor)],
            Holds::Live(live) => live.cursors.iter().map(|(no, cursor)| (*no, cursor)).collect(),
            Holds::Waiting | Holds::Peek(_) => Vec::new(),
        };
        let named: BTreeSet<ItemNo> = named.iter().map(|(no, _)| *no).collect();
        let unnamed = held.into_iter().filter(|(no, _)| !named.contains(no));
        let waiting = reader.untold_middles();
        let is_new = |notice: &Notice| match notice {
            Notice::Middle { writer, from } => !waiting.contains(&(*writer, *from)),
            _ => true,
        };
        let untold: Vec<Notice> = unnamed.filter_map(|(no, cursor)| self.middle(no, cursor)).filter(is_new).collect();
        if let Some(reader) = self.readers.get_mut(&session) {
            untold.into_iter().for_each(|notice| reader.say(ReaderDown::Notice(notice)));
        }
    }

    /// An acknowledgement moved a cursor on from `from`.
    fn acknowledged(&mut self, session: SessionId, no: ItemNo, from: Seq, alone: bool) {
        let item = &self.items[&no];
        let (writer, end, accepted) = (item.session, item.end, item.accepted);
        let Some(cursor) = self.readers.get_mut(&session).and_then(|reader| reader.cursor(no)) else { return };
        let (start, acked) = (cursor.start, cursor.acked);
        cursor.lagging &= acked < accepted;
        let complete = end.is_some_and(|end| acked >= end.next);
        if !alone {
            self.with_item(no, |item| item.acked.insert(from..acked));
        }
        // The end comes first in the log, so that a replay knows a whole item from a part of one.
        self.refresh(no);
        if complete {
            self.complete(session, no, writer, start..acked, alone);
            self.end_or_restart(session);
        }
    }

    /// An item ended: readers that a crashed relay left behind may have acknowledged that end already, and will not do so again.
    pub(super) fn complete_ahead(&mut self, no: ItemNo) {
        let Some((writer, Some(end))) = self.items.get(&no).map(|item| (item.session, item.end)) else { return };
        let mut ahead = Vec::new();
        for (session, reader) in &mut self.readers {
            let alone = matches!(reader.holds, Holds::Alone(..));
            let cursor = reader.cursor(no).filter(|cursor| cursor.acked >= end.next);
            ahead.extend(cursor.map(|cursor| (*session, cursor.start..cursor.acked, alone)));
        }
        for (session, took, alone) in ahead {
            self.complete(session, no, writer, took, alone);
            self.end_or_restart(session);
        }
    }

    /// A reader has all of an item: the log hears of it, and then the reader.
    fn complete(&mut self, session: SessionId, no: ItemNo, writer: SessionId, took: Range<Seq>, alone: bool) {
        let append = self.append(Fact::Took { reader: session, item: no, from: took.start, to: took.end });
        self.with_item(no, |item| item.had_by.insert(session));
        if alone {
            // Its records count as delivered only when they need not be put back any more.
            self.with_item(no, |item| item.taker = Some(EVERYBODY));
            self.when_durable(append, Pending::Took(no, took));
        } else if let Some(live) = self.readers.get_mut(&session).and_then(|reader| reader.live()) {
            live.complete(no);
        }
        self.when_durable(append, Pending::Taken(session, writer));
    }

    /// A reader that has everything it was owed ends, or starts again at rule 2.
    fn end_or_restart(&mut self, session: SessionId) {
        let Some(reader) = self.readers.get(&session) else { return };
        let done = match &reader.holds {
            Holds::Alone(no, cursor) => {
                let end = self.items.get(no).map(|item| item.end);
                end.is_none_or(|end| end.is_some_and(|end| cursor.acked >= end.next))
            }
            Holds::Live(live) => live.ending && live.cursors.is_empty(),
            Holds::Waiting | Holds::Peek(_) => false,
        };
        if !done || reader.leaving.is_some() || self.read_only.is_some() {
            return;
        }
        if reader.keep {
            let take = reader.take;
            self.release(session);
            self.restart(session, take);
        } else {
            self.part_with(session, false, true);
        }
    }

    fn restart(&mut self, session: SessionId, take: Take) {
        let no_wait = self.readers.get(&session).is_some_and(|reader| reader.no_wait);
        let holds = self.assign(session, take, no_wait);
        if no_wait && matches!(holds, Holds::Waiting) {
            return self.part_with(session, false, true);
        }
        self.give(session, holds);
        let Some(held) = self.readers.get(&session).map(|reader| reader.held()) else { return };
        // It gets nothing of what it holds before the log says so, and that it took what it had before: a crash would give it that again.
        let given = self.append(Fact::ReaderHolds { session, holds: held });
        self.when_durable(given, Pending::Wake(session));
        if let Some(reader) = self.readers.get_mut(&session) {
            reader.given = given;
        }
    }

    /// A reader goes: what it took stays taken, the rest is free again. It is told when that is durable.
    pub(super) fn part_with(&mut self, session: SessionId, part: bool, ended: bool) {
        let Some(reader) = self.readers.get_mut(&session) else { return };
        if matches!(reader.holds, Holds::Peek(_)) {
            reader.leaving = Some(0);
            return;
        }
        if self.read_only.is_some() {
            return self.put_back(session);
        }
        let alone = matches!(reader.holds, Holds::Alone(..));
        let took: Vec<(ItemNo, Seq, Seq)> = match &reader.holds {
            Holds::Alone(no, cursor) if part => vec![(*no, cursor.start, cursor.acked)],
            Holds::Live(live) => live.cursors.iter().map(|(no, c)| (*no, c.start, c.acked)).collect(),
            _ => Vec::new(),
        };
        for (item, from, to) in took.into_iter().filter(|(_, from, to)| to > from) {
            let append = self.append(Fact::Took { reader: session, item, from, to });
            if alone {
                self.with_item(item, |item| item.taker = Some(EVERYBODY));
                self.when_durable(append, Pending::Took(item, from..to));
            }
        }
        self.effects.push(Effect::Closed { session, next: Seq(0), ended, delivered: true });
        let left = self.append(Fact::ReaderLeft { session });
        self.when_durable(left, Pending::Left(session));
        let freed = self.release(session);
        if let Some(reader) = self.readers.get_mut(&session) {
            reader.leaving = Some(left);
        }
        self.freed(freed);
    }

    /// What a reader took of an item it had alone is durably taken; the rest, if there is one, is free again.
    pub(super) fn took(&mut self, no: ItemNo, numbers: Range<Seq>) {
        let rest = self.with_item(no, |item| {
            let whole = item.end.is_some_and(|end| numbers.end >= end.next);
            item.acked.insert(numbers);
            item.taker = item.taker.filter(|taker| whole || *taker != EVERYBODY);
            !whole
        });
        match rest {
            Some(true) => self.freed(vec![no]),
            _ => self.refresh(no),
        }
    }

    /// The session is given up.
    pub(super) fn reader_lost(&mut self, session: SessionId) {
        if self.readers.get(&session).is_some_and(|reader| reader.leaving.is_none()) {
            self.part_with(session, false, false);
        }
        self.readers.remove(&session);
        self.wake(session);
    }

    /// Takes from a reader all it has.
    pub(super) fn release(&mut self, session: SessionId) -> Vec<ItemNo> {
        let Some(reader) = self.readers.get_mut(&session) else { return Vec::new() };
        match std::mem::replace(&mut reader.holds, Holds::Waiting) {
            Holds::Alone(no, _) => {
                self.with_item(no, |item| item.taker = item.taker.filter(|taker| *taker != session));
                vec![no]
            }
            Holds::Live(live) => live.cursors.into_keys().collect(),
            Holds::Waiting | Holds::Peek(_) => Vec::new(),
        }
    }

    /// Items that lost a reader: those that nobody reads now go to the log and to whoever waits.
    fn freed(&mut self, items: Vec<ItemNo>) {
        for no in items {
            if !self.is_prompt(no) {
                self.log_item(no);
            }
            self.refresh(no);
        }
        let mut idle: Vec<(u64, SessionId)> =
            self.readers.iter().filter(|(_, r)| r.is_idle()).map(|(session, r)| (r.arrival, *session)).collect();
        idle.sort_unstable();
        for (_, session) in idle {
            let take = self.readers[&session].take;
            let holds = self.assign(session, take, false);
            let something = match &holds {
                Holds::Alone(..) => true,
                Holds::Live(live) => !live.cursors.is_empty(),
                _ => false,
            };
            if something {
                self.restart(session, take);
            }
        }
    }

    /// That the reader left is durable: it hears of it now, or when it returns.
    pub(super) fn left(&mut self, session: SessionId) {
        let gone = |reader: &Reader| reader.leaving.is_some() && reader.link != Link::Attached;
        if self.readers.get(&session).is_some_and(|reader| gone(reader)) {
            self.readers.remove(&session);
        }
        self.wake(session);
    }

    pub(super) fn say_taken(&mut self, session: SessionId, writer: SessionId) {
        if let Some(reader) = self.readers.get_mut(&session).filter(|reader| reader.leaving.is_none()) {
            reader.say(ReaderDown::Taken { writer });
            self.wake(session);
        }
    }
}

impl Reader {
    /// After a broken link nothing counts as sent but what the reader says it has.
    fn rewind(&mut self) {
        let rewind = |cursor: &mut Cursor| {
            cursor.sent = cursor.acked;
            cursor.end_told = false;
            cursor.queued = false;
            cursor.open_record = false;
        };
        match &mut self.holds {
            Holds::Alone(_, cursor) => rewind(cursor),
            Holds::Live(live) => {
                live.ready.clear();
                live.cursors.values_mut().for_each(rewind);
            }
            Holds::Waiting | Holds::Peek(_) => {}
        }
    }
}

//! A pipe from its facts.

use std::ops::Range;

use crate::batch::EndKind;
use crate::caller::Holder;
use crate::id::{Epoch, ItemNo, Seq, SessionId};
use crate::time::Time;

use super::default::{DefaultPipe, EVERYBODY, Extent, Pending, SOMEBODY};
use super::fact::{Fact, Held, Place};
use super::item::{End, Item, Link};
use super::reader::{Cursor, Holds, Live, Reader};

impl DefaultPipe {
    /// Applies one fact from the log. Facts come in the order in which they were appended; when all are in, the pipe is made ready with
    /// [`DefaultPipe::recovered`].
    pub fn replay(&mut self, fact: Fact) {
        self.opened = true;
        match fact {
            Fact::Opened { pipe, .. } => self.pipe = pipe,
            // A session has one item, and an item one writer: whatever says otherwise would leave an item that nobody can end.
            Fact::WriterJoined { session, item, .. } if self.writers.contains_key(&session) || self.has_item(item) => {}
            Fact::WriterJoined { session, epoch, item, holder } => {
                self.begin_item(item, Item::new(session, epoch, holder, 0));
            }
            // An end has a number itself: what counts back from behind it never comes below 0.
            Fact::Ended { item, kind, next } => self.replay_end(item, kind, next.max(Seq(1))),
            Fact::ReaderJoined { session, epoch, take, keep, no_wait, holder, holds } => {
                let arrival = self.next_arrival();
                let reader = Reader::recovered(epoch, take, holder);
                self.readers.insert(session, Box::new(Reader { keep, no_wait, arrival, ..reader }));
                self.replay_holds(session, holds);
            }
            Fact::ReaderHolds { session, holds } => {
                self.replay_release(session);
                self.replay_holds(session, holds);
            }
            Fact::Took { reader, item, from, to } => self.replay_took(reader, item, from, to),
            Fact::Returned { session, epoch } => self.replay_return(session, epoch),
            Fact::ReaderLeft { session } => {
                self.replay_release(session);
                self.readers.remove(&session);
            }
            Fact::Removed => {
                self.items.clear();
                self.writers.clear();
                self.readers.clear();
            }
            Fact::Snapshot(facts) => {
                self.replay(Fact::Removed);
                facts.into_iter().for_each(|fact| self.replay(fact));
            }
            Fact::Closed(_)
            | Fact::Settings(_)
            | Fact::Progress { .. }
            | Fact::Cut { .. }
            | Fact::Leased { .. }
            | Fact::Waits { .. }
            | Fact::Done { .. }
            | Fact::Cursor { .. }
            | Fact::Begun { .. }
            | Fact::Long { .. }
            | Fact::NextItem(_) => {}
        }
    }

    /// Makes the pipe ready after the last fact: `extent` says what of an item's batches the log has. All sessions are away from `now` on.
    /// A pipe with nothing in it is gone.
    pub fn recovered(&mut self, now: Time, extent: impl Fn(ItemNo) -> Extent) {
        for (no, item) in &mut self.items {
            let extent = extent(*no);
            self.damaged |= item.has_lost(&extent);
            item.recover(now, &extent);
        }
        for reader in self.readers.values_mut() {
            reader.link = Link::Away(now);
        }
        self.sending = 0;
        let items: Vec<ItemNo> = self.items.keys().copied().collect();
        for no in items {
            self.with_item(no, |_| ());
            self.refresh(no);
        }
        self.vanish_if_empty();
    }

    /// All facts of the pipe as of now, as one.
    pub fn snapshot(&self) -> Fact {
        let mut facts = vec![Fact::Opened { pipe: self.pipe.clone(), mode: crate::broker::Mode::Default }];
        for (no, item) in &self.items {
            let (session, epoch, holder) = (item.session, item.epoch, item.holder);
            facts.push(Fact::WriterJoined { session, epoch, item: *no, holder });
        }
        // A reader that has an item alone begins behind what is acknowledged of it; live readers are owed that still.
        let alone = |item: &Item| item.taker.is_some();
        self.items.iter().filter(|(_, item)| alone(item)).for_each(|(no, item)| restate_taken(&mut facts, *no, item));
        let stays = |reader: &Reader| reader.leaving.is_none() && !matches!(reader.holds, Holds::Peek(_));
        let readers = self.readers.iter().map(|(session, reader)| (session, &**reader));
        let mut readers: Vec<_> = readers.filter(|(_, reader)| stays(reader)).collect();
        readers.sort_unstable_by_key(|(_, reader)| reader.arrival);
        facts.extend(readers.iter().map(|(session, reader)| reader.joining(**session)));
        restate_skips(&mut facts, &readers);
        for (no, item) in &self.items {
            if !alone(item) {
                restate_taken(&mut facts, *no, item);
            }
            let had_by = item.had_by.iter().filter(|session| self.readers.contains_key(*session));
            facts.extend(had_by.map(|session| took(*session, *no, Seq(0)..Seq(0))));
            // An end that is not appended yet follows the snapshot.
            let end = item.end.filter(|end| end.append.is_some());
            facts.extend(end.map(|end| Fact::Ended { item: *no, kind: end.kind, next: end.next }));
        }
        // What was taken alone counts once that is durable; the log has it before this snapshot, and would forget it with this one.
        for (_, pending) in &self.pending {
            if let Pending::Took(item, numbers) = pending {
                facts.push(took(SOMEBODY, *item, numbers.clone()));
            }
        }
        // Nothing of an item that is over is restated, but its number must not be used again: the log still knows batches of it.
        if let Some(last) = self.next_item.0.checked_sub(1) {
            facts.push(Fact::Took { reader: EVERYBODY, item: ItemNo(last), from: Seq(0), to: Seq(0) });
        }
        Fact::Snapshot(facts)
    }

    /// Appends [`DefaultPipe::snapshot`].
    pub fn log_snapshot(&mut self) {
        if self.opened && !self.gone {
            let snapshot = self.snapshot();
            self.append(snapshot);
        }
    }

    fn replay_return(&mut self, session: SessionId, epoch: Epoch) {
        if let Some(item) = self.writers.get(&session).and_then(|no| self.items.get_mut(no)) {
            item.epoch = item.epoch.max(epoch);
        }
        if let Some(reader) = self.readers.get_mut(&session) {
            reader.epoch = reader.epoch.max(epoch);
        }
    }

    fn replay_end(&mut self, no: ItemNo, kind: EndKind, next: Seq) {
        let Some(item) = self.items.get_mut(&no) else { return };
        item.end = Some(End { kind, next, append: Some(0) });
        self.item_ended(no);
        for live in self.readers.values_mut().filter_map(|reader| reader.live()) {
            if live.cursors.get(&no).is_some_and(|cursor| cursor.acked >= next) {
                live.complete(no);
            }
        }
        self.effects.clear();
    }

    fn replay_holds(&mut self, session: SessionId, held: Held) {
        let holds = match held {
            Held::Waiting => Holds::Waiting,
            Held::Alone(no) => {
                let Some(item) = self.items.get_mut(&no) else { return };
                item.taker = Some(session);
                Holds::Alone(no, Cursor::new(item.first_left(), Seq(0), item.acked.clone()))
            }
            Held::Live(items) => {
                let mut live = Live { since: self.next_arrival(), ..Live::default() };
                for Place { item: no, from, wants_start } in items {
                    let skip = self.items.get(&no).map(|item| item.acked.clone()).unwrap_or_default();
                    live.cursors.insert(no, Cursor { wants_start, ..Cursor::new(from, Seq(0), skip) });
                }
                Holds::Live(live)
            }
        };
        if let Some(reader) = self.readers.get_mut(&session) {
            reader.holds = holds;
        }
    }

    fn replay_release(&mut self, session: SessionId) {
        for item in self.items.values_mut().filter(|item| item.taker == Some(session)) {
            item.taker = None;
        }
    }

    fn replay_took(&mut self, reader: SessionId, no: ItemNo, from: Seq, to: Seq) {
        self.next_item = self.next_item.max(ItemNo(no.0.saturating_add(1)));
        let Some(item) = self.items.get_mut(&no) else { return };
        item.acked.insert(from..to);
        if self.readers.contains_key(&reader) {
            item.had_by.insert(reader);
        }
        if reader == EVERYBODY {
            item.holes.insert(from..to);
            let cursors = self.readers.values_mut().filter_map(|reader| reader.cursor(no));
            return cursors.for_each(|cursor| cursor.skip.insert(from..to));
        }
        let complete = item.end.is_some_and(|end| to >= end.next);
        let Some(reader) = self.readers.get_mut(&reader) else { return };
        if let Some(cursor) = reader.cursor(no) {
            cursor.acked = cursor.acked.max(to);
            cursor.sent = cursor.acked;
        }
        if let Some(live) = reader.live().filter(|_| complete) {
            live.complete(no);
        }
    }
}

/// What others took before a live reader came is restated before that reader is given its items once more: a reader skips what was
/// taken by then, and no more.
fn restate_skips(facts: &mut Vec<Fact>, readers: &[(&SessionId, &Reader)]) {
    let mut skipping = Vec::new();
    for (session, reader) in readers {
        if let Holds::Live(live) = &reader.holds
            && live.cursors.values().any(|cursor| cursor.skips_ahead().next().is_some())
        {
            skipping.push((live, Fact::ReaderHolds { session: **session, holds: reader.held() }));
        }
    }
    skipping.sort_unstable_by_key(|(live, _)| live.since);
    for (live, holds) in skipping {
        for (no, cursor) in &live.cursors {
            facts.extend(cursor.skips_ahead().map(|range| took(SOMEBODY, *no, range)));
        }
        facts.push(holds);
    }
}

/// What of an item is acknowledged, and what of that was never logged.
fn restate_taken(facts: &mut Vec<Fact>, no: ItemNo, item: &Item) {
    facts.extend(item.holes.iter().map(|range| took(EVERYBODY, no, range)));
    facts.extend(item.acked.iter().map(|range| took(SOMEBODY, no, range)));
}

fn took(reader: SessionId, item: ItemNo, range: Range<Seq>) -> Fact {
    Fact::Took { reader, item, from: range.start, to: range.end }
}

impl Item {
    /// Whether something is missing between its batches in the log that nobody had. What is missing before them may have been delivered.
    fn has_lost(&self, extent: &Extent) -> bool {
        let (Some(first), Some(last)) = (extent.first(), extent.last()) else { return false };
        let mut known = self.holes.clone();
        extent.iter().cloned().chain(self.acked.iter()).for_each(|range| known.insert(range));
        known.first_gap(first.start) < last.end
    }

    /// Fits the item to what the log has of it.
    fn recover(&mut self, now: Time, extent: &Extent) {
        let on_disk = extent.last().map(|range| range.end).unwrap_or_default();
        // What single readers took says nothing of the others: the writer sends it again.
        let taken = self.holes.iter().last().map(|range| range.end).unwrap_or_default();
        self.accepted = on_disk.max(taken).max(self.end.map(|end| end.next).unwrap_or_default());
        if let Some(end) = self.end.filter(|end| end.kind == EndKind::Aborted) {
            self.accepted = Seq(end.next.0 - 1);
        }
        // Whether it stopped within a record is not known; who comes now is safe to wait for the next one's start.
        self.open_record = self.end.is_none() && self.accepted > Seq(0);
        (self.stored, self.settled, self.logged) = (self.accepted, self.accepted, self.accepted);
        self.link = Link::Away(now);
    }
}

impl Reader {
    fn recovered(epoch: Epoch, take: crate::broker::Take, holder: Holder) -> Self {
        Self {
            epoch,
            link: Link::Away(Time::default()),
            holder,
            take,
            keep: false,
            no_wait: false,
            arrival: 0,
            joined: 0,
            holds: Holds::Waiting,
            given: 0,
            credit: 0,
            outbox: std::collections::VecDeque::new(),
            leaving: None,
            idle_since: None,
            second_writer_told: false,
        }
    }
}

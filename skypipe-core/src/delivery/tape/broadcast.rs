//! The readers of a broadcast: each has a cursor of its own.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::batch::Batch;
use crate::broker::{Notice, ReaderAttach, ReaderDown, ReaderUp, Start, Take};
use crate::caller::{Holder, ProcessId};
use crate::error::{Code, Error};
use crate::id::{Epoch, ItemNo, Position, Seq, SessionId};
use crate::stat::{Lag, Presence, ReaderStat};
use crate::time::{Time, WallTime};

use super::super::default::{Counts, Next, expired, fenced};
use super::super::fact::{Fact, Held, Place};
use super::super::item::{Link, NOTICES_MAX};
use super::super::limits::{AWAY_LOST, DURABLE_CURSORS_MAX, READERS_MAX, TAPE};
use super::long::{Long, Point};
use super::{Saved, Tape};

/// Who reads a broadcast, and from where.
#[derive(Debug, Default)]
pub(super) struct Broadcast {
    pub(super) readers: BTreeMap<SessionId, Reader>,
    pub(super) cursors: BTreeMap<String, DurableCursor>,
    /// What it keeps while a quota is used up.
    bytes_max: Option<u64>,
}

/// One reader.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) epoch: Epoch,
    pub(super) link: Link,
    pub(super) holder: Holder,
    /// Which append says that it joined.
    joined: u64,
    /// Its durable cursor.
    pub(super) cursor: Option<String>,
    /// Records from here on came while it was there: they are owed to it before they count as delivered.
    pub(super) since: Seq,
    /// Where it is sent the next record from, or the next part of one.
    pub(super) sent: Point,
    /// It acknowledged all below.
    pub(super) acked: Seq,
    /// It ends here.
    pub(super) until: Option<Seq>,
    credit: i64,
    notices: VecDeque<Notice>,
    leaving: bool,
    /// It only looks: nobody waits for it, and writers do not count it.
    is_look: bool,
    /// Another reader has its cursor.
    is_replaced: bool,
}

/// A cursor that outlives its reader.
#[derive(Debug, Default)]
pub(super) struct DurableCursor {
    /// All below was acknowledged.
    pub(super) at: Seq,
    /// All below is known to be so on disk.
    pub(super) saved: Seq,
    /// More is on its way there.
    pub(super) is_saving: bool,
    /// Records from here on came while it was there.
    pub(super) since: Seq,
    pub(super) reader: Option<SessionId>,
}

impl Reader {
    pub(super) fn new(epoch: Epoch, holder: Holder, joined: u64, from: Seq) -> Self {
        Self {
            epoch,
            link: Link::Attached,
            holder,
            joined,
            cursor: None,
            since: from,
            sent: from.into(),
            acked: from,
            until: None,
            credit: 0,
            notices: VecDeque::new(),
            leaving: false,
            is_look: false,
            is_replaced: false,
        }
    }
}

impl Broadcast {
    /// A reader attaches or returns.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`, `E_BUSY`.
    pub(super) fn attach(
        &mut self,
        tape: &mut Tape,
        attach: &ReaderAttach,
        holder: Holder,
        now: Time,
    ) -> Result<(), Error> {
        if self.readers.contains_key(&attach.session) {
            return self.come_back(tape, attach, holder);
        }
        if attach.resume.is_some() {
            return Err(expired());
        }
        self.join(tape, attach, holder, now)
    }

    fn join(&mut self, tape: &mut Tape, attach: &ReaderAttach, holder: Holder, now: Time) -> Result<(), Error> {
        if self.readers.len() >= READERS_MAX {
            return Err(Error::new(Code::Busy, "the pipe has as many readers as it may"));
        }
        let is_look = attach.take == Take::Peek;
        let wanted = if is_look { tape.low } else { start(tape, &attach.tape.start, now)? };
        let from = match &attach.tape.cursor {
            Some(name) => self.take_cursor(tape, name, wanted)?,
            None => wanted,
        };
        let joined = tape.append(Fact::ReaderJoined {
            session: attach.session,
            epoch: attach.epoch,
            take: attach.take,
            keep: attach.keep,
            no_wait: attach.no_wait,
            holder,
            holds: Held::Live(vec![Place { item: TAPE, from, wants_start: false }]),
        });
        tape.when_durable(joined, super::Pending::Wake(attach.session));
        let mut reader = Reader::new(attach.epoch, holder, joined, from);
        // One that goes on after it was given up has more than its cursor tells; what it acknowledged of that it will say.
        let has = attach.tape.resume_at.as_ref().and_then(|mark| tape.behind(mark)).unwrap_or_default();
        (reader.sent, reader.since) = (has.min(tape.next.into()).max(from.into()), tape.next);
        reader.until = (attach.no_wait || is_look).then_some(tape.durable);
        reader.is_look = is_look;
        reader.credit = i64::try_from(attach.credit).unwrap_or(i64::MAX);
        reader.cursor.clone_from(&attach.tape.cursor);
        if let Some(cursor) = attach.tape.cursor.as_ref().and_then(|name| self.cursors.get_mut(name)) {
            cursor.reader = Some(attach.session);
        }
        self.readers.insert(attach.session, reader);
        Ok(())
    }

    /// Where a durable cursor stands; a new one begins where it is wanted.
    fn take_cursor(&mut self, tape: &mut Tape, name: &str, wanted: Seq) -> Result<Seq, Error> {
        if let Some(cursor) = self.cursors.get(name) {
            let (at, holder) = (cursor.at, cursor.reader);
            // The newer wins: whoever comes again after trouble need not wait until the relay has found out.
            match holder.and_then(|session| Some((session, self.readers.get_mut(&session)?))) {
                Some((session, reader)) if reader.link == Link::Attached => {
                    reader.is_replaced = true;
                    tape.wake(session);
                }
                Some((session, _)) => self.remove(tape, session),
                None => {}
            }
            return Ok(at);
        }
        if self.cursors.len() >= DURABLE_CURSORS_MAX {
            return Err(Error::new(Code::Busy, "the pipe has as many cursors as it may"));
        }
        let cursor = DurableCursor { at: wanted, since: tape.next, ..DurableCursor::default() };
        self.cursors.insert(name.to_owned(), cursor);
        self.save_cursor(tape, name);
        Ok(wanted)
    }

    fn come_back(&mut self, tape: &mut Tape, attach: &ReaderAttach, holder: Holder) -> Result<(), Error> {
        let Some(reader) = self.readers.get_mut(&attach.session) else { return Err(expired()) };
        if !reader.holder.admits(holder) {
            return Err(expired());
        }
        if attach.epoch <= reader.epoch {
            return Err(fenced());
        }
        let returned = tape.append(Fact::Returned { session: attach.session, epoch: attach.epoch });
        tape.when_durable(returned, super::Pending::Wake(attach.session));
        (reader.epoch, reader.link, reader.joined) = (attach.epoch, Link::Attached, returned);
        reader.credit = i64::try_from(attach.credit).unwrap_or(i64::MAX);
        // A relay that starts again does not know whose the cursor is.
        reader.cursor.clone_from(&attach.tape.cursor);
        if let Some(cursor) = attach.tape.cursor.as_ref().and_then(|name| self.cursors.get_mut(name)) {
            cursor.reader = Some(attach.session);
        }
        // The reader knows best what it has. One that knows nothing never heard that it was welcome.
        let has = attach.tape.resume_at.as_ref().and_then(|mark| tape.behind(mark)).unwrap_or(reader.acked.into());
        reader.sent = has.min(tape.next.max(tape.low).into());
        Ok(())
    }

    /// Where the reader begins, once its joining is durable.
    pub(super) fn welcome(&mut self, tape: &Tape, session: SessionId, epoch: Epoch) -> Option<Result<Position, Error>> {
        match self.attached(tape, session, epoch) {
            Ok(reader) => (reader.joined <= tape.joined_upto()).then(|| Ok(Position::from(reader.sent.place))),
            Err(error) => Some(Err(error)),
        }
    }

    /// A message of a reader.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`; `E_PROTOCOL` for what has no meaning here.
    pub(super) fn up(
        &mut self,
        tape: &mut Tape,
        session: SessionId,
        epoch: Epoch,
        message: ReaderUp,
    ) -> Result<(), Error> {
        let reader = self.attached(tape, session, epoch)?;
        if reader.is_replaced {
            return Ok(());
        }
        match message {
            ReaderUp::Credit(bytes) => {
                reader.credit = reader.credit.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
            ReaderUp::AckTo(mark) => {
                let upto = tape.behind(&mark).filter(|upto| *upto <= reader.sent);
                let upto =
                    upto.ok_or_else(|| Error::new(Code::Protocol, "an acknowledgement of what was never sent"))?;
                // A part of a record is acknowledged with the last one.
                let upto = upto.place;
                reader.acked = reader.acked.max(upto);
                self.acknowledged(tape, session, upto);
            }
            ReaderUp::Leave { .. } => reader.leaving = true,
            _ => {
                return Err(Error::new(Code::Protocol, "a message of a reader of another kind of pipe"));
            }
        }
        tape.wake(session);
        Ok(())
    }

    fn acknowledged(&mut self, tape: &mut Tape, session: SessionId, upto: Seq) {
        let Some(reader) = self.readers.get(&session) else { return };
        if let Some(name) = reader.cursor.clone() {
            if let Some(cursor) = self.cursors.get_mut(&name) {
                // Not by what is gone: whoever comes next is told, unless this one says that it knows.
                cursor.at = cursor.at.max(upto);
            }
            self.save_cursor(tape, &name);
        }
        self.tell_delivered(tape);
    }

    /// Appends where a durable cursor stands, one at a time: a sync for each acknowledgement would be many.
    fn save_cursor(&mut self, tape: &mut Tape, name: &str) {
        let Some(cursor) = self.cursors.get_mut(name).filter(|cursor| !cursor.is_saving) else { return };
        if cursor.at > cursor.saved || cursor.saved == Seq(0) {
            self.append_cursor(tape, name);
        }
    }

    fn append_cursor(&mut self, tape: &mut Tape, name: &str) {
        let Some(cursor) = self.cursors.get_mut(name) else { return };
        cursor.is_saving = tape.read_only.is_none();
        let (name, at) = (name.to_owned(), cursor.at);
        tape.save(Fact::Cursor { name: name.clone(), at }, Saved::Cursor(name, at));
    }

    /// Something of it is durable.
    pub(super) fn saved(&mut self, tape: &mut Tape, saved: Saved) {
        let Saved::Cursor(name, at) = saved else { return };
        let Some(cursor) = self.cursors.get_mut(&name) else { return };
        (cursor.saved, cursor.is_saving) = (at, false);
        let (reader, more) = (cursor.reader, cursor.at > at);
        if more {
            self.save_cursor(tape, &name);
        }
        reader.into_iter().for_each(|session| tape.wake(session));
    }

    /// Everybody to whom it was owed has acknowledged what is below, and somebody has.
    fn tell_delivered(&self, tape: &mut Tape) {
        let ours =
            self.readers.values().filter(|reader| reader.cursor.is_none()).map(|reader| (reader.acked, reader.since));
        let named = self.cursors.values().map(|cursor| (cursor.at, cursor.since));
        let all: Vec<(Seq, Seq)> = ours.chain(named).collect();
        // What is gone nobody waits for.
        let by_all = all.iter().map(|(acked, since)| (*acked.max(since)).max(tape.low)).min();
        let by_somebody = all.iter().map(|(acked, _)| *acked).max();
        if let (Some(by_all), Some(by_somebody)) = (by_all, by_somebody) {
            tape.delivered(by_all.min(by_somebody));
        }
    }

    /// Records came; they are handed out once they are durable.
    #[expect(clippy::unused_self, reason = "a queue does something")]
    pub(super) fn came(&self, _: &mut Tape, _places: Range<Seq>, _now: Time) {}

    /// More is durable.
    pub(super) fn more(&mut self, tape: &mut Tape, now: Time) {
        self.keep(tape, now);
        let durable = tape.durable;
        let waiting =
            self.readers.iter().filter(|(_, r)| r.sent.place < durable && r.credit > 0 && r.link == Link::Attached);
        let waiting: Vec<SessionId> = waiting.map(|(session, _)| *session).collect();
        waiting.into_iter().for_each(|session| tape.wake(session));
    }

    /// Lets go of what is older, or more, than is kept.
    pub(super) fn keep(&mut self, tape: &mut Tape, now: Time) {
        let retain = tape.settings.retain;
        let by_count = retain.records.map_or(Seq(0), |records| Seq(tape.next.0.saturating_sub(records)));
        let by_bytes = retain.bytes.map_or(Seq(0), |bytes| tape.marks.newest_bytes(bytes));
        let by_age = retain.age.map_or(Seq(0), |age| {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            tape.marks.older_than(WallTime(tape.wall(now).0.saturating_sub(age_ms)))
        });
        self.cut(tape, by_count.max(by_bytes).max(by_age).max(tape.long_excess()));
    }

    /// A quota is used up: it grows no more, and the oldest go. An eighth goes at once, so that there is not something to go with each record.
    /// Gives false when nothing is left that could go: all of it are parts of records without end.
    pub(super) fn make_room(&mut self, tape: &mut Tape) -> bool {
        let bytes =
            *self.bytes_max.get_or_insert_with(|| (tape.marks.bytes_from(tape.low) + tape.open_bytes()) / 8 * 7);
        let left = bytes.saturating_sub(tape.open_bytes());
        let below = if left > 0 { tape.marks.newest_bytes(left) } else { tape.next };
        self.cut(tape, below);
        left > 0
    }

    /// No quota is used up.
    pub(super) fn has_room(&mut self) {
        self.bytes_max = None;
    }

    fn cut(&mut self, tape: &mut Tape, below: Seq) {
        let below = below.min(tape.durable);
        if below > tape.low && tape.read_only.is_none() {
            tape.forget(below);
            let behind: Vec<SessionId> =
                self.readers.iter().filter(|(_, r)| r.sent.place < below).map(|(s, _)| *s).collect();
            behind.into_iter().for_each(|session| tape.wake(session));
        }
    }

    /// The next message down to a reader.
    pub(super) fn next(&mut self, tape: &mut Tape, session: SessionId, epoch: Epoch) -> Next<ReaderDown> {
        let (low, durable, upto) = (tape.low, tape.durable, tape.joined_upto());
        let reader = match self.attached(tape, session, epoch) {
            Ok(reader) => reader,
            Err(error) => return Next::End(Some(error)),
        };
        if reader.joined > upto {
            return Next::Wait;
        }
        if reader.is_replaced {
            self.remove(tape, session);
            return Next::End(Some(Error::new(Code::Fenced, "another reader goes on with the cursor of this one")));
        }
        if let Some(notice) = reader.notices.pop_front() {
            return Next::Message(ReaderDown::Notice(notice));
        }
        // What is gone, and was told to be, is not waited for.
        let has = reader.acked.max(low.min(reader.sent.place));
        if reader.leaving || reader.until.is_some_and(|until| has >= until) {
            return self.finish(tape, session);
        }
        if reader.sent.place < low {
            let from = std::mem::replace(&mut reader.sent, low.into()).place;
            return Next::Message(ReaderDown::Missing { from: from.into(), to: low.into(), records: low.0 - from.0 });
        }
        let end = reader.until.unwrap_or(durable).min(durable);
        let place = reader.sent.place;
        if place >= end || reader.credit <= 0 {
            return tape.read_only_error().filter(|_| place >= durable).map_or(Next::Wait, |e| Next::End(Some(e)));
        }
        let bytes_max = u64::try_from(reader.credit).unwrap_or(1);
        if let Some(long) = tape.long(place) {
            return Next::FromLog { item: long.item, from: long.part(reader.sent), bytes_max };
        }
        match tape.in_memory(place) {
            Some((at, batch)) => Next::Message(reader.send(at, batch.clone())),
            None => Next::FromLog { item: TAPE, from: place, bytes_max },
        }
    }

    /// What a reader may be sent from now on, in bytes.
    pub(super) fn set_credit(&mut self, session: SessionId, credit: i64) {
        if let Some(reader) = self.readers.get_mut(&session) {
            reader.credit = credit;
        }
    }

    /// The reader is done once all it acknowledged is durably so.
    fn finish(&mut self, tape: &mut Tape, session: SessionId) -> Next<ReaderDown> {
        let Some(reader) = self.readers.get(&session) else { return Next::End(None) };
        let cursor = reader.cursor.as_ref().and_then(|name| self.cursors.get(name));
        if cursor.is_some_and(|cursor| cursor.saved < cursor.at) {
            return tape.read_only_error().map_or(Next::Wait, |error| Next::End(Some(error)));
        }
        self.remove(tape, session);
        Next::Message(ReaderDown::Finished)
    }

    pub(super) fn fetched(
        &mut self,
        tape: &mut Tape,
        session: SessionId,
        epoch: Epoch,
        at: Seq,
        batch: &Batch,
        _now: Time,
    ) -> Option<ReaderDown> {
        let reader = self.attached(tape, session, epoch).ok()?;
        let place = reader.sent.place;
        let wanted = at <= place && place < at.plus(u64::from(batch.count())) && reader.credit > 0;
        wanted.then(|| reader.send(at, batch.clone()))
    }

    /// A part of a record, from the log.
    pub(super) fn fetched_part(
        &mut self,
        tape: &mut Tape,
        session: SessionId,
        epoch: Epoch,
        item: ItemNo,
        batch: &Batch,
        _now: Time,
    ) -> Option<ReaderDown> {
        let reader = self.attached(tape, session, epoch).ok()?;
        let long = tape.long(reader.sent.place).filter(|long| long.item == item)?;
        let wanted = reader.credit > 0 && long.has_next(reader.sent, batch);
        wanted.then(|| reader.send_part(long, batch.clone()))
    }

    pub(super) fn missing(
        &mut self,
        tape: &mut Tape,
        session: SessionId,
        epoch: Epoch,
        from: Seq,
        to: Seq,
    ) -> Option<ReaderDown> {
        let reader = self.attached(tape, session, epoch).ok().filter(|reader| reader.sent.place == from)?;
        reader.sent = to.into();
        Some(ReaderDown::Missing { from: from.into(), to: to.into(), records: to.0 - from.0 })
    }

    /// Says something to all readers.
    pub(super) fn say(&mut self, tape: &mut Tape, notice: &Notice) {
        for (session, reader) in self.readers.iter_mut().filter(|(_, r)| r.link == Link::Attached) {
            if reader.notices.len() < NOTICES_MAX {
                reader.notices.push_back(notice.clone());
                tape.wake(*session);
            }
        }
    }

    /// A reader's link broke.
    pub(super) fn reader_away(&mut self, tape: &mut Tape, session: SessionId, epoch: Epoch, now: Time) {
        let Ok(reader) = self.attached(tape, session, epoch) else { return };
        reader.link = Link::Away(now);
        if reader.leaving {
            // Should it ask, it hears that it is over: by then its cursor must be on disk.
            if let Some(name) = reader.cursor.clone() {
                self.append_cursor(tape, &name);
            }
            self.remove(tape, session);
        }
    }

    /// A session is given up.
    pub(super) fn lost(&mut self, tape: &mut Tape, session: SessionId, _now: Time) {
        if self.readers.contains_key(&session) {
            self.remove(tape, session);
        }
    }

    fn remove(&mut self, tape: &mut Tape, session: SessionId) {
        let Some(reader) = self.readers.remove(&session) else { return };
        let cursor = reader.cursor.and_then(|name| self.cursors.get_mut(&name));
        if let Some(cursor) = cursor.filter(|cursor| cursor.reader == Some(session)) {
            cursor.reader = None;
        }
        tape.append(Fact::ReaderLeft { session });
        tape.effects.push(super::Effect::Closed { session, next: Seq(0), ended: reader.leaving, delivered: true });
        tape.wake(session);
        self.tell_delivered(tape);
    }

    fn attached(&mut self, tape: &Tape, session: SessionId, epoch: Epoch) -> Result<&mut Reader, Error> {
        let reader = self.readers.get_mut(&session).ok_or_else(|| tape.unknown())?;
        if reader.epoch == epoch { Ok(reader) } else { Err(fenced()) }
    }

    pub(super) fn count(&self, tape: &Tape, counts: &mut Counts) {
        counts.items = tape.next.0.saturating_sub(tape.low.0);
        counts.readers = self.readers.values().filter(|reader| !reader.is_look).count() as u32;
    }

    /// Its readers, and the durable cursors that nobody reads with.
    pub(super) fn reader_stats(&self, tape: &Tape) -> Vec<ReaderStat> {
        let lag = |from: Seq, end: Seq| {
            let (from, end) = (from.max(tape.low), end.min(tape.next));
            let records = end.0.saturating_sub(from.0);
            let bytes = if records > 0 { tape.marks.bytes_from(from) } else { 0 };
            Lag { records, bytes: Some(bytes) }
        };
        let here = self.readers.iter().filter(|(_, reader)| !reader.leaving).map(|(session, reader)| {
            let mut stat = ReaderStat::new(Some(session.tag()), reader.link.presence());
            stat.cursor.clone_from(&reader.cursor);
            stat.lag = lag(reader.acked, reader.until.unwrap_or(tape.next));
            stat
        });
        let nobodys = self.cursors.iter().filter(|(_, cursor)| cursor.reader.is_none()).map(|(name, cursor)| {
            let mut stat = ReaderStat::new(None, Presence::Nobody);
            stat.cursor = Some(name.clone());
            stat.lag = lag(cursor.at, tape.next);
            stat
        });
        here.chain(nobodys).collect()
    }

    pub(super) fn parties(&self) -> usize {
        self.readers.len() + self.cursors.len()
    }

    pub(super) fn away(&self) -> impl Iterator<Item = (SessionId, Option<ProcessId>)> + '_ {
        let away = self.readers.iter().filter(|(_, reader)| matches!(reader.link, Link::Away(_)));
        away.map(|(session, reader)| (*session, reader.holder.process()))
    }

    pub(super) fn link(&self, session: SessionId) -> Option<Link> {
        self.readers.get(&session).map(|reader| reader.link)
    }

    pub(super) fn wake_all(&mut self, tape: &mut Tape) {
        self.readers.keys().for_each(|session| tape.wake(*session));
    }

    pub(super) fn clear(&mut self) -> Vec<SessionId> {
        self.cursors.clear();
        std::mem::take(&mut self.readers).into_keys().collect()
    }

    pub(super) fn next_tick(&self, tape: &Tape) -> Option<Time> {
        let lost = self.readers.values().filter_map(|reader| match reader.link {
            Link::Away(since) => Some(since.plus(AWAY_LOST)),
            Link::Attached => None,
        });
        // A log that failed lets go of nothing.
        let age = tape.settings.retain.age.filter(|_| tape.read_only.is_none());
        let age_ms = age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let old = age_ms.and_then(|age_ms| tape.marks.next_older(age_ms)).map(|wall| tape.time(wall));
        lost.chain(old).min()
    }

    pub(super) fn tick(&mut self, tape: &mut Tape, now: Time) {
        let overdue = |link: Link| matches!(link, Link::Away(since) if since.plus(AWAY_LOST) <= now);
        let lost: Vec<SessionId> = self.readers.iter().filter(|(_, r)| overdue(r.link)).map(|(s, _)| *s).collect();
        lost.into_iter().for_each(|session| self.remove(tape, session));
        self.keep(tape, now);
    }
}

impl Reader {
    fn send(&mut self, at: Seq, batch: Batch) -> ReaderDown {
        let from = batch.first().plus(self.sent.place.0 - at.0);
        self.sent = at.plus(u64::from(batch.count())).into();
        self.credit -= batch.encoded().len() as i64;
        ReaderDown::Batch { from, position: at.into(), batch }
    }

    fn send_part(&mut self, long: Long, batch: Batch) -> ReaderDown {
        let (from, position) = (long.part(self.sent), long.position(self.sent.place, &batch));
        self.sent = long.behind(self.sent.place, &batch);
        self.credit -= batch.encoded().len() as i64;
        ReaderDown::Batch { from, position, batch }
    }
}

/// The place that a reader wants to begin at.
fn start(tape: &Tape, start: &Start, now: Time) -> Result<Seq, Error> {
    let place = match start {
        Start::Now => tape.next,
        Start::Beginning => tape.low,
        Start::Last(records) => Seq(tape.next.0.saturating_sub(*records)).max(tape.low),
        Start::Ago(age) => {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            tape.marks.since(WallTime(tape.wall(now).0.saturating_sub(age_ms))).max(tape.low)
        }
        Start::Since(at) => tape.marks.since(*at).max(tape.low),
        Start::At(mark) => tape.behind(mark).ok_or_else(foreign)?.place.min(tape.next),
    };
    Ok(place)
}

fn foreign() -> Error {
    Error::new(Code::Usage, "a position that is not of this pipe")
}

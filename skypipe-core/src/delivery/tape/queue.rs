//! The readers of a queue: each record goes to one of them, under a lease.
//!
//! ```text
//!            ┌──────────────── lapsed, refused, reader lost ────────────────┐
//!            ▼                                                              │
//!  tape ▶ ready ── a reader with room ──▶ leased ── acknowledged ──▶ done   │
//!            ▲                              └───────────────────────────────┤
//!            └── its time has come ── waiting ◀── refused with a delay ─────┤
//!                                                 handed out too often ─────┴──▶ dead letters
//! ```
//!
//! A lease is in the log before its record is sent, and so is each acknowledgement before it is confirmed: how often a record was handed
//! out, and whose it is, is known to every relay that comes after. The number of the attempt is the fencing token: each is larger than the one
//! before, and what bears an older one is refused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::batch::Batch;
use crate::broker::{LeaseId, ReaderAttach, ReaderDown, ReaderUp, Verdict};
use crate::caller::{Holder, ProcessId};
use crate::error::{Code, Error};
use crate::id::{Epoch, Position, Seq, SessionId};
use crate::time::{Time, WallTime};

use super::super::default::{Counts, Effect, Next, expired, fenced};
use super::super::fact::{Fact, Held};
use super::super::item::Link;
use super::super::limits::{AWAY_LOST, DELIVERIES_MAX, LEASE, PREFETCH_MAX, READERS_MAX, TAPE, WAITING_MAX};
use super::super::ranges::Ranges;
use super::{Saved, Tape};

/// Who has which record of a queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) readers: BTreeMap<SessionId, Reader>,
    /// Those with room, in turn.
    turn: VecDeque<SessionId>,
    /// All from here on were never handed out.
    pub(super) fresh: Seq,
    pub(super) leases: BTreeMap<Seq, Lease>,
    /// Records to be handed out once more, or later than they came.
    pub(super) waiting: BTreeMap<Seq, Waiting>,
    /// The same by the moment from which they are ready.
    due: BTreeSet<(WallTime, Seq)>,
    /// Those of them whose moment has come.
    ready: BTreeSet<Seq>,
    /// Leases by the moment at which they lapse.
    lapsing: BTreeSet<(Time, Seq)>,
    /// Records that are done with, and whether the log knows.
    pub(super) done: Ranges,
    pub(super) done_saved: Ranges,
    /// Done with since the last fact that says so, while that one is on its way.
    unsaved: Ranges,
    is_saving: bool,
    /// Records on their way to the dead letters.
    dying: BTreeSet<Seq>,
}

/// One reader.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) epoch: Epoch,
    pub(super) link: Link,
    pub(super) holder: Holder,
    joined: u64,
    credit: i64,
    /// Records it takes at a time.
    prefetch: u32,
    /// It ends when there is nothing for it.
    no_wait: bool,
    leased: BTreeSet<Seq>,
    /// Leases that are on disk and not sent over this link.
    unsent: BTreeSet<Seq>,
    /// What became of its verdicts.
    told: VecDeque<(LeaseId, Option<Code>)>,
    /// Acknowledgements that are not on disk yet.
    unconfirmed: BTreeMap<Seq, LeaseId>,
    /// The last it was done with, as many as it may have at a time: it may not have heard so, and says it again.
    finished: VecDeque<(Seq, u32)>,
    leaving: bool,
    is_in_turn: bool,
}

/// A record in a reader's hands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) reader: SessionId,
    /// How often it was handed out, this time included.
    pub(super) attempt: u32,
    until: Time,
    /// Whether it may have left the relay: else it was not handed out.
    is_sent: bool,
}

impl Lease {
    /// How often its record was handed out.
    fn attempts(self) -> u32 {
        self.attempt - u32::from(!self.is_sent)
    }
}

/// A record that is to be handed out, not in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// How often it was handed out.
    pub(super) attempts: u32,
    /// When it is ready.
    pub(super) due: WallTime,
}

impl Reader {
    pub(super) fn new(epoch: Epoch, holder: Holder, joined: u64) -> Self {
        Self {
            epoch,
            link: Link::Attached,
            holder,
            joined,
            credit: 0,
            prefetch: 1,
            no_wait: false,
            leased: BTreeSet::new(),
            unsent: BTreeSet::new(),
            told: VecDeque::new(),
            unconfirmed: BTreeMap::new(),
            finished: VecDeque::new(),
            leaving: false,
            is_in_turn: false,
        }
    }

    fn finish(&mut self, place: Seq, attempt: u32) {
        self.finished.push_back((place, attempt));
        if self.finished.len() > PREFETCH_MAX as usize {
            self.finished.pop_front();
        }
    }

    fn has_room(&self) -> bool {
        self.link == Link::Attached && !self.leaving && self.credit > 0 && self.leased.len() < self.prefetch as usize
    }
}

impl Queue {
    /// A reader attaches or returns.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`, `E_BUSY`; `E_EMPTY` when it would not wait and nothing is ready.
    pub(super) fn attach(
        &mut self,
        tape: &mut Tape,
        attach: &ReaderAttach,
        holder: Holder,
        now: Time,
    ) -> Result<(), Error> {
        if self.readers.contains_key(&attach.session) {
            self.come_back(tape, attach, holder)?;
        } else if attach.resume.is_some() {
            return Err(expired());
        } else {
            self.join(tape, attach, holder, now)?;
        }
        self.assign(tape, now);
        Ok(())
    }

    fn join(&mut self, tape: &mut Tape, attach: &ReaderAttach, holder: Holder, now: Time) -> Result<(), Error> {
        if let Some(error) = tape.read_only_error() {
            return Err(error);
        }
        if self.readers.len() >= READERS_MAX {
            return Err(Error::new(Code::Busy, "the pipe has as many readers as it may"));
        }
        self.ripen(tape.wall(now));
        if attach.no_wait && self.next_ready(tape).is_none() {
            return Err(Error::new(Code::Empty, "nothing is ready to be taken"));
        }
        let joined = tape.append(Fact::ReaderJoined {
            session: attach.session,
            epoch: attach.epoch,
            take: attach.take,
            keep: attach.keep,
            no_wait: attach.no_wait,
            holder,
            holds: Held::Waiting,
        });
        tape.when_durable(joined, super::Pending::Wake(attach.session));
        let mut reader = Reader::new(attach.epoch, holder, joined);
        (reader.prefetch, reader.no_wait) = (attach.tape.prefetch.clamp(1, PREFETCH_MAX), attach.no_wait);
        reader.credit = i64::try_from(attach.credit).unwrap_or(i64::MAX);
        self.readers.insert(attach.session, reader);
        self.queue_up(attach.session);
        Ok(())
    }

    /// A reader that returns has its leases still; what it does not have is sent again.
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
        (reader.prefetch, reader.no_wait) = (attach.tape.prefetch.clamp(1, PREFETCH_MAX), attach.no_wait);
        reader.credit = i64::try_from(attach.credit).unwrap_or(i64::MAX);
        reader.told.clear();
        reader.unsent.clear();
        // What it does not have it was not handed, whatever an earlier handing out of the same record left with it.
        let id = |lease: &LeaseId| Some((Seq::try_from(&lease.position).ok()?, lease.attempt));
        let has: BTreeSet<(Seq, u32)> = attach.tape.has.iter().filter_map(id).collect();
        for place in &reader.leased {
            if let Some(lease) = self.leases.get_mut(place).filter(|lease| !has.contains(&(*place, lease.attempt))) {
                lease.is_sent = false;
                reader.unsent.insert(*place);
            }
        }
        self.queue_up(attach.session);
        Ok(())
    }

    /// Whether the reader is there, once its joining is durable.
    pub(super) fn welcome(&mut self, tape: &Tape, session: SessionId, epoch: Epoch) -> Option<Result<Position, Error>> {
        match self.attached(tape, session, epoch) {
            Ok(reader) => (reader.joined <= tape.joined_upto()).then(|| Ok(Position::default())),
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
        now: Time,
    ) -> Result<(), Error> {
        let reader = self.attached(tape, session, epoch)?;
        match message {
            ReaderUp::Credit(bytes) => {
                reader.credit = reader.credit.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
                self.queue_up(session);
            }
            ReaderUp::Settle { lease, verdict } => self.judge(tape, session, lease, verdict, now),
            ReaderUp::Leave { .. } => {
                reader.leaving = true;
                self.give_back_all(tape, session, now);
            }
            ReaderUp::Ack(_) | ReaderUp::AckTo(_) => {
                return Err(Error::new(Code::Protocol, "an acknowledgement of another kind of pipe"));
            }
        }
        self.assign(tape, now);
        tape.wake(session);
        Ok(())
    }

    /// What a reader says became of a record.
    fn judge(&mut self, tape: &mut Tape, session: SessionId, id: LeaseId, verdict: Verdict, now: Time) {
        let place = Seq::try_from(&id.position).ok();
        let is_held = |lease: &&Lease| lease.reader == session && lease.attempt == id.attempt;
        let held = place.and_then(|place| Some((place, *self.leases.get(&place).filter(is_held)?)));
        let Some((place, lease)) = held else {
            return self.judge_again(tape, session, id, verdict);
        };
        if tape.read_only.is_some() {
            return;
        }
        match verdict {
            Verdict::Done => {
                self.release(place);
                if let Some(reader) = self.readers.get_mut(&session) {
                    reader.unconfirmed.insert(place, id);
                    reader.finish(place, lease.attempt);
                }
                self.done(tape, place..place.plus(1));
            }
            Verdict::Refused { delay } => {
                self.release(place);
                let due =
                    WallTime(tape.wall(now).0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)));
                self.put_back(tape, place, lease.attempt, due, now);
                self.tell_when_durable(tape, session, id, None);
            }
            Verdict::Extend => {
                self.lapsing.remove(&(lease.until, place));
                let until = now.plus(lease_time(tape));
                self.lapsing.insert((until, place));
                self.leases.insert(place, Lease { until, ..lease });
            }
        }
        self.queue_up(session);
    }

    /// What is not the reader's is no more, unless that is what it said itself and did not hear confirmed.
    fn judge_again(&mut self, tape: &mut Tape, session: SessionId, id: LeaseId, verdict: Verdict) {
        let Some((reader, place)) = self.readers.get(&session).zip(Seq::try_from(&id.position).ok()) else {
            return self.tell_when_durable(tape, session, id, Some(Code::LeaseLost));
        };
        if reader.unconfirmed.get(&place) == Some(&id) {
            return;
        }
        let was_done = reader.finished.contains(&(place, id.attempt));
        // What is refused is not wanted: that it is gone is all the same.
        let said = (verdict == Verdict::Done && was_done) || matches!(verdict, Verdict::Refused { .. });
        self.tell_when_durable(tape, session, id, (!said).then_some(Code::LeaseLost));
    }

    /// Tells a reader what became of its verdict once the log has all that led to it: a relay that crashed before would give it the same
    /// lease again.
    fn tell_when_durable(&mut self, tape: &mut Tape, session: SessionId, lease: LeaseId, error: Option<Code>) {
        if tape.appended <= tape.confirmed {
            return self.tell(session, lease, error);
        }
        tape.when_durable(tape.appended, super::Pending::Side(Saved::Told(session, lease, error)));
    }

    fn tell(&mut self, session: SessionId, lease: LeaseId, error: Option<Code>) {
        if let Some(reader) = self.readers.get_mut(&session) {
            reader.told.push_back((lease, error));
        }
    }

    /// Takes a lease off its reader.
    fn release(&mut self, place: Seq) {
        let Some(lease) = self.leases.remove(&place) else { return };
        self.lapsing.remove(&(lease.until, place));
        if let Some(reader) = self.readers.get_mut(&lease.reader) {
            reader.leased.remove(&place);
            reader.unsent.remove(&place);
        }
    }

    /// A record is to be handed out once more, or goes to the dead letters.
    fn put_back(&mut self, tape: &mut Tape, place: Seq, attempts: u32, due: WallTime, now: Time) {
        tape.append(Fact::Waits { place, attempts, due });
        if attempts >= tape.settings.max_deliveries.unwrap_or(DELIVERIES_MAX) {
            self.dying.insert(place);
            tape.effects.push(Effect::Bury(place));
            return;
        }
        self.wait(place, Waiting { attempts, due });
        self.ripen(tape.wall(now));
    }

    pub(super) fn wait(&mut self, place: Seq, waiting: Waiting) {
        if let Some(before) = self.waiting.insert(place, waiting) {
            self.due.remove(&(before.due, place));
            self.ready.remove(&place);
        }
        self.due.insert((waiting.due, place));
    }

    /// What is due at this moment is ready.
    fn ripen(&mut self, wall: WallTime) {
        while let Some(&(due, place)) = self.due.first().filter(|(due, _)| *due <= wall) {
            self.due.remove(&(due, place));
            self.ready.insert(place);
        }
    }

    /// These are done with: told to the log, one fact at a time.
    pub(super) fn done(&mut self, tape: &mut Tape, places: Range<Seq>) {
        self.done.insert(places.clone());
        self.unsaved.insert(places);
        self.save_done(tape);
    }

    fn save_done(&mut self, tape: &mut Tape) {
        let places: Vec<Range<Seq>> = self.unsaved.iter().collect();
        if self.is_saving || places.is_empty() || tape.read_only.is_some() {
            return;
        }
        (self.is_saving, self.unsaved) = (true, Ranges::default());
        tape.save(Fact::Done { places: places.clone() }, Saved::Done(places));
    }

    /// Something of it is durable.
    pub(super) fn saved(&mut self, tape: &mut Tape, saved: Saved) {
        match saved {
            Saved::Done(places) => {
                self.is_saving = false;
                places.iter().cloned().for_each(|range| self.done_saved.insert(range));
                self.confirm(tape, &places);
                let below = self.done_saved.first_gap(tape.low);
                tape.forget(below);
                tape.delivered(below);
                self.save_done(tape);
            }
            Saved::Leased(session, leases) => {
                let is_held = |(place, attempt): &(Seq, u32)| {
                    self.leases.get(place).is_some_and(|l| l.reader == session && l.attempt == *attempt && !l.is_sent)
                };
                let held: Vec<Seq> = leases.iter().filter(|lease| is_held(lease)).map(|(place, _)| *place).collect();
                if let Some(reader) = self.readers.get_mut(&session) {
                    reader.unsent.extend(held);
                    tape.wake(session);
                }
            }
            Saved::Told(session, lease, error) => {
                self.tell(session, lease, error);
                tape.wake(session);
            }
            Saved::Cursor(..) => {}
        }
    }

    /// Tells the readers whose acknowledgements are on disk.
    fn confirm(&mut self, tape: &mut Tape, places: &[Range<Seq>]) {
        for (session, reader) in &mut self.readers {
            let before = reader.told.len();
            for range in places {
                while let Some((&place, _)) = reader.unconfirmed.range(range.clone()).next() {
                    reader.told.extend(reader.unconfirmed.remove(&place).map(|lease| (lease, None)));
                }
            }
            if reader.told.len() > before {
                tape.wake(*session);
            }
        }
    }

    /// Records came.
    pub(super) fn came(&mut self, tape: &mut Tape, _places: Range<Seq>, now: Time) {
        self.assign(tape, now);
    }

    /// More is durable.
    pub(super) fn more(&mut self, tape: &mut Tape, now: Time) {
        self.assign(tape, now);
    }

    /// Puts a reader with room at the end of the turn.
    fn queue_up(&mut self, session: SessionId) {
        if let Some(reader) = self.readers.get_mut(&session).filter(|reader| reader.has_room() && !reader.is_in_turn) {
            reader.is_in_turn = true;
            self.turn.push_back(session);
        }
    }

    /// The record to be handed out next.
    fn next_ready(&self, tape: &Tape) -> Option<(Seq, u32)> {
        if let Some(place) = self.ready.first() {
            return Some((*place, self.waiting.get(place).map_or(0, |waiting| waiting.attempts)));
        }
        let fresh = self.done.first_gap(self.fresh);
        (fresh < tape.next && self.waiting.len() < WAITING_MAX).then_some((fresh, 0))
    }

    /// Gives what is ready to readers with room, one record each in turn.
    fn assign(&mut self, tape: &mut Tape, now: Time) {
        if tape.read_only.is_some() || tape.removed {
            return;
        }
        self.ripen(tape.wall(now));
        let until = now.plus(lease_time(tape));
        let mut given: BTreeMap<SessionId, Vec<(Seq, u32)>> = BTreeMap::new();
        while let Some((place, attempts)) = self.next_ready(tape).filter(|_| !self.turn.is_empty()) {
            let not_before = tape.in_memory(place).and_then(|(_, batch)| batch.not_before());
            if let Some(due) = not_before.filter(|due| attempts == 0 && *due > tape.wall(now)) {
                self.fresh = self.fresh.max(place.plus(1));
                self.put_back(tape, place, 0, due, now);
                continue;
            }
            let Some(session) = self.next_in_turn() else { break };
            self.ready.remove(&place);
            self.waiting.remove(&place);
            self.fresh = self.fresh.max(place.plus(1));
            let lease = Lease { reader: session, attempt: attempts.saturating_add(1), until, is_sent: false };
            self.lapsing.insert((until, place));
            self.leases.insert(place, lease);
            if let Some(reader) = self.readers.get_mut(&session) {
                reader.leased.insert(place);
            }
            given.entry(session).or_default().push((place, lease.attempt));
            self.queue_up(session);
        }
        for (session, leases) in given {
            tape.save(Fact::Leased { reader: session, leases: leases.clone() }, Saved::Leased(session, leases));
        }
    }

    fn next_in_turn(&mut self) -> Option<SessionId> {
        while let Some(session) = self.turn.pop_front() {
            let Some(reader) = self.readers.get_mut(&session) else { continue };
            reader.is_in_turn = false;
            if reader.has_room() {
                return Some(session);
            }
        }
        None
    }

    /// The next message down to a reader.
    pub(super) fn next(&mut self, tape: &mut Tape, session: SessionId, epoch: Epoch) -> Next<ReaderDown> {
        let upto = tape.joined_upto();
        let reader = match self.attached(tape, session, epoch) {
            Ok(reader) => reader,
            Err(error) => return Next::End(Some(error)),
        };
        if reader.joined > upto {
            return Next::Wait;
        }
        if let Some((lease, error)) = reader.told.pop_front() {
            return Next::Message(ReaderDown::Settled { lease, error });
        }
        let is_done = reader.leased.is_empty() && reader.unconfirmed.is_empty();
        if is_done && (reader.leaving || (reader.no_wait && self.next_ready(tape).is_none())) {
            return self.finish(tape, session);
        }
        let Some(reader) = self.readers.get(&session) else { return Next::Wait };
        if let Some(error) = tape.read_only_error() {
            return Next::End(Some(error));
        }
        let Some(&place) = reader.unsent.first().filter(|_| reader.credit > 0) else { return Next::Wait };
        match tape.in_memory(place).map(|(_, batch)| batch.clone()) {
            Some(batch) => self.send(tape, session, place, batch).map_or(Next::Wait, Next::Message),
            None => Next::FromLog { item: TAPE, from: place, bytes_max: 1 },
        }
    }

    fn send(&mut self, tape: &mut Tape, session: SessionId, place: Seq, batch: Batch) -> Option<ReaderDown> {
        let lease = self.leases.get_mut(&place).filter(|lease| lease.reader == session)?;
        lease.is_sent = true;
        let lease = *lease;
        let reader = self.readers.get_mut(&session)?;
        reader.unsent.remove(&place);
        reader.credit -= batch.encoded().len() as i64;
        let id = LeaseId { position: place.into(), attempt: lease.attempt };
        Some(ReaderDown::Leased { lease: id, time: lease_time(tape), batch })
    }

    fn finish(&mut self, tape: &mut Tape, session: SessionId) -> Next<ReaderDown> {
        self.remove(tape, session, true);
        Next::Message(ReaderDown::Finished)
    }

    pub(super) fn fetched(
        &mut self,
        tape: &mut Tape,
        session: SessionId,
        epoch: Epoch,
        place: Seq,
        batch: &Batch,
        now: Time,
    ) -> Option<ReaderDown> {
        let reader = self.attached(tape, session, epoch).ok()?;
        if !reader.unsent.contains(&place) {
            return None;
        }
        // That it is to wait was not known before it was read.
        let attempt = self.leases.get(&place).map_or(1, |lease| lease.attempt);
        if let Some(due) = batch.not_before().filter(|due| attempt == 1 && *due > tape.wall(now)) {
            self.release(place);
            self.put_back(tape, place, 0, due, now);
            self.queue_up(session);
            self.assign(tape, now);
            return None;
        }
        self.send(tape, session, place, batch.clone())
    }

    /// Records are gone: nobody can have them any more.
    pub(super) fn missing(
        &mut self,
        tape: &mut Tape,
        session: SessionId,
        epoch: Epoch,
        from: Seq,
        to: Seq,
    ) -> Option<ReaderDown> {
        self.attached(tape, session, epoch).ok()?;
        (from.0..to.0).map(Seq).for_each(|place| self.release(place));
        let lost: Vec<Seq> = self.waiting.range(from..to).map(|(place, _)| *place).collect();
        for place in lost {
            if let Some(waiting) = self.waiting.remove(&place) {
                self.due.remove(&(waiting.due, place));
                self.ready.remove(&place);
            }
        }
        self.fresh = self.fresh.max(to);
        self.done(tape, from..to);
        self.queue_up(session);
        Some(ReaderDown::Missing { from: from.into(), to: to.into(), records: to.0 - from.0 })
    }

    /// A record is with the dead letters.
    pub(super) fn buried(&mut self, tape: &mut Tape, place: Seq) {
        if self.dying.remove(&place) {
            self.done(tape, place..place.plus(1));
        }
    }

    /// All a reader has goes back at once.
    fn give_back_all(&mut self, tape: &mut Tape, session: SessionId, now: Time) {
        let Some(reader) = self.readers.get_mut(&session) else { return };
        reader.unsent.clear();
        let wall = tape.wall(now);
        for place in std::mem::take(&mut reader.leased) {
            let Some(lease) = self.leases.remove(&place) else { continue };
            self.lapsing.remove(&(lease.until, place));
            self.put_back(tape, place, lease.attempts(), wall, now);
        }
    }

    /// A reader's link broke: it has its leases until they lapse, or it is given up.
    pub(super) fn reader_away(&mut self, tape: &mut Tape, session: SessionId, epoch: Epoch, now: Time) {
        let Ok(reader) = self.attached(tape, session, epoch) else { return };
        reader.link = Link::Away(now);
        if reader.leaving {
            self.remove(tape, session, true);
        }
    }

    /// A session is given up: others get what it had, at once.
    pub(super) fn lost(&mut self, tape: &mut Tape, session: SessionId, now: Time) {
        if self.readers.contains_key(&session) {
            self.give_back_all(tape, session, now);
            self.remove(tape, session, false);
            self.assign(tape, now);
        }
    }

    fn remove(&mut self, tape: &mut Tape, session: SessionId, ended: bool) {
        if self.readers.remove(&session).is_some() {
            tape.append(Fact::ReaderLeft { session });
            tape.effects.push(Effect::Closed { session, next: Seq(0), ended, delivered: true });
            tape.wake(session);
        }
    }

    fn attached(&mut self, tape: &Tape, session: SessionId, epoch: Epoch) -> Result<&mut Reader, Error> {
        let reader = self.readers.get_mut(&session).ok_or_else(|| tape.unknown())?;
        if reader.epoch == epoch { Ok(reader) } else { Err(fenced()) }
    }

    pub(super) fn count(&self, tape: &Tape, counts: &mut Counts) {
        let done: u64 =
            self.done.iter().map(|range| range.end.0 - range.start.0.max(tape.low.0).min(range.end.0)).sum();
        counts.items = (tape.next.0 - tape.low.0).saturating_sub(done);
        counts.leased = self.leases.len() as u64;
        counts.readers = self.readers.len() as u32;
    }

    pub(super) fn parties(&self) -> usize {
        self.readers.len() + (self.waiting.len() + self.leases.len()) / 8
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
        let readers = std::mem::take(self).readers;
        readers.into_keys().collect()
    }

    pub(super) fn next_tick(&self, tape: &Tape) -> Option<Time> {
        let lost = self.readers.values().filter_map(|reader| match reader.link {
            Link::Away(since) => Some(since.plus(AWAY_LOST)),
            Link::Attached => None,
        });
        let lapse = self.lapsing.first().map(|(at, _)| *at);
        let due = self.due.first().map(|(wall, _)| tape.time(*wall));
        lost.chain(lapse).chain(due).min()
    }

    pub(super) fn tick(&mut self, tape: &mut Tape, now: Time) {
        let overdue = |link: Link| matches!(link, Link::Away(since) if since.plus(AWAY_LOST) <= now);
        let lost: Vec<SessionId> = self.readers.iter().filter(|(_, r)| overdue(r.link)).map(|(s, _)| *s).collect();
        lost.into_iter().for_each(|session| self.lost(tape, session, now));
        while let Some(&(_, place)) = self.lapsing.first().filter(|(until, _)| *until <= now) {
            let Some(lease) = self.leases.get(&place).copied() else { break };
            self.release(place);
            let wall = tape.wall(now);
            self.put_back(tape, place, lease.attempts(), wall, now);
            self.queue_up(lease.reader);
        }
        self.assign(tape, now);
        // A reader that would not wait may have nothing to wait for now.
        let no_wait: Vec<SessionId> = self.readers.iter().filter(|(_, r)| r.no_wait).map(|(s, _)| *s).collect();
        no_wait.into_iter().for_each(|session| tape.wake(session));
    }

    /// Takes a lease as the log has it; its time begins anew.
    pub(super) fn recover_lease(&mut self, place: Seq, reader: SessionId, attempt: u32) {
        self.forget_place(place);
        if let Some(holder) = self.readers.get_mut(&reader) {
            holder.leased.insert(place);
            self.leases.insert(place, Lease { reader, attempt, until: Time::default(), is_sent: true });
        } else {
            self.wait(place, Waiting { attempts: attempt, due: WallTime(0) });
        }
        self.fresh = self.fresh.max(place.plus(1));
    }

    /// Takes what waits as the log has it.
    pub(super) fn recover_waiting(&mut self, place: Seq, waiting: Waiting) {
        self.forget_place(place);
        self.wait(place, waiting);
        self.fresh = self.fresh.max(place.plus(1));
    }

    /// Takes what is done as the log has it.
    pub(super) fn recover_done(&mut self, places: Range<Seq>) {
        let leased: Vec<Seq> = self.leases.range(places.clone()).map(|(place, _)| *place).collect();
        let waiting: Vec<Seq> = self.waiting.range(places.clone()).map(|(place, _)| *place).collect();
        for place in &leased {
            let lease = self.leases.get(place).copied();
            if let Some((lease, reader)) = lease.and_then(|l| Some((l, self.readers.get_mut(&l.reader)?))) {
                reader.finish(*place, lease.attempt);
            }
        }
        leased.into_iter().chain(waiting).for_each(|place| self.forget_place(place));
        self.done.insert(places.clone());
        self.done_saved.insert(places);
    }

    /// A reader left: what it had is for others.
    pub(super) fn recover_left(&mut self, session: SessionId) {
        if let Some(reader) = self.readers.remove(&session) {
            for place in reader.leased {
                if let Some(lease) = self.leases.remove(&place) {
                    self.wait(place, Waiting { attempts: lease.attempt, due: WallTime(0) });
                }
            }
        }
    }

    fn forget_place(&mut self, place: Seq) {
        self.release(place);
        if let Some(waiting) = self.waiting.remove(&place) {
            self.due.remove(&(waiting.due, place));
            self.ready.remove(&place);
        }
    }

    /// All facts are in: the time of each lease begins now. What was handed out too often goes to the dead letters.
    pub(super) fn recovered(&mut self, tape: &mut Tape, now: Time) {
        let until = now.plus(lease_time(tape));
        self.lapsing = self.leases.keys().map(|place| (until, *place)).collect();
        self.leases.values_mut().for_each(|lease| lease.until = until);
        let below = self.done_saved.first_gap(tape.low);
        tape.forget(below);
        let max = tape.settings.max_deliveries.unwrap_or(DELIVERIES_MAX);
        let dead: Vec<Seq> = self.waiting.iter().filter(|(_, w)| w.attempts >= max).map(|(place, _)| *place).collect();
        for place in dead {
            self.forget_place(place);
            self.dying.insert(place);
            tape.effects.push(Effect::Bury(place));
        }
    }

    /// What must be restated besides the readers: what is done, leased, waiting and dying.
    pub(super) fn facts(&self) -> Vec<Fact> {
        let done: Vec<Range<Seq>> = self.done.iter().collect();
        // What a reader was done with is leased to it and done: so it is known whose it was.
        let finished = self.readers.iter().filter(|(_, reader)| !reader.finished.is_empty());
        let finished = finished.map(|(session, reader)| Fact::Leased {
            reader: *session,
            leases: reader.finished.iter().copied().collect(),
        });
        let mut facts: Vec<Fact> = finished.collect();
        facts.push(Fact::Done { places: done });
        for (session, reader) in &self.readers {
            let lease = |place: &Seq| Some((*place, self.leases.get(place)?.attempt));
            let leases: Vec<(Seq, u32)> = reader.leased.iter().filter_map(lease).collect();
            if !leases.is_empty() {
                facts.push(Fact::Leased { reader: *session, leases });
            }
        }
        let waits = |(place, waiting): (&Seq, &Waiting)| Fact::Waits {
            place: *place,
            attempts: waiting.attempts,
            due: waiting.due,
        };
        facts.extend(self.waiting.iter().map(waits));
        let dying = |place: &Seq| Fact::Waits { place: *place, attempts: u32::MAX, due: WallTime(0) };
        facts.extend(self.dying.iter().map(dying));
        facts
    }
}

/// How long a lease is, unless it is extended.
fn lease_time(tape: &Tape) -> Duration {
    tape.settings.lease.unwrap_or(LEASE)
}

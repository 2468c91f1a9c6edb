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

mod hand_out;
mod look;
mod reader;
mod recover;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::broker::{LeaseId, ReaderAttach, ReaderUp, Take};
use crate::caller::{Holder, ProcessId};
use crate::error::{Code, Error};
use crate::id::{Epoch, Position, Seq, SessionId};
use crate::stat::ReaderStat;
use crate::time::{Time, WallTime};

use self::look::Look;
use self::reader::Lease;
pub(super) use self::reader::{Reader, Waiting};
use super::super::default::{Counts, Effect, expired, fenced};
use super::super::fact::{Fact, Held};
use super::super::item::Link;
use super::super::limits::{AWAY_LOST, LEASE, PREFETCH_MAX, READERS_MAX};
use super::super::ranges::Ranges;
use super::Tape;

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
    /// Records that lost readers had in their hands, so far.
    released: u64,
    looks: BTreeMap<SessionId, Look>,
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
        if attach.take == Take::Peek {
            return self.look(tape, attach);
        }
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
        reader.part = None;
        // What it does not have it was not handed, whatever an earlier handing out of the same record left with it.
        let id = |lease: &LeaseId| Some((Seq::try_from(&lease.position).ok()?, lease.attempt));
        let has: BTreeSet<(Seq, u32)> = attach.tape.has.iter().filter_map(id).collect();
        for place in reader.leased.places() {
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
        if self.looks.contains_key(&session) {
            return Some(Ok(Position::default()));
        }
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
        if self.looks.contains_key(&session) {
            self.look_up(tape, session, &message);
            return Ok(());
        }
        let reader = self.attached(tape, session, epoch)?;
        match message {
            ReaderUp::Credit(bytes) => {
                reader.credit = reader.credit.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
                self.queue_up(session);
            }
            ReaderUp::Prefetch(records) => {
                reader.prefetch = records.min(PREFETCH_MAX);
                self.queue_up(session);
            }
            ReaderUp::Settle { lease, verdict } => self.judge(tape, session, lease, verdict, now),
            ReaderUp::Leave { .. } => {
                reader.leaving = true;
                self.give_back_all(tape, session, now);
            }
            _ => {
                return Err(Error::new(Code::Protocol, "a message of a reader of another kind of pipe"));
            }
        }
        self.assign(tape, now);
        tape.wake(session);
        Ok(())
    }

    /// Records came.
    pub(super) fn came(&mut self, tape: &mut Tape, _places: Range<Seq>, now: Time) {
        self.assign(tape, now);
    }

    /// More is durable.
    pub(super) fn more(&mut self, tape: &mut Tape, now: Time) {
        self.assign(tape, now);
    }

    /// All a reader has goes back at once.
    fn give_back_all(&mut self, tape: &mut Tape, session: SessionId, now: Time) {
        let Some(reader) = self.readers.get_mut(&session) else { return };
        reader.unsent.clear();
        reader.part = None;
        let wall = tape.wall(now);
        for place in reader.leased.let_go_of_all() {
            let Some(lease) = self.leases.remove(&place) else { continue };
            self.lapsing.remove(&(lease.until, place));
            self.put_back(tape, place, lease.attempts(), wall, now);
        }
    }

    /// A reader's link broke: it has its leases until they lapse, or it is given up.
    pub(super) fn reader_away(&mut self, tape: &mut Tape, session: SessionId, epoch: Epoch, now: Time) {
        self.looks.remove(&session);
        let Ok(reader) = self.attached(tape, session, epoch) else { return };
        reader.link = Link::Away(now);
        if reader.leaving {
            self.remove(tape, session, true);
        }
    }

    /// A session is given up: others get what it had, at once.
    pub(super) fn lost(&mut self, tape: &mut Tape, session: SessionId, now: Time) {
        self.looks.remove(&session);
        if let Some(reader) = self.readers.get(&session) {
            self.released += reader.holds();
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
        counts.items = tape.next.0.saturating_sub(tape.low.0).saturating_sub(done);
        (counts.leased, counts.delayed) = (self.leases.len() as u64, self.due.len() as u64);
        let elsewhere = counts.leased + counts.delayed + self.dying.len() as u64;
        counts.ready = counts.items.saturating_sub(elsewhere);
        counts.released = self.released;
        counts.readers = self.readers.len() as u32;
    }

    pub(super) fn reader_stats(&self) -> Vec<ReaderStat> {
        let stat = |(session, reader): (&SessionId, &Reader)| {
            let mut stat = ReaderStat::new(Some(session.tag()), reader.link.presence());
            stat.holds = reader.holds();
            stat
        };
        self.readers.iter().map(stat).collect()
    }

    pub(super) fn parties(&self) -> usize {
        self.readers.len() + self.looks.len() + (self.waiting.len() + self.leases.len()) / 8
    }

    pub(super) fn away(&self) -> impl Iterator<Item = (SessionId, Option<ProcessId>)> + '_ {
        let away = self.readers.iter().filter(|(_, reader)| matches!(reader.link, Link::Away(_)));
        away.map(|(session, reader)| (*session, reader.holder.process()))
    }

    pub(super) fn link(&self, session: SessionId) -> Option<Link> {
        let looks = self.looks.get(&session).map(|_| Link::Attached);
        self.readers.get(&session).map(|reader| reader.link).or(looks)
    }

    pub(super) fn wake_all(&mut self, tape: &mut Tape) {
        self.readers.keys().chain(self.looks.keys()).for_each(|session| tape.wake(*session));
    }

    pub(super) fn clear(&mut self) -> Vec<SessionId> {
        let Self { readers, looks, .. } = std::mem::take(self);
        readers.into_keys().chain(looks.into_keys()).collect()
    }

    pub(super) fn next_tick(&self, tape: &Tape) -> Option<Time> {
        let lost = self.readers.values().filter_map(|reader| match reader.link {
            Link::Away(since) => Some(since.plus(AWAY_LOST)),
            Link::Attached => None,
        });
        let lapse = self.lapsing.first().map(|(at, _)| *at);
        // Of a log that failed nothing is handed out any more.
        let due = self.due.first().filter(|_| tape.read_only.is_none()).map(|(wall, _)| tape.time(*wall));
        lost.chain(lapse).chain(due).min()
    }

    pub(super) fn tick(&mut self, tape: &mut Tape, now: Time) {
        let overdue = |link: Link| matches!(link, Link::Away(since) if since.plus(AWAY_LOST) <= now);
        let lost: Vec<SessionId> = self.readers.iter().filter(|(_, r)| overdue(r.link)).map(|(s, _)| *s).collect();
        lost.into_iter().for_each(|session| self.lost(tape, session, now));
        while let Some(&(_, place)) = self.lapsing.first().filter(|(until, _)| *until <= now) {
            let Some(lease) = self.leases.get(&place).copied() else { break };
            self.tell_if_torn(tape, place, lease);
            self.release(place);
            let wall = tape.wall(now);
            self.put_back(tape, place, lease.attempts(), wall, now);
            self.queue_up(lease.reader);
            // One that reads other queues too may have found its hands full there.
            tape.wake(lease.reader);
        }
        self.assign(tape, now);
        // A reader that would not wait may have nothing to wait for now.
        let no_wait: Vec<SessionId> = self.readers.iter().filter(|(_, r)| r.no_wait).map(|(s, _)| *s).collect();
        no_wait.into_iter().for_each(|session| tape.wake(session));
    }
}

/// How long a lease is, unless it is extended.
fn lease_time(tape: &Tape) -> Duration {
    tape.settings.lease.unwrap_or(LEASE)
}

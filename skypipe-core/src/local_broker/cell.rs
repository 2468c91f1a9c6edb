//! One pipe: its state machine behind a lock, and what its effects do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::broker::Mode;
use crate::budget::Reservation;
use crate::delivery::{Closed, Effect, Machine, Room};
use crate::error::Error;
use crate::id::{Lsn, PipeId, SessionId};
use crate::identity::PublicKey;
use crate::log::Entry;
use crate::memory::{Memory, PARTY_BYTES, PIPE_BYTES, Part};
use crate::name::PipeRef;
use crate::stat::PipeStat;
use crate::time::Time;

use super::meter::Meter;
use super::owners::{Account, Share};
use super::shared::{Shared, lock};

/// One pipe.
pub(super) struct Cell {
    pub(super) id: PipeId,
    pub(super) pipe: PipeRef,
    pub(super) mode: Mode,
    /// What went through it.
    pub(super) meter: Meter,
    state: Mutex<State>,
}

struct State {
    machine: Machine,
    /// The numbers the log gave to the machine's entries that are not durable yet.
    pending: VecDeque<Lsn>,
    /// Who waits for something to get.
    wakers: BTreeMap<SessionId, Waker>,
    /// When the timers will wake the pipe.
    timer: Option<Time>,
    /// What it has of all that its owner may have.
    share: Share,
    /// The memory of all this, of its owner's part.
    reserved: Reservation,
    /// Keeps the part, which all pipes of one owner share.
    _part: Arc<Part>,
    /// Items and readers that are paid for.
    parties: usize,
}

impl Cell {
    pub(super) fn new(id: PipeId, machine: Machine, account: Arc<Account>, memory: &Memory, meter: Meter) -> Self {
        let (pipe, mode) = (machine.pipe().clone(), machine.mode());
        let part = memory.part_of(pipe.owner.0.map(PublicKey));
        let mut state = State {
            machine,
            pending: VecDeque::new(),
            wakers: BTreeMap::new(),
            timer: None,
            share: Share::new(account),
            reserved: part.pipes.hold(PIPE_BYTES),
            _part: part,
            parties: 0,
        };
        state.reserve();
        Self { id, pipe, mode, meter, state: Mutex::new(state) }
    }

    /// Changes the machine and does what comes of it. `None` when the pipe is gone.
    pub(super) fn change<R>(&self, shared: &Shared, change: impl FnOnce(&mut Machine) -> R) -> Option<R> {
        let mut state = lock(&self.state);
        if state.machine.is_gone() {
            return None;
        }
        let result = change(&mut state.machine);
        let woken = self.carry_out(shared, &mut state);
        self.set_timer(shared, &mut state);
        state.reserve();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        Some(result)
    }

    /// As [`Cell::change`], also on a pipe that is gone, and keeps the waker of `session` if there is nothing to get.
    pub(super) fn poll<R>(
        &self,
        shared: &Shared,
        session: SessionId,
        cx: &Context<'_>,
        ask: impl FnOnce(&mut Machine) -> Option<R>,
    ) -> Poll<R> {
        let mut state = lock(&self.state);
        let result = ask(&mut state.machine);
        if result.is_none() {
            match state.wakers.get_mut(&session) {
                Some(waker) => waker.clone_from(cx.waker()),
                None => drop(state.wakers.insert(session, cx.waker().clone())),
            }
        }
        // To ask brings no moment nearer at which something is due, so the timer stays: to look for that moment costs a look at each reader.
        let woken = self.carry_out(shared, &mut state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        result.map_or(Poll::Pending, Poll::Ready)
    }

    /// Does what came of making the machine ready from the log. A pipe of which nothing is left goes with it, and its last sessions
    /// are remembered: the relay before may have been killed before it told them.
    pub(super) fn recovered(&self, shared: &Shared) {
        let mut state = lock(&self.state);
        self.measure(shared, &mut state);
        let woken = self.carry_out(shared, &mut state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// How much room there is may have changed.
    pub(super) fn measured(&self, shared: &Shared) {
        let mut state = lock(&self.state);
        self.measure(shared, &mut state);
        let woken = self.carry_out(shared, &mut state);
        self.set_timer(shared, &mut state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// The log has all entries up to `upto`.
    pub(super) fn stored(&self, shared: &Shared, upto: Lsn) {
        let mut state = lock(&self.state);
        let count = state.pending.partition_point(|lsn| *lsn <= upto);
        state.pending.drain(..count);
        state.machine.stored(count as u64, shared.env.now());
        self.measure(shared, &mut state);
        let woken = self.carry_out(shared, &mut state);
        self.set_timer(shared, &mut state);
        if state.machine.is_gone() && state.pending.is_empty() {
            shared.log.forget_pipe(self.id);
            shared.directory().forget_id(self.id);
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Something may be due.
    pub(super) fn tick(&self, shared: &Shared, now: Time) {
        lock(&self.state).timer = None;
        self.change(shared, |pipe| pipe.tick(now));
    }

    /// Waits until all that was appended so far is durable.
    pub(super) async fn all_stored(&self, shared: &Shared) -> Result<(), Error> {
        let upto = lock(&self.state).pending.back().copied();
        loop {
            let notified = shared.stored.notified();
            if let Some(error) = shared.failure() {
                return Err(error);
            }
            if lock(&self.state).pending.front().copied() > upto || lock(&self.state).pending.is_empty() {
                return Ok(());
            }
            notified.await;
        }
    }

    /// Drops what waits for this session. That may already be a newer attach of it, which looks again then.
    pub(super) fn forget_waker(&self, session: SessionId) {
        let waker = lock(&self.state).wakers.remove(&session);
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn knows(&self, session: SessionId) -> bool {
        lock(&self.state).machine.knows(session)
    }

    /// Numbers for people, with `list` also who its readers are; none of a pipe that is gone.
    pub(super) fn stat(&self, shared: &Shared, list: bool) -> Option<PipeStat> {
        let state = lock(&self.state);
        if state.machine.is_gone() {
            return None;
        }
        let counts = state.machine.counts();
        let mut stat = PipeStat::empty(self.pipe.path.clone(), state.machine.mode());
        (stat.items, stat.ended) = (counts.items, counts.ended);
        (stat.writers, stat.readers, stat.leased) = (counts.writers, counts.readers, counts.leased);
        (stat.damaged, stat.read_only) = (counts.damaged, shared.failure().is_some());
        (stat.ready, stat.delayed, stat.released) = (counts.ready, counts.delayed, counts.released);
        stat.bytes = shared.log.bytes(self.id) + counts.unlogged_bytes;
        let readers = state.machine.reader_stats();
        drop(state);
        stat.tell_readers(readers, list);
        stat.traffic = self.meter.traffic(shared.env.now());
        Some(stat)
    }

    /// Does what the machine asks for, in order, and returns who is to be woken once the lock is free.
    fn carry_out(&self, shared: &Shared, state: &mut State) -> Vec<Waker> {
        let mut woken = Vec::new();
        loop {
            let effects = state.machine.take_effects();
            let freed = effects.iter().any(|effect| matches!(effect, Effect::Forget(..)));
            for effect in effects {
                self.carry_out_one(shared, state, effect, &mut woken);
            }
            if !freed {
                break;
            }
            self.measure(shared, state);
        }
        woken
    }

    fn carry_out_one(&self, shared: &Shared, state: &mut State, effect: Effect, woken: &mut Vec<Waker>) {
        match effect {
            Effect::Fact(fact) => {
                let entry = Entry::Fact { pipe: self.id, body: fact.encode() };
                state.pending.push_back(shared.log.append(entry));
            }
            Effect::Batch(item, batch) => {
                state.pending.push_back(shared.log.append(Entry::Batch { pipe: self.id, item, batch }));
            }
            Effect::Tape(at, batch) => {
                state.pending.push_back(shared.log.append(Entry::Tape { pipe: self.id, at, batch }));
            }
            Effect::Bury(place) => shared.bury(self.id, place),
            Effect::Forget(item, below) => shared.log.forget(self.id, item, below),
            Effect::Wake(session) => woken.extend(state.wakers.remove(&session)),
            Effect::Closed { session, next, ended, delivered } => {
                shared.close_session(Closed { session, next, ended, delivered, at: shared.env.clock.wall() });
            }
            Effect::Gone => {
                let changed = state.share.end();
                self.tell_owner(shared, state, changed);
                shared.directory().forget_name(self);
                if state.pending.is_empty() {
                    shared.directory().forget_id(self.id);
                }
                woken.extend(std::mem::take(&mut state.wakers).into_values());
            }
        }
    }

    /// Tells the machine which quota is used up: its own, or its owner's.
    fn measure(&self, shared: &Shared, state: &mut State) {
        if state.machine.is_gone() {
            return;
        }
        let bytes = shared.log.bytes(self.id);
        let changed = state.share.uses(bytes);
        self.tell_owner(shared, state, changed);
        let used_up = match bytes >= shared.pipe_bytes_max {
            true => Some(Room::Pipe),
            false => state.share.account().is_full().then_some(Room::Owner),
        };
        state.machine.quota(used_up, shared.env.now());
    }

    /// The owner's other pipes hear of it when no pipe is locked.
    fn tell_owner(&self, shared: &Shared, state: &State, changed: bool) {
        if changed {
            shared.owners.changed(state.share.owner());
            shared.timers.look();
        }
    }

    fn set_timer(&self, shared: &Shared, state: &mut State) {
        let Some(at) = state.machine.next_tick() else { return };
        if state.timer.is_none_or(|timer| at < timer) {
            shared.timers.set(self.id, state.timer, at);
            state.timer = Some(at);
        }
    }
}

impl State {
    /// Pays for the parties there are now.
    fn reserve(&mut self) {
        let parties = self.machine.parties();
        if parties != self.parties {
            self.parties = parties;
            self.reserved.resize(PIPE_BYTES + parties as u64 * PARTY_BYTES);
        }
    }
}

/// A pipe behind a pointer.
pub(super) type SharedCell = Arc<Cell>;

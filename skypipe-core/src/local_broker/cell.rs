//! One pipe: its state machine behind a lock, and what its effects do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::broker::Mode;
use crate::budget::Reservation;
use crate::delivery::{Closed, Effect, Machine, Rest, Room};
use crate::error::Error;
use crate::id::{Lsn, PipeId, SessionId};
use crate::log::Entry;
use crate::memory::{PARTY_BYTES, PIPE_AT_REST_BYTES, PIPE_BYTES};
use crate::name::{Owner, PipePath, PipeRef};
use crate::stat::PipeStat;
use crate::time::Time;

use super::meter::Meter;
use super::owners::{Account, Share};
use super::shared::{Shared, lock};

/// One pipe. There may be a million of them at rest, so what it is made of is counted in bytes: 256 with its name and what it rests as.
pub(super) struct Cell {
    pub(super) id: PipeId,
    pub(super) path: PipePath,
    /// Its owner's, which tells who that is.
    account: Arc<Account>,
    pub(super) mode: Mode,
    /// What went through it.
    pub(super) meter: Meter,
    state: Mutex<State>,
}

struct State {
    /// None while it rests.
    awake: Option<Box<Awake>>,
    /// What it is made from when somebody comes, while it rests.
    rest: Rest,
    /// What it has of all that its owner may have.
    share: Share,
}

/// A pipe that somebody uses, or that waits for something.
struct Awake {
    machine: Machine,
    /// The numbers the log gave to the machine's entries that are not durable yet.
    pending: VecDeque<Lsn>,
    /// Who waits for something to get.
    wakers: BTreeMap<SessionId, Waker>,
    /// When the timers will wake the pipe.
    timer: Option<Time>,
    /// The memory of all this, of its owner's part.
    reserved: Reservation,
    /// Items and readers that are paid for.
    parties: usize,
}

impl Cell {
    pub(super) fn new(id: PipeId, machine: Machine, account: Arc<Account>, now: Time) -> Self {
        let (path, mode) = (machine.pipe().path.clone(), machine.mode());
        let awake = Some(Box::new(Awake::new(machine, &account)));
        let state = State { awake, rest: Rest::default(), share: Share::new(&account) };
        Self { id, path, account, mode, meter: Meter::new(now), state: Mutex::new(state) }
    }

    /// A pipe that was found at rest in the log, with so many bytes there.
    pub(super) fn at_rest(
        id: PipeId,
        path: PipePath,
        rest: Rest,
        bytes: u64,
        account: Arc<Account>,
        now: Time,
    ) -> Self {
        let mut share = Share::new(&account);
        share.uses(&account, bytes);
        account.rests(bytes_at_rest(&rest));
        let state = Mutex::new(State { awake: None, rest, share });
        Self { id, path, account, mode: Mode::Default, meter: Meter::new(now), state }
    }

    pub(super) fn owner(&self) -> &Owner {
        self.account.owner()
    }

    /// Its owner and path.
    pub(super) fn pipe(&self) -> PipeRef {
        PipeRef { owner: *self.owner(), path: self.path.clone() }
    }

    /// Changes the machine and does what comes of it. `None` when the pipe is gone.
    pub(super) fn change<R>(&self, shared: &Shared, change: impl FnOnce(&mut Machine) -> R) -> Option<R> {
        let mut state = lock(&self.state);
        let (awake, share) = self.wake(shared, &mut state);
        if awake.machine.is_gone() {
            return None;
        }
        let result = change(&mut awake.machine);
        let woken = self.carry_out(shared, awake, share);
        self.set_timer(shared, awake);
        awake.reserve();
        self.lay_down(&mut state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        Some(result)
    }

    /// As [`Cell::change`], of a pipe that does not rest: one that does hears of all this when it wakes.
    pub(super) fn change_awake(&self, shared: &Shared, change: impl FnOnce(&mut Machine)) {
        // It may rest by now, and is woken for nothing then.
        if self.is_awake() {
            self.change(shared, change);
        }
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
        let (awake, share) = self.wake(shared, &mut state);
        let result = ask(&mut awake.machine);
        if result.is_none() {
            match awake.wakers.get_mut(&session) {
                Some(waker) => waker.clone_from(cx.waker()),
                None => drop(awake.wakers.insert(session, cx.waker().clone())),
            }
        }
        // To ask brings no moment nearer at which something is due, so the timer stays: to look for that moment costs a look at each reader.
        let woken = self.carry_out(shared, awake, share);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        result.map_or(Poll::Pending, Poll::Ready)
    }

    /// Does what came of making the machine ready from the log. A pipe of which nothing is left goes with it, and its last sessions
    /// are remembered: the relay before may have been killed before it told them.
    pub(super) fn recovered(&self, shared: &Shared) {
        let mut state = lock(&self.state);
        let (awake, share) = self.wake(shared, &mut state);
        self.measure(shared, awake, share);
        let woken = self.carry_out(shared, awake, share);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// How much room there is may have changed. A pipe at rest hears of it when it wakes.
    pub(super) fn measured(&self, shared: &Shared) {
        let mut state = lock(&self.state);
        let State { awake: Some(awake), share, .. } = &mut *state else { return };
        self.measure(shared, awake, share);
        let woken = self.carry_out(shared, awake, share);
        self.set_timer(shared, awake);
        self.lay_down(&mut state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// The log has all entries up to `upto`.
    pub(super) fn stored(&self, shared: &Shared, upto: Lsn) {
        let mut state = lock(&self.state);
        // A pipe at rest has nothing pending: the log moved something of it.
        let State { awake: Some(awake), share, .. } = &mut *state else { return };
        let count = awake.pending.partition_point(|lsn| *lsn <= upto);
        awake.pending.drain(..count);
        awake.machine.stored(count as u64, shared.env.now());
        self.measure(shared, awake, share);
        let woken = self.carry_out(shared, awake, share);
        self.set_timer(shared, awake);
        if awake.machine.is_gone() && awake.pending.is_empty() {
            shared.log.forget_pipe(self.id);
            shared.directory().forget_id(self.id);
        }
        self.lay_down(&mut state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Something may be due.
    pub(super) fn tick(&self, shared: &Shared, now: Time) {
        if let Some(awake) = &mut lock(&self.state).awake {
            awake.timer = None;
        }
        self.change_awake(shared, |pipe| pipe.tick(now));
    }

    /// Waits until all that was appended so far is durable.
    pub(super) async fn all_stored(&self, shared: &Shared) -> Result<(), Error> {
        let pending = |at: fn(&VecDeque<Lsn>) -> Option<&Lsn>| {
            lock(&self.state).awake.as_ref().and_then(|awake| at(&awake.pending).copied())
        };
        let upto = pending(VecDeque::back);
        loop {
            let notified = shared.stored.notified();
            if let Some(error) = shared.failure() {
                return Err(error);
            }
            if pending(VecDeque::front).is_none_or(|first| Some(first) > upto) {
                return Ok(());
            }
            notified.await;
        }
    }

    /// Drops what waits for this session. That may already be a newer attach of it, which looks again then.
    pub(super) fn forget_waker(&self, session: SessionId) {
        let waker = lock(&self.state).awake.as_mut().and_then(|awake| awake.wakers.remove(&session));
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn knows(&self, session: SessionId) -> bool {
        let state = lock(&self.state);
        state.awake.as_ref().map_or_else(|| state.rest.knows(session), |awake| awake.machine.knows(session))
    }

    /// Whether it does not rest.
    pub(super) fn is_awake(&self) -> bool {
        lock(&self.state).awake.is_some()
    }

    /// Numbers for people, with `list` also who its readers are; none of a pipe that is gone.
    pub(super) fn stat(&self, shared: &Shared, list: bool) -> Option<PipeStat> {
        let state = lock(&self.state);
        let machine = state.awake.as_ref().map(|awake| &awake.machine);
        if machine.is_some_and(Machine::is_gone) {
            return None;
        }
        let counts = machine.map_or_else(|| state.rest.counts(), Machine::counts);
        let mut stat = PipeStat::empty(self.path.clone(), self.mode);
        (stat.items, stat.ended) = (counts.items, counts.ended);
        (stat.writers, stat.readers, stat.leased) = (counts.writers, counts.readers, counts.leased);
        (stat.damaged, stat.read_only) = (counts.damaged, shared.failure().is_some());
        (stat.ready, stat.delayed, stat.released) = (counts.ready, counts.delayed, counts.released);
        stat.bytes = shared.log.bytes(self.id) + counts.unlogged_bytes;
        let readers = machine.map(Machine::reader_stats).unwrap_or_default();
        drop(state);
        stat.tell_readers(readers, list);
        stat.traffic = self.meter.traffic(shared.env.now(), shared.wall_at_zero);
        Some(stat)
    }

    /// Makes the pipe ready if it rests. It hears of all that others were told meanwhile.
    fn wake<'a>(&self, shared: &Shared, state: &'a mut State) -> (&'a mut Awake, &'a mut Share) {
        let State { awake, rest, share } = state;
        let awake = awake.get_or_insert_with(|| {
            let rest = std::mem::take(rest);
            self.account.wakes(bytes_at_rest(&rest));
            let extent = |item| shared.log.extent(self.id, item);
            let mut machine = Machine::awake(self.pipe(), &rest, shared.env.now(), extent);
            shared.tell_all_known(&mut machine, &self.account);
            let mut awake = Box::new(Awake::new(machine, &self.account));
            self.measure(shared, &mut awake, share);
            awake
        });
        (awake, share)
    }

    /// Lets the pipe rest if there is nothing to do and nobody to wait for.
    fn lay_down(&self, state: &mut State) {
        let is_still = |awake: &Awake| awake.pending.is_empty() && awake.wakers.is_empty() && awake.timer.is_none();
        let rest = state.awake.as_ref().filter(|awake| is_still(awake)).and_then(|awake| awake.machine.rest());
        if let Some(rest) = rest {
            self.account.rests(bytes_at_rest(&rest));
            state.rest = rest;
            state.awake = None;
        }
    }

    /// Does what the machine asks for, in order, and returns who is to be woken once the lock is free.
    fn carry_out(&self, shared: &Shared, awake: &mut Awake, share: &mut Share) -> Vec<Waker> {
        let mut woken = Vec::new();
        loop {
            let effects = awake.machine.take_effects();
            let freed = effects.iter().any(|effect| matches!(effect, Effect::Forget(..)));
            for effect in effects {
                self.carry_out_one(shared, (&mut *awake, &mut *share), effect, &mut woken);
            }
            if !freed {
                break;
            }
            self.measure(shared, awake, share);
        }
        woken
    }

    fn carry_out_one(
        &self,
        shared: &Shared,
        (awake, share): (&mut Awake, &mut Share),
        effect: Effect,
        woken: &mut Vec<Waker>,
    ) {
        match effect {
            Effect::Fact(fact) => {
                let entry = Entry::Fact { pipe: self.id, body: fact.encode() };
                awake.pending.push_back(shared.log.append(entry));
            }
            Effect::Batch(item, batch) => {
                awake.pending.push_back(shared.log.append(Entry::Batch { pipe: self.id, item, batch }));
            }
            Effect::Tape(at, batch) => {
                awake.pending.push_back(shared.log.append(Entry::Tape { pipe: self.id, at, batch }));
            }
            Effect::Bury(place) => shared.bury(self.id, place),
            Effect::Forget(item, below) => shared.log.forget(self.id, item, below),
            Effect::Wake(session) => woken.extend(awake.wakers.remove(&session)),
            Effect::Closed { session, next, ended, delivered } => {
                shared.close_session(Closed { session, next, ended, delivered, at: shared.env.clock.wall() });
            }
            Effect::Gone => {
                let changed = share.end(&self.account);
                self.tell_owner(shared, changed);
                shared.directory().forget_name(self);
                if awake.pending.is_empty() {
                    shared.directory().forget_id(self.id);
                }
                woken.extend(std::mem::take(&mut awake.wakers).into_values());
            }
        }
    }

    /// Tells the machine which quota is used up: its own, or its owner's.
    fn measure(&self, shared: &Shared, awake: &mut Awake, share: &mut Share) {
        if awake.machine.is_gone() {
            return;
        }
        let bytes = shared.log.bytes(self.id);
        let changed = share.uses(&self.account, bytes);
        self.tell_owner(shared, changed);
        let used_up = match bytes >= shared.pipe_bytes_max {
            true => Some(Room::Pipe),
            false => self.account.is_full().then_some(Room::Owner),
        };
        awake.machine.quota(used_up, shared.env.now());
    }

    /// The owner's other pipes hear of it when no pipe is locked.
    fn tell_owner(&self, shared: &Shared, changed: bool) {
        if changed {
            shared.owners.changed(*self.owner());
            shared.timers.look();
        }
    }

    fn set_timer(&self, shared: &Shared, awake: &mut Awake) {
        let Some(at) = awake.machine.next_tick() else { return };
        if awake.timer.is_none_or(|timer| at < timer) {
            shared.timers.set(self.id, awake.timer, at);
            awake.timer = Some(at);
        }
    }
}

impl Awake {
    fn new(machine: Machine, account: &Account) -> Self {
        let reserved = account.memory().hold(PIPE_BYTES);
        let (pending, wakers, timer) = (VecDeque::new(), BTreeMap::new(), None);
        let mut awake = Self { machine, pending, wakers, timer, reserved, parties: 0 };
        awake.reserve();
        awake
    }

    /// Pays for the parties there are now.
    fn reserve(&mut self) {
        let parties = self.machine.parties();
        if parties != self.parties {
            self.parties = parties;
            self.reserved.resize(PIPE_BYTES + parties as u64 * PARTY_BYTES);
        }
    }
}

/// What a pipe takes while it rests.
fn bytes_at_rest(rest: &Rest) -> u64 {
    PIPE_AT_REST_BYTES + rest.bytes() as u64
}

/// A pipe behind a pointer.
pub(super) type SharedCell = Arc<Cell>;

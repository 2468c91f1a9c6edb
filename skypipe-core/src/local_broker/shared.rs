//! What all parts of a local broker share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::broker::Mode;
use crate::delivery::{Closed, Fact, Machine, Room, TapePipe};
use crate::env::Env;
use crate::error::{Code, Error};
use crate::id::{ItemNo, Lsn, PipeId, Seq};
use crate::log::{ByPipe, Disk, Entry, Log, LogOptions, LogOwner, Read, TAPE};
use crate::memory::Memory;
use crate::name::{Owner, PipeRef};
use crate::time::{Time, WallTime};

use super::LocalBrokerOptions;
use super::burial::{self, Burial};
use super::cell::{Cell, SharedCell};
use super::closed::ClosedSessions;
use super::directory::Directory;
use super::owners::{Account, Owners};
use super::pressure;
use super::recovery::{Found, Recovery};
use super::timers::Timers;
use super::vanished;

/// The log of the broker itself, beside those of its pipes.
pub(super) const BROKER: PipeId = PipeId(0);

/// Read at once of a tape's end.
const TAIL_BYTES: usize = 1024 * 1024;

/// What all parts of a local broker share.
pub(super) struct Shared {
    pub(super) env: Env,
    pub(super) log: Arc<Log>,
    pub(super) timers: Timers,
    /// See [`LocalBrokerOptions::pipe_bytes_max`].
    pub(super) pipe_bytes_max: u64,
    pub(super) memory: Memory,
    /// The wall clock at [`Time`] 0, as it was when the broker was opened.
    pub(super) wall_at_zero: WallTime,
    pub(super) owners: Owners,
    directory: Mutex<Directory>,
    closed: Mutex<ClosedSessions>,
    burials: UnboundedSender<Burial>,
    next_pipe: AtomicU64,
    /// The program is about to stop: broken links mean nothing.
    draining: AtomicBool,
    /// Since when the log waits for room on its disk.
    stalled: Mutex<Option<Time>>,
    /// The log failed: nothing can be promised any more.
    failed: OnceLock<(Code, String)>,
    /// The log failed.
    pub(super) failing: Notify,
    /// Something became durable.
    pub(super) stored: Notify,
}

impl Shared {
    /// Opens the log and makes the pipes from it.
    pub(super) fn open(disk: Arc<dyn Disk>, env: Env, options: &LocalBrokerOptions) -> Result<Arc<Self>, Error> {
        let wall_at_zero = env.wall_at_zero();
        let mut recovery = Recovery::new(wall_at_zero);
        let mut log_options = LogOptions { work: env.work, ..options.log.clone() };
        if log_options.salt == 0 {
            log_options.salt = env.secret();
        }
        let log = Log::open(disk, log_options, &mut |pipe, body| recovery.fact(pipe, &body))?;
        let (pipes, closed) = recovery.finish()?;
        let newest = pipes.last().into_iter().chain(log.last_pipe()).map(|pipe| pipe.0).max().unwrap_or_default();
        let (burials, buried) = unbounded_channel();
        let shared = Arc::new(Self {
            burials,
            timers: Timers::default(),
            pipe_bytes_max: options.pipe_bytes_max,
            memory: options.memory.clone(),
            owners: Owners::new(&options.memory),
            wall_at_zero,
            directory: Mutex::default(),
            closed: Mutex::new(closed),
            next_pipe: AtomicU64::new(newest + 1),
            draining: AtomicBool::new(false),
            stalled: Mutex::new(None),
            failed: OnceLock::new(),
            failing: Notify::new(),
            stored: Notify::new(),
            env,
            log,
        });
        shared.drop_unknown(&pipes);
        let awaited = shared.recover_all(pipes, options)?;
        let owner: Weak<dyn LogOwner> = Arc::downgrade(&(shared.clone() as Arc<dyn LogOwner>));
        shared.log.start(owner)?;
        Timers::start(&shared);
        burial::start(&shared, buried);
        vanished::watch(&shared, awaited, options.is_alive);
        Ok(shared)
    }

    /// The pipes that do not rest.
    fn awake(&self) -> Vec<Arc<Cell>> {
        let mut cells = self.directory().all();
        cells.retain(|cell| cell.is_awake());
        cells
    }

    pub(super) fn directory(&self) -> MutexGuard<'_, Directory> {
        lock(&self.directory)
    }

    pub(super) fn closed(&self) -> MutexGuard<'_, ClosedSessions> {
        lock(&self.closed)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The error of a log that failed.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failed.get().map(|(code, text)| Error::new(*code, text.clone()))
    }

    /// A new cell for a pipe nobody knows; the caller holds the directory and puts it there, so that a log that fails now finds it.
    pub(super) fn new_cell(&self, pipe: &PipeRef, mode: Mode) -> Arc<Cell> {
        let id = PipeId(self.next_pipe.fetch_add(1, Ordering::Relaxed));
        let mut machine = Machine::new(pipe.clone(), mode, self.env.wall_at_zero());
        let account = self.owners.account(pipe.owner);
        self.tell_all_known(&mut machine, &account);
        Arc::new(Cell::new(id, machine, account, self.env.now()))
    }

    /// What all pipes were told is told to one that was not there: what is known is changed before the pipes are told, so what it does not hear
    /// here it hears with the others.
    pub(super) fn tell_all_known(&self, machine: &mut Machine, account: &Account) {
        if let Some(error) = self.failure() {
            machine.turn_read_only(&error);
        }
        machine.quota(account.is_full().then_some(Room::Owner), self.env.now());
        if let Some(since) = *lock(&self.stalled) {
            machine.waits_for_room(Room::Disk, since);
        }
        machine.writers_may(pressure::window(self));
    }

    /// Remembers the last number of a session, in the log as well. A pipe made ready from the log says it once more of who was given up.
    pub(super) fn close_session(&self, closed: Closed) {
        let known = self.closed().get(closed.session);
        if known.is_some_and(|known| Closed { at: closed.at, ..known } == closed) {
            return;
        }
        self.closed().insert(closed);
        self.log.append(Entry::Fact { pipe: BROKER, body: Fact::Closed(closed).encode() });
    }

    /// See [`crate::Broker::drain`].
    pub(super) async fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        let cells = self.awake();
        // All go to the disk together: one sync for many pipes.
        for cell in &cells {
            cell.change_awake(self, Machine::flush);
        }
        for cell in cells {
            // Whoever waits for room on a full disk goes on with the next host.
            if cell.all_stored(self).await.is_err() {
                return;
            }
        }
    }

    /// Makes all pipes ready: those at rest first, of which there may be very many. Gives the cells whose sessions' processes are still to
    /// come back.
    fn recover_all(
        self: &Arc<Self>,
        pipes: ByPipe<Found>,
        options: &LocalBrokerOptions,
    ) -> Result<Vec<SharedCell>, Error> {
        let (now, mut resting, mut others) = (self.env.now(), Vec::with_capacity(pipes.len()), Vec::new());
        let mut account = self.owners.account(Owner::SELF);
        for (id, found) in pipes.drain() {
            match found.at_rest(|rest| self.log.bytes_of_all(id, rest.batches())) {
                Ok((pipe, rest, bytes)) => {
                    // Neighbours have one owner, mostly.
                    if *account.owner() != pipe.owner {
                        account = self.owners.account(pipe.owner);
                    }
                    resting.push(Arc::new(Cell::at_rest(id, pipe.path, rest, bytes, account.clone(), now)));
                }
                Err(found) => others.push((id, found)),
            }
        }
        self.directory().begin_with(resting);
        let mut awaited = Vec::new();
        for (id, found) in others {
            awaited.extend(self.recover(id, found.machine(id, self.wall_at_zero)?, options));
        }
        Ok(awaited)
    }

    /// Makes a pipe ready. Gives its cell if processes that had sessions there are still to come back.
    fn recover(self: &Arc<Self>, id: PipeId, mut pipe: Machine, options: &LocalBrokerOptions) -> Option<SharedCell> {
        for item in self.log.items(id).into_iter().filter(|item| !pipe.has_item(*item)) {
            // What tells of it may be what cannot be read: then its bytes are for a person to look at.
            if self.log.recovery().has_damage() {
                self.log.keep_aside(id, Some(item));
            }
            self.log.forget(id, item, Seq(u64::MAX));
        }
        for item in pipe.open_items() {
            if let Some(ended) = self.end_without_fact(id, item) {
                self.log.append(Entry::Fact { pipe: id, body: ended.encode() });
                pipe.replay(ended);
            }
        }
        if let Machine::Tape(tape) = &mut pipe {
            self.read_tail(id, tape);
            self.read_open(id, tape);
        }
        pipe.recovered(self.env.now(), |item| self.log.extent(id, item));
        let account = self.owners.account(pipe.pipe().owner);
        let cell = Arc::new(Cell::new(id, pipe, account, self.env.now()));
        self.directory().insert(cell.clone());
        // It may be gone already: killed between the last taking and the word that nothing is left.
        cell.recovered(self);
        let now = self.env.now();
        let awaited = cell.change(self, |pipe| vanished::give_up_the_dead(pipe, options.is_alive, now));
        (awaited == Some(true)).then_some(cell)
    }

    /// What stands on a tape behind the last fact that tells how far its writers are: at most about a mebibyte.
    fn read_tail(&self, pipe: PipeId, tape: &mut TapePipe) {
        let mut from = tape.unread_from();
        loop {
            match self.log.read(pipe, TAPE, from, TAIL_BYTES) {
                Ok(Read::Tape(batches)) => {
                    for (at, batch) in batches {
                        tape.replay_batch(at, &batch);
                        from = at.plus(u64::from(batch.count()));
                    }
                }
                Ok(Read::Gap { to }) if to > from => from = to,
                _ => return,
            }
        }
    }

    /// The last parts of records of which more were to come.
    fn read_open(&self, pipe: PipeId, tape: &mut TapePipe) {
        for item in tape.open_items() {
            let last = self.log.extent(pipe, item).last().and_then(|range| range.end.0.checked_sub(1));
            let read = last.and_then(|last| self.log.read(pipe, item, Seq(last), 1).ok());
            if let Some(Read::Batches(batches)) = read
                && let Some(batch) = batches.first()
            {
                tape.replay_part(item, batch, self.log.item_bytes(pipe, item));
            }
        }
    }

    /// Gives a record that was handed out too often to the dead letters of its pipe.
    pub(super) fn bury(&self, pipe: PipeId, place: Seq) {
        // Without the task the broker is about to stop.
        let _ = self.burials.send(Burial { pipe, place });
    }

    /// The power may have gone between an end mark and the fact that says so, which stand in one commit group.
    fn end_without_fact(&self, pipe: PipeId, item: ItemNo) -> Option<Fact> {
        let last = Seq(self.log.extent(pipe, item).last()?.end.0.checked_sub(1)?);
        let Ok(Read::Batches(batches)) = self.log.read(pipe, item, last, 1) else { return None };
        let batch = batches.first()?;
        Some(Fact::Ended { item, kind: batch.end()?.kind, next: batch.next() })
    }

    /// Pipes of which only batches are left were removed before their batches were freed.
    fn drop_unknown(&self, known: &ByPipe<Found>) {
        let unknown = |pipe: &PipeId| *pipe != BROKER && known.get(*pipe).is_none();
        for pipe in self.log.pipes().into_iter().filter(unknown) {
            if self.log.recovery().has_damage() {
                self.log.keep_aside(pipe, None);
            }
            self.log.forget_pipe(pipe);
        }
    }

    /// Changes all pipes that do not rest.
    pub(super) fn to_all(&self, change: impl Fn(&mut Machine)) {
        let cells = self.awake();
        for cell in cells {
            cell.change_awake(self, &change);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.timers.look();
    }
}

impl LogOwner for Shared {
    fn stored(&self, pipe: PipeId, upto: Lsn) {
        let cell = self.directory().by_id(pipe);
        if let Some(cell) = cell {
            cell.stored(self, upto);
        }
        self.stored.notify_waiters();
    }

    fn snapshot(&self, pipe: PipeId) {
        if pipe == BROKER {
            let body = self.closed().snapshot(self.env.clock.wall()).encode();
            self.log.append(Entry::Fact { pipe: BROKER, body });
            return;
        }
        let cell = self.directory().by_id(pipe);
        let known = cell.and_then(|cell| cell.change(self, Machine::log_snapshot));
        if known.is_none() {
            self.log.forget_pipe(pipe);
        }
    }

    fn stalled(&self, _: &Error) {
        let now = self.env.now();
        *lock(&self.stalled) = Some(now);
        self.to_all(|pipe| pipe.waits_for_room(Room::Disk, now));
    }

    fn resumed(&self) {
        *lock(&self.stalled) = None;
        self.to_all(|pipe| pipe.has_room(Room::Disk));
    }

    fn failed(&self, error: &Error) {
        let text = format!("the relay's log is read-only until the relay starts again: {}", error.text());
        let error = Error::new(error.code(), text);
        // Said before the pipes are looked through: one that begins meanwhile begins read-only.
        let _ = self.failed.set((error.code(), error.text().to_owned()));
        self.failing.notify_waiters();
        self.to_all(|pipe| pipe.turn_read_only(&error));
        self.stored.notify_waiters();
    }
}

/// Locks, also after a panic elsewhere: every state machine is valid between two calls.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

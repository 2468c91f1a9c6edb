//! Pipes, facts, batches, forgetting and reading at random. All of it happens in the calls that the log makes to its owner, on the
//! log's own thread: so the same seed does the same again.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use skypipe_core::log::{Entry, Log, LogOwner};
use skypipe_core::{Error, ItemNo, Lsn, PipeId, Seq};

use crate::owed::{At, Owed, read_item};

/// A disk that is full is tried again after a second, a few times in a row; what takes longer than this hangs. Unoptimised tests run
/// beside many others on two cores, so they have longer.
const HANGS_AFTER: Duration = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 5 });

/// How much is done, and how.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// How often the workload does something.
    pub(crate) steps: u32,
    /// Longest record, in bytes.
    pub(crate) length: u64,
    /// What may come of reading.
    pub(crate) reads: Reads,
}

/// What a disk says whose program was killed.
const KILLED: &str = "the program was killed";

/// What may come of reading.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// All that is stored and wanted.
    All,
    /// The same, unless the program is killed before.
    AllUnlessKilled,
    /// The disk may fail to read: what is read must be right, and need not be there.
    Some,
}

/// What a log's owner does and remembers.
pub(crate) struct Workload {
    state: Mutex<State>,
    calls: Box<dyn Fn() -> At + Send + Sync>,
    over: Sender<Over>,
    stalled: Box<dyn Fn() + Send + Sync>,
}

struct State {
    dice: Xoshiro256PlusPlus,
    owed: Owed,
    log: Option<Arc<Log>>,
    shape: Shape,
    wrong: Option<String>,
    told: bool,
    progress: u64,
}

/// How a run of the workload ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// All steps are done and stored.
    Done,
    /// The log failed, with this code.
    Failed(skypipe_core::Code),
}

impl Workload {
    /// A workload that goes on from what is owed. `calls` tells how many calls were made to the disk; `stalled` is called when it is full.
    pub(crate) fn new(
        seed: u64,
        shape: Shape,
        owed: Owed,
        calls: impl Fn() -> At + Send + Sync + 'static,
        stalled: impl Fn() + Send + Sync + 'static,
    ) -> (Arc<Self>, Receiver<Over>) {
        let (over, ended) = channel();
        let dice = Xoshiro256PlusPlus::seed_from_u64(seed);
        let state = State { dice, owed, log: None, shape, wrong: None, told: false, progress: 0 };
        let (calls, stalled) = (Box::new(calls), Box::new(stalled));
        (Arc::new(Self { state: Mutex::new(state), calls, over, stalled }), ended)
    }

    /// Runs until all steps are done, or the log failed. What is owed then.
    ///
    /// # Errors
    /// What went wrong meanwhile.
    pub(crate) fn run(self: &Arc<Self>, log: &Arc<Log>, ended: &Receiver<Over>) -> Result<Over, String> {
        {
            let mut state = self.lock();
            state.log = Some(log.clone());
            state.owed.say_again(log);
            state.append_some(self.at());
        }
        let owner: Arc<dyn LogOwner> = self.clone();
        log.start(Arc::downgrade(&owner)).map_err(|error| error.to_string())?;
        let over = self.wait(ended);
        let wrong = self.lock().wrong.take();
        wrong.map_or(over, Err)
    }

    /// Lets go of the log, which is closed. What is owed then.
    pub(crate) fn end(&self) -> Owed {
        let mut state = self.lock();
        state.log = None;
        std::mem::take(&mut state.owed)
    }

    fn wait(&self, ended: &Receiver<Over>) -> Result<Over, String> {
        let mut progress = 0;
        loop {
            if let Ok(over) = ended.recv_timeout(HANGS_AFTER) {
                return Ok(over);
            }
            let now = self.lock().progress;
            if now == progress {
                return Err(format!("it hangs: nothing in {HANGS_AFTER:?}"));
            }
            progress = now;
        }
    }

    fn at(&self) -> At {
        (self.calls)()
    }

    fn tell(&self, state: &mut State, over: Over) {
        if !std::mem::replace(&mut state.told, true) {
            let _ = self.over.send(over);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogOwner for Workload {
    fn stored(&self, pipe: PipeId, upto: Lsn) {
        let mut state = self.lock();
        state.progress += 1;
        state.owed.stored(pipe, upto, self.at());
        if state.owed.waits() && state.below(3) > 0 {
            return;
        }
        match state.shape.steps.checked_sub(1) {
            Some(left) => {
                state.shape.steps = left;
                state.step(self.at());
            }
            None if !state.owed.waits() => self.tell(&mut state, Over::Done),
            None => {}
        }
    }

    fn snapshot(&self, pipe: PipeId) {
        let mut state = self.lock();
        let entry = state.owed.fact(pipe, true, self.at(), 20);
        state.append(&entry);
    }

    fn stalled(&self, _: &Error) {
        self.lock().progress += 1;
        (self.stalled)();
    }

    fn resumed(&self) {
        self.lock().progress += 1;
    }

    fn failed(&self, error: &Error) {
        let mut state = self.lock();
        self.tell(&mut state, Over::Failed(error.code()));
    }
}

impl State {
    /// Something of everything. Always appends, so that the log goes on.
    fn step(&mut self, at: At) {
        match self.below(12) {
            0 => self.forget_pipe(at),
            1..=4 => self.forget_some(at),
            5 | 6 => self.read_one(at),
            _ => {}
        }
        self.append_some(at);
    }

    fn append_some(&mut self, at: At) {
        for _ in 0..=self.below(5) {
            let pipe = self.any_pipe(at);
            let entry = match self.below(4) {
                0 => {
                    let filler = self.below(60) as usize;
                    self.owed.fact(pipe, false, at, filler)
                }
                _ => {
                    let (item, records) = (self.any_item(pipe), 1 + self.below(4));
                    let most = if self.below(12) == 0 { self.shape.length * 4 } else { self.shape.length };
                    let length = 1 + self.below(most) as usize;
                    self.owed.batch(pipe, item, records, length, at)
                }
            };
            self.append(&entry);
        }
    }

    fn append(&mut self, entry: &Entry) {
        if let Some(log) = &self.log {
            let lsn = log.append(entry.clone());
            self.owed.appended(entry, lsn);
        }
    }

    /// One of few pipes, so that each has a history; a new one now and then, which begins with a fact.
    fn any_pipe(&mut self, at: At) -> PipeId {
        let pipes = self.owed.pipes();
        if pipes.len() < 3 || (pipes.len() < 8 && self.below(10) == 0) {
            let pipe = self.owed.new_pipe();
            let entry = self.owed.fact(pipe, false, at, 5);
            self.append(&entry);
            return pipe;
        }
        pipes[self.below(pipes.len() as u64) as usize].0
    }

    /// One of the last items, or a new one.
    fn any_item(&mut self, pipe: PipeId) -> ItemNo {
        let items = self.items(pipe);
        let last = items.last().map_or(0, |(no, _)| no.0);
        ItemNo(if last == 0 || self.below(6) == 0 { last + 1 } else { last.saturating_sub(self.below(3)).max(1) })
    }

    fn items(&self, pipe: PipeId) -> Vec<(ItemNo, Seq)> {
        self.owed.pipes().into_iter().find(|(id, _)| *id == pipe).map(|(_, items)| items).unwrap_or_default()
    }

    fn chosen(&mut self) -> Option<(PipeId, ItemNo, Seq)> {
        let all: Vec<_> =
            self.owed.pipes().into_iter().flat_map(|(p, i)| i.into_iter().map(move |(i, n)| (p, i, n))).collect();
        (!all.is_empty()).then(|| all[self.below(all.len() as u64) as usize])
    }

    fn forget_some(&mut self, at: At) {
        for _ in 0..1 + self.below(4) {
            let Some((pipe, item, next)) = self.chosen() else { return };
            // A whole item is over: nothing is appended to it any more.
            let is_last = self.items(pipe).last().is_some_and(|(no, _)| no.0 < item.0 + 3);
            let below = if is_last { Seq(self.below(next.0 + 1)) } else { Seq(u64::MAX) };
            self.owed.forget(pipe, item, below, at);
            self.log.iter().for_each(|log| log.forget(pipe, item, below));
        }
    }

    fn forget_pipe(&mut self, at: At) {
        let pipes = self.owed.pipes();
        if pipes.len() > 4 {
            let pipe = pipes[self.below(pipes.len() as u64) as usize].0;
            self.owed.forget_pipe(pipe, at);
            self.log.iter().for_each(|log| log.forget_pipe(pipe));
        }
    }

    /// While room is given back, too, all that is stored and wanted can be read.
    fn read_one(&mut self, at: At) {
        let (Some((pipe, item, _)), Some(log)) = (self.chosen(), self.log.clone()) else { return };
        let checked = match (read_item(&log, pipe, item), self.shape.reads) {
            (Ok(found), Reads::Some) => self.owed.check_bytes(pipe, item, &found, at),
            (Ok(found), _) => self.owed.check_item(pipe, item, &found, at),
            (Err(_), Reads::Some) => Ok(()),
            (Err(wrong), Reads::AllUnlessKilled) if wrong.contains(KILLED) => Ok(()),
            (Err(wrong), _) => Err(wrong),
        };
        if let Err(wrong) = checked {
            self.wrong.get_or_insert(format!("while it runs: {wrong}"));
        }
    }

    fn below(&mut self, below: u64) -> u64 {
        self.dice.next_u64() % below
    }
}

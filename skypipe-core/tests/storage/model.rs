//! Any order of appending, forgetting, reading, closing, killing and cutting the power, against what is owed. Here the log's own
//! thread runs beside the one that does all this, and room is given back in between.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use skypipe_core::log::{Entry, Log, LogOwner};
use skypipe_core::{Error, ItemNo, Lsn, PipeId, Seq};
use skypipe_test::disk::{Image, Loss, RecordingDisk, Unsynced};
use skypipe_test::proof::{Proof, cases};
use skypipe_test::property;

use crate::owed::{Owed, open, read_item};

/// So small that a dozen batches fill one.
const SEGMENT_BYTES: u64 = 2048;
/// What takes longer than this hangs.
const HANGS_AFTER: Duration = Duration::from_secs(20);

#[test]
fn proof_log_against_its_model() {
    let proof = Proof::begin("P1", "log against its model");
    let wanted = cases(60, 20_000, 2_000_000);
    let failures = property::failures(
        wanted,
        || proptest::collection::vec(step(), 1..80),
        |steps| {
            let mut bed = Bed::new();
            let done = steps.into_iter().try_for_each(|step| bed.run(step));
            done.and_then(|()| bed.run(Step::Close)).map_err(TestCaseError::fail)
        },
    );
    proof.end(wanted, &failures);
}

#[derive(Clone, Debug)]
enum Step {
    Fact(u64),
    /// A pipe, an item, records, and the length of each.
    Batch(u64, u64, u64, usize),
    /// A pipe, an item, and the percent of its numbers that are not wanted any more.
    Forget(u64, u64, u64),
    ForgetPipe(u64),
    Read(u64, u64),
    /// Waits until all is stored.
    Store,
    Close,
    Kill,
    PowerCut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (pipe, item) = (1u64..4, 1u64..4);
    prop_oneof![
        3 => pipe.clone().prop_map(Step::Fact),
        12 => (pipe.clone(), item.clone(), 1u64..4, 1usize..400).prop_map(|(p, i, n, l)| Step::Batch(p, i, n, l)),
        6 => (pipe.clone(), item.clone(), 0u64..=100).prop_map(|(p, i, part)| Step::Forget(p, i, part)),
        1 => pipe.clone().prop_map(Step::ForgetPipe),
        5 => (pipe, item).prop_map(|(p, i)| Step::Read(p, i)),
        4 => Just(Step::Store),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerCut),
    ]
}

/// One disk and the log that is open on it.
struct Bed {
    image: Image,
    disk: RecordingDisk,
    /// The number of each pipe in the log, which changes when it is forgotten.
    names: [u64; 4],
    running: Option<(Arc<Log>, Arc<Owner>, Receiver<()>)>,
    owed: Owed,
}

impl Bed {
    fn new() -> Self {
        let image = Image::default();
        Self { disk: RecordingDisk::new(&image), image, names: [0, 1, 2, 3], running: None, owed: Owed::default() }
    }

    fn run(&mut self, step: Step) -> Result<(), String> {
        let (log, owner) = self.open()?;
        match step {
            Step::Fact(pipe) => owner.append(self.pipe(pipe), |owed, pipe, at| owed.fact(pipe, false, at, 10)),
            Step::Batch(pipe, item, records, length) => {
                owner.append(self.pipe(pipe), |owed, pipe, at| owed.batch(pipe, ItemNo(item), records, length, at))
            }
            Step::Forget(pipe, item, part) => owner.forget(self.pipe(pipe), ItemNo(item), part),
            Step::ForgetPipe(pipe) => {
                owner.forget_pipe(self.pipe(pipe));
                self.names[pipe as usize] += 4;
            }
            Step::Read(pipe, item) => owner.read(&log, self.pipe(pipe), ItemNo(item))?,
            Step::Store => self.store()?,
            Step::Close => self.stop(),
            Step::Kill => {
                self.disk.stop_at(Some(self.disk.len()));
                self.stop();
            }
            Step::PowerCut(seed) => self.power_cut(seed),
        }
        Ok(())
    }

    fn pipe(&self, pipe: u64) -> PipeId {
        PipeId(self.names[pipe as usize])
    }

    fn open(&mut self) -> Result<(Arc<Log>, Arc<Owner>), String> {
        if let Some((log, owner, _)) = &self.running {
            return Ok((log.clone(), owner.clone()));
        }
        let (log, opened) = open(Arc::new(self.disk.clone()), SEGMENT_BYTES)?;
        let mut owed = std::mem::take(&mut self.owed);
        owed.check(&opened, self.disk.len())?;
        owed.begin_again(&opened);
        owed.say_again(&log);
        let (stored, waits) = channel();
        let state = Mutex::new((owed, Some(log.clone())));
        let owner = Arc::new(Owner { state, disk: self.disk.clone(), stored });
        let as_owner: Arc<dyn LogOwner> = owner.clone();
        log.start(Arc::downgrade(&as_owner)).map_err(|error| error.to_string())?;
        self.running = Some((log.clone(), owner.clone(), waits));
        Ok((log, owner))
    }

    fn store(&mut self) -> Result<(), String> {
        let Some((_, owner, stored)) = &self.running else { return Ok(()) };
        while owner.lock().0.waits() {
            stored.recv_timeout(HANGS_AFTER).map_err(|_| "it hangs".to_owned())?;
        }
        Ok(())
    }

    fn stop(&mut self) {
        let Some((log, owner, _)) = self.running.take() else { return };
        log.close();
        let mut state = owner.lock();
        state.1 = None;
        self.owed = std::mem::take(&mut state.0);
        self.disk.stop_at(None);
    }

    fn power_cut(&mut self, seed: u64) {
        self.disk.stop_at(Some(self.disk.len()));
        self.stop();
        let mut unsynced = Unsynced::new(&self.image);
        self.disk.ops().iter().for_each(|op| unsynced.apply(op));
        let kinds: Vec<Loss> = Loss::kinds(seed % 1_000_000, 1).collect();
        self.image = unsynced.after(kinds[(seed % kinds.len() as u64) as usize]);
        self.owed = self.owed.cut(self.disk.len());
        self.disk = RecordingDisk::new(&self.image);
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Remembers what is owed while the log's thread and ours go on.
struct Owner {
    state: Mutex<(Owed, Option<Arc<Log>>)>,
    disk: RecordingDisk,
    stored: Sender<()>,
}

impl Owner {
    fn append(&self, pipe: PipeId, make: impl FnOnce(&mut Owed, PipeId, usize) -> Entry) {
        let mut state = self.lock();
        let (owed, log) = &mut *state;
        let entry = make(owed, pipe, self.disk.len());
        log.iter().for_each(|log| owed.appended(&entry, log.append(entry.clone())));
    }

    fn forget(&self, pipe: PipeId, item: ItemNo, part: u64) {
        let mut state = self.lock();
        let (owed, log) = &mut *state;
        let items = owed.pipes().into_iter().find(|(id, _)| *id == pipe).map(|(_, items)| items).unwrap_or_default();
        let Some((_, next)) = items.into_iter().find(|(no, _)| *no == item) else { return };
        let below = Seq(next.0 * part / 100);
        owed.forget(pipe, item, below, self.disk.len());
        log.iter().for_each(|log| log.forget(pipe, item, below));
    }

    fn forget_pipe(&self, pipe: PipeId) {
        let mut state = self.lock();
        let (owed, log) = &mut *state;
        owed.forget_pipe(pipe, self.disk.len());
        log.iter().for_each(|log| log.forget_pipe(pipe));
    }

    /// What was stored before we look is there, wherever it is being moved to.
    fn read(&self, log: &Log, pipe: PipeId, item: ItemNo) -> Result<(), String> {
        let (before, at) = (self.lock().0.clone(), self.disk.len());
        let found = read_item(log, pipe, item)?;
        if !before.pipes().iter().any(|(id, items)| *id == pipe && items.iter().any(|(no, _)| *no == item)) {
            return Ok(());
        }
        before.check_item(pipe, item, &found, at).map_err(|wrong| format!("while it runs: {wrong}"))
    }

    fn lock(&self) -> MutexGuard<'_, (Owed, Option<Arc<Log>>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogOwner for Owner {
    fn stored(&self, pipe: PipeId, upto: Lsn) {
        self.lock().0.stored(pipe, upto, self.disk.len());
        let _ = self.stored.send(());
    }

    fn snapshot(&self, pipe: PipeId) {
        self.append(pipe, |owed, pipe, at| owed.fact(pipe, true, at, 10));
    }

    fn stalled(&self, _: &Error) {}

    fn resumed(&self) {}

    fn failed(&self, _: &Error) {}
}

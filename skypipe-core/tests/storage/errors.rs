//! P10: each kind of call fails in each way, at each place. Never is anything said to be stored that is not, nothing hangs, and once the
//! disk is mended all that is stored is there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skypipe_core::Code;
use skypipe_test::disk::{
    CallKind, FAULTS, FailingDisk, Fault, Faulty, Image, ImageDisk, Loss, RecordingDisk, Unsynced,
};
use skypipe_test::proof::{Proof, cases, seed};

use crate::owed::{Owed, open};
use crate::workload::{Over, Reads, Shape, Workload};

/// Places at which each kind of call fails, where it is called so often.
const NTH_MAX: u64 = 200;
/// Segments of a page, so that they come and go.
const SEGMENT_BYTES: u64 = 4096;
/// A fault that stays, unless it is one that nobody would go on with for ever.
const STAYS: u64 = 1_000_000;
const SIGNALS: u64 = 20;
/// A full disk is waited for by sleeping, so many can wait at a time.
const THREADS: usize = 12;
/// Processes that meet the fault, one after the other.
const PROCESSES: u64 = 3;

#[test]
fn proof_disk_errors() {
    let proof = Proof::begin("P10", "disk errors");
    let bed = Bed::new(seed());
    let all = bed.cases();
    let wanted = cases(all.len() as u64 / 240, all.len() as u64, all.len() as u64).max(1);
    let cases: Vec<Faulty> = all.iter().copied().step_by((all.len() as u64 / wanted).max(1) as usize).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failures = Vec::new();
        while let Some(faulty) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = catch_unwind(AssertUnwindSafe(|| bed.try_one(Some(*faulty))));
            let result = result.unwrap_or_else(|_| Err("it panics".to_owned()));
            failures.extend(result.err().map(|wrong| format!("{faulty:?}: {wrong}")));
        }
        failures
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    proof.end(cases.len() as u64, &failures);
}

/// What each case begins with: a log that was used, and whose power was cut.
struct Bed {
    image: Image,
    owed: Owed,
    seed: u64,
}

impl Bed {
    fn new(seed: u64) -> Self {
        let empty = Self { image: Image::default(), owed: Owed::default(), seed };
        let (disk, owed) = empty.run(None).unwrap();
        let ops = disk.ops();
        // Of the last write a part is there, and nothing of the mark of an orderly close.
        let mut unsynced = Unsynced::new(&empty.image);
        ops[..ops.len() - 4].iter().for_each(|op| unsynced.apply(op));
        let at = ops.len() - 4;
        Self { image: unsynced.after(Loss::Prefix(seed)), owed: owed.cut(at), seed }
    }

    /// Every kind of call, every fault, once and for good, at every place.
    fn cases(&self) -> Vec<Faulty> {
        let disk = self.failing(None).1;
        let _ = self.run_on(&disk);
        let mut cases = Vec::new();
        for kind in CallKind::ALL {
            for fault in
                FAULTS.into_iter().filter(|f| *f != Fault::Short || matches!(kind, CallKind::Read | CallKind::Write))
            {
                for nth in 1..=disk.1.count(kind).min(NTH_MAX) {
                    let for_good = if matches!(fault, Fault::Errno("EINTR", _)) { SIGNALS } else { STAYS };
                    cases.extend([1, for_good].map(|count| Faulty { kind, fault, nth, count }));
                }
            }
        }
        cases
    }

    fn try_one(&self, faulty: Option<Faulty>) -> Result<(), String> {
        let (disk, owed) = self.run(faulty)?;
        // What a power cut leaves now, and what the next process finds without one.
        let mut unsynced = Unsynced::new(&self.image);
        disk.ops().iter().for_each(|op| unsynced.apply(op));
        let images = [Loss::Nothing, Loss::Torn(self.seed)].map(|loss| (format!("{loss:?}"), unsynced.after(loss)));
        for (what, image) in images.into_iter().chain([("mended".to_owned(), disk.disk().image())]) {
            let (_, opened) = open(Arc::new(ImageDisk::new(&image)), SEGMENT_BYTES)?;
            owed.check(&opened, disk.len()).map_err(|wrong| format!("{what}: {wrong}"))?;
        }
        Ok(())
    }

    fn failing(&self, faulty: Option<Faulty>) -> (RecordingDisk, (RecordingDisk, FailingDisk)) {
        let disk = RecordingDisk::new(&self.image);
        disk.disk().set_reserves(true);
        let failing = FailingDisk::new(Arc::new(disk.clone()), faulty);
        (disk.clone(), (disk, failing))
    }

    fn run(&self, faulty: Option<Faulty>) -> Result<(RecordingDisk, Owed), String> {
        let (disk, both) = self.failing(faulty);
        Ok((disk, self.run_on(&both)?))
    }

    /// A few processes on a disk that fails.
    fn run_on(&self, (disk, failing): &(RecordingDisk, FailingDisk)) -> Result<Owed, String> {
        let mut owed = self.owed.clone();
        for process in 0..PROCESSES {
            let Ok((log, opened)) = open(Arc::new(failing.clone()), SEGMENT_BYTES) else { continue };
            if !opened.recovery.damaged.is_empty() {
                // What cannot be read now may be there the next time: nothing is built on it here.
                continue;
            }
            owed.begin_again(&opened);
            let (calls, full) = (disk.clone(), failing.clone());
            let shape = Shape { steps: 25, length: 250, reads: Reads::Some };
            let seed = self.seed * PROCESSES + process;
            let (workload, ended) = Workload::new(seed, shape, owed, move || calls.len(), move || full.mend());
            let over = workload.run(&log, &ended);
            log.close();
            owed = workload.end();
            match over? {
                Over::Failed(Code::Storage) | Over::Done => {}
                Over::Failed(code) => return Err(format!("the log failed with {code:?}")),
            }
        }
        Ok(owed)
    }
}

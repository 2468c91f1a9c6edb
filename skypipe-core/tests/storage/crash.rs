//! P1d: at each sync of a random history, everything a power cut may leave is opened.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use skypipe_core::log::{FORMAT_FILE_NEW, Log, QUARANTINE};
use skypipe_core::{ItemNo, Lsn};
use skypipe_test::disk::{Image, ImageDisk, Loss, Op, RecordingDisk, Unsynced};
use skypipe_test::proof::{Proof, cases, seed};

use crate::owed::{At, Opened, Owed, open, open_with, options};
use crate::workload::{Over, Reads, Shape, Workload};

/// What was done to a disk, and what was owed meanwhile.
struct Recording {
    begin: Image,
    ops: Vec<Op>,
    /// From so many calls on this is owed.
    owed: Vec<(At, Owed)>,
    segment_bytes: u64,
}

/// Lives of one disk, each ended by a power cut.
const LIVES: u64 = 4;
/// Processes in a life, each ended in order or killed.
const PROCESSES: u64 = 4;

#[test]
fn proof_crash_images() {
    let proof = Proof::begin("P1d", "crash images");
    let wanted = cases(800, 100_000, 10_000_000);
    let tried = AtomicU64::new(0);
    let failures = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                scope.spawn({
                    let tried = &tried;
                    move || {
                        (worker..)
                            .step_by(2)
                            .map_while(|n| history(seed() * 1_000_000 + n, tried, wanted))
                            .flatten()
                            .collect()
                    }
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| -> Vec<String> { worker.join().unwrap() }).collect::<Vec<_>>()
    });
    proof.end(tried.into_inner(), &failures);
}

/// One disk through its lives. `None` when enough was tried.
fn history(seed: u64, tried: &AtomicU64, wanted: u64) -> Option<Vec<String>> {
    let (mut image, mut owed) = (Image::default(), Owed::default());
    for life in 0..LIVES {
        let seed = seed * LIVES + life;
        let recording = match record(seed, &image, owed) {
            Ok(recording) => recording,
            Err(wrong) => return Some(vec![format!("history {seed}: {wrong}")]),
        };
        let failures = recording.try_images(seed, tried, wanted);
        if !failures.is_empty() {
            return Some(failures);
        }
        if tried.load(Ordering::Relaxed) >= wanted {
            return None;
        }
        (image, owed) = recording.power_cut(seed);
    }
    Some(Vec::new())
}

/// A few processes, one after the other, on a disk that is written down.
fn record(seed: u64, begin: &Image, mut owed: Owed) -> Result<Recording, String> {
    let segment_bytes = [1024, 2048, 4096, 16 * 1024][(seed % 4) as usize];
    let mut options = options(segment_bytes);
    if (seed / LIVES).is_multiple_of(WRITES_AHEAD_EVERY) {
        options.beside_bytes = 1;
    }
    let disk = RecordingDisk::new(begin);
    disk.disk().set_reserves(!(seed / LIVES).is_multiple_of(RESERVES_NOT_EVERY));
    let mut all = vec![(0, owed.clone())];
    for process in 0..PROCESSES {
        let (log, opened) = open_with(Arc::new(disk.clone()), options.clone())?;
        let start = disk.len();
        owed.check(&opened, start).map_err(|wrong| format!("process {process}: {wrong}"))?;
        owed.begin_again(&opened);
        owed = run(seed * PROCESSES + process, &disk, &log, owed)?;
        // While it opened, what was owed before was owed still.
        all.push((start, owed.clone()));
    }
    Ok(Recording { begin: begin.clone(), ops: disk.ops(), owed: all, segment_bytes })
}

/// One process: some are killed between two calls, some run into a full disk.
fn run(seed: u64, disk: &RecordingDisk, log: &Arc<Log>, owed: Owed) -> Result<Owed, String> {
    let (beneath, calls) = (disk.disk().clone(), disk.clone());
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut below = |below: u64| dice.next_u64() % below;
    if below(FULL_EVERY) == 0 {
        beneath.set_bytes_max(Some(beneath.bytes() + 3000 + below(5000)));
    }
    let is_killed = below(4) > 0;
    if is_killed {
        disk.stop_at(Some(disk.len() + 3 + below(80) as usize));
    }
    let reads = if is_killed { Reads::AllUnlessKilled } else { Reads::All };
    let shape = Shape { steps: 30, length: 250, reads };
    let (workload, ended) = Workload::new(seed, shape, owed, move || calls.len(), move || beneath.set_bytes_max(None));
    let over = workload.run(log, &ended);
    log.close();
    let owed = workload.end();
    disk.disk().set_bytes_max(None);
    disk.stop_at(None);
    match over? {
        Over::Failed(code) if !is_killed => Err(format!("process {seed}: the log failed with {code:?}")),
        _ => Ok(owed),
    }
}

/// A full disk costs a second of waiting, so it is tried now and then.
const FULL_EVERY: u64 = 40;
/// In so many histories one writes ahead while it syncs, whatever there is. Then two threads decide what is done, and its seed may not do it again.
const WRITES_AHEAD_EVERY: u64 = 4;
/// In so many histories the disk reserves no room, and no zeros are written ahead.
const RESERVES_NOT_EVERY: u64 = 3;
/// So often what goes on behind an opened image is tried, and what a power cut leaves while it is opened.
const GOES_ON_EVERY: u64 = 8;
const AGAIN_EVERY: u64 = 16;

impl Recording {
    /// Opens what each kind of loss leaves at each call.
    fn try_images(&self, seed: u64, tried: &AtomicU64, wanted: u64) -> Vec<String> {
        let mut unsynced = Unsynced::new(&self.begin);
        let mut failures = Vec::new();
        for at in 0..=self.ops.len() {
            let kinds = if unsynced.pending() == 0 { 1 } else { usize::MAX };
            for loss in Loss::kinds(seed * 1000 + at as u64, 1).take(kinds) {
                let number = tried.fetch_add(1, Ordering::Relaxed);
                let image = unsynced.after(loss);
                let result = catch_unwind(AssertUnwindSafe(|| self.try_image(&image, at, number, tried)));
                let result = result.unwrap_or_else(|_| Err("it panics".to_owned()));
                failures.extend(result.err().map(|wrong| format!("history {seed}, call {at}, {loss:?}: {wrong}")));
            }
            if failures.len() > FAILURES_MAX || tried.load(Ordering::Relaxed) >= wanted {
                break;
            }
            self.ops.get(at).into_iter().for_each(|op| unsynced.apply(op));
        }
        failures
    }

    fn try_image(&self, image: &Image, at: At, number: u64, tried: &AtomicU64) -> Result<(), String> {
        let disk = ImageDisk::new(image);
        let (log, opened) = open(Arc::new(disk.clone()), self.segment_bytes)?;
        let owed = self.owed_at(at);
        owed.check(&opened, at)?;
        let after = disk.image();
        if let Some(lost) = after.lost_of(&kept_of(image), QUARANTINE) {
            return Err(lost);
        }
        if number.is_multiple_of(AGAIN_EVERY) {
            self.power_cut_while_opening(image, at, tried)?;
        }
        if number.is_multiple_of(GOES_ON_EVERY) {
            return goes_on(&disk, &log, owed.cut(at), &opened, self.segment_bytes);
        }
        drop(log);
        let (_, again) = open(Arc::new(ImageDisk::new(&after)), self.segment_bytes)?;
        match (again.facts == opened.facts, again.items == opened.items, again.recovery.torn_bytes) {
            (true, true, 0) => Ok(()),
            _ => Err(format!("opened again it is {again:?}, it was {opened:?}")),
        }
    }

    fn power_cut_while_opening(&self, image: &Image, at: At, tried: &AtomicU64) -> Result<(), String> {
        let recording = RecordingDisk::new(image);
        drop(open(Arc::new(recording.clone()), self.segment_bytes)?);
        let mut unsynced = Unsynced::new(image);
        for (n, op) in recording.ops().iter().enumerate() {
            unsynced.apply(op);
            for loss in Loss::kinds(n as u64, 1) {
                tried.fetch_add(1, Ordering::Relaxed);
                let left = unsynced.after(loss);
                let disk = ImageDisk::new(&left);
                let (_, opened) = open(Arc::new(disk.clone()), self.segment_bytes)?;
                let told = |wrong| format!("again at call {n} of opening, {loss:?}: {wrong}");
                self.owed_at(at).check(&opened, at).map_err(told)?;
                if let Some(lost) = disk.image().lost_of(&kept_of(image), QUARANTINE) {
                    return Err(told(lost));
                }
            }
        }
        Ok(())
    }

    fn owed_at(&self, at: At) -> &Owed {
        let process = self.owed.partition_point(|(start, _)| *start <= at);
        &self.owed[process - 1].1
    }

    /// The power goes at some call; what is left, and what is owed of it.
    fn power_cut(&self, seed: u64) -> (Image, Owed) {
        let at = self.ops.len() - (seed * 31 % 60) as usize % self.ops.len();
        let mut unsynced = Unsynced::new(&self.begin);
        self.ops[..at].iter().for_each(|op| unsynced.apply(op));
        (unsynced.after(Loss::Torn(seed)), self.owed_at(at).cut(at))
    }
}

/// All but a new `format` file that was never given its name.
fn kept_of(image: &Image) -> Image {
    let mut kept = image.clone();
    kept.files.remove(FORMAT_FILE_NEW);
    kept
}

/// More failures of one history tell nobody more.
const FAILURES_MAX: usize = 20;

/// A log that was opened takes new entries, and gives them back with the old ones.
fn goes_on(
    disk: &ImageDisk,
    log: &Arc<Log>,
    mut owed: Owed,
    opened: &Opened,
    segment_bytes: u64,
) -> Result<(), String> {
    owed.begin_again(opened);
    let pipes = owed.pipes();
    let (pipe, items) = pipes.first().cloned().unwrap_or((owed.new_pipe(), Vec::new()));
    let item = items.last().map_or(ItemNo(1), |(no, _)| *no);
    for entry in [owed.fact(pipe, false, 0, 5), owed.batch(pipe, item, 3, 100, 0)] {
        owed.appended(&entry, log.append(entry.clone()));
    }
    log.close();
    owed.stored(pipe, Lsn(u64::MAX), 0);
    let (_, again) = open(Arc::new(disk.clone()), segment_bytes)?;
    owed.check(&again, 0).map_err(|wrong| format!("gone on with: {wrong}"))?;
    match again.recovery.torn_bytes {
        0 => Ok(()),
        torn => Err(format!("gone on with and closed, {torn} bytes are torn")),
    }
}

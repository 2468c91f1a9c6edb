//! The log as a whole, on a disk in memory that fails in every way.

use std::collections::BTreeMap;
use std::sync::Condvar;
use std::time::{Duration, Instant};

use super::format::{FORMAT_FILE, segment_name, segment_number};
use super::*;
use crate::batch::BatchBuilder;
use crate::id::{Epoch, SessionId};

/// Remembers what the log tells.
#[derive(Default)]
pub(super) struct Owner {
    pub(super) told: Mutex<Told>,
    changed: Condvar,
    log: Mutex<Option<Arc<Log>>>,
}

#[derive(Default)]
pub(super) struct Told {
    pub(super) stored: BTreeMap<PipeId, Lsn>,
    calls: u64,
    snapshots: u64,
    pub(super) stalls: u64,
    resumes: u64,
    pub(super) failures: Vec<Code>,
}

impl LogOwner for Owner {
    fn stored(&self, pipe: PipeId, upto: Lsn) {
        self.tell(|t| {
            t.calls += 1;
            assert!(t.stored.insert(pipe, upto).is_none_or(|before| before < upto));
        });
    }

    fn snapshot(&self, pipe: PipeId) {
        let log = lock(&self.log).clone().unwrap();
        log.append(fact(pipe.0, &format!("all of {}", pipe.0)));
        self.tell(|t| t.snapshots += 1);
    }

    fn stalled(&self, reason: &Error) {
        assert_eq!(reason.code(), Code::NoSpace);
        self.tell(|t| t.stalls += 1);
    }

    fn resumed(&self) {
        self.tell(|t| t.resumes += 1);
    }

    fn failed(&self, error: &Error) {
        self.tell(|t| t.failures.push(error.code()));
    }
}

impl Owner {
    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut lock(&self.told));
        self.changed.notify_all();
    }

    pub(super) fn wait(&self, until: impl Fn(&Told) -> bool) {
        let start = Instant::now();
        let mut told = lock(&self.told);
        while !until(&told) {
            assert!(start.elapsed() < Duration::from_secs(20), "it never came");
            told = self.changed.wait_timeout(told, Duration::from_millis(200)).unwrap().0;
        }
    }

    pub(super) fn wait_stored(&self, pipe: u64, lsn: Lsn) {
        self.wait(|t| t.stored.get(&PipeId(pipe)).is_some_and(|&upto| upto >= lsn));
    }
}

/// One open log.
pub(super) struct Bed {
    pub(super) log: Arc<Log>,
    pub(super) owner: Arc<Owner>,
    facts: Vec<(u64, String)>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        *lock(&self.owner.log) = None;
    }
}

pub(super) fn options(segment_bytes: u64) -> LogOptions {
    LogOptions { segment_bytes, free_percent: 0, salt: 7, ..LogOptions::default() }
}

pub(super) fn try_open(disk: &RamDisk, segment_bytes: u64) -> Result<Bed, Error> {
    open_with(Arc::new(disk.clone()), options(segment_bytes))
}

pub(super) fn open_with(disk: Arc<dyn Disk>, options: LogOptions) -> Result<Bed, Error> {
    let mut facts = Vec::new();
    let mut replay = |pipe: PipeId, body: Bytes| facts.push((pipe.0, String::from_utf8(body.to_vec()).unwrap()));
    let log = Log::open(disk, options, &mut replay)?;
    let owner = Arc::new(Owner::default());
    *lock(&owner.log) = Some(log.clone());
    Ok(Bed { log, owner, facts })
}

pub(super) fn open(disk: &RamDisk) -> Bed {
    try_open(disk, 1 << 20).unwrap()
}

pub(super) fn start(disk: &RamDisk, segment_bytes: u64) -> Bed {
    let bed = try_open(disk, segment_bytes).unwrap();
    bed.run();
    bed
}

impl Bed {
    pub(super) fn run(&self) {
        let owner: Arc<dyn LogOwner> = self.owner.clone();
        self.log.start(Arc::downgrade(&owner)).unwrap();
    }

    pub(super) fn store(&self, entry: Entry) {
        let pipe = match &entry {
            Entry::Fact { pipe, .. } | Entry::Batch { pipe, .. } | Entry::Tape { pipe, .. } => pipe.0,
        };
        let lsn = self.log.append(entry);
        self.owner.wait_stored(pipe, lsn);
    }

    /// The numbers of an item that can be read, and those that are reported as gone.
    pub(super) fn read_all(&self, pipe: u64, item: u64) -> (Vec<u64>, Vec<Range<u64>>) {
        let (mut at, mut numbers, mut gaps) = (Seq(0), Vec::new(), Vec::new());
        loop {
            match self.log.read(PipeId(pipe), ItemNo(item), at, 1000).unwrap() {
                Read::Tape(_) => unreachable!("these are items"),
                Read::Batches(batches) => {
                    for batch in batches {
                        assert!(batch.first() <= at && at < batch.next());
                        assert!(batch.pieces().all(|p| p.body == body(p.seq.0, p.body.len())));
                        numbers.extend(at.0..batch.next().0);
                        at = batch.next();
                    }
                }
                Read::Gap { to } => {
                    assert!(to > at);
                    gaps.push(at.0..to.0);
                    at = to;
                }
                Read::End => return (numbers, gaps),
            }
        }
    }
}

pub(super) fn fact(pipe: u64, body: &str) -> Entry {
    Entry::Fact { pipe: PipeId(pipe), body: Bytes::copy_from_slice(body.as_bytes()) }
}

fn body(seq: u64, length: usize) -> Vec<u8> {
    (0..length).map(|i| (seq as usize * 31 + i) as u8).collect()
}

pub(super) fn batch(pipe: u64, item: u64, first: u64, count: u64, length: usize) -> Entry {
    let mut builder = BatchBuilder::new(SessionId([pipe as u8; 16]), Epoch(1), Seq(first));
    for seq in first..first + count {
        assert!(builder.push(&body(seq, length), true, true));
    }
    Entry::Batch { pipe: PipeId(pipe), item: ItemNo(item), batch: builder.build(None) }
}

pub(super) fn segments(disk: &RamDisk) -> Vec<u64> {
    disk.names().iter().filter_map(|n| segment_number(n)).collect()
}

/// Waits for what the log's thread does by itself.
pub(super) fn eventually(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never came");
        thread::yield_now();
    }
}

pub(super) fn numbers(range: Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn what_was_stored_is_there_again() {
    let disk = RamDisk::new();
    let bed = start(&disk, 4096);
    for n in 0..20 {
        bed.store(fact(1, &format!("fact {n}")));
        bed.store(batch(1, 1 + n % 2, n / 2 * 10, 10, 40));
    }
    assert_eq!(bed.read_all(1, 1), (numbers(0..100), vec![]));
    assert!(segments(&disk).len() > 2);
    bed.log.close();
    let again = try_open(&disk, 4096).unwrap();
    assert_eq!(again.facts, (0..20).map(|n| (1, format!("fact {n}"))).collect::<Vec<_>>());
    assert_eq!(again.read_all(1, 2), (numbers(0..100), vec![]));
    assert_eq!((again.log.items(PipeId(1)), again.log.pipes()), (vec![ItemNo(1), ItemNo(2)], vec![PipeId(1)]));
    assert_eq!(again.log.extent(PipeId(1), ItemNo(1)), [Seq(0)..Seq(100)]);
    assert_eq!(
        again
            .log
            .read(PipeId(1), ItemNo(1), Seq(55), 1)
            .map(|r| matches!(r, Read::Batches(b) if b.len() == 1 && b[0].first() == Seq(50)))
            .ok(),
        Some(true)
    );
    assert_eq!(*again.log.recovery(), Recovery::default());
}

#[test]
fn one_sync_serves_many_pipes() {
    let disk = RamDisk::new();
    let bed = open(&disk);
    let before = disk.syncs();
    for pipe in 1..=50 {
        bed.log.append(fact(pipe, "made"));
        bed.log.append(batch(pipe, 1, 0, 1, 128));
    }
    let last = bed.log.append(batch(7, 1, 1, 1, 128));
    bed.run();
    bed.owner.wait(|t| t.calls == 50);
    assert_eq!(lock(&bed.owner.told).stored[&PipeId(7)], last);
    assert_eq!(disk.syncs() - before, 2, "one for the new segment, one for the group");
    assert_eq!(bed.read_all(7, 1), (vec![0, 1], vec![]));
}

#[test]
fn what_the_broker_says_stands_before_what_its_pipes_say() {
    let disk = RamDisk::new();
    let bed = open(&disk);
    for (pipe, body) in [(1, "a"), (2, "b"), (0, "c"), (1, "d"), (0, "e")] {
        bed.log.append(fact(pipe, body));
    }
    bed.log.close();
    let told: Vec<u64> = open(&disk).facts.iter().map(|(pipe, _)| *pipe).collect();
    assert_eq!(told, [0, 0, 1, 1, 2]);
}

#[test]
fn a_log_that_was_never_started_is_written_at_its_close() {
    let disk = RamDisk::new();
    let bed = open(&disk);
    bed.log.append(fact(1, "x"));
    bed.log.close();
    assert_eq!(open(&disk).facts, [(1, "x".to_owned())]);
}

/// Writes until the power goes at the `nth` sync; returns the disk and what was said to be stored.
fn until_power_goes(nth: u64) -> (RamDisk, BTreeMap<PipeId, Lsn>, Vec<(Lsn, u64)>) {
    let disk = RamDisk::with_power_loss();
    let bed = start(&disk, 2048);
    disk.power_off_at_sync(nth);
    let mut appended = Vec::new();
    for n in 0..12 {
        for pipe in 1..=3 {
            let text = if n == 0 { "made".to_owned() } else { format!("{n}") };
            bed.log.append(fact(pipe, &text));
            appended.push((bed.log.append(batch(pipe, 1, n * 2, 2, 150)), n));
        }
        let (lsn, _) = appended[appended.len() - 1];
        bed.owner.wait(|t| !t.failures.is_empty() || t.stored.get(&PipeId(3)).is_some_and(|&u| u >= lsn));
    }
    bed.log.close();
    let stored = lock(&bed.owner.told).stored.clone();
    (disk, stored, appended)
}

#[test]
fn power_loss_at_every_sync_loses_nothing_stored() {
    for nth in 1..24 {
        let (disk, stored, appended) = until_power_goes(nth);
        let kinds = [PowerLoss::Nothing, PowerLoss::Everything].into_iter().chain((0..40).map(PowerLoss::Some));
        for loss in kinds {
            let left = disk.after_power_loss(loss);
            let bed = try_open(&left, 2048).unwrap_or_else(|e| panic!("{nth} {loss:?}: {e}"));
            for pipe in 1..=3 {
                let upto = stored.get(&PipeId(pipe)).copied().unwrap_or_default();
                let mine = appended.iter().skip(pipe as usize - 1).step_by(3);
                let owed = mine.filter(|(lsn, _)| *lsn <= upto).count() as u64;
                let (read, gaps) = bed.read_all(pipe, 1);
                assert!(gaps.is_empty(), "{nth} {loss:?}: {gaps:?}");
                assert!(read.len() as u64 >= owed * 2, "{nth} {loss:?}: {} of {owed}", read.len());
                assert_eq!(read, numbers(0..read.len() as u64));
                let facts: Vec<_> = bed.facts.iter().filter(|(p, _)| *p == pipe).collect();
                assert!(facts.len() as u64 >= owed && facts.len() * 2 >= read.len(), "{nth} {loss:?}");
            }
            assert!(bed.log.recovery().damaged.is_empty(), "{nth} {loss:?}: {:?}", bed.log.recovery());
            goes_on(&left, bed);
        }
    }
}

/// A log that was opened again takes new entries, and gives them back with the old ones.
fn goes_on(disk: &RamDisk, bed: Bed) {
    let (read, _) = bed.read_all(2, 1);
    let next = read.len() as u64;
    bed.log.append(fact(2, "back"));
    bed.log.append(batch(2, 1, next, 3, 10));
    bed.log.close();
    drop(bed);
    let again = open(disk);
    assert_eq!(again.read_all(2, 1), (numbers(0..next + 3), vec![]));
    assert_eq!(again.log.recovery().torn_bytes, 0);
}

#[test]
fn a_torn_tail_is_cut_and_kept_aside() {
    let disk = RamDisk::new();
    let bed = start(&disk, 1 << 20);
    bed.store(fact(1, "made"));
    bed.store(batch(1, 1, 0, 2, 100));
    let name = segment_name(1);
    let file = disk.open(&name).unwrap();
    let size = file.size().unwrap().next_multiple_of(ALIGN);
    file.write_at(size, &[std::io::IoSlice::new(b"half an entry")]).unwrap();
    let again = open(&disk);
    let recovery = again.log.recovery().clone();
    assert_eq!(recovery.torn_bytes, 13);
    let kept = disk.open(&recovery.quarantined.unwrap()).unwrap();
    assert_eq!(kept.size().unwrap(), 13);
    assert_eq!(again.read_all(1, 1), (vec![0, 1], vec![]));
    assert!(file.size().unwrap() <= size);
}

#[test]
fn zeros_that_are_written_ahead_are_no_torn_tail() {
    let disk = RamDisk::with_power_loss();
    disk.set_reserves(true);
    let bed = start(&disk, 1 << 20);
    bed.store(fact(1, "made"));
    let file = disk.open(&segment_name(1)).unwrap();
    let size = file.size().unwrap();
    bed.store(batch(1, 1, 0, 2, 100));
    assert!(size > 200 * 1024 && file.size().unwrap() == size, "what follows has its room");
    for loss in [PowerLoss::Nothing, PowerLoss::Everything] {
        let again = open(&disk.after_power_loss(loss));
        assert_eq!((again.log.recovery().torn_bytes, again.log.recovery().quarantined.clone()), (0, None));
        assert_eq!(again.read_all(1, 1), (vec![0, 1], vec![]));
    }
    // Of a tail that is torn what stands there is kept, and no zeros.
    let torn = disk.after_power_loss(PowerLoss::Everything);
    let again = torn.open(&segment_name(1)).unwrap();
    again.write_at(4096, &[std::io::IoSlice::new(b"half an entry")]).unwrap();
    let again = open(&torn);
    let kept = torn.open(again.log.recovery().quarantined.as_ref().unwrap()).unwrap();
    assert!(kept.size().unwrap() < 4096 + 13 && kept.size().unwrap() == again.log.recovery().torn_bytes);
    // In order, a log leaves none.
    bed.log.close();
    assert!(file.size().unwrap() < 1024);
}

#[test]
fn a_full_segment_keeps_no_zeros() {
    let disk = RamDisk::with_power_loss();
    disk.set_reserves(true);
    let bed = start(&disk, 4096);
    bed.store(fact(1, "made"));
    for n in 0..30 {
        bed.store(batch(1, 1, n * 2, 2, 200));
    }
    assert!(segments(&disk).len() > 2);
    for loss in [PowerLoss::Nothing, PowerLoss::Everything].into_iter().chain((0..50).map(PowerLoss::Some)) {
        let again = try_open(&disk.after_power_loss(loss), 4096).unwrap();
        assert!(again.log.recovery().damaged.is_empty() && again.log.recovery().torn_bytes == 0, "{loss:?}");
        assert_eq!(again.read_all(1, 1), (numbers(0..60), vec![]));
    }
}

#[test]
fn a_flipped_bit_is_a_gap_and_the_rest_is_read() {
    let disk = RamDisk::new();
    let bed = start(&disk, 1 << 20);
    bed.store(fact(1, "made"));
    for n in 0..10 {
        bed.store(batch(1, 1, n * 2, 2, 100));
    }
    bed.log.close();
    drop(bed);
    let size = disk.open(&segment_name(1)).unwrap().size().unwrap() as usize;
    let mut holes = 0;
    // Every byte but the mark at the end, which proves that all before it was synced.
    for byte in (0..size - HEADER_BYTES).step_by(3) {
        disk.flip(&segment_name(1), byte, (byte % 8) as u8).unwrap();
        let again = open(&disk);
        let (read, gaps) = again.read_all(1, 1);
        let lost: u64 = gaps.iter().map(|g| g.end - g.start).sum();
        // Of a damaged last batch nothing is left to tell: its owner knows from its facts what there was.
        assert!(lost + read.len() as u64 == 20 || read == numbers(0..18), "byte {byte}: {read:?} {gaps:?}");
        assert!(read.len() >= 18, "byte {byte}: {read:?}");
        holes += u64::from(read.len() < 20);
        assert_eq!(again.log.recovery().torn_bytes, 0, "byte {byte}");
        disk.flip(&segment_name(1), byte, (byte % 8) as u8).unwrap();
    }
    assert!(holes > 100);
    assert_eq!(open(&disk).read_all(1, 1), (numbers(0..20), vec![]));
}

#[test]
fn a_full_disk_is_waited_for() {
    let disk = RamDisk::new();
    let bed = start(&disk, 1 << 20);
    bed.store(fact(1, "made"));
    disk.set_bytes_max(Some(500));
    let waiting: Vec<Lsn> = (0..5).map(|n| bed.log.append(batch(1, 1, n, 1, 200))).collect();
    bed.owner.wait(|t| t.stalls == 1);
    assert_eq!(bed.log.read(PipeId(1), ItemNo(1), Seq(4), 1).unwrap(), Read::End);
    disk.set_bytes_max(None);
    bed.owner.wait_stored(1, waiting[4]);
    assert_eq!(bed.read_all(1, 1), (numbers(0..5), vec![]));
    let told = lock(&bed.owner.told);
    assert_eq!((told.stalls, told.resumes, told.failures.len()), (1, 1, 0));
}

#[test]
fn closing_does_not_wait_for_a_full_disk() {
    let disk = RamDisk::new();
    let bed = start(&disk, 1 << 20);
    bed.store(fact(1, "made"));
    disk.set_bytes_max(Some(0));
    bed.log.append(fact(1, "waits"));
    bed.owner.wait(|t| t.stalls == 1);
    bed.log.close();
    disk.set_bytes_max(None);
    assert_eq!(open(&disk).facts.len(), 1);
}

#[test]
fn after_a_failed_sync_nothing_is_written_or_synced_again() {
    let disk = RamDisk::new();
    let bed = start(&disk, 1 << 20);
    bed.store(fact(1, "made"));
    bed.store(batch(1, 1, 0, 1, 10));
    disk.fail_sync(1);
    bed.log.append(batch(1, 1, 1, 1, 10));
    bed.owner.wait(|t| t.failures == [Code::Storage]);
    let syncs = disk.syncs();
    bed.log.append(batch(1, 1, 2, 1, 10));
    bed.log.close();
    assert_eq!(disk.syncs(), syncs);
    assert_eq!(bed.read_all(1, 1), (vec![0], vec![]), "what is stored can be read");
}

#[test]
fn room_comes_back_and_nothing_wanted_is_lost() {
    let disk = RamDisk::new();
    let bed = start(&disk, 8 * 1024);
    bed.store(fact(1, "made"));
    bed.store(fact(2, "made"));
    bed.store(batch(2, 1, 0, 5, 100));
    for n in 0..200 {
        bed.store(fact(1, &format!("{n}")));
        bed.store(batch(1, 1, n * 4, 4, 100));
        bed.log.forget(PipeId(1), ItemNo(1), Seq(n * 4));
    }
    let lsn = bed.log.append(fact(1, "last"));
    bed.owner.wait_stored(1, lsn);
    eventually(|| segments(&disk).len() < 5 && lock(&bed.owner.told).snapshots >= 2);
    assert_eq!(bed.read_all(2, 1), (numbers(0..5), vec![]));
    assert!(bed.log.item_bytes(PipeId(1), ItemNo(1)) < 1000 && bed.log.bytes(PipeId(2)) > 500);
    bed.log.close();
    let again = try_open(&disk, 8 * 1024).unwrap();
    assert_eq!(again.read_all(2, 1), (numbers(0..5), vec![]));
    let of = |pipe| again.facts.iter().filter(move |(p, _)| *p == pipe).map(|(_, f)| f.as_str()).collect::<Vec<_>>();
    assert_eq!(of(2).last(), Some(&"all of 2"), "{:?}", again.facts);
    assert!(of(1).contains(&"all of 1"));
    assert!(!of(1).contains(&"1"), "what was restated and freed is gone");
}

#[test]
fn what_was_moved_among_later_numbers_is_read() {
    const LENGTH: usize = 250_000;
    let disk = RamDisk::new();
    let bed = start(&disk, 8 << 20);
    // More than is moved in one round, and behind it so much that nobody wants that all of the first goes into one segment.
    (0..24).for_each(|n| bed.store(batch(1, 1, n, 1, LENGTH)));
    (0..79).for_each(|n| bed.store(batch(1, 2, n, 1, LENGTH)));
    // Its writer goes on meanwhile.
    let next = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let gone = || !segments(&disk).contains(&1);
            let write = |n: &u64| bed.store(batch(1, 1, *n, 1, 100));
            (24..).inspect(write).find(|_| gone()).unwrap_or_default() + 1
        });
        eventually(|| bed.log.extent(PipeId(1), ItemNo(1))[0].end > Seq(24));
        bed.log.forget(PipeId(1), ItemNo(2), Seq(u64::MAX));
        writer.join().unwrap()
    });
    bed.store(batch(1, 1, next, 1, 100));
    let next = next + 1;
    assert_eq!(bed.read_all(1, 1), (numbers(0..next), vec![]));
    // A reader that returns goes on anywhere.
    for at in 0..next {
        let read = bed.log.read(PipeId(1), ItemNo(1), Seq(at), 1 << 20).unwrap();
        assert!(matches!(&read, Read::Batches(batches) if batches[0].first() == Seq(at)), "{at}: {read:?}");
    }
}

#[test]
fn nothing_is_removed_before_what_is_wanted_of_it_is_on_disk_elsewhere() {
    let disk = RamDisk::new();
    let bed = start(&disk, 8 * 1024);
    bed.store(fact(1, "made"));
    bed.store(batch(1, 1, 0, 2, 100));
    for n in 0..20 {
        bed.store(batch(1, 2, n * 4, 4, 300));
    }
    let full = disk.room().unwrap().total - disk.room().unwrap().free;
    disk.set_bytes_max(Some(full));
    // What is wanted of the first segment cannot be moved now.
    bed.log.forget(PipeId(1), ItemNo(2), Seq(40));
    let waiting = bed.log.append(fact(1, "waits"));
    bed.owner.wait(|t| t.stalls == 1);
    disk.set_bytes_max(None);
    bed.owner.wait_stored(1, waiting);
    assert_eq!(bed.read_all(1, 1), (vec![0, 1], vec![]));
    assert_eq!(bed.log.extent(PipeId(1), ItemNo(2)), [Seq(40)..Seq(80)]);
}

#[test]
fn power_loss_while_room_is_made_loses_nothing_wanted() {
    for nth in (1..60).step_by(3) {
        let disk = RamDisk::with_power_loss();
        let bed = start(&disk, 2048);
        bed.store(fact(2, "made"));
        bed.store(batch(2, 1, 0, 5, 100));
        disk.power_off_at_sync(nth);
        for n in 0..40 {
            let lsn = bed.log.append(batch(1, 1, n * 4, 4, 100));
            bed.owner.wait(|t| !t.failures.is_empty() || t.stored.get(&PipeId(1)).is_some_and(|&u| u >= lsn));
            bed.log.forget(PipeId(1), ItemNo(1), Seq(n * 4));
        }
        for seed in 0..20 {
            let left = disk.after_power_loss(PowerLoss::Some(seed));
            let again = try_open(&left, 2048).unwrap();
            assert_eq!(again.read_all(2, 1), (numbers(0..5), vec![]), "{nth} {seed}");
            assert_eq!(again.facts.first().map(|(p, _)| *p), Some(2), "{nth} {seed}");
        }
    }
}

#[test]
fn a_forgotten_pipe_leaves_nothing() {
    let disk = RamDisk::new();
    let bed = start(&disk, 2048);
    for pipe in 1..40 {
        bed.store(fact(pipe, "made"));
        bed.store(batch(pipe, 1, 0, 4, 100));
        bed.log.forget_pipe(PipeId(pipe));
    }
    eventually(|| segments(&disk).len() == 1);
    assert_eq!(lock(&bed.owner.told).snapshots, 0);
}

#[test]
fn a_damaged_segment_is_put_aside_not_deleted() {
    let disk = RamDisk::new();
    let bed = start(&disk, 4096);
    bed.store(fact(1, "made"));
    bed.store(batch(1, 1, 0, 2, 100));
    disk.flip(&segment_name(1), 300, 1).unwrap();
    assert_eq!(bed.log.read(PipeId(1), ItemNo(1), Seq(0), 1).unwrap(), Read::Gap { to: Seq(2) });
    for n in 0..20 {
        bed.store(batch(1, 2, n * 4, 4, 100));
    }
    bed.log.forget(PipeId(1), ItemNo(2), Seq(u64::MAX));
    eventually(|| disk.names().contains(&format!("{QUARANTINE}/{}", segment_name(1))));
}

#[test]
fn a_newer_format_is_refused_untouched() {
    let disk = RamDisk::new();
    let file = disk.create(FORMAT_FILE).unwrap();
    file.write_at(0, &[std::io::IoSlice::new(b"skypipe log 2\nsomething new\n")]).unwrap();
    disk.create(&segment_name(1)).unwrap();
    let error = try_open(&disk, 4096).err().unwrap();
    assert_eq!(error.code(), Code::Format);
    assert_eq!(disk.names(), [segment_name(1), FORMAT_FILE.to_owned()]);
    assert_eq!(disk.syncs(), 0);
}

#[test]
fn a_log_that_travels_as_data_is_not_taken_for_entries() {
    let disk = RamDisk::new();
    let bed = start(&disk, 1 << 20);
    bed.store(fact(9, "planted"));
    let planted = disk::read_whole(&disk, &segment_name(1), 1 << 16).unwrap();
    let other = RamDisk::new();
    let log = Log::open(Arc::new(other.clone()), LogOptions { salt: 8, ..options(1 << 20) }, &mut |_, _| {}).unwrap();
    let mut builder = BatchBuilder::new(SessionId([1; 16]), Epoch(1), Seq(0));
    for shift in 0..8 {
        let mut record = vec![0; shift];
        record.extend_from_slice(&planted);
        assert!(builder.push(&record, true, true));
    }
    log.append(fact(1, "made"));
    log.append(Entry::Batch { pipe: PipeId(1), item: ItemNo(1), batch: builder.build(None) });
    log.append(fact(1, "end"));
    log.close();
    // Damage to the batch's header makes opening search its payload for the next entry.
    other.flip(&segment_name(1), HEADER_BYTES * 2 + 8 + 20, 1).unwrap();
    let again = open(&other);
    assert!(!again.log.recovery().damaged.is_empty() || again.log.recovery().torn_bytes > 0);
    assert!(again.facts.iter().all(|(pipe, _)| *pipe == 1), "{:?}", again.facts);
}

type Items = Vec<(PipeId, ItemNo, Vec<Range<Seq>>, u64)>;

/// What an opened log says of itself.
fn told(bed: &Bed) -> (Vec<(u64, String)>, Items) {
    let mut all = Vec::new();
    for pipe in bed.log.pipes() {
        for item in bed.log.items(pipe) {
            all.push((pipe, item, bed.log.extent(pipe, item), bed.log.item_bytes(pipe, item)));
        }
    }
    (bed.facts.clone(), all)
}

#[test]
fn contents_tell_what_going_through_a_segment_would() {
    let disk = RamDisk::new();
    let bed = start(&disk, 16 * 1024);
    for n in 0..60 {
        for pipe in 1..=3 {
            bed.log.append(fact(pipe, &format!("{n}")));
            bed.log.append(batch(pipe, n / 20, n * 4, 4, 100));
        }
        bed.store(fact(4, "between"));
    }
    bed.log.close();
    let with = told(&try_open(&disk, 16 * 1024).unwrap());
    let of_segments = segments(&disk);
    assert!(of_segments.len() > 3);
    // Without the contents, which stand behind the first header, every segment is gone through.
    for &number in &of_segments[1..] {
        disk.flip(&segment_name(number), HEADER_BYTES + 1, 1).unwrap();
    }
    let without = try_open(&disk, 16 * 1024).unwrap();
    assert_eq!(without.log.recovery().damaged.len(), of_segments.len() - 1);
    assert_eq!(told(&without), with);
}

#[test]
fn a_full_segment_is_not_gone_through_again() {
    let disk = RamDisk::new();
    let bed = start(&disk, 64 * 1024);
    bed.store(fact(1, "made"));
    for n in 0..40 {
        bed.store(batch(1, 1, n * 4, 4, 2000));
    }
    bed.log.close();
    // Nobody notices the damage before somebody reads there.
    disk.flip(&segment_name(1), 9000, 1).unwrap();
    disk.flip(&segment_name(1), 9001, 1).unwrap();
    let again = try_open(&disk, 64 * 1024).unwrap();
    assert_eq!(again.log.extent(PipeId(1), ItemNo(1)), [Seq(0)..Seq(160)]);
    let (read, gaps) = again.read_all(1, 1);
    assert_eq!((read.len(), gaps.len()), (156, 1));
}

#[test]
fn the_bytes_stay_what_they_are() {
    let disk = RamDisk::new();
    let bed = open(&disk);
    bed.log.append(fact(5, "made"));
    bed.log.append(batch(5, 6, 7, 1, 3));
    bed.log.close();
    let bytes = disk::read_whole(&disk, &segment_name(1), 4096).unwrap();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let text = disk::read_whole(&disk, FORMAT_FILE, 4096).unwrap();
    assert_eq!(text, b"skypipe log 1\nsalt 0000000000000007\n");
    assert_eq!(hex, FROZEN);
}

/// A segment with a fact, a batch and the mark of an orderly close, as version 1 wrote it.
const FROZEN: &str = concat!(
    "3f1c58dc0100534c00000000000000000000000000000000010000000000000007000000000000000100000000000000",
    "e29d57bc0201534c0400000011d2867d0600000000000000050000000000000000000000000000000000000000000000",
    "6d61646500000000c76e470a0300534c33000000bad29532060000000100000005000000000000000600000000000000",
    "070000000000000001000000bad295323300000001000000050505050505050505050505050505050700000000000000",
    "01000000030000c0d9dadb0000000000a8c703390400534c00000000000000001a000000000000000000000000000000",
    "00000000000000000000000000000000",
);

#[test]
fn nothing_is_forgotten_before_what_was_appended_is_on_disk() {
    let disk = RamDisk::new();
    let bed = start(&disk, 1 << 20);
    bed.store(batch(1, 1, 0, 4, 10));
    bed.log.close();
    drop(bed);
    // It does not write yet: the fact that tells why it may be forgotten is queued.
    let bed = open(&disk);
    let told = bed.log.append(fact(1, "it was taken"));
    bed.log.forget(PipeId(1), ItemNo(1), Seq(u64::MAX));
    assert_eq!(bed.log.extent(PipeId(1), ItemNo(1)), [Seq(0)..Seq(4)]);
    bed.run();
    bed.owner.wait_stored(1, told);
    assert_eq!(bed.log.extent(PipeId(1), ItemNo(1)), []);
}

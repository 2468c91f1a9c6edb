//! The log: a group appended and synced, an item read back.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use criterion::{BenchmarkId, Criterion, Throughput};
use skypipe_core::log::{Disk, Entry, FolderDisk, Log, LogOptions, LogOwner, RamDisk, Read};
use skypipe_core::{Batch, Error, ItemNo, Lsn, PipeId, Seq};

use super::batches;

/// Batches in a group, and bytes of the one record in each: one writer, many writers, an item that passes through.
const GROUPS: [(usize, usize); 4] = [(1, 128), (64, 128), (64, 16 * 1024), (16, 256 * 1024 - 64)];
/// What is read back: batches of a long item.
const ITEM: (usize, usize) = (128, 256 * 1024 - 64);
/// What a relay reads at once.
const READ_BYTES: usize = 1 << 20;
const PIPE: PipeId = PipeId(1);

pub(super) fn measure(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in(beside_this_program()).unwrap();
    let disks: [(&str, Arc<dyn Disk>); 2] =
        [("in memory", Arc::new(RamDisk::new())), ("on disk", Arc::new(FolderDisk::new(folder.path()).unwrap()))];
    for (place, disk) in disks {
        let store = Store::open(disk);
        let mut group = criterion.benchmark_group(format!("log {place}"));
        let mut item = 0;
        for (count, record_bytes) in GROUPS {
            let batches = batches(count, 1, record_bytes);
            group.throughput(Throughput::Bytes((count * record_bytes) as u64));
            let shape = format!("{count} x {record_bytes} B");
            group.bench_function(BenchmarkId::new("append, synced as one group", shape), |b| {
                b.iter(|| {
                    item += 1;
                    store.append(ItemNo(item), &batches);
                    // The log stays as long as it is.
                    store.log.forget(PIPE, ItemNo(item), Seq(count as u64));
                });
            });
        }
        let (count, record_bytes) = ITEM;
        store.append(ItemNo(0), &batches_of(ITEM));
        group.throughput(Throughput::Bytes((count * record_bytes) as u64));
        let name = BenchmarkId::new("read, every checksum checked", format!("{count} x {record_bytes} B"));
        group.bench_function(name, |b| b.iter(|| assert_eq!(store.read(ItemNo(0)), count)));
        group.finish();
        store.log.close();
    }
}

fn batches_of((count, record_bytes): (usize, usize)) -> Vec<Batch> {
    batches(count, 1, record_bytes)
}

fn beside_this_program() -> PathBuf {
    std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned)).unwrap()
}

struct Store {
    log: Arc<Log>,
    stored: Arc<Stored>,
}

impl Store {
    fn open(disk: Arc<dyn Disk>) -> Self {
        let log = Log::open(disk, LogOptions::default(), &mut |_, _| {}).unwrap();
        let stored = Arc::new(Stored::default());
        let owner: Arc<dyn LogOwner> = stored.clone();
        log.start(Arc::downgrade(&owner)).unwrap();
        Self { log, stored }
    }

    /// Returns when all of it is on disk.
    fn append(&self, item: ItemNo, batches: &[Batch]) {
        let entry = |batch: &Batch| Entry::Batch { pipe: PIPE, item, batch: batch.clone() };
        let last = batches.iter().map(|batch| self.log.append(entry(batch))).last().unwrap();
        self.stored.wait(last);
    }

    /// How many batches there are.
    fn read(&self, item: ItemNo) -> usize {
        let (mut from, mut count) = (Seq(0), 0);
        loop {
            match self.log.read(PIPE, item, from, READ_BYTES).unwrap() {
                Read::Batches(batches) => {
                    count += batches.len();
                    from = batches.last().map_or(from, Batch::next);
                }
                _ => return count,
            }
        }
    }
}

/// How far the log is.
#[derive(Default)]
struct Stored {
    upto: Mutex<Option<Lsn>>,
    more: Condvar,
}

impl Stored {
    fn wait(&self, lsn: Lsn) {
        let upto = self.upto.lock().unwrap();
        drop(self.more.wait_while(upto, |upto| upto.is_none_or(|upto| upto < lsn)).unwrap());
    }
}

impl LogOwner for Stored {
    fn stored(&self, _: PipeId, upto: Lsn) {
        *self.upto.lock().unwrap() = Some(upto);
        self.more.notify_all();
    }

    fn snapshot(&self, _: PipeId) {}
    fn stalled(&self, reason: &Error) {
        panic!("the disk is full: {reason}");
    }
    fn resumed(&self) {}
    fn failed(&self, error: &Error) {
        panic!("the log failed: {error}");
    }
}

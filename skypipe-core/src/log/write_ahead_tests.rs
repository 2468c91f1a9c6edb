//! What is written while a sync goes on, on a disk that syncs when it is told to.

use std::io::{self, IoSlice};
use std::sync::Condvar;
use std::time::Duration;

use super::format::segment_name;
use super::tests::{Bed, batch, eventually, fact, numbers, open_with, options, segments, try_open};
use super::*;

const SEGMENT: u64 = 1 << 20;
/// A group of this length is synced beside.
const BESIDE: u64 = 1000;

/// A disk in memory whose syncs begin at once, so that they cover what was written before, and end when the gate is open.
#[derive(Clone)]
struct Gated {
    disk: RamDisk,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

#[derive(Default)]
struct Gate {
    is_closed: bool,
    waiting: usize,
}

impl Gated {
    fn new() -> Self {
        Self { disk: RamDisk::with_power_loss(), gate: Arc::default() }
    }

    fn start(&self, segment_bytes: u64) -> Bed {
        let options = LogOptions { beside_bytes: BESIDE, ..options(segment_bytes) };
        let bed = open_with(Arc::new(self.clone()), options).unwrap();
        bed.run();
        bed.store(fact(1, "made"));
        bed
    }

    fn close(&self) {
        lock(&self.gate.0).is_closed = true;
    }

    fn open_gate(&self) {
        lock(&self.gate.0).is_closed = false;
        self.gate.1.notify_all();
    }

    /// Waits until a sync has begun that does not end.
    fn wait_for_sync(&self) {
        eventually(|| lock(&self.gate.0).waiting == 1);
    }

    fn size(&self, segment: u64) -> u64 {
        self.disk.open(&segment_name(segment)).unwrap().size().unwrap()
    }

    /// What was stored must be there, whatever the power leaves; of what was not, a part without a hole.
    fn lose_power(&self, stored: u64) {
        for loss in [PowerLoss::Nothing, PowerLoss::Everything].into_iter().chain((0..200).map(PowerLoss::Some)) {
            let bed = try_open(&self.disk.after_power_loss(loss), SEGMENT).unwrap();
            let (read, gaps) = bed.read_all(1, 1);
            assert!(gaps.is_empty() && bed.log.recovery().damaged.is_empty(), "{loss:?}: {gaps:?}");
            assert!(read.len() as u64 >= stored && read == numbers(0..read.len() as u64), "{loss:?}: {read:?}");
        }
    }
}

impl Disk for Gated {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(GatedFile { file: self.disk.open(name)?, disk: self.clone() }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(GatedFile { file: self.disk.create(name)?, disk: self.clone() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.disk.sync_folder()
    }

    fn room(&self) -> io::Result<Room> {
        self.disk.room()
    }
}

struct GatedFile {
    file: Box<dyn DiskFile>,
    disk: Gated,
}

impl DiskFile for GatedFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.file.write_at(offset, buffers)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.file.truncate(size)
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.file.sync();
        let (gate, opened) = &*self.disk.gate;
        let mut gate = lock(gate);
        gate.waiting += 1;
        // A test that has failed opens no gate.
        gate = opened.wait_timeout_while(gate, Duration::from_secs(20), |gate| gate.is_closed).unwrap().0;
        gate.waiting -= 1;
        synced
    }
}

/// Appends one record long enough to be synced beside, and written ahead.
fn append(bed: &Bed, number: u64) -> Lsn {
    bed.log.append(batch(1, 1, number, 1, 2 * BESIDE as usize))
}

fn stored(bed: &Bed) -> Lsn {
    lock(&bed.owner.told).stored[&PipeId(1)]
}

#[test]
fn more_is_written_while_a_sync_goes_on_and_is_stored_with_the_next() {
    let disk = Gated::new();
    let bed = disk.start(SEGMENT);
    let made = stored(&bed);
    disk.close();
    let first = append(&bed, 0);
    disk.wait_for_sync();
    let before = disk.size(1);
    append(&bed, 1);
    let third = append(&bed, 2);
    eventually(|| disk.size(1) >= before + 4 * BESIDE);
    assert_eq!(stored(&bed), made, "nothing is told before its sync");
    assert_eq!(bed.log.read(PipeId(1), ItemNo(1), Seq(0), 1).unwrap(), Read::End);
    disk.lose_power(0);
    disk.open_gate();
    bed.owner.wait_stored(1, first);
    bed.owner.wait_stored(1, third);
    assert_eq!(bed.read_all(1, 1), (numbers(0..3), vec![]));
    disk.lose_power(3);
    bed.log.close();
    let again = try_open(&disk.disk, SEGMENT).unwrap();
    assert_eq!((again.read_all(1, 1), again.log.recovery().clone()), ((numbers(0..3), vec![]), Recovery::default()));
}

#[test]
fn what_a_sync_covered_is_there_whatever_becomes_of_what_was_written_meanwhile() {
    let disk = Gated::new();
    let bed = disk.start(SEGMENT);
    disk.close();
    append(&bed, 0);
    disk.wait_for_sync();
    let before = disk.size(1);
    let ahead = append(&bed, 1);
    eventually(|| disk.size(1) > before);
    // The next sync never comes about, so what was written ahead is not told.
    disk.disk.power_off_at_sync(1);
    disk.open_gate();
    bed.owner.wait(|told| told.failures == [Code::Storage]);
    assert!(stored(&bed) < ahead);
    disk.lose_power(1);
}

#[test]
fn a_sync_beside_that_fails_ends_the_log() {
    let disk = Gated::new();
    let bed = disk.start(SEGMENT);
    let made = stored(&bed);
    disk.close();
    disk.disk.fail_sync(1);
    append(&bed, 0);
    disk.wait_for_sync();
    let (before, syncs) = (disk.size(1), disk.disk.syncs());
    append(&bed, 1);
    eventually(|| disk.size(1) > before);
    disk.open_gate();
    bed.owner.wait(|told| told.failures == [Code::Storage]);
    append(&bed, 2);
    bed.log.close();
    assert_eq!((stored(&bed), disk.disk.syncs()), (made, syncs), "nothing is told, nothing is synced again");
}

#[test]
fn a_segment_is_on_disk_before_the_next_one_begins() {
    let disk = Gated::new();
    let bed = disk.start(4 * BESIDE);
    disk.close();
    let first = append(&bed, 0);
    disk.wait_for_sync();
    let second = append(&bed, 1);
    // What is small waits anyway, so there is nothing to wait for: the log has had its chance when this is queued behind.
    bed.log.append(fact(1, "small"));
    assert_eq!(segments(&disk.disk), [1]);
    disk.open_gate();
    bed.owner.wait_stored(1, first);
    bed.owner.wait_stored(1, second);
    assert_eq!((bed.read_all(1, 1), segments(&disk.disk)), ((numbers(0..2), vec![]), vec![1, 2]));
}

#[test]
fn a_disk_that_is_full_while_a_sync_goes_on_keeps_nothing_from_being_told() {
    let disk = Gated::new();
    let bed = disk.start(SEGMENT);
    disk.close();
    let first = append(&bed, 0);
    disk.wait_for_sync();
    disk.disk.set_bytes_max(Some(0));
    let second = append(&bed, 1);
    bed.owner.wait(|told| told.stalls == 1);
    disk.open_gate();
    bed.owner.wait_stored(1, first);
    disk.disk.set_bytes_max(None);
    bed.owner.wait_stored(1, second);
    assert_eq!(bed.read_all(1, 1), (numbers(0..2), vec![]));
}

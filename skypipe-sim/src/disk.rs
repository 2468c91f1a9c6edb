//! A disk that loses what was not synced, runs full, is slow, and dies at any operation.
//!
//! ```text
//!   write ─▶ cache ─▶ pending operations ── sync ──▶ platter
//!             │ survives a killed process      │ a power cut keeps some of them, in blocks of 512 bytes
//! ```
//!
//! Names are held the same way: created, renamed and removed ones are pending until the folder is synced.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skypipe_core::log::{Disk, DiskFile, QUARANTINE, Room};

use crate::dice::Dice;
use crate::trace::Trace;

/// A disk writes so many bytes whole or not at all.
const BLOCK: usize = 512;
/// What it holds, in bytes: more than any simulation writes. It is full when it is said to be.
const TOTAL: u64 = 1 << 40;

/// How a relay's machine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The process is killed: the kernel still has what it wrote.
    Kill,
    /// The power goes: some of what was not synced is there, some is not, some is torn.
    PowerCut,
}

/// How a full disk says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// It has no free byte, and says so when asked.
    ByRoom,
    /// A write takes a part, or none.
    ByWrite,
}

/// Called at the operation at which the machine dies, before anything else happens.
pub type OnDeath = Arc<dyn Fn(Death) + Send + Sync>;

/// One disk through the lives of several relays.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    dice: Dice,
    trace: Arc<Trace>,
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending_names: Vec<NameOp>,
    next_inode: u64,
    /// Which relay holds it: what an earlier one has open is dead.
    life: u64,
    /// Operations until the machine dies, and how.
    dies_in: Option<(u64, Death)>,
    on_death: Option<OnDeath>,
    full: Option<Full>,
    slow: Duration,
    operations: u64,
}

#[derive(Clone, Debug)]
enum NameOp {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

#[derive(Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<ContentOp>,
}

enum ContentOp {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl SimDisk {
    /// An empty disk.
    pub fn new(dice: Dice, trace: Arc<Trace>) -> Self {
        let shared = Shared {
            dice,
            trace,
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            next_inode: 0,
            life: 0,
            dies_in: None,
            on_death: None,
            full: None,
            slow: Duration::ZERO,
            operations: 0,
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// The disk for a relay that starts now.
    pub fn mount(&self) -> Arc<dyn Disk> {
        let life = self.lock().life;
        Arc::new(Mount { disk: self.clone(), life })
    }

    /// Calls `on_death` when the machine dies by [`SimDisk::dies_in`].
    pub fn on_death(&self, on_death: OnDeath) {
        self.lock().on_death = Some(on_death);
    }

    /// The machine dies at the `nth` operation from now, counted from 1, before it is done.
    pub fn dies_in(&self, nth: u64, death: Death) {
        self.lock().dies_in = Some((nth, death));
    }

    /// It does not die any more.
    pub fn lives(&self) {
        self.lock().dies_in = None;
    }

    /// The machine dies now.
    pub fn die(&self, death: Death) {
        self.lock().die(death);
    }

    /// From now on it is full, or is not any more.
    pub fn set_full(&self, full: Option<Full>) {
        self.lock().full = full;
    }

    /// Up to so long passes before it takes up what it is asked.
    pub fn set_slow(&self, slow: Duration) {
        self.lock().slow = slow;
    }

    /// Operations that changed it or synced, so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn die(&mut self, death: Death) {
        self.life += 1;
        self.dies_in = None;
        if death == Death::PowerCut {
            self.lose_power();
        }
    }

    /// Keeps what was synced and a part of the rest.
    fn lose_power(&mut self) {
        let dice = &mut self.dice;
        // A journal keeps the order of names; without one each may be there or not.
        let in_order = dice.chance(50);
        let kept = dice.below(self.pending_names.len() as u64 + 1) as usize;
        let mut names = std::mem::take(&mut self.durable_names);
        for (at, op) in std::mem::take(&mut self.pending_names).into_iter().enumerate() {
            if if in_order { at < kept } else { dice.chance(50) } {
                op.apply(&mut names);
            }
        }
        for inode in self.inodes.values_mut() {
            inode.lose_power(dice);
        }
        self.inodes.retain(|number, _| names.values().any(|named| named == number));
        (self.names, self.durable_names) = (names.clone(), names);
    }
}

impl Inode {
    fn lose_power(&mut self, dice: &mut Dice) {
        // Nothing, everything, or each block by itself.
        let percent = [0, 100, 20, 50, 95][dice.below(5) as usize];
        let mut bytes = std::mem::take(&mut self.durable);
        for op in std::mem::take(&mut self.pending) {
            match op {
                ContentOp::Write(at, data) => {
                    for (from, to) in blocks(at, data.len()) {
                        if dice.chance(percent) {
                            write(&mut bytes, from, &data[from - at..to - at]);
                        }
                    }
                    // The length may be there without the data.
                    if dice.chance(percent / 2) && bytes.len() < at + data.len() {
                        bytes.resize(at + data.len(), 0);
                    }
                }
                ContentOp::Truncate(size) if dice.chance(percent) => bytes.truncate(size),
                ContentOp::Truncate(_) => {}
            }
        }
        (self.cached, self.durable) = (bytes.clone(), bytes);
    }

    fn sync(&mut self) {
        for op in std::mem::take(&mut self.pending) {
            match op {
                ContentOp::Write(at, data) => write(&mut self.durable, at, &data),
                ContentOp::Truncate(size) => self.durable.truncate(size),
            }
        }
    }
}

impl NameOp {
    fn apply(self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(name, inode) => drop(names.insert(name, inode)),
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
            Self::Remove(name) => drop(names.remove(&name)),
        }
    }
}

/// The disk as one relay sees it.
struct Mount {
    disk: SimDisk,
    life: u64,
}

impl Mount {
    /// The disk, if this relay lives.
    fn alive(&self) -> io::Result<MutexGuard<'_, Shared>> {
        let shared = self.disk.lock();
        if shared.life != self.life {
            return Err(io::Error::other("the machine is dead"));
        }
        Ok(shared)
    }

    /// The same for an operation that changes something, which may be the last one.
    fn operate(&self, what: std::fmt::Arguments<'_>) -> io::Result<MutexGuard<'_, Shared>> {
        let mut shared = self.alive()?;
        shared.operations += 1;
        let Some((left, death)) = shared.dies_in else {
            shared.trace.say("disk", what);
            return Ok(shared);
        };
        if left > 1 {
            shared.dies_in = Some((left - 1, death));
            shared.trace.say("disk", what);
            return Ok(shared);
        }
        shared.trace.say("disk", format_args!("dies ({death:?}) at {what}"));
        shared.die(death);
        let on_death = shared.on_death.clone();
        drop(shared);
        if let Some(on_death) = on_death {
            on_death(death);
        }
        Err(io::Error::other("the machine is dead"))
    }

    fn file(&self, inode: u64) -> Box<dyn DiskFile> {
        Box::new(SimFile { mount: Mount { disk: self.disk.clone(), life: self.life }, inode })
    }
}

impl Disk for Mount {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.alive()?.names.keys().filter(|name| !name.starts_with(QUARANTINE)).cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let inode = *self.alive()?.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(inode))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut shared = self.operate(format_args!("creates {name}"))?;
        if shared.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        shared.next_inode += 1;
        let inode = shared.next_inode;
        shared.inodes.insert(inode, Inode::default());
        shared.names.insert(name.to_owned(), inode);
        shared.pending_names.push(NameOp::Create(name.to_owned(), inode));
        drop(shared);
        Ok(self.file(inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut shared = self.operate(format_args!("renames {from} {to}"))?;
        let inode = shared.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        shared.names.insert(to.to_owned(), inode);
        shared.pending_names.push(NameOp::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut shared = self.operate(format_args!("removes {name}"))?;
        shared.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        shared.pending_names.push(NameOp::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut shared = self.operate(format_args!("syncs the folder"))?;
        shared.durable_names = shared.names.clone();
        shared.pending_names.clear();
        Ok(())
    }

    fn room(&self) -> io::Result<Room> {
        let shared = self.alive()?;
        Ok(Room { free: if shared.full == Some(Full::ByRoom) { 0 } else { TOTAL }, total: TOTAL })
    }

    fn busy(&self) -> Duration {
        let mut shared = self.disk.lock();
        let slow = u64::try_from(shared.slow.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(if slow == 0 { 0 } else { shared.dice.below(slow) })
    }
}

/// An open file.
struct SimFile {
    mount: Mount,
    inode: u64,
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.mount.alive()?.inodes.get(&self.inode).map_or(0, |inode| inode.cached.len() as u64))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let shared = self.mount.alive()?;
        let bytes = shared.inodes.get(&self.inode).map_or(&[][..], |inode| &inode.cached);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let count = buffer.len().min(bytes.len() - from);
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut data: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect();
        let sum = crc32c::crc32c(&data);
        let what = format_args!("writes {} at {offset} of {}: {sum:08x}", data.len(), self.inode);
        let mut shared = self.mount.operate(what)?;
        if shared.full == Some(Full::ByWrite) {
            let taken = shared.dice.below(data.len() as u64) as usize;
            data.truncate(if shared.dice.chance(50) { taken } else { 0 });
            if data.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let at = usize::try_from(offset).map_err(|_| io::ErrorKind::StorageFull)?;
        let count = data.len();
        if let Some(inode) = shared.inodes.get_mut(&self.inode) {
            write(&mut inode.cached, at, &data);
            inode.pending.push(ContentOp::Write(at, data));
        }
        Ok(count)
    }

    fn reserve(&self, _: u64) -> io::Result<bool> {
        Ok(self.mount.alive()?.full.is_none())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut shared = self.mount.operate(format_args!("cuts {} to {size}", self.inode))?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if let Some(inode) = shared.inodes.get_mut(&self.inode) {
            inode.cached.truncate(size);
            inode.pending.push(ContentOp::Truncate(size));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut shared = self.mount.operate(format_args!("syncs {}", self.inode))?;
        if let Some(inode) = shared.inodes.get_mut(&self.inode) {
            inode.sync();
        }
        Ok(())
    }
}

/// The blocks that a write touches, each as far as it is written.
fn blocks(at: usize, len: usize) -> impl Iterator<Item = (usize, usize)> {
    let end = at + len;
    let mut from = at;
    std::iter::from_fn(move || {
        let to = ((from / BLOCK + 1) * BLOCK).min(end);
        let block = (from < end).then_some((from, to));
        from = to;
        block
    })
}

/// Writes; what lies between the old end and `at` is zeros.
fn write(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    let end = at + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(data);
}

//! A disk of which one call of a kind fails, in a named way.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use skypipe_core::log::{Disk, DiskFile, Room};

use super::lock;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the call of its name")]
pub enum CallKind {
    List,
    Open,
    Create,
    Rename,
    Remove,
    SyncFolder,
    Room,
    Size,
    Read,
    Write,
    Reserve,
    Truncate,
    Sync,
}

impl CallKind {
    /// Every call there is.
    pub const ALL: [Self; 13] = [
        Self::List,
        Self::Open,
        Self::Create,
        Self::Rename,
        Self::Remove,
        Self::SyncFolder,
        Self::Room,
        Self::Size,
        Self::Read,
        Self::Write,
        Self::Reserve,
        Self::Truncate,
        Self::Sync,
    ];
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With this number of Linux, and nothing done.
    Errno(&'static str, i32),
    /// A read or a write does only a part of it. Other calls go well.
    Short,
}

/// The errors that disks give.
pub const FAULTS: [Fault; 7] = [
    Fault::Errno("EIO", 5),
    Fault::Errno("ENOSPC", 28),
    Fault::Errno("EDQUOT", 122),
    Fault::Errno("EROFS", 30),
    Fault::Errno("EMFILE", 24),
    Fault::Errno("EINTR", 4),
    Fault::Short,
];

/// Which call fails.
#[derive(Clone, Copy, Debug)]
pub struct Faulty {
    /// Of what kind.
    pub kind: CallKind,
    /// How.
    pub fault: Fault,
    /// The how manieth call of its kind, from 1.
    pub nth: u64,
    /// So many calls of its kind in a row: 1 is a single fault, `u64::MAX` one that stays.
    pub count: u64,
}

/// The disk beneath, but for one call.
#[derive(Clone)]
pub struct FailingDisk {
    disk: Arc<dyn Disk>,
    calls: Arc<Mutex<Calls>>,
}

struct Calls {
    counts: [u64; CallKind::ALL.len()],
    faulty: Option<Faulty>,
    failed: u64,
}

struct FailingFile {
    disk: FailingDisk,
    file: Box<dyn DiskFile>,
}

impl FailingDisk {
    /// Fails as told; `None`: never.
    pub fn new(disk: Arc<dyn Disk>, faulty: Option<Faulty>) -> Self {
        let calls = Calls { counts: [0; CallKind::ALL.len()], faulty, failed: 0 };
        Self { disk, calls: Arc::new(Mutex::new(calls)) }
    }

    /// From now on nothing fails any more.
    pub fn mend(&self) {
        lock(&self.calls).faulty = None;
    }

    /// How many calls of a kind there were.
    pub fn count(&self, kind: CallKind) -> u64 {
        lock(&self.calls).counts[kind as usize]
    }

    /// How many calls failed.
    pub fn failed(&self) -> u64 {
        lock(&self.calls).failed
    }

    /// Counts a call. True if it is to do only a part.
    fn call(&self, kind: CallKind) -> io::Result<bool> {
        let mut calls = lock(&self.calls);
        calls.counts[kind as usize] += 1;
        let now = calls.counts[kind as usize];
        let Some(faulty) = calls.faulty.filter(|f| f.kind == kind && now >= f.nth && now - f.nth < f.count) else {
            return Ok(false);
        };
        calls.failed += 1;
        match faulty.fault {
            Fault::Errno(_, number) => Err(io::Error::from_raw_os_error(number)),
            Fault::Short => Ok(true),
        }
    }

    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(FailingFile { disk: self.clone(), file })
    }
}

impl Disk for FailingDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.call(CallKind::List)?;
        self.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.call(CallKind::Open)?;
        self.disk.open(name).map(|file| self.file(file))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.call(CallKind::Create)?;
        self.disk.create(name).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(CallKind::Rename)?;
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(CallKind::Remove)?;
        self.disk.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.call(CallKind::SyncFolder)?;
        self.disk.sync_folder()
    }

    fn room(&self) -> io::Result<Room> {
        self.call(CallKind::Room)?;
        self.disk.room()
    }
}

impl DiskFile for FailingFile {
    fn size(&self) -> io::Result<u64> {
        self.disk.call(CallKind::Size)?;
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let short = self.disk.call(CallKind::Read)?;
        let length = if short { buffer.len().div_ceil(2) } else { buffer.len() };
        self.file.read_at(offset, &mut buffer[..length])
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.disk.call(CallKind::Write)? {
            return self.file.write_at(offset, buffers);
        }
        let bytes: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect();
        self.file.write_at(offset, &[IoSlice::new(&bytes[..bytes.len().div_ceil(2)])])
    }

    fn reserve(&self, size: u64) -> io::Result<bool> {
        self.disk.call(CallKind::Reserve)?;
        self.file.reserve(size)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.disk.call(CallKind::Truncate)?;
        self.file.truncate(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.call(CallKind::Sync)?;
        self.file.sync()
    }
}

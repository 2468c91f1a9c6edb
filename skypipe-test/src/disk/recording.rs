//! A disk that writes down every call that changes something.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use skypipe_core::log::{Disk, DiskFile, Room};

use super::{Image, ImageDisk, lock};

/// Which file, whatever its name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(pub usize);

/// One call that changed something, or made it durable.
#[derive(Clone, Debug)]
pub enum Op {
    /// A file was created, empty.
    Create(Arc<str>, FileId),
    /// These bytes were written at this offset.
    Write(FileId, u64, Bytes),
    /// A file was cut to this length.
    Truncate(FileId, u64),
    /// From the first name to the second.
    Rename(Arc<str>, Arc<str>),
    /// A name was removed.
    Remove(Arc<str>),
    /// All of a file is durable.
    Sync(FileId),
    /// All names are durable.
    SyncFolder,
}

/// Writes down what is done to the disk beneath it. Its program can be stopped between two calls, as `kill -9` does.
#[derive(Clone)]
pub struct RecordingDisk {
    disk: ImageDisk,
    trace: Arc<Mutex<Trace>>,
}

#[derive(Default)]
struct Trace {
    ops: Vec<Op>,
    files: BTreeMap<Arc<str>, FileId>,
    next: usize,
    stop_at: Option<usize>,
}

struct RecordingFile {
    disk: RecordingDisk,
    id: FileId,
    file: Box<dyn DiskFile>,
}

impl RecordingDisk {
    /// Begins to write down, from an image that is durable.
    pub fn new(image: &Image) -> Self {
        let files: BTreeMap<_, _> = image.files.keys().cloned().zip((0..).map(FileId)).collect();
        let trace = Trace { next: files.len(), files, ..Trace::default() };
        Self { disk: ImageDisk::new(image), trace: Arc::new(Mutex::new(trace)) }
    }

    /// The disk beneath.
    pub fn disk(&self) -> &ImageDisk {
        &self.disk
    }

    /// How many calls were written down.
    pub fn len(&self) -> usize {
        lock(&self.trace).ops.len()
    }

    /// Whether nothing was written down yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that was written down.
    pub fn ops(&self) -> Vec<Op> {
        lock(&self.trace).ops.clone()
    }

    /// Once so many calls are written down all others fail and do nothing; `None`: never.
    pub fn stop_at(&self, count: Option<usize>) {
        lock(&self.trace).stop_at = count;
    }

    fn running(&self) -> io::Result<()> {
        lock(&self.trace).running()
    }

    fn file(&self, id: FileId, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(RecordingFile { disk: self.clone(), id, file })
    }

    /// Does something and writes it down, with nobody else in between.
    fn record<R>(&self, change: impl FnOnce(&mut Trace) -> io::Result<(R, Op)>) -> io::Result<R> {
        let mut trace = lock(&self.trace);
        trace.running()?;
        let (result, op) = change(&mut trace)?;
        trace.ops.push(op);
        Ok(result)
    }
}

impl Trace {
    fn running(&self) -> io::Result<()> {
        match self.stop_at.is_some_and(|stop_at| self.ops.len() >= stop_at) {
            true => Err(io::Error::other("the program was killed")),
            false => Ok(()),
        }
    }
}

impl Disk for RecordingDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.running()?;
        self.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.running()?;
        let file = self.disk.open(name)?;
        let id = lock(&self.trace).files.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(id, file))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.record(|trace| {
            let file = self.disk.create(name)?;
            let (name, id) = (Arc::<str>::from(name), FileId(trace.next));
            trace.next += 1;
            trace.files.insert(name.clone(), id);
            Ok((self.file(id, file), Op::Create(name, id)))
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.record(|trace| {
            self.disk.rename(from, to)?;
            let id = trace.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            trace.files.insert(to.into(), id);
            Ok(((), Op::Rename(from.into(), to.into())))
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.record(|trace| {
            self.disk.remove(name)?;
            trace.files.remove(name);
            Ok(((), Op::Remove(name.into())))
        })
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.record(|_| Ok(((), Op::SyncFolder)))
    }

    fn room(&self) -> io::Result<Room> {
        self.running()?;
        self.disk.room()
    }
}

impl DiskFile for RecordingFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.running()?;
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.disk.record(|_| {
            let count = self.file.write_at(offset, buffers)?;
            let mut bytes: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect();
            bytes.truncate(count);
            Ok((count, Op::Write(self.id, offset, bytes.into())))
        })
    }

    fn reserve(&self, size: u64) -> io::Result<bool> {
        self.file.reserve(size)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.disk.record(|_| {
            self.file.truncate(size)?;
            Ok(((), Op::Truncate(self.id, size)))
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.record(|_| Ok(((), Op::Sync(self.id))))
    }
}

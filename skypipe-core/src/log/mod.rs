//! The log on disk: one for all pipes of a broker, appended to and synced in groups.
//!
//! ```text
//!   append ─▶ queue ─▶ committer ──── one write, one sync ────▶ segment 7 ┐
//!                         │                                     segment 6 │ folder
//!      LogOwner::stored ◀─┘                        read ◀────── segment 5 ┘
//! ```
//!
//! The log knows two kinds of entries. *Facts* are bytes that only the owner understands; all of them come back in order when
//! the log is opened. *Batches* are records of one item; they stay on disk until someone reads them. `docs/log.md` draws the bytes.

mod by_pipe;
mod commit;
mod contents;
mod disk;
mod driver;
mod few;
mod folder_disk;
mod format;
mod index;
mod ram_disk;
mod read;
mod reclaim;
mod recover;
mod salvage;
#[cfg(test)]
mod salvage_tests;
mod scan_ahead;
#[cfg(test)]
mod size_tests;
mod syncer;
#[cfg(test)]
mod tests;
mod tolerant;
mod walk;
#[cfg(test)]
mod write_ahead_tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};

use bytes::Bytes;

pub(crate) use self::by_pipe::ByPipe;
pub use self::disk::{Disk, DiskFile, Room};
pub use self::folder_disk::FolderDisk;
pub use self::format::{ALIGN, FORMAT_FILE, FORMAT_FILE_NEW, HEADER_BYTES, LOG_VERSION, PAYLOAD_BYTES_MAX};
pub use self::format::{QUARANTINE, SEGMENT_SUFFIX};
pub use self::ram_disk::{PowerLoss, RamDisk};
pub use self::recover::Recovery;
use crate::batch::Batch;
use crate::env::Work;
use crate::error::{Code, Error};
use crate::id::{ItemNo, Lsn, PipeId, Seq};
use commit::Committer;
use disk::read_some;
use driver::{Driver, Wake};
use format::{FLAG_START, Header, Kind};
use index::{Index, Place};
use syncer::{Beside, Syncer};
use tolerant::Tolerant;

/// What is appended.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Something the owner wants back when the log is opened.
    Fact {
        /// Whose fact.
        pipe: PipeId,
        /// What only the owner understands, up to [`PAYLOAD_BYTES_MAX`] bytes.
        body: Bytes,
    },
    /// Records of one item.
    Batch {
        /// Whose records.
        pipe: PipeId,
        /// Which item.
        item: ItemNo,
        /// The records.
        batch: Batch,
    },
    /// Records on the tape of a pipe, by whomever they were written: read as those of the item [`TAPE`].
    Tape {
        /// Whose tape.
        pipe: PipeId,
        /// The place of the first one; each takes one.
        at: Seq,
        /// One record at least.
        batch: Batch,
    },
}

pub use crate::delivery::limits::TAPE;

/// What the log tells, and asks of, whoever appends to it.
///
/// Called from what writes the log, which holds no lock then: every method of [`Log`] but [`Log::close`] may be called.
pub trait LogOwner: Send + Sync {
    /// Every entry of this pipe up to `upto` is on disk, synced. One call for each pipe in a commit group.
    fn stored(&self, pipe: PipeId, upto: Lsn);

    /// Append, before returning, one fact that restates all facts of this pipe: the log wants to free the older ones. If the
    /// pipe is gone, append nothing and [forget](Log::forget_pipe) it.
    fn snapshot(&self, pipe: PipeId);

    /// The disk is full: entries wait, and are tried again every second. Said once for each wait.
    fn stalled(&self, reason: &Error);

    /// There is room again.
    fn resumed(&self);

    /// A write or a sync failed. The log is read-only from now on, and what was appended and is not yet `stored` is not kept.
    fn failed(&self, error: &Error);
}

/// How a log is kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogOptions {
    /// A new segment is begun when the last one would grow past this, in bytes. Room comes back by the segment.
    pub segment_bytes: u64,
    /// Percent of the disk that the log leaves free.
    pub free_percent: u8,
    /// A number that nobody can guess: it keeps a stranger's bytes from being taken for entries. 0, the default, is no guard;
    /// [`LocalBroker`](crate::LocalBroker) draws one from its [`Env`](crate::Env) instead.
    pub salt: u64,
    /// A group of so many bytes is synced while more is written, where the log has threads; a smaller one is synced before anything else.
    pub beside_bytes: u64,
    /// Where the disk is waited for. [`LocalBroker`](crate::LocalBroker) takes what its [`Env`](crate::Env) says instead.
    pub work: Work,
}

/// Segments large enough that 100 GiB are 1,600 files, small enough that moving what is wanted out of one is quick.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// To sync so much takes many times as long as the two wake-ups that it costs to have it done beside, and to write it ahead is worth a call.
const BESIDE_BYTES: u64 = 512 * 1024;

/// "Never the last 5 % of the disk": the machine of a full log still works.
pub const FREE_PERCENT: u8 = 5;

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            free_percent: FREE_PERCENT,
            salt: 0,
            beside_bytes: BESIDE_BYTES,
            work: Work::Threads,
        }
    }
}

/// What [`Log::read`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// Batches in order without a hole. The first one contains the number asked for.
    Batches(Vec<Batch>),
    /// The same of a [`TAPE`], each with the place of its first record.
    Tape(Vec<(Seq, Batch)>),
    /// The number asked for is damaged or missing, and so are all up to this one.
    Gap {
        /// The next number that can be read; where there is none, the one behind the last that is known of.
        to: Seq,
    },
    /// Nothing is on disk at or behind the number asked for.
    End,
}

/// An append-only log shared by all pipes of one broker.
pub struct Log {
    core: Arc<Core>,
    recovery: Recovery,
    driver: Mutex<Option<Driver>>,
}

impl Log {
    /// Opens the log on this disk, or begins one. `replay` is called for every fact, oldest first; of a pipe whose older facts were
    /// freed, from the fact on that restates them.
    ///
    /// # Errors
    /// `E_FORMAT` for a newer format, which is not touched; `E_NO_SPACE`; `E_STORAGE` when the disk cannot be read.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        replay: &mut dyn FnMut(PipeId, Bytes),
    ) -> Result<Arc<Self>, Error> {
        let recovered = recover::recover(&*disk, &options, replay)?;
        let state = State {
            queue: VecDeque::new(),
            queued_bytes: 0,
            beside: Beside::Idle,
            waits: false,
            next_lsn: 1,
            committed: Lsn(0),
            forgets: VecDeque::new(),
            index: recovered.index,
            snapshot_of: None,
            head: Some(recovered.head),
            head_number: recovered.head_number,
            closing: false,
            failed: false,
            idle_moves: false,
        };
        let files = Files::default();
        let core = Core { disk, options, salt: recovered.salt, files, state: Mutex::new(state), wake: Wake::default() };
        Ok(Arc::new(Self { core: Arc::new(core), recovery: recovered.recovery, driver: Mutex::new(None) }))
    }

    /// Starts writing on a thread of its own, or [inline](Work::Inline) in a task of the tokio runtime that this is called in. Before, entries
    /// queue; a second call does nothing.
    ///
    /// # Errors
    /// `E_STORAGE` when the system gives no thread.
    pub fn start(self: &Arc<Self>, owner: Weak<dyn LogOwner>) -> Result<(), Error> {
        let work = self.core.options.work;
        let mut driver = lock(&self.driver);
        let Some(head) = lock(&self.core.state).head.take() else { return Ok(()) };
        let syncer = (work == Work::Threads).then(Syncer::default);
        let committer = Committer::new(self.core.clone(), Some(owner), head, syncer);
        *driver = Some(Driver::start(work, committer)?);
        Ok(())
    }

    /// Appends an entry and returns its number. The order of calls is the order in the log. Never waits for the disk; how much
    /// may be pending is the caller's to bound. After [`LogOwner::failed`] nothing is kept.
    pub fn append(&self, entry: Entry) -> Lsn {
        // The checksum of a fact is made before the lock is taken.
        let (header, payload) = parts(entry);
        let mut state = lock(&self.core.state);
        let lsn = state.append(header, payload);
        let wakes = state.has_news(self.core.options.beside_bytes);
        drop(state);
        self.core.wake.wake_if(wakes);
        lsn
    }

    /// Reads batches of an item from the one on that contains `from`, about `bytes_max` bytes, at least one batch. Waits for the disk.
    ///
    /// # Errors
    /// `E_STORAGE` when the disk cannot be read.
    pub fn read(&self, pipe: PipeId, item: ItemNo, from: Seq, bytes_max: usize) -> Result<Read, Error> {
        read::read(&self.core, pipe, item, from, bytes_max)
    }

    /// The numbers of an item that are on disk, in order.
    pub fn extent(&self, pipe: PipeId, item: ItemNo) -> Vec<Range<Seq>> {
        lock(&self.core.state).index.extent(pipe, item)
    }

    /// The pipes that have facts or batches, in order.
    pub fn pipes(&self) -> Vec<PipeId> {
        lock(&self.core.state).index.pipes()
    }

    /// The highest number of a pipe that has facts or batches.
    pub fn last_pipe(&self) -> Option<PipeId> {
        lock(&self.core.state).index.last_pipe()
    }

    /// The items of a pipe of which something is on disk, in order.
    pub fn items(&self, pipe: PipeId) -> Vec<ItemNo> {
        lock(&self.core.state).index.items(pipe)
    }

    /// Batches of this item wholly below `below` are not wanted any more once all that was appended so far is on disk, the facts that say
    /// so included; `u64::MAX` is the whole item. Not remembered on disk: after opening the owner says it again for what its facts tell.
    pub fn forget(&self, pipe: PipeId, item: ItemNo, below: Seq) {
        let mut state = lock(&self.core.state);
        let appended = Lsn(state.next_lsn - 1);
        if state.committed >= appended {
            state.index.forget(pipe, item, below);
        } else {
            state.forgets.push_back(Forget { after: appended, pipe, item, below });
        }
        let wakes = state.waits;
        drop(state);
        self.core.wake.wake_if(wakes);
    }

    /// Nothing of this pipe is wanted any more, what is queued included; its number is never used again. Not remembered on disk.
    pub fn forget_pipe(&self, pipe: PipeId) {
        let mut state = lock(&self.core.state);
        state.index.forget_pipe(pipe);
        state.idle_moves = false;
        drop(state);
        self.core.wake.wake();
    }

    /// Something of this pipe cannot be understood, of one item or of all: the segments that hold it are put aside when nothing
    /// else in them is wanted, instead of being removed.
    pub fn keep_aside(&self, pipe: PipeId, item: Option<ItemNo>) {
        lock(&self.core.state).index.keep_aside(pipe, item);
    }

    /// Bytes on disk of the batches of a pipe that are wanted, if of each of these items, in order, all below its number is there and nothing
    /// of any other.
    pub fn bytes_of_all(&self, pipe: PipeId, items: impl Iterator<Item = (ItemNo, Seq)>) -> Option<u64> {
        lock(&self.core.state).index.bytes_of_all(pipe, items)
    }

    /// Bytes on disk of the batches of a pipe that are wanted.
    pub fn bytes(&self, pipe: PipeId) -> u64 {
        lock(&self.core.state).index.live(pipe, None)
    }

    /// Bytes on disk of the batches of an item that are wanted.
    pub fn item_bytes(&self, pipe: PipeId, item: ItemNo) -> u64 {
        lock(&self.core.state).index.live(pipe, Some(item))
    }

    /// Bytes of all segments together, wanted or not.
    pub fn disk_bytes(&self) -> u64 {
        lock(&self.core.state).index.bytes()
    }

    /// What was found when the log was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Commits what is queued and stops writing. On a full disk what waits is given up. Must not be called by a [`LogOwner`]
    /// from within a call of the log; it returns then without waiting. So it does of a log that is written
    /// [inline](Work::Inline): [`Log::closed`] waits.
    pub fn close(&self) {
        let head = {
            let mut state = lock(&self.core.state);
            state.closing = true;
            state.head.take()
        };
        self.core.wake.wake();
        if let Some(head) = head {
            return driver::run(Committer::new(self.core.clone(), None, head, None));
        }
        if let Some(driver) = lock(&self.driver).as_mut() {
            driver.join();
        }
    }

    /// The same, for tasks: waits without holding up its thread.
    ///
    /// # Cancel safety
    /// A dropped call closes the log all the same; a further one waits.
    pub async fn closed(self: &Arc<Self>) {
        lock(&self.core.state).closing = true;
        self.core.wake.wake();
        let over = lock(&self.driver).as_ref().map(Driver::over);
        match over {
            Some(over) => over.await,
            None => self.close(),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let started = lock(&self.driver).is_some();
        if started {
            self.close();
        }
    }
}

/// What the handle and the driver share.
struct Core {
    disk: Arc<dyn Disk>,
    options: LogOptions,
    salt: u64,
    files: Files,
    state: Mutex<State>,
    /// There is something to write, to move, or no more.
    wake: Wake,
}

struct State {
    /// What is to be written, in order. Bounded by the credit windows of those who append.
    queue: VecDeque<Queued>,
    /// Bytes of the queue on disk.
    queued_bytes: u64,
    /// What is synced while more is written.
    beside: Beside,
    /// The thread that writes waits for something to do.
    waits: bool,
    next_lsn: u64,
    /// All up to here is on disk.
    committed: Lsn,
    /// What is forgotten once something is on disk that is queued still, in order. As many as facts in the queue.
    forgets: VecDeque<Forget>,
    index: Index,
    /// The pipe whose owner is asked for a snapshot now, and the thread on which that happens.
    snapshot_of: Option<(PipeId, ThreadId)>,
    /// Waits here for the driver.
    head: Option<commit::Head>,
    /// The segment that is written, which is never freed.
    head_number: u64,
    closing: bool,
    failed: bool,
    /// Whether the last look for segments to free found that it has to wait for the next commit.
    idle_moves: bool,
}

/// What is not wanted any more once all up to `after` is on disk.
struct Forget {
    after: Lsn,
    pipe: PipeId,
    item: ItemNo,
    below: Seq,
}

/// One entry on its way to the disk.
struct Queued {
    lsn: Lsn,
    header: Header,
    payload: Bytes,
    /// Where it is copied from, if it is on disk already.
    from: Option<Place>,
}

impl State {
    fn append(&mut self, mut header: Header, payload: Bytes) -> Lsn {
        let first = self.index.appended(header.pipe, header.kind == Kind::Fact);
        if header.kind == Kind::Fact && (first || self.is_snapshot(header.pipe)) {
            header.flags |= FLAG_START;
        }
        self.push(header, payload, None)
    }

    fn push(&mut self, header: Header, payload: Bytes, from: Option<Place>) -> Lsn {
        let lsn = Lsn(self.next_lsn);
        self.next_lsn += 1;
        if !self.failed {
            self.queued_bytes += header.span();
            self.queue.push_back(Queued { lsn, header, payload, from });
        }
        lsn
    }

    /// Whether who writes waits for what is queued now. While something is synced beside that is `ahead_bytes` at least.
    fn has_news(&self, ahead_bytes: u64) -> bool {
        self.waits && (self.beside.is_idle() || self.queued_bytes >= ahead_bytes)
    }

    /// All up to `upto` is on disk.
    fn committed(&mut self, upto: Lsn) {
        self.committed = self.committed.max(upto);
        let due = self.forgets.partition_point(|forget| forget.after <= upto);
        for Forget { pipe, item, below, .. } in self.forgets.drain(..due) {
            self.index.forget(pipe, item, below);
        }
    }

    fn is_snapshot(&mut self, pipe: PipeId) -> bool {
        let asked = self.snapshot_of == Some((pipe, thread::current().id()));
        if asked {
            self.snapshot_of = None;
        }
        asked
    }
}

/// Header and payload of an entry, its group still unknown.
fn parts(entry: Entry) -> (Header, Bytes) {
    let (kind, pipe, item, payload, checksum, first, count) = match entry {
        Entry::Fact { pipe, body } => (Kind::Fact, pipe, ItemNo(0), body.clone(), crc32c::crc32c(&body), Seq(0), 0),
        Entry::Batch { pipe, item, batch } => {
            let count = batch.next().0 - batch.first().0;
            let first = batch.first();
            (Kind::Batch, pipe, item, batch.encoded().clone(), batch.checksum(), first, count)
        }
        Entry::Tape { pipe, at, batch } => {
            let count = u64::from(batch.count());
            (Kind::Batch, pipe, TAPE, batch.encoded().clone(), batch.checksum(), at, count)
        }
    };
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    (Header { kind, length, checksum, count, pipe, item, first, ..Header::closed() }, payload)
}

/// The batch in this payload, if it is what was written. A header that names other numbers than its batch would be read again and again.
fn batch_of(header: &Header, payload: Bytes) -> Option<Batch> {
    let is_named = |b: &Batch| {
        let numbers_fit = match header.item {
            TAPE => b.count() == header.count,
            _ => (b.first(), b.next()) == (header.first, header.next()),
        };
        b.checksum() == header.checksum && numbers_fit
    };
    Batch::decode(payload).ok().filter(is_named)
}

/// Files of segments that were read lately.
#[derive(Default)]
struct Files(Mutex<VecDeque<(u64, OpenSegment)>>);

/// A segment to read from.
#[derive(Clone)]
struct OpenSegment {
    file: Arc<dyn DiskFile>,
    seed: u32,
}

/// Most segments open at a time for reading: half of the descriptors that are kept for files.
const OPEN_FILES_MAX: usize = 16;

impl Core {
    /// Opens a segment for reading.
    fn segment(&self, number: u64) -> std::io::Result<OpenSegment> {
        let mut files = lock(&self.files.0);
        if let Some(at) = files.iter().position(|(n, _)| *n == number) {
            let found = files.remove(at);
            files.extend(found.clone());
            return found.map(|(_, file)| file).ok_or_else(|| std::io::ErrorKind::NotFound.into());
        }
        let file: Arc<dyn DiskFile> = Arc::new(Tolerant::new(self.disk.open(&format::segment_name(number))?));
        let salt = segment_salt(&*file)?.unwrap_or(self.salt);
        let open = OpenSegment { file, seed: format::seed_of(salt, number) };
        if files.len() >= OPEN_FILES_MAX {
            files.pop_front();
        }
        files.push_back((number, open.clone()));
        Ok(open)
    }

    /// Lets go of a segment that is gone.
    fn close_segment(&self, number: u64) {
        lock(&self.files.0).retain(|(n, _)| *n != number);
    }
}

/// The salt in the first entry of a segment; `None` when that cannot be read.
fn segment_salt(file: &dyn DiskFile) -> std::io::Result<Option<u64>> {
    Ok(segment_header(file)?.map(|h| h.item.0))
}

/// The first entry of a segment; `None` when that cannot be read.
fn segment_header(file: &dyn DiskFile) -> std::io::Result<Option<Header>> {
    let mut bytes = [0; HEADER_BYTES];
    let mut length = 0;
    while length < HEADER_BYTES {
        match read_some(file, length as u64, &mut bytes[length..])? {
            0 => return Ok(None),
            n => length += n,
        }
    }
    Ok(Header::decode(0, 0, &bytes).filter(|h| h.kind == Kind::Segment))
}

/// The disk failed at something.
fn storage(what: &str, error: std::io::Error) -> Error {
    let code = if disk::is_full(&error) { Code::NoSpace } else { Code::Storage };
    Error::new(code, format!("{what}: {error}")).because(error)
}

/// As [`storage`], of an error after which nothing is written any more: also on a full disk, since waiting for room mends nothing then.
fn broken(what: &str, error: std::io::Error) -> Error {
    Error::new(Code::Storage, format!("{what}: {error}")).because(error)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The state is changed in steps that do not panic; whoever panicked with the lock held changed nothing of it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

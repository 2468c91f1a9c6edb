//! The log of skypipe-core beside two storage crates, on the three workloads that matter to it.
//!
//! `cargo run --release -p skypipe-benches --bin store [FOLDER]` prints one table; `docs/decisions.md` says what follows from it.
//! Give it a folder on a real disk: on a tmpfs syncing costs nothing. `STORE_SCALE=0.1` makes everything ten times smaller,
//! `STORE_ONLY=a` runs only one of the workloads.
//!
//! fjall and redb know no group commit over many writers, so here they get the one that the log has: one thread takes all that
//! is queued, commits it at once with a sync, and wakes the writers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::error::Error;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::{CompressionType, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use redb::{ReadableDatabase, TableDefinition};
use skypipe_core::log::{Entry, FolderDisk, Log, LogOptions, LogOwner, Read};
use skypipe_core::{Batch, BatchBuilder, Epoch, ItemNo, Lsn, PipeId, Seq, SessionId};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const RUNS: usize = 3;
const WRITERS: u64 = 64;
const RECORD_BYTES: usize = 128;
const SMALL_RECORDS: u64 = 64 * 4000;
const ITEM_BYTES: u64 = 4 << 30;
const PIECE_BYTES: usize = 256 * 1024 - 64;
const WINDOW_BYTES: usize = 4 << 20;
const PIPES: u64 = 100_000;
const LISTED: u64 = 1000;

fn main() -> Outcome<()> {
    let folder = match std::env::args_os().nth(1) {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe()?.parent().ok_or("no folder")?.to_owned(),
    };
    let scale: f64 = std::env::var("STORE_SCALE").ok().and_then(|s| s.parse().ok()).unwrap_or(1.0);
    let only = std::env::var("STORE_ONLY").unwrap_or_else(|_| "abc".to_owned());
    let scaled = |n: u64| ((n as f64 * scale) as u64).max(WRITERS);
    let mut figures: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    let kinds = [Kind::Floor, Kind::Log, Kind::Fjall, Kind::Redb];
    for run in 0..RUNS {
        for (column, &kind) in kinds.iter().enumerate() {
            let mut note = |row: usize, value: f64| {
                eprintln!("run {run} {kind:?} {}: {value:.1}", ROWS[row]);
                figures.entry((row, column)).or_default().push(value);
            };
            if only.contains('a') {
                small_records(kind, &folder, scaled(SMALL_RECORDS), &mut note)?;
            }
            if only.contains('b') {
                large_item(kind, &folder, scaled(ITEM_BYTES), &mut note)?;
            }
            if only.contains('c') {
                many_pipes(kind, &folder, scaled(PIPES), &mut note)?;
            }
        }
    }
    print_table(&figures, kinds.len());
    Ok(())
}

const ROWS: [&str; 10] = [
    "(a) 64 writers, 128 B, each waits for its sync: records/s",
    "(a) p50 of one record: ms",
    "(a) p99 of one record: ms",
    "(b) 4 GiB item in, synced every 4 MiB: MiB/s",
    "(b) the same out, every checksum checked: MiB/s",
    "(b) disk used: MiB",
    "(b) open again with the item in it: ms",
    "(c) 100,000 pipes with one synced record: pipes/s",
    "(c) open again: ms",
    "(c) list 1,000 of them by prefix: ms",
];

fn print_table(figures: &BTreeMap<(usize, usize), Vec<f64>>, columns: usize) {
    println!("| workload (median of {RUNS} runs) | plain file, one thread | own log | fjall 3 | redb 4 |");
    println!("|---|---:|---:|---:|---:|");
    for (row, name) in ROWS.iter().enumerate() {
        let cells: Vec<String> = (0..columns).map(|column| median(figures.get(&(row, column)))).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
}

fn median(values: Option<&Vec<f64>>) -> String {
    let Some(values) = values else { return "-".to_owned() };
    let mut sorted = values.clone();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted[sorted.len() / 2];
    if middle < 100.0 { format!("{middle:.1}") } else { format!("{middle:.0}") }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Floor,
    Log,
    Fjall,
    Redb,
}

/// What is measured: a place for records of pipes.
trait Store: Send + Sync {
    /// Queues a batch; the waiter is told when it is synced.
    fn put(&self, pipe: u64, batch: Batch, waiter: &Arc<Waiter>);
    /// Reads all of a pipe, checking it, and returns its bytes.
    fn read(&self, pipe: u64) -> Outcome<u64>;
    /// How many pipes have a name that begins so.
    fn list(&self, prefix: &str) -> Outcome<u64>;
    /// Makes everything durable and stops.
    fn close(&self);
}

fn open(kind: Kind, folder: &Path) -> Outcome<Arc<dyn Store>> {
    Ok(match kind {
        Kind::Floor => Grouped::start(Arc::new(PlainFile::open(folder)?)),
        Kind::Log => OwnLog::open(folder)?,
        Kind::Fjall => Grouped::start(Arc::new(Fjall::open(folder)?)),
        Kind::Redb => Grouped::start(Arc::new(Redb::open(folder)?)),
    })
}

// ---- workloads

fn small_records(kind: Kind, folder: &Path, records: u64, note: &mut dyn FnMut(usize, f64)) -> Outcome<()> {
    let temp = tempfile::tempdir_in(folder)?;
    let store = open(kind, temp.path())?;
    let start = Instant::now();
    let mut waits = in_parallel(|writer| {
        let waiter = Arc::new(Waiter::default());
        (0..records / WRITERS).map(|seq| put_and_wait(&*store, writer + 1, seq, &waiter)).collect()
    });
    note(0, records as f64 / start.elapsed().as_secs_f64());
    waits.sort_unstable();
    note(1, waits[waits.len() / 2].as_secs_f64() * 1e3);
    note(2, waits[waits.len() * 99 / 100].as_secs_f64() * 1e3);
    store.close();
    Ok(())
}

fn put_and_wait(store: &dyn Store, pipe: u64, seq: u64, waiter: &Arc<Waiter>) -> Duration {
    let start = Instant::now();
    store.put(pipe, batch(pipe, seq, &[7; RECORD_BYTES]), waiter);
    waiter.wait_below(1);
    start.elapsed()
}

fn large_item(kind: Kind, folder: &Path, bytes: u64, note: &mut dyn FnMut(usize, f64)) -> Outcome<()> {
    let temp = tempfile::tempdir_in(folder)?;
    let store = open(kind, temp.path())?;
    let mut piece = vec![0; PIECE_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut piece)?;
    let waiter = Arc::new(Waiter::default());
    let start = Instant::now();
    for seq in 0..bytes / PIECE_BYTES as u64 {
        piece[..8].copy_from_slice(&seq.to_le_bytes());
        store.put(1, batch(1, seq, &piece), &waiter);
        waiter.wait_below(WINDOW_BYTES / PIECE_BYTES);
    }
    waiter.wait_below(1);
    let mib = (bytes / PIECE_BYTES as u64 * PIECE_BYTES as u64) as f64 / f64::from(1 << 20);
    note(3, mib / start.elapsed().as_secs_f64());
    let start = Instant::now();
    let read = store.read(1)?;
    assert!(read >= bytes / PIECE_BYTES as u64 * PIECE_BYTES as u64, "{read} bytes came back");
    note(4, mib / start.elapsed().as_secs_f64());
    store.close();
    drop(store);
    note(5, disk_bytes(temp.path())? as f64 / f64::from(1 << 20));
    if kind != Kind::Floor {
        let start = Instant::now();
        let store = open(kind, temp.path())?;
        note(6, start.elapsed().as_secs_f64() * 1e3);
        store.close();
    }
    Ok(())
}

fn many_pipes(kind: Kind, folder: &Path, pipes: u64, note: &mut dyn FnMut(usize, f64)) -> Outcome<()> {
    let temp = tempfile::tempdir_in(folder)?;
    let store = open(kind, temp.path())?;
    let start = Instant::now();
    in_parallel(|writer| {
        let waiter = Arc::new(Waiter::default());
        (0..pipes / WRITERS).map(|n| put_and_wait(&*store, 1 + n * WRITERS + writer, 0, &waiter)).collect()
    });
    note(7, pipes as f64 / start.elapsed().as_secs_f64());
    store.close();
    drop(store);
    if kind == Kind::Floor {
        return Ok(());
    }
    let start = Instant::now();
    let store = open(kind, temp.path())?;
    note(8, start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    let listed = store.list("pipe/0001")?;
    assert!(listed == LISTED || pipes < PIPES, "{listed} were listed");
    note(9, start.elapsed().as_secs_f64() * 1e3);
    store.close();
    Ok(())
}

fn in_parallel(work: impl Fn(u64) -> Vec<Duration> + Sync) -> Vec<Duration> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || work(writer))).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap_or_default()).collect()
    })
}

fn batch(pipe: u64, seq: u64, body: &[u8]) -> Batch {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&pipe.to_le_bytes());
    let mut builder = BatchBuilder::new(SessionId(id), Epoch(1), Seq(seq));
    assert!(builder.push(body, true, true));
    builder.build(None)
}

/// The name of a pipe; a thousand share all but the last three digits.
fn name(pipe: u64) -> String {
    format!("pipe/{pipe:07}")
}

fn disk_bytes(folder: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.metadata()?;
        bytes += if data.is_dir() { disk_bytes(&entry.path())? } else { data.blocks() * 512 };
    }
    Ok(bytes)
}

/// Counts what one writer has queued and not yet been told of.
#[derive(Default)]
struct Waiter {
    pending: Mutex<usize>,
    fewer: Condvar,
}

impl Waiter {
    fn more(&self) {
        *lock(&self.pending) += 1;
    }

    fn fewer(&self) {
        *lock(&self.pending) -= 1;
        self.fewer.notify_one();
    }

    fn wait_below(&self, limit: usize) {
        let mut pending = lock(&self.pending);
        while *pending >= limit {
            pending = self.fewer.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

// ---- the log

struct OwnLog {
    log: Arc<Log>,
    owner: Arc<Owner>,
    names: Mutex<BTreeMap<String, u64>>,
}

type Waiting = HashMap<PipeId, VecDeque<(Lsn, Arc<Waiter>)>>;

/// Who waits for what, each writer's pipes apart, so that waking one does not hold up another.
struct Owner {
    waiting: Vec<Mutex<Waiting>>,
}

impl Owner {
    fn waiting(&self, pipe: PipeId) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting[pipe.0 as usize % self.waiting.len()])
    }
}

impl OwnLog {
    fn open(folder: &Path) -> Outcome<Arc<dyn Store>> {
        let mut names = BTreeMap::new();
        let mut replay = |pipe: PipeId, body: Bytes| {
            names.insert(String::from_utf8_lossy(&body).into_owned(), pipe.0);
        };
        let log = Log::open(Arc::new(FolderDisk::new(folder)?), LogOptions::default(), &mut replay)?;
        let owner = Arc::new(Owner { waiting: (0..WRITERS).map(|_| Mutex::default()).collect() });
        let as_owner: Arc<dyn LogOwner> = owner.clone();
        log.start(Arc::downgrade(&as_owner))?;
        Ok(Arc::new(Self { log, owner, names: Mutex::new(names) }))
    }
}

impl Store for OwnLog {
    fn put(&self, pipe: u64, batch: Batch, waiter: &Arc<Waiter>) {
        let id = PipeId(pipe);
        if batch.first() == Seq(0) {
            lock(&self.names).insert(name(pipe), pipe);
            self.log.append(Entry::Fact { pipe: id, body: name(pipe).into() });
        }
        waiter.more();
        let mut waiting = self.owner.waiting(id);
        let lsn = self.log.append(Entry::Batch { pipe: id, item: ItemNo(1), batch });
        waiting.entry(id).or_default().push_back((lsn, waiter.clone()));
    }

    fn read(&self, pipe: u64) -> Outcome<u64> {
        let (mut at, mut bytes) = (Seq(0), 0);
        loop {
            match self.log.read(PipeId(pipe), ItemNo(1), at, 1 << 20)? {
                Read::Batches(batches) => {
                    bytes += batches.iter().map(|b| b.encoded().len() as u64).sum::<u64>();
                    at = batches.last().map_or(at, Batch::next);
                }
                Read::Gap { .. } | Read::Tape(_) => return Err("a gap".into()),
                Read::End => return Ok(bytes),
            }
        }
    }

    fn list(&self, prefix: &str) -> Outcome<u64> {
        let names = lock(&self.names);
        Ok(names.range(prefix.to_owned()..).take_while(|(n, _)| n.starts_with(prefix)).count() as u64)
    }

    fn close(&self) {
        self.log.close();
    }
}

impl LogOwner for Owner {
    fn stored(&self, pipe: PipeId, upto: Lsn) {
        let mut waiting = self.waiting(pipe);
        let Some(queue) = waiting.get_mut(&pipe) else { return };
        while queue.front().is_some_and(|(lsn, _)| *lsn <= upto) {
            if let Some((_, waiter)) = queue.pop_front() {
                waiter.fewer();
            }
        }
        if queue.is_empty() {
            waiting.remove(&pipe);
        }
    }

    fn snapshot(&self, _: PipeId) {}
    fn stalled(&self, reason: &skypipe_core::Error) {
        eprintln!("waits: {reason}");
    }
    fn resumed(&self) {}
    fn failed(&self, error: &skypipe_core::Error) {
        eprintln!("failed: {error}");
    }
}

// ---- group commit for those who have none

/// What can write a group at once and sync it.
trait Engine: Send + Sync {
    fn commit(&self, group: &[(u64, Batch)]) -> Outcome<()>;
    fn read(&self, pipe: u64) -> Outcome<u64>;
    fn list(&self, prefix: &str) -> Outcome<u64>;
}

struct Grouped {
    engine: Arc<dyn Engine>,
    queue: Mutex<Queue>,
    wake: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    entries: Vec<(u64, Batch)>,
    waiters: Vec<Arc<Waiter>>,
    closing: bool,
}

impl Grouped {
    fn start(engine: Arc<dyn Engine>) -> Arc<dyn Store> {
        let grouped =
            Arc::new(Self { engine, queue: Mutex::default(), wake: Condvar::new(), thread: Mutex::default() });
        let me = grouped.clone();
        *lock(&grouped.thread) = Some(std::thread::spawn(move || me.run()));
        grouped
    }

    fn run(&self) {
        loop {
            let mut queue = lock(&self.queue);
            while queue.entries.is_empty() && !queue.closing {
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            let (group, waiters) = (std::mem::take(&mut queue.entries), std::mem::take(&mut queue.waiters));
            drop(queue);
            if group.is_empty() {
                return;
            }
            if let Err(error) = self.engine.commit(&group) {
                eprintln!("a commit failed: {error}");
                return;
            }
            waiters.iter().for_each(|w| w.fewer());
        }
    }
}

impl Store for Grouped {
    fn put(&self, pipe: u64, batch: Batch, waiter: &Arc<Waiter>) {
        waiter.more();
        let mut queue = lock(&self.queue);
        queue.entries.push((pipe, batch));
        queue.waiters.push(waiter.clone());
        drop(queue);
        self.wake.notify_one();
    }

    fn read(&self, pipe: u64) -> Outcome<u64> {
        self.engine.read(pipe)
    }

    fn list(&self, prefix: &str) -> Outcome<u64> {
        self.engine.list(prefix)
    }

    fn close(&self) {
        lock(&self.queue).closing = true;
        self.wake.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            assert!(thread.join().is_ok(), "the commit thread panicked");
        }
    }
}

fn key(pipe: u64, seq: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&pipe.to_be_bytes());
    key[8..].copy_from_slice(&seq.to_be_bytes());
    key
}

// ---- the floor: a file

struct PlainFile(Mutex<File>);

impl PlainFile {
    fn open(folder: &Path) -> Outcome<Self> {
        let path = folder.join("file");
        Ok(Self(Mutex::new(File::options().read(true).write(true).create(true).truncate(false).open(path)?)))
    }
}

impl Engine for PlainFile {
    fn commit(&self, group: &[(u64, Batch)]) -> Outcome<()> {
        let mut file = lock(&self.0);
        for part in group.chunks(1024) {
            // Small records in one write, large ones each in their own.
            if part.iter().all(|(_, b)| b.encoded().len() < 4096) {
                let bytes: Vec<u8> = part.iter().flat_map(|(_, b)| b.encoded().iter().copied()).collect();
                file.write_all(&bytes)?;
            } else {
                part.iter().try_for_each(|(_, b)| file.write_all(b.encoded()))?;
            }
        }
        Ok(file.sync_data()?)
    }

    fn read(&self, _: u64) -> Outcome<u64> {
        use std::os::unix::fs::FileExt;
        let file = lock(&self.0);
        let length = batch(1, 0, &vec![0; PIECE_BYTES]).encoded().len();
        let mut at = 0;
        loop {
            let mut bytes = vec![0; length];
            if file.read_at(&mut bytes, at)? < length {
                return Ok(at);
            }
            Batch::decode(bytes.into())?;
            at += length as u64;
        }
    }

    fn list(&self, _: &str) -> Outcome<u64> {
        Ok(0)
    }
}

// ---- fjall

struct Fjall {
    db: fjall::Database,
    names: fjall::Keyspace,
    batches: fjall::Keyspace,
}

impl Fjall {
    fn open(folder: &Path) -> Outcome<Self> {
        let db = fjall::Database::builder(folder).journal_compression(CompressionType::None).open()?;
        let names = db.keyspace("names", KeyspaceCreateOptions::default)?;
        let large = || KeyspaceCreateOptions::default().with_kv_separation(Some(KvSeparationOptions::default()));
        let batches = db.keyspace("batches", large)?;
        Ok(Self { db, names, batches })
    }
}

impl Engine for Fjall {
    fn commit(&self, group: &[(u64, Batch)]) -> Outcome<()> {
        let mut write = self.db.batch().durability(Some(PersistMode::SyncData));
        for (pipe, batch) in group {
            if batch.first() == Seq(0) {
                write.insert(&self.names, name(*pipe), pipe.to_le_bytes());
            }
            write.insert(&self.batches, key(*pipe, batch.first().0), &batch.encoded()[..]);
        }
        Ok(write.commit()?)
    }

    fn read(&self, pipe: u64) -> Outcome<u64> {
        let mut bytes = 0;
        for guard in self.batches.range(key(pipe, 0)..key(pipe + 1, 0)) {
            let (_, value) = guard.into_inner()?;
            bytes += Batch::decode(Bytes::copy_from_slice(&value))?.encoded().len() as u64;
        }
        Ok(bytes)
    }

    fn list(&self, prefix: &str) -> Outcome<u64> {
        let mut count = 0;
        for guard in self.names.prefix(prefix) {
            guard.into_inner()?;
            count += 1;
        }
        Ok(count)
    }
}

// ---- redb

struct Redb(redb::Database);

const NAMES: TableDefinition<&str, u64> = TableDefinition::new("names");
const BATCHES: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("batches");

impl Redb {
    fn open(folder: &Path) -> Outcome<Self> {
        Ok(Self(redb::Database::create(folder.join("redb"))?))
    }
}

impl Engine for Redb {
    fn commit(&self, group: &[(u64, Batch)]) -> Outcome<()> {
        let write = self.0.begin_write()?;
        {
            let mut names = write.open_table(NAMES)?;
            let mut batches = write.open_table(BATCHES)?;
            for (pipe, batch) in group {
                if batch.first() == Seq(0) {
                    names.insert(&*name(*pipe), pipe)?;
                }
                batches.insert((*pipe, batch.first().0), &batch.encoded()[..])?;
            }
        }
        Ok(write.commit()?)
    }

    fn read(&self, pipe: u64) -> Outcome<u64> {
        let read = self.0.begin_read()?;
        let mut bytes = 0;
        for entry in read.open_table(BATCHES)?.range((pipe, 0)..(pipe + 1, 0))? {
            bytes += Batch::decode(Bytes::copy_from_slice(entry?.1.value()))?.encoded().len() as u64;
        }
        Ok(bytes)
    }

    fn list(&self, prefix: &str) -> Outcome<u64> {
        let read = self.0.begin_read()?;
        let mut count = 0;
        for entry in read.open_table(NAMES)?.range(prefix..)? {
            if !entry?.0.value().starts_with(prefix) {
                break;
            }
            count += 1;
        }
        Ok(count)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

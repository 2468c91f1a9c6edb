//! What an earlier version wrote is opened for ever. `tests/fixtures` holds a folder of every version of the log's format, and what travelled
//! in every version of the protocol; nothing there is ever changed.
//!
//! `SKYPIPE_FIXTURES=write` writes those of the newest version where they are missing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use skypipe_core::delivery::{Closed, Fact, Held, Place};
use skypipe_core::log::{Entry, FORMAT_FILE, FolderDisk, Log, LogOptions, LogOwner, Read};
use skypipe_core::{
    Batch, BatchBuilder, BrokerPipe, Caller, Code, EndKind, Env, Epoch, Error, Holder, ItemDigest, ItemNo, LocalBroker,
    LocalBrokerOptions, Lsn, Mode, Owner, Pipe as _, PipeId, PipeName, PipeRef, ProcessId, PublicKey, Seq, SessionId,
    Take, WallTime,
};
use skypipe_test::proof::Proof;

const WRITER: SessionId = SessionId([0xa1; 16]);
const OTHER_WRITER: SessionId = SessionId([0xa2; 16]);
const READER: SessionId = SessionId([0xb1; 16]);
/// Stands in the log for everybody, and for somebody.
const EVERYBODY: SessionId = SessionId([0xff; 16]);
const SOMEBODY: SessionId = SessionId([0; 16]);

/// Bytes of each segment of the fixture.
const SEGMENT_BYTES: u64 = 4096;
/// What was being written when the power went.
const TORN: &[u8] = b"half an entry";

/// An entry as it was appended.
#[derive(Clone, Debug)]
enum Written {
    Fact(u64, Fact),
    Batch(u64, u64, Batch),
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn batch(writer: SessionId, first: u64, count: u64, end: Option<EndKind>) -> Batch {
    let mut builder = BatchBuilder::new(writer, Epoch(1), Seq(first));
    (first..first + count).for_each(|n| assert!(builder.push(&record(n), true, true)));
    builder.build(end.map(|kind| ItemDigest::default().end(kind, 0)))
}

/// The record of a number: of a length of its own.
fn record(n: u64) -> Vec<u8> {
    format!("record {n} ").into_bytes().repeat(1 + (n % 5) as usize * 7)
}

fn name(text: &str) -> PipeRef {
    PipeRef::from(&PipeName::new(text).unwrap())
}

/// Facts of every kind, and batches of several items between them.
fn written() -> Vec<Written> {
    let process = Holder::Process(ProcessId { pid: 4711, started: 99, boot: 7 });
    let key = Holder::Key(PublicKey([5; 32]));
    let fact = |pipe, fact| Written::Fact(pipe, fact);
    let took = |reader, item, from, to| Fact::Took { reader, item: ItemNo(item), from: Seq(from), to: Seq(to) };
    let joined = |session, item, holder| Fact::WriterJoined { session, epoch: Epoch(1), item: ItemNo(item), holder };
    let reader = |session, holder, holds| Fact::ReaderJoined {
        session,
        epoch: Epoch(1),
        take: Take::Any,
        keep: true,
        no_wait: false,
        holder,
        holds,
    };
    let live = |item, from| Held::Live(vec![Place { item: ItemNo(item), from: Seq(from), wants_start: false }]);
    let mut all = vec![
        fact(1, Fact::Opened { pipe: name("logs/web"), mode: Mode::Default }),
        fact(1, joined(WRITER, 0, process)),
    ];
    all.extend((0..12).map(|n| Written::Batch(1, 0, batch(WRITER, n * 4, 4, None))));
    all.extend([
        fact(1, reader(READER, process, Held::Waiting)),
        fact(1, Fact::ReaderHolds { session: READER, holds: live(0, 0) }),
        fact(1, Fact::Returned { session: WRITER, epoch: Epoch(3) }),
        fact(1, Fact::Returned { session: READER, epoch: Epoch(2) }),
        // Four were delivered and never logged.
        fact(1, took(EVERYBODY, 0, 48, 52)),
    ]);
    all.extend((13..20).map(|n| Written::Batch(1, 0, batch(WRITER, n * 4, 4, None))));
    all.extend([
        Written::Batch(1, 0, batch(WRITER, 80, 2, Some(EndKind::Finished))),
        fact(1, Fact::Ended { item: ItemNo(0), kind: EndKind::Finished, next: Seq(83) }),
        fact(1, took(READER, 0, 0, 8)),
        fact(1, Fact::ReaderLeft { session: READER }),
        fact(1, joined(OTHER_WRITER, 1, key)),
        Written::Batch(1, 1, batch(OTHER_WRITER, 0, 3, Some(EndKind::Interrupted))),
        fact(1, Fact::Ended { item: ItemNo(1), kind: EndKind::Interrupted, next: Seq(4) }),
    ]);
    // A pipe restated whole, and one that was removed.
    let restated = vec![
        Fact::Opened { pipe: PipeRef { owner: Owner(Some([9; 32])), path: name("a/b").path }, mode: Mode::Default },
        joined(WRITER, 4, Holder::Unknown),
        reader(READER, key, Held::Alone(ItemNo(4))),
        took(SOMEBODY, 4, 0, 1),
        Fact::Ended { item: ItemNo(4), kind: EndKind::Aborted, next: Seq(1) },
    ];
    all.extend([
        fact(2, Fact::Snapshot(restated)),
        fact(3, Fact::Opened { pipe: name("gone"), mode: Mode::Default }),
        fact(3, Fact::Removed),
        fact(
            0,
            Fact::Closed(Closed {
                session: READER,
                next: Seq(0),
                ended: true,
                at: WallTime(1_700_000_000_000),
                delivered: true,
            }),
        ),
        fact(
            0,
            Fact::Closed(Closed { session: WRITER, next: Seq(83), ended: false, at: WallTime(1), delivered: true }),
        ),
    ]);
    // Many items, so that telling what the segment holds would not pay.
    all.extend((10..40).map(|item| Written::Batch(1, item, batch(SessionId([item as u8; 16]), 0, 1, None))));
    all.extend((0..20).map(|n| Written::Batch(2, 4, batch(WRITER, 1 + n * 2, 2, None))));
    all
}

/// Where bits are flipped when all is written: segment and byte. A payload, a header, a table of contents.
const FLIPPED: [(u64, u64); 3] = [(1, 1200), (2, 2000), (4, 100)];

fn options() -> LogOptions {
    let mut options = LogOptions::default();
    (options.segment_bytes, options.free_percent, options.salt) = (SEGMENT_BYTES, 0, 0x0123_4567_89ab_cdef);
    options
}

/// Waits for what is stored.
#[derive(Default)]
struct Stored {
    upto: Mutex<Lsn>,
    changed: Condvar,
}

impl LogOwner for Stored {
    fn stored(&self, _: PipeId, upto: Lsn) {
        *self.upto.lock().unwrap() = upto;
        self.changed.notify_all();
    }
    fn snapshot(&self, _: PipeId) {}
    fn stalled(&self, reason: &Error) {
        panic!("{reason}");
    }
    fn resumed(&self) {}
    fn failed(&self, error: &Error) {
        panic!("{error}");
    }
}

impl Stored {
    fn wait(&self, lsn: Lsn) {
        let upto = self.upto.lock().unwrap();
        let waited = self.changed.wait_timeout_while(upto, Duration::from_secs(20), |upto| *upto < lsn).unwrap();
        assert!(!waited.1.timed_out());
    }
}

/// Writes the log, each entry a group of its own, and then harms it.
fn write(folder: &Path) {
    let log = Log::open(Arc::new(FolderDisk::new(folder).unwrap()), options(), &mut |_, _| {}).unwrap();
    let owner = Arc::new(Stored::default());
    log.start(Arc::downgrade(&(owner.clone() as Arc<dyn LogOwner>)) as Weak<dyn LogOwner>).unwrap();
    for entry in written() {
        let entry = match entry {
            Written::Fact(pipe, fact) => Entry::Fact { pipe: PipeId(pipe), body: fact.encode() },
            Written::Batch(pipe, item, batch) => Entry::Batch { pipe: PipeId(pipe), item: ItemNo(item), batch },
        };
        owner.wait(log.append(entry));
    }
    log.close();
    let mut segments = files(folder).into_iter().filter(|(name, _)| name.ends_with(".segment"));
    let (last, mut bytes) = segments.next_back().unwrap();
    // The mark of an orderly close is not there when the power goes.
    bytes.truncate(bytes.len() - 48);
    bytes.extend_from_slice(TORN);
    fs::write(folder.join(last), bytes).unwrap();
    for (segment, byte) in FLIPPED {
        let path = folder.join(format!("{segment:012}.segment"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[byte as usize] ^= 0x10;
        fs::write(path, bytes).unwrap();
    }
}

/// The files of a folder, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

/// A copy that may be opened: opening cuts a torn tail.
fn copy(fixture: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (name, bytes) in files(&fixtures().join(fixture)) {
        fs::write(copy.path().join(name), bytes).unwrap();
    }
    copy
}

/// All that can be read of an item, and the gaps between.
fn read(log: &Log, pipe: u64, item: u64) -> (Vec<Batch>, Vec<Range<u64>>) {
    let (mut batches, mut gaps, mut at) = (Vec::new(), Vec::new(), Seq(0));
    loop {
        match log.read(PipeId(pipe), ItemNo(item), at, 1 << 20).unwrap() {
            Read::Batches(more) => batches.extend(more),
            Read::Tape(_) => unreachable!("these are items"),
            Read::Gap { to } => gaps.push(at.0..to.0),
            Read::End => return (batches, gaps),
        }
        at = batches.last().map_or(Seq(0), Batch::next).max(Seq(gaps.last().map_or(0, |gap| gap.end)));
    }
}

#[test]
fn the_newest_format_is_written_as_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let kept = fixtures().join("log-1");
    if std::env::var("SKYPIPE_FIXTURES").as_deref() == Ok("write") && !kept.exists() {
        fs::create_dir(&kept).unwrap();
        files(folder.path()).into_iter().for_each(|(name, bytes)| fs::write(kept.join(name), bytes).unwrap());
    }
    let (now, kept) = (files(folder.path()), files(&kept));
    assert_eq!(now.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
    for (name, bytes) in &now {
        assert!(*bytes == kept[name], "{name} is not written as it was");
    }
}

#[test]
fn proof_an_old_log_opens_and_every_record_and_fact_is_there() {
    let proof = Proof::begin("P16", "records and facts of old logs");
    let (mut cases, mut failures) = (0, Vec::new());
    let folder = copy("log-1");
    let mut facts: Vec<(u64, Fact)> = Vec::new();
    let replay = &mut |pipe: PipeId, body: Bytes| facts.push((pipe.0, Fact::decode(body).unwrap()));
    let log = Log::open(Arc::new(FolderDisk::new(folder.path()).unwrap()), options(), replay).unwrap();
    let all = written();
    let fact_of = |entry: &Written| match entry {
        Written::Fact(pipe, fact) => Some((*pipe, fact.clone())),
        Written::Batch(..) => None,
    };
    let expected: Vec<(u64, Fact)> = all.iter().filter_map(fact_of).collect();
    cases += expected.len() as u64;
    for (at, (pipe, fact)) in expected.iter().enumerate() {
        if facts.get(at).is_none_or(|(p, f)| (p, f) != (pipe, fact)) {
            failures.push(format!("fact {at} is {:?}, not {fact:?}", facts.get(at)));
        }
    }
    let mut items: BTreeMap<(u64, u64), Vec<Batch>> = BTreeMap::new();
    for entry in all {
        if let Written::Batch(pipe, item, batch) = entry {
            items.entry((pipe, item)).or_default().push(batch);
        }
    }
    let mut gone = Vec::new();
    for ((pipe, item), batches) in items {
        let (got, gaps) = read(&log, pipe, item);
        for batch in batches {
            cases += u64::from(batch.count());
            let hole = gaps.iter().any(|gap| gap.contains(&batch.first().0));
            if got.iter().any(|other| other.encoded() == batch.encoded()) == hole {
                failures.push(format!("pipe {pipe} item {item} from {}: neither or both", batch.first().0));
            }
            gone.extend(hole.then_some((pipe, item, batch.first().0)));
        }
    }
    // What was harmed, and nothing else.
    assert_eq!(gone, HARMED, "told as gaps");
    let recovery = log.recovery();
    assert_eq!(recovery.torn_bytes, TORN.len() as u64);
    assert_eq!(fs::read(folder.path().join(recovery.quarantined.clone().unwrap())).unwrap(), TORN);
    proof.end(cases, &failures);
}

/// Batches that the flipped bits made unreadable: pipe, item, first number.
const HARMED: [(u64, u64, u64); 2] = [(1, 0, 4), (1, 0, 28)];

#[tokio::test]
async fn a_broker_serves_what_an_old_log_holds() {
    let folder = copy("log-1");
    let mut broker_options = LocalBrokerOptions::default();
    (broker_options.log, broker_options.is_alive) = (options(), |_| true);
    let broker = LocalBroker::open(folder.path(), Env::system(), broker_options).unwrap();
    let pipe = BrokerPipe::new(broker.clone(), Caller::in_process(), PipeName::new("logs/web").unwrap());
    let stat = pipe.stat().await.unwrap();
    assert_eq!((stat.items, stat.ended), (2, 2), "{stat:?}");
    let mut reader = pipe.reader().await.unwrap();
    let mut got = Vec::new();
    while let Some(record) = tokio::time::timeout(Duration::from_secs(20), reader.next()).await.unwrap().unwrap() {
        got.push(record.body.to_vec());
    }
    assert!(reader.outcome().gap && pipe.stat().await.unwrap().damaged, "what was damaged is told");
    // One batch is damaged, one was delivered and never logged.
    let lost = |n: &u64| (28..32).contains(n) || (48..52).contains(n);
    assert_eq!(got, (8..82).filter(|n| !lost(n)).map(record).collect::<Vec<_>>());
}

#[test]
fn a_newer_log_is_refused_untouched() {
    let folder = copy("log-1");
    let format = fs::read_to_string(folder.path().join(FORMAT_FILE)).unwrap().replace("log 1", "log 2");
    fs::write(folder.path().join(FORMAT_FILE), format).unwrap();
    let before = files(folder.path());
    let opened = Log::open(Arc::new(FolderDisk::new(folder.path()).unwrap()), options(), &mut |_, _| {});
    assert_eq!(opened.err().unwrap().code(), Code::Format);
    assert_eq!(files(folder.path()), before);
    assert!(!folder.path().join("quarantine").exists());
}

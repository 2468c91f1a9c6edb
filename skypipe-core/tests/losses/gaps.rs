//! Random readers that lag behind a small quota, over a log that is harmed meanwhile: whatever a reader does not get, it is told, once and before
//! the next byte.

use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

use skypipe_core::delivery::{DefaultPipe, Effect, Next, Room};
use skypipe_core::log::{Disk, Entry, Log, LogOptions, LogOwner, RamDisk, Read, SEGMENT_SUFFIX};
use skypipe_core::{
    Batch, BatchBuilder, EndKind, Epoch, Error, Holder, ItemDigest, Lsn, Notice, PipeId, PipeName, PipeRef,
    ReaderAttach, ReaderCursor, ReaderDown, Seq, SessionId, Take, Time,
};
use skypipe_test::proof::{Proof, cases, seed};

use crate::dice::Dice;

const PIPE: PipeId = PipeId(1);
const WRITER: SessionId = SessionId([1; 16]);
const EPOCH: Epoch = Epoch(1);
/// Small, so that some schedules need many of them, and room is given back all the time.
const SEGMENT_BYTES: u64 = 4096;
/// Batches that a writer sends at most.
const BATCHES_MAX: u64 = 40;
/// Readers of one case.
const READERS_MAX: usize = 4;

/// What the log tells.
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
    // Its facts stay where they are: what this looks for is in the batches.
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
        let waited = self.changed.wait_timeout_while(upto, Duration::from_secs(60), |upto| *upto < lsn).unwrap();
        assert!(!waited.1.timed_out(), "the log stores nothing");
    }
}

/// What one reader got and was told.
struct Reader {
    session: SessionId,
    /// The next number it must hear of; none before it heard of any.
    at: Option<u64>,
    acked: u64,
    delivered: u64,
    missing: u64,
    finished: bool,
}

struct Case {
    dice: Dice,
    disk: RamDisk,
    log: Arc<Log>,
    owner: Arc<Stored>,
    pipe: DefaultPipe,
    pending: Vec<Lsn>,
    written: Vec<Batch>,
    ended: bool,
    readers: Vec<Reader>,
    now: Time,
    quota: u64,
    /// Whether bytes of the log were changed.
    is_harmed: bool,
    may_harm: bool,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let disk = RamDisk::new();
        let mut options = LogOptions::default();
        (options.segment_bytes, options.free_percent) = (SEGMENT_BYTES, 0);
        let log = Log::open(Arc::new(disk.clone()), options, &mut |_, _| {}).unwrap();
        let owner = Arc::new(Stored::default());
        log.start(Arc::downgrade(&(owner.clone() as Arc<dyn LogOwner>)) as Weak<dyn LogOwner>).unwrap();
        let pipe = DefaultPipe::new(PipeRef::from(&PipeName::new("p").unwrap()));
        let quota = if dice.one_in(3) { u64::MAX } else { 2_000 + dice.below(10_000) };
        let may_harm = dice.one_in(2);
        let readers = Vec::new();
        let mut case = Self {
            dice,
            disk,
            log,
            owner,
            pipe,
            pending: Vec::new(),
            written: Vec::new(),
            ended: false,
            readers,
            now: Time(0),
            quota,
            is_harmed: false,
            may_harm,
        };
        case.pipe.attach_writer(WRITER, EPOCH, None, Holder::Unknown).unwrap();
        case.sync();
        case
    }

    fn effects(&mut self) {
        for effect in self.pipe.take_effects() {
            match effect {
                Effect::Fact(fact) => {
                    self.pending.push(self.log.append(Entry::Fact { pipe: PIPE, body: fact.encode() }));
                }
                Effect::Batch(item, batch) => {
                    self.pending.push(self.log.append(Entry::Batch { pipe: PIPE, item, batch }));
                }
                Effect::Forget(item, below) => self.log.forget(PIPE, item, below),
                _ => {}
            }
        }
    }

    /// All that was appended is durable, and the pipe knows how much of its quota is used.
    fn sync(&mut self) {
        self.effects();
        while let Some(last) = self.pending.last().copied() {
            self.owner.wait(last);
            let count = std::mem::take(&mut self.pending).len();
            self.pipe.stored(count as u64);
            let used_up = (self.log.bytes(PIPE) >= self.quota).then_some(Room::Pipe);
            self.pipe.quota(used_up, self.now);
            self.effects();
        }
        while let Next::Message(_) = self.pipe.next_for_writer(WRITER, EPOCH) {
            self.effects();
        }
    }

    fn run(mut self) -> Result<Totals, String> {
        for _ in 0..self.dice.below(200) {
            match self.dice.below(10) {
                0..3 => self.write(false),
                3 => self.sync(),
                4 => self.pass(),
                5 if self.readers.len() < READERS_MAX => self.join(),
                6 if self.may_harm && self.dice.one_in(4) => self.harm(),
                6 | 7 => self.acknowledge(),
                _ => self.receive_some()?,
            }
            self.effects();
        }
        self.finish()
    }

    fn write(&mut self, end: bool) {
        // As one with credit: past the quota there is none.
        if self.ended || (!end && (self.pipe.waits() || self.written.len() as u64 >= BATCHES_MAX)) {
            return;
        }
        let first = self.written.last().map_or(Seq(0), Batch::next);
        let mut builder = BatchBuilder::new(WRITER, EPOCH, first);
        for _ in 0..1 + self.dice.below(5) {
            let record = vec![self.dice.next() as u8; self.dice.below(400) as usize];
            assert!(builder.push(&record, true, true));
        }
        let batch = builder.build(end.then(|| ItemDigest::default().end(EndKind::Finished, 0)));
        self.written.push(batch.clone());
        self.ended = end;
        self.pipe.batch(WRITER, EPOCH, batch, self.now).unwrap();
    }

    /// Long enough that whoever did not acknowledge lags, and too short to be lost.
    fn pass(&mut self) {
        self.now = self.now.plus(Duration::from_millis(300));
        self.pipe.tick(self.now);
    }

    fn join(&mut self) {
        let session = SessionId([10 + self.readers.len() as u8; 16]);
        let attach = ReaderAttach {
            session,
            epoch: EPOCH,
            mode: None,
            take: Take::Any,
            keep: false,
            no_wait: false,
            credit: 1 << 40,
            mid_record: false,
            resume: None,
            tape: Default::default(),
        };
        self.pipe.attach_reader(&attach, Holder::Unknown).unwrap();
        self.sync();
        self.readers.push(Reader { session, at: None, acked: 0, delivered: 0, missing: 0, finished: false });
    }

    /// Some bytes of some segment turn into others.
    fn harm(&mut self) {
        let segments: Vec<String> =
            self.disk.list().unwrap().into_iter().filter(|n| n.ends_with(SEGMENT_SUFFIX)).collect();
        let Some(name) = segments.get(self.dice.below(segments.len() as u64) as usize) else { return };
        let size = self.disk.open(name).unwrap().size().unwrap();
        let at = self.dice.below(size);
        for byte in at..(at + 1 + self.dice.below(64)).min(size) {
            self.disk.flip(name, byte as usize, self.dice.below(8) as u8).unwrap();
        }
        self.is_harmed = true;
    }

    fn acknowledge(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let nth = self.dice.below(self.readers.len() as u64) as usize;
        let half = self.dice.one_in(2);
        let reader = &mut self.readers[nth];
        let Some(at) = reader.at.filter(|at| *at > reader.acked && !reader.finished) else { return };
        reader.acked = if half { reader.acked + (at - reader.acked) / 2 } else { at };
        let ack = ReaderCursor { writer: WRITER, next: Seq(reader.acked) };
        self.pipe.acknowledge(reader.session, EPOCH, ack, self.now).unwrap();
    }

    fn receive_some(&mut self) -> Result<(), String> {
        if self.readers.is_empty() {
            return Ok(());
        }
        let nth = self.dice.below(self.readers.len() as u64) as usize;
        for _ in 0..self.dice.below(6) {
            if !self.receive(nth)? {
                break;
            }
        }
        Ok(())
    }

    /// One reader takes one message, as the broker's driver would bring it; false when there is none.
    fn receive(&mut self, nth: usize) -> Result<bool, String> {
        let session = self.readers[nth].session;
        if self.readers[nth].finished {
            return Ok(false);
        }
        let message = match self.pipe.next_for_reader(session, EPOCH) {
            Next::Message(message) => Some(message),
            Next::Wait => return Ok(false),
            Next::End(error) => return Err(format!("a reader ends with {error:?}")),
            Next::FromLog { item, from, .. } => match self.log.read(PIPE, item, from, 1).unwrap() {
                Read::Batches(batches) => self.pipe.from_log(session, EPOCH, item, &batches[0]),
                Read::Tape(_) => unreachable!("a default pipe has no tape"),
                Read::Gap { to } => self.pipe.missing(session, EPOCH, item, from, to),
                Read::End => self.pipe.missing(session, EPOCH, item, from, Seq(u64::MAX)),
            },
        };
        self.effects();
        message.map_or(Ok(()), |message| self.take(nth, message))?;
        Ok(true)
    }

    /// What comes must go on exactly where the last thing ended.
    fn take(&mut self, nth: usize, message: ReaderDown) -> Result<(), String> {
        let (is_harmed, has_quota) = (self.is_harmed, self.quota < u64::MAX);
        let reader = &mut self.readers[nth];
        match message {
            ReaderDown::Batch { from, batch, .. } => {
                let at = *reader.at.get_or_insert(from.0);
                if from.0 != at {
                    return Err(format!("reader {nth} was told of all up to {at} and gets {}", from.0));
                }
                let known = self.written.iter().find(|known| known.first() == batch.first());
                if known.is_none_or(|known| known.encoded() != batch.encoded()) {
                    return Err(format!("reader {nth} gets bytes that nobody wrote"));
                }
                reader.delivered += batch.next().0 - at;
                reader.at = Some(batch.next().0);
            }
            ReaderDown::Gap { from, to, .. } => {
                let at = *reader.at.get_or_insert(from.0);
                if from.0 != at || to <= from {
                    return Err(format!(
                        "reader {nth} was told of all up to {at}, and of a gap from {} to {}",
                        from.0, to.0
                    ));
                }
                if !is_harmed && !has_quota {
                    return Err(format!("a gap from {} to {} where nothing was lost", from.0, to.0));
                }
                reader.missing += to.0 - from.0;
                reader.at = Some(to.0);
            }
            ReaderDown::Notice(Notice::Middle { from, .. }) => {
                // Others took what lies before.
                if reader.at.is_some_and(|at| from.0 < at) {
                    return Err(format!("reader {nth} goes back to {}", from.0));
                }
                reader.at = Some(from.0);
            }
            ReaderDown::ItemEnd { next, .. } => {
                if reader.at.is_some_and(|at| at + 1 < next.0) {
                    return Err(format!("reader {nth} is told the end at {}, behind {:?}", next.0, reader.at));
                }
                reader.at = Some(next.0);
            }
            ReaderDown::Finished => reader.finished = true,
            _ => {}
        }
        Ok(())
    }

    /// The writer ends, all readers read and acknowledge all there is.
    fn finish(mut self) -> Result<Totals, String> {
        if self.readers.is_empty() {
            self.join();
        }
        self.write(true);
        for round in 0.. {
            self.pass();
            self.sync();
            for nth in 0..self.readers.len() {
                while self.receive(nth)? {}
                self.sync();
            }
            for reader in self.readers.iter_mut().filter(|reader| !reader.finished) {
                if let Some(at) = reader.at.filter(|at| *at > reader.acked) {
                    reader.acked = at;
                    let ack = ReaderCursor { writer: WRITER, next: Seq(at) };
                    self.pipe.acknowledge(reader.session, EPOCH, ack, self.now).unwrap();
                }
            }
            if self.readers.iter().all(|reader| reader.finished) {
                break;
            }
            if round > 100 {
                return Err("some reader never finishes".to_owned());
            }
        }
        let end = self.written.last().map_or(0, |batch| batch.next().0);
        let short = self.readers.iter().position(|reader| reader.at.is_some_and(|at| at < end));
        self.log.close();
        match short {
            Some(nth) => Err(format!("reader {nth} finished at {:?} of {end}", self.readers[nth].at)),
            None => Ok(Totals {
                delivered: self.readers.iter().map(|reader| reader.delivered).sum(),
                missing: self.readers.iter().map(|reader| reader.missing).sum(),
                gapless: u64::from(self.readers.iter().all(|reader| reader.missing == 0)),
            }),
        }
    }
}

#[derive(Default)]
struct Totals {
    delivered: u64,
    missing: u64,
    gapless: u64,
}

/// So many at a time, one for each core.
const THREADS: u64 = 2;

#[test]
fn proof_what_a_reader_does_not_get_it_is_told_once() {
    let proof = Proof::begin("P4", "lag, retention and damage");
    let count = cases(200, 10_000, 1_000_000);
    let run = |thread: u64| {
        let (mut totals, mut failures) = (Totals::default(), Vec::new());
        for nth in (thread..count).step_by(THREADS as usize) {
            let seed = seed().wrapping_mul(0x1_0000_0000) + nth;
            match Case::new(seed).run() {
                Ok(more) => {
                    totals.delivered += more.delivered;
                    totals.missing += more.missing;
                    totals.gapless += more.gapless;
                }
                Err(what) => failures.push(format!("case {nth}: {what}")),
            }
        }
        (totals, failures)
    };
    let done: Vec<(Totals, Vec<String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || run(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sum = |of: fn(&Totals) -> u64| done.iter().map(|(totals, _)| of(totals)).sum::<u64>();
    let failures: Vec<&String> = done.iter().flat_map(|(_, failures)| failures).collect();
    println!("{} numbers delivered, {} told as missing", sum(|t| t.delivered), sum(|t| t.missing));
    // Neither a world without losses nor one of nothing else shows anything.
    assert!(!failures.is_empty() || (sum(|t| t.missing) > count && sum(|t| t.gapless) > count / 10));
    proof.end(count, &failures);
}

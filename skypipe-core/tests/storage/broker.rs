//! P1d: what a power cut may leave under a whole broker is opened by another one, and given to its readers.
//!
//! The crash images of `crash` are held against what a log owes; these are held against what clients were told. Everything is in one
//! thread and in virtual time, so a session that was left away is lost within no time at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use skypipe_core::log::Disk;
use skypipe_core::{
    BrokerPipe, Caller, Code, Env, Error, LocalBroker, LocalBrokerOptions, Pipe, PipeName, Random, Reader,
    ReaderOptions, Take, Until, Work, Writer,
};
use skypipe_test::disk::{Image, ImageDisk, Loss, RecordingDisk, Unsynced};
use skypipe_test::proof::{Proof, cases, seed};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use crate::owed::At;

/// Which item, and which record of it.
type Record = (u32, u32);

const PIPES: u64 = 2;
const WRITERS: u32 = 3;
const READERS: u32 = 3;
/// What each writer writes, and how often each reader comes, in one process.
const ITEMS: u32 = 4;
const COMES: u32 = 6;
/// Processes on one disk, one after the other.
const PROCESSES: u64 = 3;
/// Longer than a writer that nobody waits for may be away.
const ALL_LOST: Duration = Duration::from_secs(25 * 60 * 60);
/// What waits for longer, by the clock of the test, waits for ever.
const HANGS_AFTER: Duration = Duration::from_secs(100 * 60 * 60);

/// When clients were told something for the first time, in calls of the disk.
#[derive(Clone, Debug, Default)]
struct Told {
    /// To its writer: the record is stored, or delivered.
    settled: BTreeMap<Record, At>,
    /// The record was handed to a reader: from then on it may be taken for good.
    handed: BTreeMap<Record, At>,
    /// Its reader was told that all it took is taken for good.
    taken: BTreeMap<Record, At>,
}

#[test]
fn proof_crash_images_of_a_broker() {
    let proof = Proof::begin("P1d", "crash images of a broker");
    let wanted = cases(400, 20_000, 1_000_000);
    let tried = AtomicU64::new(0);
    let worker = |worker: u64| -> Vec<String> {
        let histories = (worker..).step_by(2).map(|n| seed() * 1_000_000 + n);
        histories.map_while(|seed| history(seed, &tried, wanted)).flatten().collect()
    };
    let failures = std::thread::scope(|scope| {
        let workers = [0, 1].map(|number| scope.spawn(move || worker(number)));
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    proof.end(tried.into_inner(), &failures);
}

/// One disk, and all that may be left of it. `None` when enough was tried.
fn history(seed: u64, tried: &AtomicU64, wanted: u64) -> Option<Vec<String>> {
    if tried.load(Ordering::Relaxed) >= wanted {
        return None;
    }
    let begin = Image::default();
    let disk = RecordingDisk::new(&begin);
    disk.disk().set_reserves(true);
    let told = Arc::new(Mutex::new(Told::default()));
    for process in 0..PROCESSES {
        if let Err(wrong) = run(seed * PROCESSES + process, &disk, &told) {
            return Some(vec![format!("history {seed}, process {process}: {wrong}")]);
        }
    }
    let told = told.lock().unwrap().clone();
    let mut unsynced = Unsynced::new(&begin);
    let mut failures = Vec::new();
    let ops = disk.ops();
    for at in 0..=ops.len() {
        let kinds = if unsynced.pending() == 0 { 1 } else { usize::MAX };
        for loss in Loss::kinds(seed * 1000 + at as u64, 1).take(kinds) {
            tried.fetch_add(1, Ordering::Relaxed);
            let wrong = left(&unsynced.after(loss)).and_then(|left| told.check(&left, at));
            failures.extend(wrong.err().map(|wrong| format!("history {seed}, call {at}, {loss:?}: {wrong}")));
        }
        if !failures.is_empty() {
            break;
        }
        ops.get(at).into_iter().for_each(|op| unsynced.apply(op));
    }
    Some(failures)
}

impl Told {
    /// Holds what a broker that was opened after so many calls has given to its readers against what was told by then.
    fn check(&self, left: &[Record], at: At) -> Result<(), String> {
        let by_then = |told: &BTreeMap<Record, At>, record: &Record| told.get(record).is_some_and(|then| *then <= at);
        let mut places = BTreeMap::new();
        for &(item, n) in left {
            if by_then(&self.taken, &(item, n)) {
                return Err(format!("record {n} of item {item} was taken for good, and comes again"));
            }
            let next = places.entry(item).or_insert(0);
            if n < *next {
                return Err(format!("record {n} of item {item} comes after {}", *next - 1));
            }
            *next = n + 1;
        }
        let is_owed = |record: &Record| by_then(&self.settled, record) && !by_then(&self.handed, record);
        match self.settled.keys().find(|record| is_owed(record) && !left.contains(record)) {
            Some((item, n)) => Err(format!("record {n} of item {item} was stored, and is lost")),
            None => Ok(()),
        }
    }

    fn note(told: &mut BTreeMap<Record, At>, records: impl IntoIterator<Item = Record>, at: At) {
        for record in records {
            told.entry(record).or_insert(at);
        }
    }
}

/// One process: writers and readers of one broker, until all are done, or it is killed in the middle.
fn run(seed: u64, disk: &RecordingDisk, told: &Arc<Mutex<Told>>) -> Result<(), String> {
    in_virtual_time(async {
        let mut dice = Dice::new(seed);
        let broker = open(Arc::new(disk.clone()), seed)?;
        let client = |number: u32| {
            let client = Client { broker: broker.clone(), disk: disk.clone(), told: told.clone() };
            (client, Dice::new(seed * 100 + u64::from(number)))
        };
        let mut clients = JoinSet::new();
        for writer in 0..WRITERS {
            let (client, dice) = client(writer);
            let first = (u32::try_from(seed % PROCESSES).unwrap() * WRITERS + writer) * ITEMS;
            clients.spawn_local(client.write(first, dice));
        }
        for reader in 0..READERS {
            let (client, dice) = client(WRITERS + reader);
            clients.spawn_local(client.read(dice));
        }
        if dice.below(3) == 0 {
            let lives = Duration::from_millis(dice.below(20_000));
            let _ = timeout(lives, async { while clients.join_next().await.is_some() {} }).await;
            return Ok(());
        }
        while let Some(done) = clients.join_next().await {
            done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        }
        broker.close(Duration::from_secs(10)).await;
        Ok(())
    })
}

/// All that a broker gives to readers that opens this image, once everybody who was there is given up.
fn left(image: &Image) -> Result<Vec<Record>, String> {
    in_virtual_time(async {
        let broker = open(Arc::new(ImageDisk::new(image)), 0)?;
        sleep(ALL_LOST).await;
        let mut left = Vec::new();
        for pipe in 0..PIPES {
            let mut options = ReaderOptions::default();
            (options.no_wait, options.keep) = (true, true);
            let mut reader = match pipe_of(&broker, pipe).reader_with(options).await {
                Err(error) if error.code() == Code::Empty => continue,
                reader => reader.map_err(|error| error.to_string())?,
            };
            while let Some(record) = reader.next().await.map_err(|error| error.to_string())? {
                left.push(identify(&record)?);
            }
            if reader.outcome().gap {
                return Err("a reader is told of a gap".to_owned());
            }
        }
        Ok(left)
    })
}

/// A client of the broker. What it is told it notes, with how many calls were made by then.
struct Client {
    broker: Arc<LocalBroker>,
    disk: RecordingDisk,
    told: Arc<Mutex<Told>>,
}

impl Client {
    async fn write(self, first: u32, mut dice: Dice) -> Result<(), Error> {
        for item in first..first + ITEMS {
            sleep(Duration::from_millis(dice.below(2000))).await;
            let mut writer = pipe_of(&self.broker, dice.below(PIPES)).writer().await?;
            for n in 0..dice.below(6) as u32 {
                writer.send(&body((item, n), 20 + dice.below(900) as usize)).await?;
                match dice.below(3) {
                    0 => writer.settled().await?,
                    1 => sleep(Duration::from_millis(dice.below(600))).await,
                    _ => {}
                }
                self.note_settled(item, &writer);
            }
            match dice.below(5) {
                0 => writer.abort().await,
                _ => {
                    let settled = writer.end(Until::Stored).await?.progress.settled;
                    let at = self.disk.len();
                    Told::note(&mut self.told.lock().unwrap().settled, (0..settled as u32).map(|n| (item, n)), at);
                }
            }
        }
        Ok(())
    }

    fn note_settled(&self, item: u32, writer: &Writer) {
        let settled = writer.progress().settled as u32;
        Told::note(&mut self.told.lock().unwrap().settled, (0..settled).map(|n| (item, n)), self.disk.len());
    }

    async fn read(self, mut dice: Dice) -> Result<(), Error> {
        for _ in 0..COMES {
            sleep(Duration::from_millis(dice.below(2500))).await;
            let mut options = ReaderOptions::default();
            options.no_wait = dice.below(3) == 0;
            options.take = if dice.below(3) == 0 { Take::Item } else { Take::Any };
            options.keep = dice.below(4) == 0;
            let most = if dice.below(4) == 0 { 1 + dice.below(4) } else { u64::MAX };
            let reader = match pipe_of(&self.broker, dice.below(PIPES)).reader_with(options).await {
                Err(error) if error.code() == Code::Empty => continue,
                reader => reader?,
            };
            self.take(reader, most, &mut dice).await?;
        }
        Ok(())
    }

    /// Takes so many records at most, and leaves when nothing comes.
    async fn take(&self, mut reader: Reader, most: u64, dice: &mut Dice) -> Result<(), Error> {
        let mut records = Vec::new();
        while (records.len() as u64) < most {
            match timeout(Duration::from_millis(1000 + dice.below(3000)), reader.next()).await {
                Ok(Ok(Some(record))) => {
                    records.extend(identify(&record).ok());
                    Told::note(&mut self.told.lock().unwrap().handed, records.last().copied(), self.disk.len());
                }
                Ok(done) => {
                    done?;
                    Told::note(&mut self.told.lock().unwrap().taken, records, self.disk.len());
                    return Ok(());
                }
                Err(_) => {
                    reader.leave(false).await?;
                    return Ok(());
                }
            }
            sleep(Duration::from_millis(dice.below(3) * 200)).await;
        }
        reader.ack();
        reader.leave(true).await?;
        Told::note(&mut self.told.lock().unwrap().taken, records, self.disk.len());
        Ok(())
    }
}

/// A broker all of whose former clients are dead, with segments so small that many are filled.
fn open(disk: Arc<dyn Disk>, seed: u64) -> Result<Arc<LocalBroker>, String> {
    let mut options = LocalBrokerOptions::default();
    options.log.segment_bytes = [2048, 4096, 16 * 1024][(seed % 3) as usize];
    options.is_alive = |_| false;
    let mut env = Env::system();
    (env.work, env.random) = (Work::Inline, Arc::new(Dice::new(seed)));
    LocalBroker::on_disk(disk, env, options).map_err(|error| format!("it does not open: {error}"))
}

fn pipe_of(broker: &Arc<LocalBroker>, pipe: u64) -> BrokerPipe {
    BrokerPipe::new(broker.clone(), Caller::in_process(), PipeName::new(&format!("pipe/{pipe}")).unwrap())
}

fn body((item, n): Record, len: usize) -> Vec<u8> {
    let mut body = format!("{item} {n} ").into_bytes();
    body.resize(len, b'a' + (item + n) as u8 % 26);
    body
}

fn identify(bytes: &[u8]) -> Result<Record, String> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let mut numbers = text.split(' ').map_while(|number| number.parse::<u32>().ok());
    let record = numbers.next().zip(numbers.next());
    record
        .filter(|record| body(*record, bytes.len()) == bytes)
        .ok_or_else(|| format!("{} bytes come that nobody wrote", bytes.len()))
}

/// Runs something in one thread, where time passes when nobody has anything to do.
fn in_virtual_time<T>(what: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let what = async { timeout(HANGS_AFTER, what).await.unwrap_or_else(|_| Err("it hangs".to_owned())) };
    LocalSet::new().block_on(&runtime, what)
}

/// Chance, from a seed.
struct Dice(Mutex<Xoshiro256PlusPlus>);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Mutex::new(Xoshiro256PlusPlus::seed_from_u64(seed)))
    }

    fn below(&mut self, below: u64) -> u64 {
        self.0.get_mut().unwrap().next_u64() % below
    }
}

impl Random for Dice {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap().fill_bytes(bytes);
    }
}

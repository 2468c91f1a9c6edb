//! P1a: `kill -9` of the relay at random moments, over and over, while gigabytes go through it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use skypipe_test::proof::{self, Proof};

use crate::harness::{Data, Done, Home, In, Out, PATIENCE, Running, Signal, is_alive, send, until};

/// What is written between one kill and the next, on average: 10 GB in 1,000 kills.
const BYTES_PER_KILL: u64 = 10_000_000;
/// The longest item, so that little is stored at a time and starts and ends are killed too.
const ITEM_BYTES_MAX: u64 = 96_000_000;
/// One in so many kills comes as soon as a relay is there: while it opens its log.
const EARLY_ONE_IN: u32 = 4;
/// How soon.
const EARLY_WITHIN: Duration = Duration::from_millis(20);

#[test]
fn proof_kill_9_at_random_moments() {
    let kills = proof::cases(4, 1_000, 100_000);
    let proof = Proof::begin("P1a", "kill -9 at random moments");
    let home = Home::new();
    let work = Arc::new(Work::new(kills * BYTES_PER_KILL));
    let failures = std::thread::scope(|scope| {
        let lanes = [(Lane::Stored, 1), (Lane::Live, 2)].map(|(lane, seed)| {
            let (home, work) = (&home, work.clone());
            scope.spawn(move || work.caught(|| lane.run(home, &work, seed)))
        });
        let killer = work.caught(|| kill_over_and_over(&home, &work, kills));
        work.killed.store(true, Ordering::Relaxed);
        lanes.into_iter().filter_map(|lane| lane.join().unwrap().err()).chain(killer.err()).collect::<Vec<_>>()
    });
    println!("{} items, {} bytes in, each compared by SHA-256", work.items(), work.bytes_in());
    proof.end(kills, &failures);
}

/// What is done, as far as it has come.
struct Work {
    /// Bytes that shall go in.
    bytes: u64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    items: AtomicU64,
    /// The last kill was done.
    killed: AtomicBool,
    failed: AtomicBool,
    /// Held by the killer for each kill, and by whoever wants none.
    calm: Mutex<()>,
}

impl Work {
    fn new(bytes: u64) -> Self {
        let [bytes_in, bytes_out, items] = Default::default();
        Self { bytes, bytes_in, bytes_out, items, killed: false.into(), failed: false.into(), calm: Mutex::default() }
    }

    fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    fn items(&self) -> u64 {
        self.items.load(Ordering::Relaxed)
    }

    /// How far it has come of twice [`Work::bytes`]: all goes in and comes out.
    fn progress(&self) -> u64 {
        self.bytes_in() + self.bytes_out.load(Ordering::Relaxed)
    }

    /// There are items as long as bytes are to go in and relays to be killed.
    fn is_over(&self) -> bool {
        let done = self.bytes_in() >= self.bytes && self.killed.load(Ordering::Relaxed);
        done || self.failed.load(Ordering::Relaxed)
    }

    /// A panic becomes a failure, at which everybody else stops.
    fn caught(&self, work: impl FnOnce()) -> Result<(), String> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
            self.failed.store(true, Ordering::Relaxed);
            panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic without words".to_owned())
        })
    }
}

/// What happens to one item after another.
#[derive(Clone, Copy, Debug)]
enum Lane {
    /// It is written whole, and then read.
    Stored,
    /// One or two readers are there first.
    Live,
}

impl Lane {
    fn run(self, home: &Home, work: &Work, seed: u64) {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(proof::seed() ^ (seed << 32));
        for number in 0.. {
            if work.is_over() {
                return;
            }
            // Short ones as well: their first and last words are most of them.
            let length = random.next_u64() % if number % 4 == 3 { 100_000 } else { ITEM_BYTES_MAX };
            let data = Data::random(random.next_u64(), length);
            match self {
                Self::Stored => stored(home, work, &data),
                Self::Live => live(home, work, &data, 1 + random.next_u64() % 2),
            }
            work.items.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn stored(home: &Home, work: &Work, data: &Data) {
    let writer = home.skypipe(["write", "stored"]).stdin(In::Data(data.clone())).start();
    // It reads and writes each byte once; headers, and what is sent again, are not counted.
    counted(writer, &work.bytes_in, data.len(), |writer| writer.progress() / 2).exits(0);
    let reader = home.skypipe(["read", "stored"]).stdout(Out::Summed).start();
    counted(reader, &work.bytes_out, data.len(), Running::received).exits(0).gave_digest(&data.digest());
}

fn live(home: &Home, work: &Work, data: &Data, readers: u64) {
    let reader = || home.skypipe(["read", "live"]).stdout(Out::Summed).start();
    let others: Vec<Running> = (1..readers).map(|_| reader()).collect();
    let first = reader();
    joined(home, work, readers);
    let writer = home.skypipe(["write", "live"]).stdin(In::Data(data.clone())).start();
    let first = counted(first, &work.bytes_out, data.len(), Running::received);
    let done: Vec<Done> = others.into_iter().map(|reader| patiently(reader, |_| ())).chain([first]).collect();
    // What the writer says comes first: it may be why a reader does not end well.
    let writer = patiently(writer, |_| ());
    writer.exits(0);
    let digest = data.digest();
    done.into_iter().for_each(|reader| drop(reader.exits(0).gave_digest(&digest)));
    work.bytes_in.fetch_add(data.len(), Ordering::Relaxed);
}

/// Waits until so many readers have joined for good: one whose joining was lost with a relay would, as it says then, start in the middle.
fn joined(home: &Home, work: &Work, readers: u64) {
    let _calm = work.calm.lock().unwrap();
    until("the readers are there", || {
        let stat = home.skypipe(["stat", "--json", "live"]).run();
        (stat.code == Some(0) && stat.json()["readers"] == readers).then_some(())
    });
    // What is stored now stands behind their joining in the log.
    home.store("calm", "x\n");
    home.skypipe(["read", "calm"]).ok().gave("x\n");
}

/// Waits for its end, and adds to `counter` how far it comes, `length` in all.
fn counted(running: Running, counter: &AtomicU64, length: u64, how_far: impl Fn(&Running) -> u64) -> Done {
    let mut told = 0;
    let done = patiently(running, |running| {
        let now = how_far(running).min(length);
        counter.fetch_add(now.saturating_sub(told), Ordering::Relaxed);
        told = told.max(now);
    });
    counter.fetch_add(length - told, Ordering::Relaxed);
    done
}

/// Waits for its end for as long as bytes move.
fn patiently(mut running: Running, mut look: impl FnMut(&Running)) -> Done {
    let mut last = (0, Instant::now());
    while running.is_running() {
        look(&running);
        let now = running.progress();
        if now != last.0 {
            last = (now, Instant::now());
        }
        assert!(last.1.elapsed() < PATIENCE, "no byte moved any more; stderr: {}", running.errors());
        std::thread::sleep(Duration::from_millis(2));
    }
    running.wait()
}

/// Kills one relay after the other, spread over the work.
fn kill_over_and_over(home: &Home, work: &Work, kills: u64) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(proof::seed());
    let part = 2 * work.bytes / (kills + 1);
    let mut last = None;
    for kill in 1..=kills {
        let early = random.next_u32() % EARLY_ONE_IN == 0;
        let moment = part * kill - random.next_u64() % part;
        let relay = until("another relay than the last", || {
            assert!(!work.failed.load(Ordering::Relaxed), "given up");
            home.relay_now().filter(|relay| Some(*relay) != last)
        });
        if early {
            std::thread::sleep(EARLY_WITHIN * (random.next_u32() % 1000) / 1000);
        } else {
            until("enough bytes have moved", || {
                assert!(!work.failed.load(Ordering::Relaxed), "given up");
                (work.progress() >= moment).then_some(())
            });
        }
        let _calm = work.calm.lock().unwrap_or_else(PoisonError::into_inner);
        send(relay, Signal::KILL);
        until("it is gone", || (!is_alive(relay)).then_some(()));
        last = Some(relay);
    }
}

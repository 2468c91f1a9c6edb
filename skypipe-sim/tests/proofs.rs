//! The promises, in simulations. `cargo xtask prove` runs these.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skypipe_sim::checker::Broken;
use skypipe_sim::news::{Delivered, Paper, publish};
use skypipe_sim::scenes::{come_back, crowd, long_absence};
use skypipe_sim::workers::{Shop, Worked, work};
use skypipe_sim::{Fault, Keep, Plan, Report, run};
use skypipe_test::proof::{Proof, cases, seed};

/// Threads that simulations are spread over, each within one.
const THREADS: usize = 2;

/// Plays seeds one after the other until `done` says that it is enough, on all threads; gives what failed.
fn play(done: impl Fn(u64) -> bool + Sync, one: impl Fn(u64) -> Vec<String> + Sync) -> Vec<String> {
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let count = next.fetch_add(1, Ordering::Relaxed);
                    if done(count) {
                        return;
                    }
                    let seed = seed() + count;
                    let failed = one(seed).into_iter().map(|text| format!("seed {seed}: {text}"));
                    failures.lock().unwrap().extend(failed);
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

/// What is wrong with a simulation, once for each promise, and how to see it again.
fn wrong(seed: u64, report: &Report) -> Vec<String> {
    let mut rules = BTreeMap::new();
    for broken in &report.broken {
        rules.entry(broken.rule).or_insert_with(Vec::new).push(broken);
    }
    let tell = |broken: Vec<&Broken>| {
        format!("{} times, first: {}\n    cargo xtask sim --seed {seed}", broken.len(), broken[0])
    };
    rules.into_values().map(tell).collect()
}

/// The same seed gives the same trace, to the byte: twice in this process, and in another one.
#[test]
fn proof_the_same_seed_gives_the_same_trace() {
    let proof = Proof::begin("P2", "same seed, same trace");
    let count = cases(2, 50, 1000);
    let plan = Plan { keep: Keep::Lines, ..Plan::default() };
    let failures = play(
        |at| at >= count,
        |seed| {
            let first = run(seed, &plan).trace;
            assert!(first.lines().count() > 100, "hardly anything happened");
            let other = Command::new(env!("CARGO_BIN_EXE_skypipe-sim")).args(["--seed", &seed.to_string()]).output();
            let other = String::from_utf8(other.unwrap().stdout).unwrap();
            let same = run(seed, &plan).trace == first && other.starts_with(&first);
            if same { Vec::new() } else { vec!["two traces differ".to_owned()] }
        },
    );
    proof.end(count, &failures);
}

/// The power goes, again and again, while clients write and read: nothing that was said to be stored is lost.
#[test]
fn proof_what_is_stored_survives_power_cuts() {
    let proof = Proof::begin("P1c", "power cuts");
    let wanted = cases(40, 2000, 1_000_000);
    let plan = Plan { faults: vec![Fault::PowerCut], fault_every: 100..=3000, ..Plan::default() };
    let cuts = AtomicU64::new(0);
    let settled = AtomicU64::new(0);
    let failures = play(
        |_| cuts.load(Ordering::Relaxed) >= wanted,
        |seed| {
            let report = run(seed, &plan);
            cuts.fetch_add(report.power_cuts, Ordering::Relaxed);
            settled.fetch_add(report.settled, Ordering::Relaxed);
            report.broken.iter().map(ToString::to_string).collect()
        },
    );
    println!("{} records were settled", settled.into_inner());
    proof.end(cuts.into_inner(), &failures);
}

/// Five clients with 200 calls each, and every kind of fault: their histories are held against the model.
#[test]
fn proof_histories_keep_every_promise() {
    let proof = Proof::begin("P2d", "histories of 5 clients with 200 calls");
    let count = cases(4, 200, 100_000);
    let failures = play(|at| at >= count, |seed| wrong(seed, &run(seed, &Plan::default())));
    proof.end(count, &failures);
}

/// A writer that returns after 20 hours goes on; after 25 hours it is told, and goes on with a new item.
#[test]
fn proof_a_writer_returns_after_hours() {
    let proof = Proof::begin("P2c", "writers away for 20 and for 25 hours");
    let count = cases(2, 60, 10_000);
    let failures = play(|at| at >= count, |seed| long_absence(seed, if seed % 2 == 0 { 20 } else { 25 }));
    proof.end(count, &failures);
}

/// A hundred live readers of a default pipe get the same records, each writer's in the same order, however often the relay dies.
#[test]
fn proof_a_hundred_readers_get_the_same() {
    let proof = Proof::begin("P8", "100 live readers, relay deaths");
    let count = cases(1, 12, 200);
    let readers = if count == 1 { 20 } else { 100 };
    let deaths = AtomicU64::new(0);
    let failures = play(
        |at| at >= count,
        |seed| {
            let (failures, died) = crowd(seed, readers, 3, 30);
            deaths.fetch_add(died, Ordering::Relaxed);
            failures
        },
    );
    println!("{} deaths of the relay", deaths.into_inner());
    proof.end(count, &failures);
}

/// Workers of a queue crash, are late, refuse and extend, while the relay dies and links break: no record is lost, none is in two hands, what came too
/// late is refused, and how often a record was handed out is known.
#[test]
fn proof_a_queue_over_relay_deaths() {
    let proof = Proof::begin("P7", "queue workers, relay deaths");
    let count = cases(6, 200, 20_000);
    let sum = Mutex::new(Worked::default());
    let failures = play(
        |at| at >= count,
        |seed| {
            // One in four has no faults but the workers' own, and one of those not even crashes: there the count has nothing to hide behind.
            let mut shop = Shop::default();
            if seed % 4 == 0 {
                (shop.faults, shop.crashes) = (Vec::new(), seed % 8 == 0);
            }
            let worked = work(seed, &shop);
            let mut sum = sum.lock().unwrap();
            sum.deaths += worked.deaths;
            sum.records += worked.records;
            sum.handed += worked.handed;
            sum.unseen += worked.unseen;
            sum.stale += worked.stale;
            sum.dead += worked.dead;
            worked.broken
        },
    );
    let sum = sum.into_inner().unwrap();
    println!(
        "{} records, {} handings out, {} of them counted and never seen, {} stale acknowledgements refused, {} dead letters, {} deaths of the relay",
        sum.records, sum.handed, sum.unseen, sum.stale, sum.dead, sum.deaths
    );
    assert!(sum.stale > 0 && sum.deaths > 0, "hardly anything happened");
    proof.end(count, &failures);
}

/// Readers of a broadcast come, crash and go on, with durable cursors and without, while the relay dies: all get the same in the same order, and nobody
/// misses anything that it is not told.
#[test]
fn proof_a_broadcast_over_relay_deaths() {
    let proof = Proof::begin("P8", "broadcast readers, relay deaths");
    let count = cases(6, 200, 20_000);
    let sum = Mutex::new(Delivered::default());
    let failures = play(
        |at| at >= count,
        |seed| {
            let many = Paper { named: 10, others: 90, records: 20, ..Paper::default() };
            let seen = publish(seed, &if seed % 50 == 0 { many } else { Paper::default() });
            let mut sum = sum.lock().unwrap();
            sum.deaths += seen.deaths;
            sum.records += seen.records;
            sum.got += seen.got;
            sum.missing += seen.missing;
            sum.returns += seen.returns;
            seen.broken
        },
    );
    let sum = sum.into_inner().unwrap();
    println!(
        "{} records, got {} times; {} told to be gone; {} returns with a cursor; {} deaths of the relay",
        sum.records, sum.got, sum.missing, sum.returns, sum.deaths
    );
    assert!(sum.returns > 0 && sum.deaths > 0, "hardly anything happened");
    proof.end(count, &failures);
}

/// A day of clients and faults.
#[test]
fn proof_a_day_of_clients_and_faults() {
    let proof = Proof::begin("P1", "24 simulated hours of clients and faults");
    let hours = cases(1, 24, 24 * 365);
    let lasts = Duration::from_secs(60 * 60 * hours.min(24));
    let plan = Plan { calls: 0, lull: 0..=240_000, fault_every: 1000..=300_000, lasts, ..Plan::default() };
    let days = hours.div_ceil(24);
    let failures = play(|at| at >= days, |seed| run(seed, &plan).broken.iter().map(ToString::to_string).collect());
    proof.end(hours, &failures);
}

/// The wall clock jumps by up to ten years, either way: no session notices.
#[test]
fn proof_a_jumping_wall_clock_changes_nothing() {
    let proof = Proof::begin("P2", "wall clock jumps of up to ten years");
    let count = cases(2, 30, 10_000);
    let mut faults = Fault::ALL.to_vec();
    faults.extend([Fault::WallClock; 9]);
    let plan = Plan { faults, fault_every: 500..=5000, ..Plan::default() };
    let failures = play(|at| at >= count, |seed| run(seed, &plan).broken.iter().map(ToString::to_string).collect());
    proof.end(count, &failures);
}

/// A thousand clients lose a relay, and are back soon after it is, without coming all at once.
#[test]
fn proof_clients_come_back_soon_and_not_at_once() {
    let proof = Proof::begin("P11", "1,000 clients come back");
    let away = [300, 3000, 30_000, 120_000].map(Duration::from_millis);
    let count = cases(1, 4, 100);
    let (clients, sources) = if count == 1 { (300, 3) } else { (1000, 10) };
    let failures = play(
        |at| at >= count,
        |seed| {
            let away = away[(seed % 4) as usize];
            let back = come_back(seed, clients, sources, away);
            println!("away for {away:?}: {back:?}");
            let mut failures = Vec::new();
            if back.p99 > Duration::from_secs(5) || back.missing > 0 {
                failures.push(format!("{back:?} after {away:?}: too late"));
            }
            // A client doubles its pauses from 10 ms on; after a long absence chance has spread all of them.
            let long = away > Duration::from_secs(10);
            if back.peak > 200 || back.tries > 10 || (long && back.peak_tries > clients as usize / sources as usize / 2)
            {
                failures.push(format!("{back:?} after {away:?}: too many at once"));
            }
            failures
        },
    );
    proof.end(u64::from(clients) * count, &failures);
}

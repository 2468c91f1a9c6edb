//! Memory stays bounded whatever peers do (P5). In release: `cargo test --release -p skypipe-cli --test e2e proof_p5`.

mod adversaries;
mod canaries;
mod flooder;
mod strangers;
mod world;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use skypipe_core::{Error, ReaderHalves, RemoteBroker};
use skypipe_test::proof::{Length, Proof, cases};

use crate::harness::{Data, Home, In, Memory, until_within};
use world::{World, drain, flood, link, rate, read, runtime};

const MB: u64 = 1_000_000;
/// Attaches under way at once, fewer than a relay allows one source.
const AT_ONCE: usize = 8;

/// What a relay with 10,000 idle sessions may take over each transport.
const IDLE_MAX: [(&str, u64); 3] = [("unix:", 120 * MB), ("quic:", 350 * MB), ("wss:", 280 * MB)];

#[test]
fn proof_p5a_idle_sessions() {
    let sessions = cases(100, 10_000, 10_000);
    let (proof, mut failures) = (Proof::begin("P5a", "idle sessions"), Vec::new());
    for (scheme, bytes_max) in IDLE_MAX {
        let world = World::new(&[]);
        let runtime = runtime();
        let start = Instant::now();
        let attached = runtime.block_on(attach_idle(world.url(scheme), sessions)).unwrap();
        let (took, taken) = (start.elapsed(), world.resident());
        println!("P5a: {} over {scheme} take {} KB, attached in {took:.1?}", attached.len(), taken / 1000);
        // A relay takes some by itself, which a few sessions do not divide.
        if taken > (bytes_max * sessions / 10_000).max(30 * MB) {
            failures.push(format!("{sessions} idle sessions over {scheme} take {taken} bytes"));
        }
        drop(attached);
        runtime.shutdown_background();
    }
    proof.end(3 * sessions, &failures);
}

/// Each on a link of its own, each at a pipe of its own.
async fn attach_idle(url: &str, sessions: u64) -> Result<Vec<(RemoteBroker, ReaderHalves)>, Error> {
    let attach = |number| async move {
        let link = link(url);
        let halves = read(&link, &format!("idle/{number}"), 1 << 20).await?;
        Ok((link, halves))
    };
    stream::iter(0..sessions).map(attach).buffer_unordered(AT_ONCE).try_collect().await
}

/// By how much a relay may grow while stalled readers stand at a pipe that is written at full speed.
const STALLED_GROWTH_MAX: u64 = 64 * MB;
/// What part of its rate a healthy reader keeps.
const RATE_KEPT_MIN: f64 = 0.9;

/// Rounds with one stalled reader and with all of them, in turns: how fast the disk takes what is written changes from one second to the next.
const ROUNDS: usize = 3;

#[test]
fn proof_p5b_stalled_readers() {
    let readers = if Length::asked() == Length::Quick { 50 } else { 1_000 };
    let seconds = cases(1, 5, 20);
    let proof = Proof::begin("P5b", "stalled readers");
    let world = World::new(&[]);
    let beside = |readers, credit, seconds| {
        let beside = runtime().block_on(beside_stalled(&world, (readers, credit), Duration::from_secs(seconds)));
        world.home.skypipe(["rm", "stalled"]).ok();
        beside
    };
    let frozen = beside(100, 1 << 40, seconds.min(3));
    // One stalled reader is enough to have all of it written to disk: with that the others are compared.
    let rounds: Vec<(Beside, Beside)> =
        (0..ROUNDS).map(|_| (beside(1, 0, seconds), beside(readers, 0, seconds))).collect();
    let growth = rounds.iter().map(|(_, many)| many.growth).max().unwrap_or_default();
    let kept = median(rounds.iter().map(|(one, many)| many.rate / one.rate));
    println!("P5b: {readers} stalled readers: the relay grew by {} KB; a healthy one keeps {kept:.2}", growth / 1000);
    for (one, many) in &rounds {
        println!("P5b: {:.0} MB/s of {:.0} beside one", many.rate / 1e6, one.rate / 1e6);
    }
    println!("P5b: beside 100 that say they would take all, and do not: {:.0} MB/s", frozen.rate / 1e6);
    let mut failures = Vec::new();
    if frozen.rate == 0.0 {
        failures.push("a healthy reader stands still beside frozen ones".to_owned());
    }
    if growth > STALLED_GROWTH_MAX {
        failures.push(format!("the relay grew by {growth} bytes"));
    }
    // A second is too short for a rate to mean something.
    if seconds > 1 && kept < RATE_KEPT_MIN {
        failures.push(format!("a healthy reader keeps {:.0} % of its rate", kept * 100.0));
    }
    proof.end(readers, &failures);
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Beside {
    growth: u64,
    rate: f64,
}

/// A pipe that is written at full speed, with one reader that takes all and so many that take nothing.
async fn beside_stalled(world: &World, (readers, credit): (u64, u64), time: Duration) -> Beside {
    let url = world.url("unix:");
    let mut stalled = Vec::new();
    for _ in 0..readers {
        let link = link(url);
        let halves = read(&link, "stalled", credit).await.unwrap();
        stalled.push((link, halves));
    }
    let healthy = link(url);
    let reader = read(&healthy, "stalled", 4 << 20).await.unwrap();
    let before = world.resident();
    let memory = Memory::watch(world.pid());
    let count = Arc::new(AtomicU64::new(0));
    let reading = tokio::spawn(drain(reader, count.clone()));
    let writing = tokio::spawn(flood(url.to_owned(), "stalled"));
    let rate = rate(&count, time).await;
    assert!(!reading.is_finished() && !writing.is_finished(), "they go on");
    writing.abort();
    reading.abort();
    Beside { growth: memory.peak().saturating_sub(before), rate }
}

/// By how much a relay may grow while it stores what nobody reads.
const UNREAD_GROWTH_MAX: u64 = 16 * MB;

/// A disk that takes 10 MB a second is done by then, one that is full never is.
const UNREAD_WITHIN: Duration = Duration::from_secs(1200);

#[test]
fn proof_p5c_writer_without_reader() {
    let bytes = cases(128, 4 * 1024, 10 * 1024) << 20;
    let proof = Proof::begin("P5c", "MiB that nobody reads");
    let home = Home::new();
    home.store("begin", "a relay is there\n");
    let before = world::resident(home.relay()).unwrap();
    let memory = Memory::watch(home.relay());
    let mut writer = home.skypipe(["write", "unread"]).stdin(In::Data(Data::random(5, bytes))).start();
    until_within(UNREAD_WITHIN, "all is stored", || (!writer.is_running()).then_some(()));
    writer.wait().exits(0);
    assert!(home.stat("unread").bytes > bytes);
    let growth = memory.peak().saturating_sub(before);
    println!("P5c: {} MiB stored, the relay grew by {} KB", bytes >> 20, growth / 1000);
    let failures = (growth > UNREAD_GROWTH_MAX).then(|| format!("the relay grew by {growth} bytes"));
    proof.end(bytes >> 20, failures.as_slice());
}

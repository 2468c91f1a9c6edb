//! The big cases: gigabytes. Run by CI, in release:
//! `cargo test --release -p skypipe-cli --test e2e big -- --ignored`.

use crate::harness::{Data, Home, In, Memory, Out, Running};

const MIB: u64 = 1 << 20;
/// What each process may need of its own, however much is stored.
const MEMORY_MAX: u64 = 64 * MIB;

#[test]
#[ignore = "stores 4 GiB; run in release by CI"]
fn four_gibibytes_and_one_byte() {
    store_with_little_memory(&Data::random(4096, (4 << 30) + 1));
}

/// The same in small, for every run of the tests: still twice as much as any process may hold.
#[test]
fn what_is_stored_needs_no_memory() {
    store_with_little_memory(&Data::random(128, 2 * MEMORY_MAX));
}

/// Stores all of `data` before anybody reads, and reads it back.
fn store_with_little_memory(data: &Data) {
    let home = Home::new();
    let writer = home.skypipe(["write", "big"]).stdin(In::Data(data.clone())).start();
    let writer_memory = Memory::watch(writer.pid());
    home.until_stat("big", |s| s.writers == 1);
    let relay_memory = Memory::watch(home.relay());
    patiently(writer).exits(0).quietly();
    writer_memory.stayed_below(MEMORY_MAX, "writer");
    assert!(home.stat("big").bytes > data.len());

    let reader = home.skypipe(["read", "big"]).stdout(Out::Summed).start();
    let reader_memory = Memory::watch(reader.pid());
    patiently(reader).exits(0).quietly().gave_digest(&data.digest());
    reader_memory.stayed_below(MEMORY_MAX, "reader");
    relay_memory.stayed_below(MEMORY_MAX, "relay");
}

/// `kill -9` of the relay in the middle of much data, each time its readers got another part of it. Its clients start it again. A
/// thousand times is a proof of its own: `tests/proofs/kills.rs`.
#[test]
fn five_kills_of_the_relay_with_two_readers() {
    kills(2, Data::random(32, 64 * MIB), 5);
}

fn kills(readers: u64, data: Data, kills: u64) {
    let home = Home::new();
    let readers: Vec<Running> =
        (0..readers).map(|_| home.skypipe(["read", "big"]).stdout(Out::Summed).start()).collect();
    home.until_stat("big", |s| s.readers == readers.len() as u64);
    let writer = home.skypipe(["write", "big"]).stdin(In::Data(data.clone())).start();
    let mut killed = Vec::new();
    for kill in 1..=kills {
        for reader in &readers {
            reader.until_received(data.len() * kill / (kills + 1));
        }
        killed.push(home.kill_relay());
    }
    let relays: std::collections::BTreeSet<i32> = killed.iter().map(|p| p.as_raw_nonzero().get()).collect();
    assert_eq!(relays.len() as u64, kills, "each time another relay: {killed:?}");
    patiently(writer).exits(0);
    let digest = data.digest();
    for reader in readers {
        patiently(reader).exits(0).gave_digest(&digest);
    }
}

/// Waits as long as gigabytes take: the deadline starts again with every byte that comes.
#[track_caller]
fn patiently(running: Running) -> crate::harness::Done {
    let mut running = running;
    let mut last = (0, std::time::Instant::now());
    while running.is_running() {
        let now = running.progress();
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
        assert!(last.1.elapsed() < crate::harness::PATIENCE, "no byte moved any more; stderr: {}", running.errors());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    running.wait()
}

//! A client whose network changes in the middle of a transfer: nothing is lost, nothing comes twice, nobody does anything.

use std::time::{Duration, Instant};

use skypipe_test::net::{Client, Net};

use crate::harness::{Data, In, Out};
use crate::world::{Way, World};

const MIB: u64 = 1 << 20;
/// What goes through before each change, and behind the last one.
const PART_BYTES: u64 = 4 * MIB;

#[test]
fn over_quic_a_client_goes_to_another_network() {
    // The connection itself moves: there is nothing to find out.
    let longest = changes_in_the_middle(Way::Quic, |net| net.roam(Client::A));
    assert!(longest < Duration::from_secs(10), "the connection did not move: {longest:?}");
}

#[test]
fn over_websocket_a_client_goes_to_another_network() {
    changes_in_the_middle(Way::Wss, |net| net.roam(Client::A));
}

#[test]
fn over_quic_a_nat_gives_another_port() {
    let longest = changes_in_the_middle(Way::Quic, |net| net.rebind(Client::A));
    assert!(longest < Duration::from_secs(10), "the connection did not move: {longest:?}");
}

#[test]
fn over_websocket_a_nat_gives_another_port() {
    changes_in_the_middle(Way::Wss, |net| net.rebind(Client::A));
}

#[test]
fn a_cable_is_out_for_a_while() {
    for way in [Way::Quic, Way::Wss] {
        changes_in_the_middle(way, |net| {
            net.unplug(Client::A, true);
            std::thread::sleep(Duration::from_secs(2));
            net.unplug(Client::A, false);
        });
    }
}

/// Client A writes, client B reads; twice in the middle `change` happens to A. The longest that a part took behind a change.
fn changes_in_the_middle(way: Way, change: impl Fn(&Net)) -> Duration {
    const CHANGES: u64 = 2;
    let world = World::new(way);
    let data = Data::random(5, PART_BYTES * (CHANGES + 1));
    let bytes = data.bytes();
    let mut parts = bytes.chunks(PART_BYTES as usize);
    let reader = world.b.skypipe(["read", "moving"]).stdout(Out::Summed).start();
    world.b.until_stat("moving", |s| s.readers == 1);
    let mut writer = world.a.skypipe(["write", "moving"]).stdin(In::Open).start();
    writer.feed(parts.next().unwrap());
    let mut longest = Duration::ZERO;
    for number in 1..=CHANGES {
        // Something of what was fed is still under way: no record ends where a part does.
        reader.until_received(PART_BYTES * number - MIB);
        let start = Instant::now();
        change(&world.net);
        writer.feed(parts.next().unwrap());
        reader.until_received(PART_BYTES * (number + 1) - MIB);
        longest = longest.max(start.elapsed());
    }
    writer.end_input();
    writer.wait().exits(0);
    reader.wait().exits(0).gave_digest(&data.digest());
    println!("{way:?}: the longest that a change held up {} MiB was {longest:?}", PART_BYTES / MIB);
    longest
}

//! Bad input 46: what a relay does upon each signal.

use std::time::{Duration, Instant};

use crate::harness::{Data, Home, In, Out, Running, Signal, is_alive, until};

/// A relay that is to wait for a client as long as it may, with an item stored: the client takes nothing and does not go.
fn held_up(home: &Home) -> (Running, Running) {
    let relay = home.skypipe(["relay"]).start();
    relay.until_gave("unix:");
    home.store("x", "kept\n");
    let reader = home.skypipe(["read", "flood"]).stdout(Out::Unread).start();
    home.until_stat("flood", |stat| stat.readers == 1);
    let writer = home.skypipe(["write", "flood"]).stdin(In::Data(Data::random(46, 8 << 20))).start();
    until("it is stuck", || (reader.unread() > 0).then_some(()));
    writer.wait().exits(0);
    reader.stop();
    (relay, reader)
}

#[test]
fn sigterm_waits_for_its_clients_for_ten_seconds_at_most() {
    let home = Home::new();
    let (relay, reader) = held_up(&home);
    let start = Instant::now();
    relay.send(Signal::TERM);
    relay.wait().exits(0);
    assert!(start.elapsed() < Duration::from_secs(15), "it took {:?}", start.elapsed());
    reader.kill();
    home.skypipe(["read", "x"]).ok().gave("kept\n");
}

#[test]
fn the_second_sigint_stops_at_once_and_loses_nothing() {
    let home = Home::new();
    let (mut relay, reader) = held_up(&home);
    relay.send(Signal::INT);
    let start = Instant::now();
    until("it is gone", || {
        std::thread::sleep(Duration::from_millis(100));
        relay.send(Signal::INT);
        (!relay.is_running()).then_some(())
    });
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    // It may have had nothing to wait for.
    relay.wait().exits_one_of(&[0, 130]);
    reader.kill();
    home.skypipe(["read", "x"]).ok().gave("kept\n");
}

#[test]
fn sigpipe_is_ignored() {
    let home = Home::new();
    home.store("x", "kept\n");
    let relay = home.relay();
    crate::harness::send(relay, Signal::PIPE);
    home.skypipe(["read", "x"]).ok().gave("kept\n");
    assert!(is_alive(relay) && home.relay() == relay);
}

//! Bad input 44: no more file descriptors. Newcomers wait; what is there goes on, and so does the log.

use std::os::unix::net::UnixStream;

use crate::harness::{Home, In, until};
use crate::traced::SEGMENT_BYTES;

/// Few, so that they are soon gone; half as many are kept for the log's files and what the relay needs.
const LIMIT: u64 = 64;
/// What a writer stores meanwhile: several segments, each of which needs a descriptor.
const LINES: usize = 40_000;

#[test]
fn without_descriptors_only_newcomers_wait() {
    let home = Home::new();
    let relay = home.sh(&format!("ulimit -n {LIMIT}; exec skypipe relay --segment-bytes {SEGMENT_BYTES}")).start();
    relay.until_gave("unix:");
    let reader = home.live_reader("live");
    let mut live = home.open_writer("live");
    let mut stored = home.open_writer("stored");

    let socket = home.skypipe_home().join("relay.sock");
    let crowd: Vec<UnixStream> = (0..2 * LIMIT).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    relay.until_says("no room for more connections");
    live.feed("as if nothing were\n");
    reader.until_gave("as if nothing were\n");
    let text: String = (0..LINES).map(|n| format!("line {n} of what goes to the disk meanwhile\n")).collect();
    for part in text.as_bytes().chunks(text.len() / 4) {
        let before = segments(&home);
        stored.feed(part);
        until("the log begins another segment", || (segments(&home) > before).then_some(()));
    }
    stored.end_input();
    stored.wait().exits(0).quietly();

    drop(crowd);
    home.skypipe(["read", "stored"]).ok().gave(text);
    live.end_input();
    live.wait().exits(0);
    reader.wait().exits(0).gave("as if nothing were\n");
    assert_eq!(relay.errors().matches("no room").count(), 1, "once a minute: {}", relay.errors());
    home.end_relay(crate::harness::Signal::TERM);
    relay.wait().exits(0);
}

/// The same over TCP, where a handshake needs more than a descriptor.
#[test]
fn without_descriptors_newcomers_over_tcp_wait() {
    let home = Home::new();
    let relay = home.sh(&format!("ulimit -n {LIMIT}; exec skypipe relay --listen ws:127.0.0.1:0")).start();
    relay.until_gave("ws://");
    let url = relay.output().lines().find(|line| line.starts_with("ws://")).unwrap().to_owned();
    let address = url.rsplit('@').next().unwrap().trim_end_matches('/').to_owned();
    let mut stored = home.skypipe(["--relay", &url, "write", "stored"]).stdin(In::Open).start();
    home.until_stat("stored", |stat| stat.writers == 1);
    let mut crowd = Vec::new();
    until("the relay says that there is no room", || {
        // From one address only a few may be in the handshake, so it takes clients of the local socket as well.
        crowd.push(UnixStream::connect(home.skypipe_home().join("relay.sock")).unwrap());
        let _ = std::net::TcpStream::connect(&address);
        (relay.errors().matches("no room").count() == 2).then_some(())
    });
    stored.feed("goes on\n").end_input();
    stored.wait().exits(0);
    drop(crowd);
    home.skypipe(["--relay", &url, "read", "stored"]).ok().gave("goes on\n");
    home.end_relay(crate::harness::Signal::TERM);
    relay.wait().exits(0);
}

fn segments(home: &Home) -> usize {
    std::fs::read_dir(home.skypipe_home().join("data"))
        .unwrap()
        .filter(|e| e.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|e| e == "segment")))
        .count()
}

//! A machine over real ssh: up, join, a pipe across, upgrade under load, down.

use super::binary::{self, newer, newer_version};
use super::host::{Host, NAME, free_port};
use crate::across::sky::{join, own_line};
use crate::harness::{Data, Home, In, Out, Signal, until};

/// Pieces in which a writer is fed while something else goes on.
const PIECE_BYTES: u64 = 256 << 10;
/// Pieces that it is fed at least, behind what went through before.
const PIECES_AFTER: u64 = 64;

/// `skypipe up` on loopback.
fn up<'a>(host: &Host, home: &Home, port: &'a str, more: &[&'a str]) -> crate::harness::Command {
    host.skypipe(home, [&["up", NAME, "--bind", "127.0.0.1", "--port", port], more].concat())
}

fn config(home: &Home) -> String {
    std::fs::read_to_string(home.config_home().join("skypipe/config.toml")).unwrap_or_default()
}

#[test]
fn up_join_a_pipe_across_and_down() {
    let (host, mine, other) = (Host::new(), Home::new(), Home::new());
    let port = free_port().to_string();
    mine.store("old", "left behind\n");
    let done =
        up(&host, &mine, &port, &[]).ok().says("the relay is started").says("skypipe invite").says("read --item old");
    let urls = done.text();
    assert!(urls.lines().all(|url| url.contains(&format!("@127.0.0.1:{port}"))) && urls.lines().count() == 2, "{urls}");
    assert!(config(&mine).contains("quic://") && config(&mine).contains(NAME), "{}", config(&mine));

    // Again: nothing to do, and nothing is asked for twice.
    let relay = host.relay().unwrap();
    host.skypipe(&mine, ["up", NAME]).ok().says("nothing to do").gave(&urls);
    assert_eq!(host.relay(), Some(relay));

    let line = mine.skypipe(["invite"]).ok().text();
    join(&other, &line).ok();
    let data = Data::random(5, 3_000_000);
    other.skypipe(["write", "x"]).stdin(In::Data(data.clone())).ok().quietly();
    mine.skypipe(["read", "x"]).stdout(Out::Summed).ok().quietly().gave_digest(&data.digest());
    // A relay that dies is there again.
    mine.store("kept", "kept\n");
    crate::harness::send(relay, Signal::KILL);
    until("the relay is started again", || host.relay().filter(|&now| now != relay));
    other.skypipe(["peek", "kept"]).ok().gave("kept\n");

    // Nobody is there to be asked: what is stored stays.
    host.skypipe(&mine, ["down"]).ok().says("1 pipe").says("stays in").gave("");
    assert!(host.relay().is_none() && host.data().join("relay_key").exists());
    assert!(
        !host.home().join(".local/lib/skypipe").exists() && !config(&mine).contains("quic://"),
        "{}",
        config(&mine)
    );
    mine.skypipe(["read", "old"]).ok().gave("left behind\n");

    // It serves again what stayed, by the same key.
    up(&host, &mine, &port, &[]).ok().gave(&urls);
    other.skypipe(["peek", "kept"]).ok().gave("kept\n");
    host.skypipe(&mine, ["down", NAME]).stdin(In::Typed("n\n")).ok().says("[y/N]").says("stays in");
    up(&host, &mine, &port, &[]).ok().gave(&urls);
    host.skypipe(&mine, ["down", NAME]).stdin(In::Typed("y\n")).ok().says("deleted");
    assert!(!host.data().exists());
    host.skypipe(&mine, ["down", NAME]).ok().says("no relay is there");
}

#[test]
fn an_upgrade_under_load_loses_nothing() {
    let (host, mine, other) = (Host::new(), Home::new(), Home::new());
    let port = free_port().to_string();
    up(&host, &mine, &port, &[]).ok();
    join(&other, &mine.skypipe(["invite"]).ok().text()).ok();
    let old = host.relay().unwrap();
    let newer = newer(&mine.work());

    let reader = other.skypipe(["read", "load"]).stdout(Out::Summed).start();
    mine.until_stat("load", |s| s.readers == 1);
    let mut writer = mine.skypipe(["write", "load"]).stdin(In::Open).start();
    let mut pieces = 0;
    let mut feed = |writer: &mut crate::harness::Running| {
        writer.feed(Data::random(pieces, PIECE_BYTES).bytes());
        pieces += 1;
    };
    feed(&mut writer);
    reader.until_received(1);
    let mut upgrade = up(&host, &mine, &port, &["--binary", newer.to_str().unwrap()]).start();
    while upgrade.is_running() {
        feed(&mut writer);
        // Enough to be under load, and not so much that the disk is what is measured.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    upgrade.wait().exits(0).says("started again");
    (0..PIECES_AFTER).for_each(|_| feed(&mut writer));
    writer.end_input();
    writer.wait().exits(0);
    let all: Vec<u8> = (0..pieces).flat_map(|seed| Data::random(seed, PIECE_BYTES).bytes()).collect();
    reader.wait().exits(0).gave_digest(&crate::harness::Digest::of(&all));
    println!("{} MiB went through", all.len() >> 20);
    assert_ne!(host.relay(), Some(old));

    // The one that is there is newer than this one now.
    up(&host, &mine, &port, &[]).run().exits(7).says("E_VERSION").says(&newer_version()).says(binary::OWN);
    host.skypipe(&mine, ["down", "--delete-data"]).ok();
    assert!(!host.data().exists() && host.relay().is_none());
}

#[test]
fn a_stranger_gets_nothing_from_a_relay_that_up_made() {
    let (host, mine, stranger) = (Host::new(), Home::new(), Home::new());
    let port = free_port().to_string();
    let urls = up(&host, &mine, &port, &[]).ok().text();
    let url = urls.lines().next().unwrap();
    mine.store("x", "secret\n");
    stranger.skypipe(["--relay", url, "read", "--no-wait", "x"]).run().exits(3).gave("");
    // Nor may somebody else take it over, though ssh lets them in.
    assert_ne!(own_line(&stranger), own_line(&mine));
    up(&host, &stranger, &port, &[]).run().exits(3).says("belongs to another key");
    mine.skypipe(["read", "x"]).ok().gave("secret\n");
    host.skypipe(&mine, ["down", "--delete-data"]).ok();
}

//! `skypipe relay --listen`.

use super::sky::{Sky, own_line};
use crate::harness::{Home, Signal, until};

#[test]
fn what_is_no_address_is_told_in_a_line() {
    let home = Home::new();
    for bad in ["example.org:7473", "1.2.3.4:99999", "tcp:1.2.3.4:5", "7473", "ws:", ""] {
        home.skypipe(["relay", "--listen", bad]).run().exits(2).gave("").fails_with("E_USAGE");
    }
    home.skypipe(["relay", "--listen", "192.0.2.1:0"]).run().exits(2).gave("").fails_with("E_USAGE");
    home.skypipe(["relay", "--public", "example.org"]).run().exits(2).gave("").fails_with("E_USAGE");
    home.skypipe(["relay", "--listen", "127.0.0.1:0", "--public", "a b"]).run().exits(2).fails_with("E_USAGE");
    home.skypipe(["relay", "--listen", "127.0.0.1:0", "--owner", "x"]).run().exits(2).fails_with("E_KEY");
}

#[test]
fn a_port_that_is_taken_is_exit_7() {
    let home = Home::new();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for taken in [tcp.local_addr().unwrap(), udp.local_addr().unwrap()] {
        let done =
            home.skypipe(["relay", "--listen", &taken.to_string()]).run().exits(7).gave("").fails_with("E_LOCKED");
        assert!(done.stderr.contains(&taken.port().to_string()), "{}", done.stderr);
    }
    // Another start may name another owner.
    assert!(!home.skypipe_home().join("authorized_keys").exists());
    assert!(!home.config_home().join("skypipe/id_ed25519").exists());
}

#[test]
fn a_second_relay_of_the_same_folder_is_exit_7() {
    let sky = Sky::new();
    sky.owner.skypipe(["relay", "--listen", "127.0.0.1:0"]).run().exits(7).gave("").fails_with("E_LOCKED");
}

#[test]
fn the_relay_that_a_command_started_makes_way_and_nothing_is_lost() {
    let home = Home::new();
    home.store("kept", "stored before\n");
    let reader = home.live_reader("live");
    let mut writer = home.open_writer("live");
    writer.feed("one\n");
    reader.until_gave("one\n");
    let before = home.relay();
    let sky = Sky::of(home, "127.0.0.1:0");
    assert_ne!(sky.owner.relay(), before);
    assert_eq!(sky.owner.relay(), sky.relay.pid());
    writer.feed("two\n").end_input();
    writer.wait().exits(0).quietly();
    reader.wait().exits(0).quietly().gave("one\ntwo\n");
    sky.joined(&[]).skypipe(["read", "kept"]).ok().gave("stored before\n");
}

#[test]
fn its_key_and_what_it_stores_outlive_it() {
    let sky = Sky::new();
    let (key, other) = (sky.key(), sky.joined(&[]));
    other.store("x", "kept\n");
    let port = sky.urls[0].rsplit(':').next().unwrap().to_owned();
    let (owner, _) = sky.end();
    let again = Sky::of(owner, &format!("127.0.0.1:{port}"));
    assert_eq!(again.key(), key);
    other.skypipe(["read", "x"]).ok().gave("kept\n").quietly();
}

#[test]
fn sessions_go_on_when_it_comes_back() {
    let sky = Sky::new();
    let other = sky.joined(&[]);
    let reader = other.live_reader("x");
    let mut writer = other.open_writer("x");
    writer.feed("before\n");
    reader.until_gave("before\n");
    let port = sky.urls[0].rsplit(':').next().unwrap().to_owned();
    sky.relay.send(Signal::KILL);
    let Sky { owner, relay, .. } = sky;
    drop(relay);
    let again = Sky::of(owner, &format!("127.0.0.1:{port}"));
    writer.feed("after\n").end_input();
    writer.wait().exits(0);
    reader.wait().exits(0).gave("before\nafter\n");
    drop(again);
}

#[test]
fn a_relay_of_its_own_folder_has_its_socket_too() {
    let home = Home::new();
    let relay = home.skypipe(["relay", "--data", "own", "--listen", "127.0.0.1:0", "--public", "example.org"]).start();
    relay.until_gave("wss://").until_gave("example.org");
    let socket = home.path("own/relay.sock");
    assert!(relay.output().contains(&format!("unix:{}\n", socket.display())), "{}", relay.output());
    let url = format!("unix:{}", socket.display());
    let made = home.skypipe(["--relay", &url, "invite", "--json"]).ok().json();
    assert!(made["urls"][0].as_str().unwrap().contains("@example.org:"), "{made}");
    relay.send(Signal::TERM);
    relay.wait().exits(0);
}

#[test]
fn another_owner_may_be_named_at_the_first_start() {
    let (host, boss) = (Home::new(), Home::new());
    let line = own_line(&boss);
    let file = host.file("boss.pub", &line);
    let relay = host.skypipe(["relay", "--listen", "127.0.0.1:0", "--owner", file.to_str().unwrap()]).start();
    relay.until_gave("wss://");
    let url = until("a URL", || relay.output().lines().find(|l| l.starts_with("quic://")).map(str::to_owned));
    boss.skypipe(["--relay", &url, "keys", "ls"]).ok().says("").quietly();
    assert!(!host.config_home().join("skypipe/id_ed25519").exists(), "the host needs no key of its own");
    boss.skypipe(["--relay", &url, "write", "x", "hi"]).ok();
    host.skypipe(["read", "x"]).ok().gave("hi\n");
    relay.send(Signal::TERM);
    relay.wait().exits(0);
}

#[test]
fn an_owner_named_too_late_is_told_so() {
    let sky = Sky::new();
    let line = own_line(&Home::new());
    let (owner, _) = sky.end();
    let relay = owner.skypipe(["relay", "--listen", "127.0.0.1:0", "--owner", line.trim()]).start();
    relay.until_says("--owner counts at the first start").until_gave("wss://");
    relay.send(Signal::TERM);
    relay.wait().exits(0);
}

#[test]
fn an_edited_list_counts_at_once_and_a_bad_one_is_told() {
    let sky = Sky::new();
    let other = sky.joined(&[]);
    let path = sky.owner.skypipe_home().join("authorized_keys");
    let list = std::fs::read_to_string(&path).unwrap();
    let reader = other.live_reader("x");
    std::fs::write(&path, format!("{list}what is this\n")).unwrap();
    sky.relay.send(Signal::HUP);
    sky.relay.until_says("authorized_keys");
    other.skypipe(["ls"]).ok();
    let owner_only: String = list.lines().filter(|l| l.contains("admin")).map(|l| format!("{l}\n")).collect();
    std::fs::write(&path, owner_only).unwrap();
    sky.relay.send(Signal::HUP);
    reader.wait().exits(3).says("E_ACCESS");
}

#[test]
fn many_files_may_be_open() {
    let sky = Sky::new();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", sky.relay.pid().as_raw_nonzero())).unwrap();
    let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
}

//! `skypipe check`: what is wrong, and what to do; and the line that says so while a command waits.

use super::sky::{Sky, own_line};
use crate::harness::{Home, In, Signal};

#[test]
fn each_way_is_told() {
    let sky = Sky::new();
    let other = sky.joined(&[]);
    let checked = other.skypipe(["check", "--json"]).ok().quietly().json();
    assert_eq!(checked["ok"], true, "{checked}");
    let ways = checked["ways"].as_array().unwrap();
    assert!(ways.len() == 2 && ways.iter().all(|way| way["ok"] == true), "{checked}");
    assert!(checked["clock_ahead_s"].as_i64().unwrap().abs() < 5 && checked["round_trip_us"].as_u64().unwrap() > 0);
    assert!(other.skypipe(["check"]).ok().text().contains("QUIC"));
}

#[test]
fn a_key_that_is_refused_is_told_with_the_line_to_add() {
    let sky = Sky::new();
    let home = Home::new();
    let done = sky.skypipe(&home, ["check"]).run().exits(3).gave("");
    let own = own_line(&home);
    assert!(done.stderr.contains("skypipe keys add") && done.stderr.contains(own.trim()), "{}", done.stderr);
    let checked = sky.skypipe(&home, ["check", "--json"]).run().exits(3).json();
    assert!(checked["ok"] == false && checked["code"] == "E_ACCESS", "{checked}");
    sky.owner.skypipe(["keys", "add", own.trim()]).ok();
    sky.skypipe(&home, ["check"]).ok();
}

#[test]
fn nothing_listens_there() {
    let home = Home::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("wss://{}@127.0.0.1:{port}", "a".repeat(52));
    home.skypipe(["--relay", &url, "check"]).run().exits(7).gave("").says("nothing listens");
    let checked = home.skypipe(["--relay", &url, "check", "--json"]).run().exits(7).json();
    assert!(checked["ok"] == false && checked["code"] == "E_UNREACHABLE", "{checked}");
    assert!(checked["advice"].as_str().unwrap().contains("nothing listens"), "{checked}");
}

#[test]
fn a_name_that_means_nothing() {
    let home = Home::new();
    let url = format!("wss://{}@no-such-host.invalid:7473", "a".repeat(52));
    home.skypipe(["--relay", &url, "check"]).run().exits(7).gave("").says("means no address");
}

#[test]
fn another_relay_answers() {
    let (sky, other) = (Sky::new(), Sky::new());
    let wrong = sky.urls[1].replace(&sky.key(), &other.key());
    Home::new().skypipe(["--relay", &wrong, "check"]).run().exits(6).gave("").says("another relay answers");
}

#[test]
fn udp_is_blocked_and_websocket_is_used() {
    let sky = Sky::listening("wss:127.0.0.1:0");
    let other = sky.joined(&[]);
    let both = format!("{},{}", sky.urls[0].replace("wss:", "quic:"), sky.urls[0]);
    let done = other.skypipe(["--relay", &both, "check"]).ok();
    assert!(done.text().contains("WebSocket"), "{}", done.text());
    assert!(done.stderr.contains("UDP") && done.stderr.contains("is used instead"), "{}", done.stderr);
}

#[test]
fn bad_urls_are_told() {
    let home = Home::new();
    for (url, exit) in
        [("quic://x@h:1", 2), ("wss://", 2), ("http://example.org", 2), ("quic://h:1:2", 2), ("ws://k@", 2)]
    {
        let done = home.skypipe(["--relay", url, "ls"]).run().exits(exit).gave("");
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }
}

#[test]
fn a_lost_connection_is_one_line_on_a_terminal_and_goes_when_it_is_back() {
    let sky = Sky::new();
    let other = sky.joined(&[]);
    let mut writer = other.skypipe(["write", "x"]).stdin(In::Open).stderr_at_terminal().start();
    other.until_stat("x", |s| s.writers > 0);
    let port = sky.urls[0].rsplit(':').next().unwrap().to_owned();
    sky.relay.send(Signal::KILL);
    let Sky { owner, relay, .. } = sky;
    drop(relay);
    writer.until_says("\r\x1b[Knot connected for ");
    let again = Sky::of(owner, &format!("127.0.0.1:{port}"));
    writer.feed("on\n").end_input();
    let done = writer.wait().exits(0);
    assert!(!done.stderr.contains('\n') && done.stderr.ends_with("\r\x1b[K"), "{:?}", done.stderr);
    drop(again);
}

#[test]
fn elsewhere_a_short_loss_is_not_told() {
    let sky = Sky::new();
    let other = sky.joined(&[]);
    let mut writer = other.open_writer("x");
    let port = sky.urls[0].rsplit(':').next().unwrap().to_owned();
    let (owner, _) = sky.end();
    let again = Sky::of(owner, &format!("127.0.0.1:{port}"));
    writer.feed("on\n").end_input();
    writer.wait().exits(0).quietly();
    drop(again);
}

//! Who looks at pipes: `stat` and `ls` once, `--watch` again and again, `top` on a whole screen.

use serde_json::Value;

use crate::harness::{Home, In, Out, Running, Signal, until};

/// What `top` and the like write to take the screen, and to give it back.
const SCREEN_TAKEN: &str = "\x1b[?1049h";
const SCREEN_GIVEN_BACK: &str = "\x1b[?1049l";

fn write(home: &Home, mode: &str, pipe: &str, records: usize) {
    let lines: String = (0..records).map(|n| format!("record {n}\n")).collect();
    home.skypipe(["write", mode, pipe]).stdin(In::Pipe(lines.into_bytes())).ok();
}

fn look(home: &Home, pipe: &str) -> Value {
    home.skypipe(["stat", "--json", pipe]).ok().json()
}

/// Looks until it is so.
fn until_look(home: &Home, pipe: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until("the relay says so", || Some(look(home, pipe)).filter(&wanted))
}

/// All looks so far of a command with `--watch --json`.
fn looks(watcher: &Running) -> Vec<Value> {
    let output = watcher.output();
    let whole = output.rfind('\n').map_or("", |end| &output[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_queue_tells_what_waits_who_has_it_and_what_lost_readers_had() {
    let home = Home::new();
    write(&home, "-q", "jobs", 3);
    let waits = ["read", "-q", "jobs", "-j", "2", "--exec", "while [ ! -e go ]; do sleep 0.01; done"];
    let worker = home.skypipe(waits).start();
    // They count as handed out once they were sent.
    let held = until_look(&home, "jobs", |stat| stat["leased"] == 2 && stat["records_out"] == 2);
    assert_eq!((&held["ready"], &held["delayed"], &held["released"]), (&1.into(), &0.into(), &0.into()));
    let reader = &held["reader_list"][0];
    assert_eq!((&reader["holds"], &reader["presence"]), (&2.into(), &"attached".into()));
    assert_eq!(held["records_in"], 3);
    worker.kill();
    let after = until_look(&home, "jobs", |stat| stat["released"] == 2);
    assert_eq!((&after["ready"], &after["leased"], &after["readers"]), (&3.into(), &0.into(), &0.into()));
    let text = home.skypipe(["stat", "jobs"]).ok().text();
    assert!(text.contains("released 2 that lost readers had in their hands"), "{text}");
    home.file("go", "");
    until("what it had begun is done", || (home.processes() == [home.relay()]).then_some(()));
}

#[test]
fn a_broadcast_tells_who_is_behind_and_how_far() {
    let home = Home::new();
    write(&home, "-b", "news", 4);
    home.skypipe(["read", "news", "--from", "start", "--as", "nightly", "-n", "1"]).ok();
    home.skypipe(["read", "news", "--from", "start", "--no-wait"]).ok();
    let stat = look(&home, "news");
    assert_eq!((&stat["items"], &stat["readers"], &stat["lag"]), (&4.into(), &0.into(), &3.into()));
    let cursor = &stat["reader_list"][0];
    assert_eq!((&cursor["cursor"], &cursor["presence"]), (&"nightly".into(), &"nobody".into()));
    assert!(cursor["lag"] == 3 && cursor["lag_bytes"].as_u64() > Some(0), "{cursor}");
    let row = home.skypipe(["ls", "news"]).ok().text();
    let words: Vec<&str> = row.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((words[0], words[7], words[8]), ("broadcast", "3", "news"), "{row}");
}

#[test]
fn a_live_reader_that_takes_nothing_is_behind() {
    let home = Home::new();
    let reader = home.live_reader("x");
    reader.stop();
    home.store("x", "one\ntwo\n");
    let stat = until_look(&home, "x", |stat| stat["lag"] == 2);
    assert!(stat["reader_list"][0]["lag_bytes"].is_null(), "{stat}");
    reader.go_on();
    reader.wait().exits(0);
}

#[test]
fn a_look_again_and_again_has_rates_and_goes_on_over_a_new_relay() {
    let home = Home::new();
    let socket = format!("unix:{}", home.path("relay.sock").display());
    let data = home.path("data").display().to_string();
    let host = || home.skypipe(["relay", "--data", &data, "--listen", &socket]).start();
    let relay = host();
    relay.until_gave("unix:");
    home.skypipe(["--relay", &socket, "write", "-q", "jobs", "one"]).ok();
    let watcher = home.skypipe(["--relay", &socket, "stat", "jobs", "--json", "--watch=0.1"]).start();
    until("a second look", || looks(&watcher).into_iter().find(|look| look["records_in_per_s"] == 0.0));
    home.skypipe(["--relay", &socket, "write", "-q", "jobs", "two", "three"]).ok();
    until("a rate", || looks(&watcher).into_iter().find(|look| look["records_in_per_s"].as_f64() > Some(0.0)));
    relay.kill();
    watcher.until_says("looking again");
    let before = looks(&watcher).len();
    let relay = host();
    let after = until("looks of the new relay", || looks(&watcher).into_iter().nth(before + 1));
    assert_eq!((&after["items"], &after["records_in"]), (&3.into(), &0.into()), "it counts anew");
    watcher.send(Signal::INT);
    let done = watcher.wait().exits(130);
    assert_eq!(done.stderr.matches("looking again").count(), 1, "{}", done.stderr);
    relay.send(Signal::TERM);
    relay.wait().exits(0);
}

#[test]
fn a_watch_ends_quietly_with_its_reader_and_by_signals() {
    let home = Home::new();
    home.store("x", "one\n");
    let mut unread = home.skypipe(["ls", "--watch=0.1"]).stdout(Out::Unread).start();
    until("a look", || (unread.unread() > 0).then_some(()));
    unread.stop_reading();
    unread.wait().exits(141).quietly();
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 143), (Signal::INT, 130)] {
        let watcher = home.skypipe(["stat", "x", "--watch"]).start();
        watcher.until_gave("items    1");
        watcher.send(signal);
        watcher.wait().exits(code).quietly();
    }
    // Whoever is slow to read holds up no signal.
    let slow = home.skypipe(["ls", "--json", "--watch=0.1"]).stdout(Out::Unread).start();
    until("a look", || (slow.unread() > 0).then_some(()));
    slow.send(Signal::TERM);
    slow.wait().exits(143).quietly();
}

#[test]
fn blocks_follow_each_other_in_a_pipe_and_replace_each_other_on_a_terminal() {
    let home = Home::new();
    home.store("x", "one\n");
    let piped = home.skypipe(["ls", "--watch=0.1"]).start();
    until("three blocks", || (piped.output().matches("\n\nMODE ").count() >= 2).then_some(()));
    assert!(!piped.output().contains('\x1b'), "{}", piped.output());
    piped.kill();
    let shown = home.skypipe(["ls", "--watch=0.1"]).on_screen(80, 10).start();
    until("three looks", || (shown.output().matches("\x1b[H").count() >= 3).then_some(()));
    assert_eq!(shown.output().matches("\x1b[2J").count(), 1);
    shown.send(Signal::INT);
    shown.wait().exits(130);
}

#[test]
fn what_cannot_be_looked_at_is_said_at_once() {
    let home = Home::new();
    home.skypipe(["stat", "nothing", "--watch"]).run().exits(3).fails_with("E_ACCESS");
    home.skypipe(["stat", "--watch", "x"]).run().exits(2).says("the name of a pipe goes before --watch");
    home.skypipe(["ls", "--watch=0.01"]).run().exits(2).says("at least 100ms");
}

#[test]
fn top_shows_pipes_and_readers_and_gives_the_terminal_back() {
    let home = Home::new();
    write(&home, "-q", "jobs", 3);
    home.store("other", "x\n");
    let reader =
        home.skypipe(["read", "-q", "jobs", "-j", "1", "--exec", "while [ ! -e go ]; do sleep 0.01; done"]).start();
    let held = until_look(&home, "jobs", |stat| stat["leased"] == 1);
    let mut top = home.skypipe(["top"]).on_screen(110, 20).start();
    top.until_gave(SCREEN_TAKEN).until_gave("jobs").until_gave("other");
    until("it takes each key", || top.is_raw().then_some(()));
    // The filter leaves one, Enter keeps it, Enter opens it.
    top.feed("/job\r\r").until_gave("released");
    top.until_gave(held["reader_list"][0]["id"].as_str().unwrap());
    // What comes while it runs is seen.
    write(&home, "-q", "jobs/late", 1);
    top.until_gave("jobs/late");
    top.feed("q");
    until("the terminal is as it was", || (!top.is_raw()).then_some(()));
    let done = top.wait().exits(0);
    assert!(done.text().contains(SCREEN_GIVEN_BACK) && done.stderr.is_empty(), "{}", done.stderr);
    home.file("go", "");
    reader.send(Signal::TERM);
    reader.wait();
}

#[test]
fn top_gives_the_terminal_back_however_it_ends() {
    let home = Home::new();
    home.store("x", "one\n");
    for (signal, key, code) in
        [(Some(Signal::TERM), "", 143), (Some(Signal::INT), "", 130), (None, "\x03", 0), (None, "\x1b", 0)]
    {
        let mut top = home.skypipe(["top"]).on_screen(80, 10).start();
        top.until_gave(SCREEN_TAKEN).until_gave("filter");
        top.feed(key);
        if let Some(signal) = signal {
            top.send(signal);
        }
        until("the terminal is as it was", || (!top.is_raw()).then_some(()));
        let done = top.wait().exits(code);
        assert!(done.text().contains(SCREEN_GIVEN_BACK), "{signal:?} {key:?}");
    }
    home.skypipe(["top"]).run().exits(2).gave("").fails_with("E_USAGE");
    home.skypipe(["--relay", "unix:/nowhere/at/all", "top"]).on_screen(80, 10).run().exits(7).gave("");
}

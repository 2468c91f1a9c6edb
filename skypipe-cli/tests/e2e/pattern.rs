//! Readers of many pipes: all queues and broadcasts whose names match.

use std::collections::BTreeSet;
use std::fs;

use crate::harness::{Home, In, Running, Signal, until};

fn news(home: &Home, pipe: &str, texts: &[&str]) {
    home.skypipe(["write", "-b", pipe].iter().chain(texts).copied()).ok();
}

/// A reader that has joined this pipe.
fn reader(home: &Home, arguments: &[&str], joined: &str) -> Running {
    let before = home.stat(joined).readers;
    let reader = home.skypipe(["read"].iter().chain(arguments).copied()).start();
    home.until_stat(joined, |stat| stat.readers > before);
    reader
}

fn lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

#[test]
fn what_matches_is_read_and_what_begins_later_from_its_beginning() {
    let home = Home::new();
    for pipe in ["logs/a", "logs/b", "other"] {
        news(&home, pipe, &["old"]);
    }
    let reader = reader(&home, &["-b", "logs/**", "--tag"], "logs/b");
    news(&home, "other", &["x"]);
    news(&home, "logs/b", &["b"]);
    reader.until_gave("logs/b: b\n");
    news(&home, "logs/deep/c", &["c1", "c2"]);
    reader.until_gave("logs/deep/c: c1\nlogs/deep/c: c2\n");
    news(&home, "logs/a", &["a"]);
    reader.until_gave("logs/a: a\n");
    home.skypipe(["rm", "logs/b"]).ok();
    news(&home, "logs/b", &["again"]);
    reader.until_gave("logs/b: again\n");
    reader.send(Signal::INT);
    let done = reader.wait().exits(130);
    done.gave("logs/b: b\nlogs/deep/c: c1\nlogs/deep/c: c2\nlogs/a: a\nlogs/b: again\n");
}

#[test]
fn each_record_tells_its_pipe() {
    let home = Home::new();
    news(&home, "logs/a", &["1"]);
    home.skypipe(["write", "-q", "logs/q"]).stdin(In::Pipe(b"2".to_vec())).ok();
    let tagged = home.skypipe(["read", "logs/*", "--tag", "--no-wait"]).run().exits(0);
    // Of the broadcast it reads what comes from now on. What has no newline gets one.
    tagged.gave("logs/q: 2\n");
    home.skypipe(["write", "logs/q", "3"]).ok();
    let json = home.skypipe(["read", "-q", "**", "--json", "-n", "1"]).ok().json();
    assert_eq!((json["pipe"].as_str(), json["text"].as_str()), (Some("logs/q"), Some("3\n")));
    let all = home.skypipe(["read", "-b", "logs/*", "--tag", "--from", "start", "--no-wait"]).ok();
    all.gave("logs/a: 1\n");
    home.skypipe(["read", "logs/a", "--tag", "--from", "start", "--no-wait"]).ok().gave("logs/a: 1\n");
    assert_eq!(home.skypipe(["read", "logs/a", "--json", "--from", "start", "-n", "1"]).ok().json()["pipe"], "logs/a");
}

#[test]
fn nothing_that_matches_is_waited_for_or_said() {
    let home = Home::new();
    home.store("logs/plain", "x\n");
    home.skypipe(["read", "logs/*", "--no-wait"]).run().exits(3).fails_with("E_EMPTY");
    home.skypipe(["read", "-q", "logs/*", "--no-wait"]).run().exits(3).fails_with("E_EMPTY");
    let waiting = home.skypipe(["read", "logs/*", "--from", "start"]).start();
    news(&home, "logs/new", &["1"]);
    waiting.until_gave("1\n");
    waiting.send(Signal::TERM);
    waiting.wait().exits(143).gave("1\n");
    home.skypipe(["read", "logs/plain"]).ok().gave("x\n");
}

#[test]
fn what_has_no_meaning_for_many_pipes_is_usage() {
    let home = Home::new();
    for wrong in [
        &["read", "logs/*", "--item"][..],
        &["read", "logs/*", "-k"],
        &["read", "logs/*", "--retain", "3"],
        &["read", "logs/*", "--max-deliveries", "3"],
        &["read", "logs/*", "--from", "@00"],
        &["write", "logs/*", "x"],
        &["stat", "logs/*"],
        &["peek", "logs/*"],
        &["read", "logs/a*"],
    ] {
        let done = home.skypipe(wrong.iter().copied()).run().exits(2).gave("");
        assert_eq!(done.stderr.lines().count(), 1, "{wrong:?}: {}", done.stderr);
    }
}

#[test]
fn dead_letters_are_not_taken_back() {
    let home = Home::new();
    home.skypipe(["write", "-q", "jobs/a", "--max-deliveries", "1", "bad"]).ok();
    let worker = home.skypipe(["read", "-q", "jobs/**", "--exec", "cat; false"]).start();
    home.until_stat("jobs/a/dead", |stat| stat.items == 1);
    home.skypipe(["write", "jobs/a", "next"]).ok();
    worker.until_gave("next\n");
    home.until_stat("jobs/a/dead", |stat| stat.items == 2);
    worker.send(Signal::TERM);
    worker.wait().gave("bad\nnext\n");
    let dead = home.skypipe(["read", "-q", "jobs/*/dead", "--no-wait", "--tag"]).ok();
    dead.gave("jobs/a/dead: bad\njobs/a/dead: next\n");
}

#[test]
fn a_command_gets_the_name_of_its_pipe() {
    let home = Home::new();
    for pipe in ["jobs/a", "jobs/b"] {
        home.skypipe(["write", "-q", pipe, "x"]).ok();
    }
    let done = home.skypipe(["read", "jobs/*", "--exec", "echo $SKYPIPE_PIPE", "--no-wait"]).ok();
    assert_eq!(lines(&String::from_utf8_lossy(&done.stdout)), lines("jobs/a\njobs/b"));
    assert_eq!(home.stat("jobs/a").items + home.stat("jobs/b").items, 0);
}

/// Broadcasts are written before, between and after two kills of the relay; nothing is lost and nothing comes twice.
fn survives_kills(home: &Home, arguments: &[&str]) -> String {
    for pipe in ["logs/a", "logs/b"] {
        news(home, pipe, &["old"]);
    }
    let reader = reader(home, arguments, "logs/b");
    let mut wanted = BTreeSet::new();
    for round in 0..3 {
        for pipe in ["logs/a", "logs/b", &format!("logs/new{round}")] {
            for n in 0..20 {
                let text = format!("{round}-{n}");
                wanted.insert(format!("{pipe}: {text}"));
            }
            let texts: Vec<String> = (0..20).map(|n| format!("{round}-{n}")).collect();
            news(home, pipe, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        }
        if round < 2 {
            home.kill_relay();
        }
    }
    until("all came", || {
        let output = reader.output();
        (output.lines().count() >= wanted.len()).then_some(())
    });
    reader.send(Signal::INT);
    let done = reader.wait().exits(130);
    let output = String::from_utf8_lossy(&done.stdout).into_owned();
    let got: Vec<String> = output.lines().map(str::to_owned).collect();
    assert_eq!(got.len(), wanted.len(), "something came twice, or was not wanted");
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), wanted);
    output
}

#[test]
fn a_relay_that_is_killed_loses_and_repeats_nothing() {
    survives_kills(&Home::new(), &["-b", "logs/**", "--tag"]);
}

#[test]
fn a_relay_that_is_killed_loses_and_repeats_nothing_of_durable_cursors() {
    let home = Home::new();
    let before = survives_kills(&home, &["-b", "logs/**", "--tag", "--as", "me"]);
    assert!(before.contains("logs/new2: 2-19"));
    // What came meanwhile, and a pipe that began, is there for the next reader of that name.
    news(&home, "logs/a", &["later"]);
    news(&home, "logs/c", &["first"]);
    let next = ["read", "-b", "logs/**", "--tag", "--as", "me", "--from", "start", "--no-wait"];
    let done = home.skypipe(next).ok();
    assert_eq!(lines(&String::from_utf8_lossy(&done.stdout)), lines("logs/a: later\nlogs/c: first"));
    home.skypipe(next).ok().gave("");
}

#[test]
fn workers_of_many_queues_are_killed_and_each_job_is_done() {
    let home = Home::new();
    let queues = ["jobs/a", "jobs/b", "jobs/c"];
    for queue in queues {
        let jobs: String = (0..30).map(|n| format!("{queue} {n}\n")).collect();
        home.skypipe(["write", "-q", queue]).stdin(In::Pipe(jobs.into_bytes())).ok();
    }
    let done = home.path("done");
    let slow = format!("cat >> {}; sleep 0.02", done.display());
    let worker = || home.skypipe(["read", "-q", "jobs/*", "--exec", &slow, "-j", "2"]).start();
    let (first, second) = (worker(), worker());
    let count = || fs::read_to_string(&done).unwrap_or_default().lines().count();
    until("some are done", || (count() >= 20).then_some(()));
    first.kill();
    home.kill_relay();
    let third = worker();
    until("all are gone", || queues.iter().all(|queue| home.stat(queue).items == 0).then_some(()));
    [second, third].into_iter().for_each(|worker| {
        worker.send(Signal::TERM);
        worker.wait().exits(143);
    });
    let text = fs::read_to_string(&done).unwrap();
    let each: BTreeSet<&str> = text.lines().collect();
    assert_eq!(each.len(), 90, "each job is done");
    // The killed worker had two in its hands.
    assert!(text.lines().count() <= 92, "{} were done", text.lines().count());
}

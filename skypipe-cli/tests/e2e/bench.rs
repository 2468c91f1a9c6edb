//! `skypipe bench`: what it prints, that it leaves nothing, and whom it refuses.

use serde_json::Value;

use crate::across::sky::Sky;
use crate::harness::{Done, Home, Out, Signal, until};

/// As short as it may be: what is measured is none of the tests' business.
const SHORT: [&str; 2] = ["--time", "0.1"];

fn bench<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["bench"], &SHORT[..], arguments].concat()
}

/// Each row; all records of which were compared with what was sent.
#[track_caller]
fn rows(done: &Done) -> Vec<Value> {
    done.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The pipes that are there, those of a benchmark among them.
#[track_caller]
fn pipes(home: &Home) -> String {
    home.skypipe(["ls"]).ok().text()
}

#[track_caller]
fn has_sense(row: &Value) {
    let number = |field: &str| row[field].as_f64().unwrap_or_else(|| panic!("{field} in {row}"));
    assert!(number("records") > 0.0 || row["of"] == "connect and attach", "{row}");
    // In so short a time nothing may have happened that counts: the machine is everybody's.
    if row["unit"] == "us" {
        assert!(number("min") <= number("p50") && number("p50") <= number("p99"), "{row}");
        assert!(number("p99") <= number("p999") && number("p999") <= number("max"), "{row}");
        assert_eq!(number("count") > 0.0, number("min") > 0.0, "{row}");
    } else {
        assert!(number("min") <= number("median") && number("median") <= number("max"), "{row}");
        assert_eq!(row["slices"].as_array().unwrap().len(), 10, "{row}");
    }
}

#[test]
fn all_of_it_as_a_table_and_a_plot() {
    let home = Home::new();
    home.store("mine", "one\n");
    let before = pipes(&home);
    let done = home.skypipe(bench(&["--clients", "3", "--svg", "plot.svg"])).ok().quietly();
    let text = done.text();
    let words: Vec<&str> = text.lines().skip(3).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(words, ["bulk", "messages", "latency", "fan-out", "durable", "durable", "idle", "idle"], "{text}");
    assert!(text.contains("local socket") && text.contains("\nBENCH "), "{text}");
    for (word, until) in [("bulk", "delivered"), ("latency", "delivered"), ("durable", "stored")] {
        let line = text.lines().find(|line| line.starts_with(word)).unwrap();
        assert!(line.contains(&format!(" {until} ")), "{line}");
    }
    let svg = std::fs::read_to_string(home.path("plot.svg")).unwrap();
    let plot = roxmltree::Document::parse(&svg).unwrap();
    assert!(plot.root_element().has_tag_name("svg"));
    assert_eq!(plot.descendants().filter(|node| node.has_tag_name("g")).count(), words.len(), "a part for each row");
    assert_eq!(pipes(&home), before, "nothing is left, and nothing was taken");
    home.skypipe(["read", "mine"]).ok().gave("one\n");
}

#[test]
fn one_line_of_json_for_each_row() {
    let home = Home::new();
    let done = home.skypipe(bench(&["--json", "messages", "durable", "--size", "300K", "--clients", "2"])).ok();
    let rows = rows(&done.quietly());
    let facts = rows.iter().map(|row| (&row["bench"], &row["writers"], &row["readers"], &row["until"]));
    let one = |bench: &str, writers: u8, readers: u8, until: &str| {
        (Value::from(bench), Value::from(writers), Value::from(readers), Value::from(until))
    };
    let facts: Vec<_> = facts.map(|(a, b, c, d)| (a.clone(), b.clone(), c.clone(), d.clone())).collect();
    let expected = [one("messages", 1, 1, "delivered"), one("durable", 1, 0, "stored"), one("durable", 2, 0, "stored")];
    assert_eq!(facts, expected);
    for row in &rows {
        has_sense(row);
        assert!(row["record_bytes"] == 300 * 1024 && row["version"] == env!("CARGO_PKG_VERSION"), "{row}");
    }
}

#[test]
fn over_quic_and_websocket() {
    let sky = Sky::new();
    let home = sky.joined(&[]);
    assert!(sky.urls.len() > 1, "{:?}", sky.urls);
    for url in &sky.urls {
        let arguments = ["--relay", url, "--json", "--clients", "2"];
        let rows = rows(&home.skypipe(bench(&arguments)).ok().quietly());
        assert_eq!(rows.len(), 8);
        rows.iter().for_each(has_sense);
        assert!(rows.iter().all(|row| row["relay"] == url.as_str()), "{rows:?}");
        home.skypipe(["--relay", url, "ls"]).ok().gave("");
    }
}

#[test]
fn a_signal_ends_it_and_nothing_is_left() {
    let home = Home::new();
    home.store("mine", "one\n");
    let before = pipes(&home);
    for (what, signal, code) in [
        ("bulk", Signal::INT, 130),
        ("fan-out", Signal::TERM, 143),
        ("latency", Signal::HUP, 143),
        ("durable", Signal::INT, 130),
        ("idle", Signal::INT, 130),
    ] {
        let bench = home.skypipe(["bench", what, "--time", "10m", "--svg", "plot.svg"]).start();
        let there = format!("/{what}");
        until("it has begun", || pipes(&home).contains(&there).then_some(()));
        bench.send(signal);
        bench.wait().exits(code).quietly();
        assert_eq!(pipes(&home), before, "{what}");
    }
    let files: Vec<_> = std::fs::read_dir(home.work()).unwrap().collect();
    assert!(files.is_empty(), "no half plot: {files:?}");
}

#[test]
fn a_signal_leaves_nothing_on_another_machine() {
    let sky = Sky::new();
    let home = sky.joined(&[]);
    for url in &sky.urls {
        for what in ["bulk", "durable", "idle"] {
            let bench = home.skypipe(["--relay", url, "bench", what, "--time", "10m"]).start();
            let there = format!("/{what}");
            until("it has begun", || home.skypipe(["ls"]).ok().text().contains(&there).then_some(()));
            bench.send(Signal::INT);
            bench.wait().exits(130).quietly();
            assert_eq!(pipes(&home), "", "{what} over {url}");
        }
    }
}

#[test]
fn who_stops_reading_the_table_ends_it() {
    let home = Home::new();
    let mut unread = home.skypipe(bench(&["messages", "latency"])).stdout(Out::Unread).start();
    until("the table has begun", || (unread.unread() > 0).then_some(()));
    unread.stop_reading();
    unread.wait().exits(141).quietly();
    assert_eq!(pipes(&home), "");
}

#[test]
fn a_key_that_may_not_is_told_what_is_needed() {
    let sky = Sky::new();
    for options in [&["--read"][..], &["--write"], &["--pipe", "logs/**"], &["--pipe", "bench/**"]] {
        let home = sky.joined(options);
        let done = home.skypipe(bench(&[])).run().exits(3).gave("").fails_with("E_ACCESS");
        done.says("a benchmark writes, reads and removes pipes of its own, named bench/");
    }
    assert_eq!(pipes(&sky.owner), "");
}

#[test]
fn a_quota_ends_it_rather_than_make_it_wait() {
    let sky = Sky::new();
    let home = Home::new();
    let line = format!("quota=\"1M\" {}", crate::across::sky::own_line(&home).trim());
    sky.owner.skypipe(["keys", "add", &line]).ok();
    let done = sky.skypipe(&home, ["bench", "durable", "--size", "64K", "--time", "1m"]).run();
    done.exits(9).fails_with("E_QUOTA");
    sky.skypipe(&home, ["ls"]).ok().gave("");
}

#[test]
fn what_cannot_be_is_told_before_anything_is_measured() {
    let home = Home::new();
    for arguments in
        [&["bulks"][..], &["--time", "0"], &["--time", "2d"], &["--size", "0"], &["--size", "1G"], &["--clients", "0"]]
    {
        home.skypipe([&["bench"], arguments].concat()).run().exits(2).gave("").fails_with("E_USAGE");
    }
    home.skypipe(["bench", "--svg", "no/such/folder/plot.svg"]).run().exits(2).gave("").fails_with("E_USAGE");
    assert!(home.relay_now().is_none(), "none of these needs a relay");
    home.skypipe(["--relay", "unix:/nowhere/at/all", "bench"]).run().exits(7).gave("");
}

#[test]
fn a_terminal_sees_what_is_going_on() {
    let home = Home::new();
    let bench = home.skypipe(["bench", "messages", "--time", "10m"]).stderr_at_terminal().start();
    bench.until_says("messages (1 of 1), ");
    bench.send(Signal::INT);
    bench.wait().exits(130);
}

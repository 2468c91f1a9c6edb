//! Headers: what a writer says about its records, and readers that want only some.

use crate::harness::Home;

#[test]
fn headers_travel_with_each_record_and_a_reader_takes_those_it_wants() {
    let home = Home::new();
    let write = |headers: &[&str], text: &str| {
        let options = headers.iter().flat_map(|header| ["-H", header]);
        home.skypipe(["write", "-b", "news"].into_iter().chain(options).chain([text])).ok();
    };
    write(&["type=order", "region=north"], "one");
    write(&["type=order", "region=south"], "two");
    write(&[], "three");
    let read = |more: &[&str]| home.skypipe(["read", "news", "--from", "start"].iter().chain(more).copied()).ok();
    read(&["--no-wait"]).gave("one\ntwo\nthree\n");
    read(&["--no-wait", "--filter", "type=order"]).gave("one\ntwo\n");
    read(&["--no-wait", "--filter", "type", "--filter", "region=south"]).gave("two\n");
    read(&["--no-wait", "--filter", "region=east"]).gave("");
    read(&["-n", "1", "--filter", "region=south"]).gave("two\n");
    let line = read(&["-n", "1", "--json"]).json();
    assert_eq!(line["headers"], serde_json::json!({ "region": "north", "type": "order" }));
    let plain = home.skypipe(["read", "news", "--from", "-1", "-n", "1", "--json"]).ok().json();
    assert!(plain.get("headers").is_none());
    // What a filter passes over counts as read.
    let as_me = |more: &[&str]| home.skypipe(["read", "news", "--as", "me"].iter().chain(more).copied()).ok();
    as_me(&["--from", "start", "--no-wait", "--filter", "region=north"]).gave("one\n");
    as_me(&["--no-wait"]).gave("");
}

#[test]
fn of_a_default_pipe_they_are_stored_and_seen_too() {
    let home = Home::new();
    home.skypipe(["logs", "-H", "host=a"]).stdin(crate::harness::In::Pipe(b"from a\n".to_vec())).ok();
    home.skypipe(["write", "logs", "from b", "-H", "host=b"]).ok();
    home.kill_relay();
    let shown = home.skypipe(["peek", "logs", "--json"]).ok().stdout;
    let hosts =
        shown.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    assert_eq!(hosts.map(|line| line["headers"]["host"].clone()).collect::<Vec<_>>(), ["a", "b"]);
    home.skypipe(["read", "logs", "--filter", "host=b"]).ok().gave("");
    home.skypipe(["read", "logs", "--filter", "host=b"]).ok().gave("from b\n");
}

#[test]
fn a_queue_gives_them_to_commands_and_keeps_them_for_the_dead_letters() {
    let home = Home::new();
    home.skypipe(["write", "-q", "jobs", "-H", "Trace-Id=x 1", "--max-deliveries", "1", "work"]).ok();
    let show = "printf '%s\\n' \"$SKYPIPE_HEADER_TRACE_ID\"";
    home.skypipe(["read", "-q", "jobs", "-n", "1", "--exec", &format!("{show}; exit 1")]).ok().gave("x 1\n");
    home.until_stat("jobs/dead", |stat| stat.items == 1);
    home.skypipe(["redrive", "jobs"]).ok();
    home.skypipe(["read", "-q", "jobs", "-n", "1", "--exec", show]).ok().gave("x 1\n");
}

#[test]
fn what_is_no_header_and_a_filter_for_a_queue_are_refused() {
    let home = Home::new();
    home.skypipe(["write", "-q", "jobs", "work"]).ok();
    for header in ["no-value", "=v", "a b=v", "k=a\nb"] {
        home.skypipe(["write", "jobs", "x", "-H", header]).run().exits(2).fails_with("E_USAGE");
    }
    let long = format!("k={}", "v".repeat(2_000));
    let other = format!("l={}", "v".repeat(2_000));
    home.skypipe(["write", "jobs", "x", "-H", &long, "-H", &other]).run().exits(2).fails_with("E_USAGE");
    home.skypipe(["read", "-q", "jobs", "--filter", "a=b"]).run().exits(2).fails_with("E_USAGE");
    home.skypipe(["read", "jobs", "--filter", "a=b"]).run().exits(2).fails_with("E_USAGE");
    assert_eq!(home.stat("jobs").items, 1);
}

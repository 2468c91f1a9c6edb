//! Broadcasts: every record to every reader, kept for those to come.

use crate::harness::{Home, Signal};

fn news(home: &Home, texts: &[&str]) {
    home.skypipe(["write", "-b", "news"].iter().chain(texts).copied()).ok();
}

#[test]
fn every_reader_gets_every_record_from_where_it_begins() {
    let home = Home::new();
    news(&home, &["one", "two", "three"]);
    for (from, text) in
        [("start", "one\ntwo\nthree\n"), ("-1", "three\n"), ("-99", "one\ntwo\nthree\n"), ("1h", "one\ntwo\nthree\n")]
    {
        home.skypipe(["read", "-b", "news", "--no-wait", "--from", from]).ok().gave(text);
    }
    home.skypipe(["read", "news", "--no-wait"]).ok().gave("");
    home.skypipe(["read", "news", "--no-wait", "--from", "2000-01-01T00:00:00Z"]).ok().gave("one\ntwo\nthree\n");
    let line = home.skypipe(["read", "news", "--from", "-2", "-n", "1", "--json"]).ok().json();
    let position = line["position"].as_str().unwrap();
    home.skypipe(["read", "news", "--from", position, "--no-wait"]).ok().gave("two\nthree\n");
    home.skypipe(["read", "news", "--from", "@ffff", "--no-wait"]).run().exits(2).fails_with("E_USAGE");
}

#[test]
fn a_look_shows_all_that_is_kept_and_ends() {
    let home = Home::new();
    news(&home, &["one", "two"]);
    home.skypipe(["peek", "news"]).ok().gave("one\ntwo\n");
}

#[test]
fn readers_that_are_there_get_it_live_and_stay() {
    let home = Home::new();
    news(&home, &["old"]);
    let readers: Vec<_> = (0..3).map(|_| home.live_reader("news")).collect();
    news(&home, &["new"]);
    for reader in &readers {
        reader.until_gave("new\n");
    }
    for reader in readers {
        reader.send(Signal::INT);
        reader.wait().exits(130).gave("new\n");
    }
}

#[test]
fn a_durable_cursor_goes_on_at_the_next_record_also_after_a_crash() {
    let home = Home::new();
    news(&home, &["one", "two", "three"]);
    let as_me = |more: &[&str]| home.skypipe(["read", "-b", "news", "--as", "me"].iter().chain(more).copied());
    as_me(&["--from", "start", "-n", "2"]).ok().gave("one\ntwo\n");
    home.kill_relay();
    as_me(&["--no-wait"]).ok().gave("three\n");
    as_me(&["--no-wait"]).ok().gave("");
    news(&home, &["four"]);
    // What it says of a start is for the first time.
    as_me(&["--from", "start", "--no-wait"]).ok().gave("four\n");
    let reader = as_me(&[]).start();
    home.until_stat("news", |stat| stat.readers == 1);
    // The newer one goes on.
    as_me(&["--no-wait"]).ok().gave("");
    reader.wait().exits(7).gave("").fails_with("E_FENCED");
}

#[test]
fn who_was_away_for_the_whole_retention_is_told_exactly_what_is_gone() {
    let home = Home::new();
    home.skypipe(["write", "-b", "news", "--retain", "3", "one"]).ok();
    home.skypipe(["read", "news", "--as", "me", "--from", "start", "-n", "1"]).ok().gave("one\n");
    news(&home, &["2", "3", "4", "5", "6"]);
    let done = home.skypipe(["read", "news", "--as", "me", "--no-wait"]).run();
    done.exits(5).gave("4\n5\n6\n").says("2 records are gone");
    home.skypipe(["read", "news", "--as", "me", "--no-wait"]).ok().gave("");
    assert_eq!(home.stat("news").items, 3);
}

#[test]
fn until_delivered_waits_for_those_that_are_there() {
    let home = Home::new();
    let reader = home.skypipe(["read", "-b", "news"]).start();
    home.until_stat("news", |stat| stat.readers == 1);
    home.skypipe(["write", "news", "--until", "delivered", "x"]).ok();
    reader.until_gave("x\n").send(Signal::INT);
    reader.wait().exits(130);
    home.skypipe(["write", "news", "--until", "delivered", "--timeout", "1", "y"]).run().exits(124);
}

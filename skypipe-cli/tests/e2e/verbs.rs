//! The verbs beside reading and writing.

use crate::harness::{Home, In};

#[test]
fn ls_tells_the_pipes_that_exist() {
    let home = Home::new();
    home.skypipe(["ls"]).ok().gave("").quietly();
    for pipe in ["logs/web", "logs/db", "files"] {
        home.store(pipe, "one\n");
    }
    let all = home.skypipe(["ls"]).ok().text();
    for pipe in ["logs/web", "logs/db", "files"] {
        assert!(all.contains(pipe), "{all}");
    }
    let some = home.skypipe(["ls", "logs/*"]).ok().text();
    assert!(some.contains("logs/db") && !some.contains("files"), "{some}");
    home.skypipe(["read", "files"]).ok();
    assert!(!home.skypipe(["ls"]).ok().text().contains("files"), "an empty pipe is none");
}

#[test]
fn ls_in_json() {
    let home = Home::new();
    home.store("logs/db", "one\n");
    let text = home.skypipe(["ls", "--json"]).ok().text();
    assert!(text.contains("\"logs/db\""), "{text}");
    let values: Vec<serde_json::Value> =
        serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(values.len(), 1, "one object a line");
}

#[test]
fn stat_counts_items_bytes_writers_and_readers() {
    let home = Home::new();
    home.store("x", "one\n");
    home.store("x", "two\n");
    let stat = home.stat("x");
    assert_eq!((stat.items, stat.ended, stat.writers, stat.readers), (2, 2, 0, 0));
    assert!(stat.bytes >= 8);
    assert!(home.skypipe(["stat", "x"]).ok().text().contains("x"));
}

#[test]
fn peek_takes_nothing() {
    let home = Home::new();
    home.store("x", "one\ntwo\n");
    for _ in 0..2 {
        home.skypipe(["peek", "x"]).ok().gave("one\ntwo\n");
    }
    home.skypipe(["read", "x"]).ok().gave("one\ntwo\n");
}

#[test]
fn rm_removes_what_is_stored() {
    let home = Home::new();
    home.store("x", "one\n");
    home.skypipe(["rm", "x"]).ok().quietly();
    home.skypipe(["stat", "x"]).run().exits(3);
    home.skypipe(["read", "--no-wait", "x"]).run().exits(3);
}

#[test]
fn rm_ends_writers_and_readers() {
    let home = Home::new();
    let reader = home.live_reader("x");
    let writer = home.open_writer("x");
    home.skypipe(["rm", "x"]).ok();
    reader.wait().exits(3).fails_with("E_ACCESS");
    writer.wait().exits(3).fails_with("E_ACCESS");
}

#[test]
fn until_delivered_waits_for_a_reader() {
    let home = Home::new();
    let mut writer = home.skypipe(["write", "--until", "delivered", "x"]).stdin(In::Pipe(b"one\n".to_vec())).start();
    home.until_stat("x", |s| s.ended == 1);
    assert!(writer.is_running());
    home.skypipe(["read", "x"]).ok().gave("one\n");
    writer.wait().exits(0).quietly();
}

#[test]
fn until_delivered_with_timeout_exits_124() {
    let home = Home::new();
    let arguments = ["write", "--until", "delivered", "--timeout", "500ms", "x", "one"];
    home.skypipe(arguments).run().exits(124).fails_with("E_TIMEOUT");
    home.skypipe(["read", "x"]).ok().gave("one\n");
}

#[test]
fn check_says_where_the_relay_is() {
    let home = Home::new();
    let done = home.skypipe(["check"]).ok();
    assert!(done.text().contains("local socket"), "{}", done.text());
    assert!(home.skypipe(["check", "--json"]).ok().json().is_object());
}

#[test]
fn help_version_man_and_completions() {
    let home = Home::new();
    for arguments in [&["--help"][..], &["help"], &["read", "--help"], &["man"], &["completions", "bash"]] {
        let done = home.skypipe(arguments.iter().copied()).ok().quietly();
        assert!(done.text().contains("skypipe"), "{arguments:?}");
    }
    assert!(home.skypipe(["--version"]).ok().text().starts_with("skypipe "));
    assert!(home.relay_now().is_none(), "none of these needs a relay");
}

#[test]
fn keep_and_no_wait_take_all_that_is_there() {
    let home = Home::new();
    home.store("x", "one\n");
    home.store("x", "two\n");
    home.skypipe(["read", "--keep", "--no-wait", "x"]).ok().gave("one\ntwo\n");
    home.skypipe(["read", "--keep", "--no-wait", "x"]).run().exits(3).gave("");
}

#[test]
fn who_waits_longest_for_an_item_gets_the_first() {
    let home = Home::new();
    let readers: Vec<_> = (1..=4)
        .map(|count| {
            let reader = home.skypipe(["read", "--item", "x"]).start();
            home.until_stat("x", |stat| stat.readers == count);
            reader
        })
        .collect();
    for (number, reader) in readers.into_iter().enumerate() {
        let text = format!("item {number}\n");
        home.store("x", &text);
        reader.wait().exits(0).gave(&text);
    }
}

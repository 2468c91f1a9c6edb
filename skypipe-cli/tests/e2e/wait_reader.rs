//! Waiting for the other side: `--wait-reader` begins when somebody reads, `--until delivered` ends when all was taken.

use crate::harness::{Home, In, Running, until};

fn wait(home: &Home, name: &str, more: &[&str]) -> Running {
    let writer = home.skypipe(["write", name, "--wait-reader"].iter().chain(more).copied());
    let writer = writer.stdin(In::Pipe(b"one\ntwo\n".to_vec())).start();
    home.until_stat(name, |stat| stat.writers == 1);
    writer
}

#[test]
fn writing_begins_when_a_reader_is_there() {
    let home = Home::new();
    let writer = wait(&home, "jobs", &[]);
    assert_eq!(home.stat("jobs").bytes, 0, "nothing is sent before");
    home.skypipe(["read", "jobs"]).ok().gave("one\ntwo\n");
    writer.wait().exits(0);
    // Whoever is there already need not be waited for.
    let reader = home.live_reader("jobs");
    home.skypipe(["write", "jobs", "--wait-reader", "--until", "delivered", "three"]).ok();
    reader.wait().exits(0).gave("three\n");
}

#[test]
fn of_queues_and_broadcasts_too() {
    let home = Home::new();
    for (option, name) in [("-q", "jobs"), ("-b", "news")] {
        let writer = wait(&home, name, &[option, "--until", "delivered"]);
        assert_eq!(home.stat(name).items, 0, "nothing is sent before");
        home.skypipe(["read", name, "-n", "2"]).ok().gave("one\ntwo\n");
        writer.wait().exits(0);
    }
}

#[test]
fn a_look_is_no_reader_and_one_who_takes_an_older_item_alone_is_none_yet() {
    let home = Home::new();
    home.store("files", "old\n");
    let writer = wait(&home, "files", &[]);
    home.skypipe(["peek", "files"]).ok().gave("old\n");
    home.skypipe(["read", "files"]).ok().gave("old\n");
    // Nothing of the new item is there.
    home.until_stat("files", |stat| stat.bytes == 0);
    home.skypipe(["read", "files"]).ok().gave("one\ntwo\n");
    writer.wait().exits(0);
}

#[test]
fn a_look_at_news_is_no_reader() {
    let home = Home::new();
    home.skypipe(["write", "-b", "news", "old"]).ok();
    let writer = wait(&home, "news", &[]);
    home.skypipe(["peek", "news"]).ok().gave("old\n");
    assert_eq!(home.stat("news").items, 1, "nothing is sent yet");
    home.skypipe(["read", "news", "-n", "2"]).ok().gave("one\ntwo\n");
    writer.wait().exits(0);
}

#[test]
fn nobody_comes_in_time_and_nothing_is_left() {
    let home = Home::new();
    home.store("begin", "a relay is there\n");
    let late = home.skypipe(["write", "late", "--wait-reader", "--timeout", "3s", "text"]).start();
    home.until_stat("late", |stat| stat.writers == 1);
    late.wait().exits(124).says("no reader came, nothing was sent");
    until("the pipe is gone", || home.skypipe(["ls", "late"]).ok().stdout.is_empty().then_some(()));
    home.skypipe(["write", "late", "--wait-reader", "--no-wait", "text"]).run().exits(2).fails_with("E_USAGE");
}

#[test]
fn a_relay_that_is_killed_meanwhile_changes_nothing() {
    let home = Home::new();
    let writer = wait(&home, "jobs", &[]);
    home.kill_relay();
    home.skypipe(["read", "jobs"]).ok().gave("one\ntwo\n");
    writer.wait().exits(0);
}

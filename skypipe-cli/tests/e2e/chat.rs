//! `chat`: what one end sends, all others get.

use crate::harness::{Home, In, Running, Signal};

fn chat(home: &Home, input: &str, more: &[&str]) -> Running {
    let arguments = ["chat", "room"].iter().chain(more).copied();
    home.skypipe(arguments).stdin(In::Pipe(input.as_bytes().to_vec())).start()
}

#[test]
fn what_one_end_sends_all_others_get() {
    let home = Home::new();
    let ends = [chat(&home, "", &["-n", "2"]), chat(&home, "", &["-n", "2"])];
    home.until_stat("room", |stat| stat.readers == 2);
    let third = chat(&home, "one\ntwo\n", &[]);
    for end in ends {
        end.wait().exits(0).gave("one\ntwo\n");
    }
    home.skypipe(["write", "room", "three"]).ok();
    third.until_gave("three\n");
    third.send(Signal::INT);
    third.wait().exits(130).gave("three\n");
    // It is a broadcast that stays.
    home.skypipe(["read", "room", "--from", "start", "--no-wait"]).ok().gave("one\ntwo\nthree\n");
    home.skypipe(["chat", "room", "--from", "-1", "-n", "1"]).stdin(In::Null).run().exits(0).gave("three\n");
}

#[test]
fn ones_own_lines_come_back_where_that_is_asked_for() {
    let home = Home::new();
    chat(&home, "one\ntwo\n", &["--echo", "-n", "2"]).wait().exits(0).gave("one\ntwo\n");
}

#[test]
fn two_talk_and_a_relay_may_die_meanwhile() {
    let home = Home::new();
    let end = || home.skypipe(["chat", "room"]).stdin(In::Open).start();
    let (mut anna, mut ben) = (end(), end());
    home.until_stat("room", |stat| stat.readers == 2);
    anna.feed(b"hello\n");
    ben.until_gave("hello\n");
    home.kill_relay();
    ben.feed(b"hello yourself\n");
    anna.until_gave("hello yourself\n");
    anna.feed(b"bye\n");
    ben.until_gave("bye\n");
    for end in [anna, ben] {
        end.send(Signal::TERM);
        end.wait().exits(143);
    }
}

#[test]
fn at_a_terminal_its_end_leaves() {
    let home = Home::new();
    home.skypipe(["chat", "room"]).stdin(In::Typed("hello\n\x04")).run().exits(0);
    home.skypipe(["read", "room", "--from", "start", "--no-wait"]).ok().gave("hello\n");
}

#[test]
fn time_runs_out_and_what_was_typed_is_sent() {
    let home = Home::new();
    // It has long attached when its time is over.
    home.skypipe(["write", "-b", "room", "zero"]).ok();
    chat(&home, "one\n", &["--timeout", "3s"]).wait().exits(124);
    home.skypipe(["read", "room", "--from", "start", "--no-wait"]).ok().gave("zero\none\n");
}

#[test]
fn a_pipe_of_another_mode_is_refused_and_stays_as_it_is() {
    let home = Home::new();
    home.skypipe(["write", "-q", "room", "job"]).ok();
    chat(&home, "one\n", &[]).wait().exits(2).fails_with("E_MODE");
    assert_eq!(home.stat("room").items, 1);
}

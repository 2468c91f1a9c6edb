//! Who ends when: each cell of the table in `docs/ending.md`, under the name of its row.

use std::collections::BTreeSet;

use crate::harness::{Data, Digest, Home, In, Out, Running, Signal, is_alive, until};

const TEXT: &str = "one\ntwo\nthree\n";

/// A reader that stays, attached.
fn keeping_reader(home: &Home, pipe: &str) -> Running {
    let before = home.stat(pipe).readers;
    let reader = home.skypipe(["read", "-k", pipe]).start();
    home.until_stat(pipe, |s| s.readers > before);
    reader
}

/// A reader that takes exactly one item, alone, and has got `TEXT` of it.
fn alone_reader(home: &Home, writer: &mut Running) -> Running {
    writer.feed(TEXT);
    let reader = home.skypipe(["read", "--item", "x"]).start();
    reader.until_gave(TEXT);
    reader
}

/// A live reader and a writer whose `TEXT` it has got.
fn live_pair(home: &Home) -> (Running, Running) {
    let reader = home.live_reader("x");
    let mut writer = home.open_writer("x");
    writer.feed(TEXT);
    reader.until_gave(TEXT);
    (reader, writer)
}

/// The page and the tests speak of the same rows.
#[test]
fn the_page_names_these_tests() {
    let page = include_str!("../../../docs/ending.md");
    let rows = page.lines().filter(|l| l.starts_with("| ")).skip(1);
    let named: BTreeSet<&str> = rows.filter_map(|row| row.split('`').rev().nth(1)).collect();
    let here = include_str!("ending.rs").lines().filter_map(|l| l.strip_prefix("mod ")?.strip_suffix(" {")).collect();
    let elsewhere = BTreeSet::from(["bad_input", "verbs"]);
    assert_eq!(named.difference(&elsewhere).copied().collect::<BTreeSet<_>>(), here);
}

mod the_writer_ends {
    use super::*;

    #[test]
    fn writer_exits_0_without_any_reader() {
        let home = Home::new();
        home.store("x", TEXT);
        assert_eq!(home.stat("x").ended, 1);
    }

    #[test]
    fn alone_reader_exits_0_behind_the_last_byte() {
        let home = Home::new();
        let mut writer = home.open_writer("x");
        let reader = alone_reader(&home, &mut writer);
        writer.end_input();
        writer.wait().exits(0).quietly();
        reader.wait().exits(0).gave(TEXT).quietly();
    }

    #[test]
    fn live_reader_exits_0_with_the_last_writer() {
        let home = Home::new();
        let (reader, mut writer) = live_pair(&home);
        writer.end_input();
        writer.wait().exits(0).quietly();
        reader.wait().exits(0).gave(TEXT).quietly();
        assert_eq!(home.stat("x").items, 0);
    }

    #[test]
    fn live_reader_stays_while_another_writes() {
        let home = Home::new();
        let (mut reader, mut writer) = live_pair(&home);
        let mut second = home.open_writer("x");
        writer.end_input();
        writer.wait().exits(0);
        second.feed("four\n");
        reader.until_gave("four\n");
        assert!(reader.is_running());
        second.end_input();
        second.wait().exits(0);
        reader.wait().exits(0).gave([TEXT, "four\n"].concat());
    }

    #[test]
    fn both_sides_hear_once_of_a_second_writer() {
        let home = Home::new();
        let (reader, mut writer) = live_pair(&home);
        let mut second = home.open_writer("x");
        second.feed("four\n");
        reader.until_gave("four\n").until_says("skypipe: ");
        for running in [&mut writer, &mut second] {
            running.until_says("skypipe: ");
            running.end_input();
        }
        for done in [writer.wait().exits(0), second.wait().exits(0), reader.wait().exits(0)] {
            assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
        }
    }

    #[test]
    fn keeping_reader_starts_again() {
        let home = Home::new();
        let mut reader = keeping_reader(&home, "x");
        home.store("x", "one\n");
        reader.until_gave("one\n");
        home.store("x", "two\n");
        reader.until_gave("two\n");
        assert!(reader.is_running());
        reader.send(Signal::TERM);
        reader.wait().exits(143).gave("one\ntwo\n");
    }

    #[test]
    fn keeping_reader_takes_what_is_stored_item_by_item() {
        let home = Home::new();
        home.store("x", "one\n");
        home.store("x", "two\n");
        let reader = home.skypipe(["read", "-k", "x"]).start();
        reader.until_gave("one\ntwo\n").send(Signal::INT);
        reader.wait().exits(130).gave("one\ntwo\n");
    }
}

mod the_writer_is_interrupted {
    use super::*;

    /// What it had read is sent, and its own exit code tells the signal.
    fn writer_sends_what_it_read(signal: Signal, codes: &[i32]) {
        let home = Home::new();
        let mut writer = home.open_writer("x");
        writer.feed("whole line\nhalf a li");
        home.until_stat("x", |s| s.bytes >= 20);
        writer.send(signal);
        writer.wait().exits_one_of(codes);
        home.skypipe(["read", "x"]).run().exits(4).gave("whole line\nhalf a li").says("skypipe: ");
        assert_eq!(home.stat("x").items, 0, "told once, and taken");
    }

    #[test]
    fn by_sigint() {
        writer_sends_what_it_read(Signal::INT, &[130]);
    }

    #[test]
    fn by_sigterm() {
        writer_sends_what_it_read(Signal::TERM, &[143]);
    }

    #[test]
    fn by_sighup() {
        writer_sends_what_it_read(Signal::HUP, &[143]);
    }

    #[test]
    fn alone_reader_exits_4() {
        let home = Home::new();
        let mut writer = home.open_writer("x");
        let reader = alone_reader(&home, &mut writer);
        writer.send(Signal::INT);
        writer.wait().exits(130);
        reader.wait().exits(4).gave(TEXT).fails_with("E_INCOMPLETE");
    }

    #[test]
    fn live_reader_notes_it_and_exits_0() {
        let home = Home::new();
        let (reader, writer) = live_pair(&home);
        writer.send(Signal::INT);
        writer.wait().exits(130);
        let done = reader.wait().exits(0).gave(TEXT).says("skypipe: ");
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }

    #[test]
    fn keeping_reader_stays() {
        let home = Home::new();
        let reader = keeping_reader(&home, "x");
        let mut writer = home.open_writer("x");
        writer.feed(TEXT);
        reader.until_gave(TEXT);
        writer.send(Signal::INT);
        writer.wait().exits(130);
        reader.until_says("skypipe: ");
        home.store("x", "next\n");
        reader.until_gave("next\n").send(Signal::INT);
        reader.wait().exits(130);
    }
}

mod the_writer_vanishes {
    use super::*;

    #[test]
    fn a_stored_item_is_told_as_cut_off() {
        let home = Home::new();
        let mut writer = home.open_writer("x");
        writer.feed(TEXT);
        home.until_stat("x", |s| s.bytes >= TEXT.len() as u64);
        writer.kill();
        home.until_stat("x", |s| s.ended == 1);
        home.skypipe(["read", "x"]).run().exits(4).gave(TEXT).fails_with("E_INCOMPLETE");
    }

    #[test]
    fn alone_reader_exits_4() {
        let home = Home::new();
        let mut writer = home.open_writer("x");
        let reader = alone_reader(&home, &mut writer);
        writer.kill();
        reader.wait().exits(4).gave(TEXT).fails_with("E_INCOMPLETE");
    }

    #[test]
    fn live_reader_exits_4() {
        let home = Home::new();
        let (reader, writer) = live_pair(&home);
        writer.kill();
        reader.wait().exits(4).gave(TEXT).says("skypipe: ");
    }

    #[test]
    fn live_reader_is_told_at_once_and_ends_with_the_last_writer() {
        let home = Home::new();
        let (mut reader, writer) = live_pair(&home);
        let mut second = home.open_writer("x");
        second.feed("four\n");
        reader.until_gave("four\n");
        let told = reader.errors().lines().count();
        writer.kill();
        until("the reader is told", || (reader.errors().lines().count() > told).then_some(()));
        assert!(reader.is_running());
        second.feed("five\n").end_input();
        second.wait().exits(0);
        reader.wait().exits(4).gave([TEXT, "four\nfive\n"].concat());
    }

    #[test]
    fn keeping_reader_stays() {
        let home = Home::new();
        let mut reader = keeping_reader(&home, "x");
        let mut writer = home.open_writer("x");
        writer.feed(TEXT);
        reader.until_gave(TEXT);
        writer.kill();
        reader.until_says("skypipe: ");
        home.store("x", "next\n");
        reader.until_gave("next\n");
        assert!(reader.is_running());
        reader.send(Signal::INT);
        reader.wait().exits(130);
    }
}

mod the_reader_has_enough {
    use super::*;

    #[test]
    fn count_takes_a_part_and_the_rest_stays_in_front() {
        let home = Home::new();
        home.store("x", TEXT);
        home.store("x", "next item\n");
        home.skypipe(["read", "-n", "2", "x"]).ok().gave("one\ntwo\n");
        home.skypipe(["read", "x"]).run().gave("three\n").exits(0);
        home.skypipe(["read", "x"]).ok().gave("next item\n");
    }

    #[test]
    fn count_ends_a_live_reader_and_not_the_writer() {
        let home = Home::new();
        let reader = home.skypipe(["read", "-n", "2", "x"]).start();
        home.until_stat("x", |s| s.readers == 1);
        let mut writer = home.open_writer("x");
        writer.feed(TEXT);
        reader.wait().exits(0).gave("one\ntwo\n");
        assert!(writer.is_running());
        writer.feed("four\n").end_input();
        writer.wait().exits(0);
        // The next reader is told that it starts in the middle.
        home.skypipe(["read", "x"]).ok().gave("three\nfour\n").says("skypipe: ");
    }

    #[test]
    fn timeout_exits_124_and_puts_an_item_back() {
        let home = Home::new();
        let mut writer = home.open_writer("x");
        writer.feed(TEXT);
        let done = home.skypipe(["read", "--item", "--timeout", "1s", "x"]).run();
        done.exits(124).gave(TEXT).fails_with("E_TIMEOUT");
        writer.end_input();
        writer.wait().exits(0);
        home.skypipe(["read", "x"]).ok().gave(TEXT);
    }

    #[test]
    fn timeout_exits_124_where_nobody_writes() {
        let home = Home::new();
        home.skypipe(["read", "--timeout", "300ms", "x"]).run().exits(124).gave("").fails_with("E_TIMEOUT");
    }

    #[test]
    fn no_wait_exits_3_where_nothing_is_ended() {
        let home = Home::new();
        home.skypipe(["read", "--no-wait", "x"]).run().exits(3).gave("").fails_with("E_EMPTY");
        let mut writer = home.open_writer("x");
        writer.feed(TEXT);
        home.until_stat("x", |s| s.bytes > 0);
        home.skypipe(["read", "--no-wait", "x"]).run().exits(3).gave("");
        writer.end_input();
        writer.wait().exits(0);
        home.skypipe(["read", "--no-wait", "x"]).ok().gave(TEXT);
    }

    #[test]
    fn closed_stdout_exits_141_and_puts_an_item_back() {
        let home = Home::new();
        let data = Data::random(5, 5_000_000);
        home.skypipe(["write", "x"]).stdin(In::Data(data.clone())).ok();
        let mut reader = home.skypipe(["read", "x"]).stdout(Out::Unread).start();
        home.until_stat("x", |s| s.readers == 1);
        reader.stop_reading();
        reader.wait().exits(141).quietly();
        home.skypipe(["read", "x"]).stdout(Out::Summed).ok().gave_digest(&data.digest());
    }

    #[test]
    fn head_ends_a_reader_quietly() {
        let home = Home::new();
        let text = "a line\n".repeat(300_000);
        home.store("x", &text);
        home.sh("skypipe read x | head -n 1").ok().gave("a line\n").quietly();
        home.until_stat("x", |s| s.readers == 0);
        home.skypipe(["read", "x"]).ok().gave(text);
    }

    #[test]
    fn a_live_reader_that_leaves_does_not_end_the_others() {
        let home = Home::new();
        let stays = home.live_reader("x");
        let leaves = home.skypipe(["read", "-n", "1", "x"]).start();
        home.until_stat("x", |s| s.readers == 2);
        home.store("x", TEXT);
        leaves.wait().exits(0).gave("one\n");
        stays.wait().exits(0).gave(TEXT);
    }
}

mod the_reader_is_interrupted {
    use super::*;

    fn alone(signal: Signal, code: i32) {
        let home = Home::new();
        let mut writer = home.open_writer("x");
        let reader = alone_reader(&home, &mut writer);
        reader.send(signal);
        reader.wait().exits(code).gave(TEXT);
        assert!(writer.is_running());
        writer.feed("four\n").end_input();
        writer.wait().exits(0);
        home.skypipe(["read", "x"]).ok().gave([TEXT, "four\n"].concat()).quietly();
    }

    #[test]
    fn alone_by_sigint_the_item_goes_back_whole() {
        alone(Signal::INT, 130);
    }

    #[test]
    fn alone_by_sigterm_the_item_goes_back_whole() {
        alone(Signal::TERM, 143);
    }

    #[test]
    fn live_the_writer_goes_on_and_what_comes_is_stored() {
        let home = Home::new();
        let (reader, mut writer) = live_pair(&home);
        reader.send(Signal::INT);
        reader.wait().exits(130).gave(TEXT);
        assert!(writer.is_running());
        writer.feed("four\n").end_input();
        writer.wait().exits(0);
        home.skypipe(["read", "x"]).ok().gave("four\n").says("skypipe: ");
    }

    #[test]
    fn waiting_nothing_is_left() {
        let home = Home::new();
        let reader = home.live_reader("x");
        reader.send(Signal::INT);
        reader.wait().exits(130).gave("");
        assert_eq!(home.stat("x"), crate::harness::Stat::default());
    }

    #[test]
    fn keeping() {
        let home = Home::new();
        let reader = keeping_reader(&home, "x");
        reader.send(Signal::TERM);
        reader.wait().exits(143).gave("");
        home.store("x", TEXT);
        assert_eq!(home.stat("x").ended, 1);
    }

    #[test]
    fn with_a_stuck_stdout() {
        let home = Home::new();
        let data = Data::random(6, 5_000_000);
        home.skypipe(["write", "x"]).stdin(In::Data(data.clone())).ok();
        let reader = home.skypipe(["read", "x"]).stdout(Out::Unread).start();
        home.until_stat("x", |s| s.readers == 1);
        reader.send(Signal::INT);
        reader.wait().exits(130);
        home.skypipe(["read", "x"]).stdout(Out::Summed).ok().gave_digest(&data.digest());
    }
}

mod the_reader_vanishes {
    use super::*;

    #[test]
    fn alone_the_next_reader_gets_the_item_whole() {
        let home = Home::new();
        let mut writer = home.open_writer("x");
        let reader = alone_reader(&home, &mut writer);
        reader.kill();
        writer.end_input();
        writer.wait().exits(0);
        home.skypipe(["read", "x"]).ok().gave(TEXT).quietly();
    }

    #[test]
    fn live_the_writer_goes_on_and_what_comes_is_stored() {
        let home = Home::new();
        let (reader, mut writer) = live_pair(&home);
        reader.kill();
        home.until_stat("x", |s| s.readers == 0);
        writer.feed("four\n").end_input();
        writer.wait().exits(0);
        let done = home.skypipe(["read", "x"]).run().exits(0);
        // What the lost reader had acknowledged is gone, in front; how far it got is its own affair.
        assert!([TEXT, "four\n"].concat().ends_with(&done.text()) && done.text().ends_with("four\n"), "{done:?}");
    }

    #[test]
    fn live_the_other_readers_go_on() {
        let home = Home::new();
        let stays = home.live_reader("x");
        let (lost, mut writer) = live_pair(&home);
        lost.kill();
        writer.feed("four\n").end_input();
        writer.wait().exits(0);
        stays.wait().exits(0).gave([TEXT, "four\n"].concat());
    }

    #[test]
    fn keeping_its_item_goes_to_the_next() {
        let home = Home::new();
        let reader = keeping_reader(&home, "x");
        reader.kill();
        home.until_stat("x", |s| s.readers == 0);
        home.store("x", TEXT);
        home.skypipe(["read", "x"]).ok().gave(TEXT);
    }
}

/// `kill -9` and SIGTERM alike: nobody ends, nothing is lost, nothing comes twice.
mod the_relay_restarts {
    use super::*;

    fn restart(home: &Home, signal: Signal) {
        let pid = home.end_relay(signal);
        assert!(!is_alive(pid));
    }

    fn live(signal: Signal) {
        let home = Home::new();
        let (reader, mut writer) = live_pair(&home);
        restart(&home, signal);
        writer.feed("four\n");
        reader.until_gave("four\n");
        restart(&home, signal);
        writer.feed("five\n").end_input();
        writer.wait().exits(0).quietly();
        reader.wait().exits(0).gave([TEXT, "four\nfive\n"].concat()).quietly();
    }

    #[test]
    fn live_by_kill_9() {
        live(Signal::KILL);
    }

    #[test]
    fn live_by_sigterm() {
        live(Signal::TERM);
    }

    fn alone(signal: Signal) {
        let home = Home::new();
        let mut writer = home.open_writer("x");
        let reader = alone_reader(&home, &mut writer);
        restart(&home, signal);
        writer.feed("four\n").end_input();
        writer.wait().exits(0).quietly();
        reader.wait().exits(0).gave([TEXT, "four\n"].concat()).quietly();
    }

    #[test]
    fn alone_by_kill_9() {
        alone(Signal::KILL);
    }

    #[test]
    fn alone_by_sigterm() {
        alone(Signal::TERM);
    }

    fn stored(signal: Signal) {
        let home = Home::new();
        let data = Data::random(8, 5_000_000);
        home.skypipe(["write", "x"]).stdin(In::Data(data.clone())).ok();
        home.store("x", "second\n");
        restart(&home, signal);
        home.skypipe(["read", "x"]).stdout(Out::Summed).ok().gave_digest(&data.digest());
        home.skypipe(["read", "x"]).ok().gave("second\n");
    }

    #[test]
    fn stored_by_kill_9() {
        stored(Signal::KILL);
    }

    #[test]
    fn stored_by_sigterm() {
        stored(Signal::TERM);
    }

    #[test]
    fn waiting_reader_gets_what_comes_after() {
        let home = Home::new();
        let reader = home.live_reader("x");
        restart(&home, Signal::KILL);
        home.store("x", TEXT);
        reader.wait().exits(0).gave(TEXT).quietly();
    }

    #[test]
    fn keeping_reader_stays() {
        let home = Home::new();
        let reader = keeping_reader(&home, "x");
        home.store("x", "one\n");
        reader.until_gave("one\n");
        restart(&home, Signal::KILL);
        home.store("x", "two\n");
        reader.until_gave("one\ntwo\n").send(Signal::INT);
        reader.wait().exits(130).gave("one\ntwo\n").quietly();
    }

    #[test]
    fn writer_without_reader_goes_on() {
        let home = Home::new();
        let mut writer = home.open_writer("x");
        writer.feed(TEXT);
        home.until_stat("x", |s| s.bytes >= TEXT.len() as u64);
        restart(&home, Signal::KILL);
        writer.feed("four\n").end_input();
        writer.wait().exits(0).quietly();
        home.skypipe(["read", "x"])
            .stdout(Out::Summed)
            .ok()
            .gave_digest(&Digest::of(&[TEXT, "four\n"].concat().into_bytes()));
    }

    #[test]
    fn a_writer_killed_while_the_relay_is_away_has_vanished() {
        let home = Home::new();
        let (reader, writer) = live_pair(&home);
        // Both stand still, so that neither starts a relay before the writer is dead.
        writer.stop();
        reader.stop();
        restart(&home, Signal::KILL);
        writer.kill();
        reader.go_on();
        reader.wait().exits(4).gave(TEXT).says("vanished");
        home.store("x", "another\n");
        home.skypipe(["read", "x"]).ok().gave("another\n");
    }

    #[test]
    fn a_writer_killed_before_it_is_back_at_the_new_relay_has_vanished() {
        let home = Home::new();
        let (reader, writer) = live_pair(&home);
        writer.stop();
        restart(&home, Signal::KILL);
        home.store("other", TEXT);
        writer.kill();
        reader.wait().exits(4).gave(TEXT).says("vanished");
    }
}

/// Ctrl-Z is no end: whoever stands still can go on, and hurts only itself.
mod somebody_is_stopped {
    use super::*;

    #[test]
    fn a_stopped_reader_holds_up_neither_writer_nor_healthy_reader() {
        let home = Home::new();
        let data = Data::random(9, 30_000_000);
        let stopped = home.skypipe(["read", "x"]).stdout(Out::Summed).start();
        let healthy = home.skypipe(["read", "x"]).stdout(Out::Summed).start();
        home.until_stat("x", |s| s.readers == 2);
        stopped.stop();
        home.skypipe(["write", "x"]).stdin(In::Data(data.clone())).ok();
        healthy.wait().exits(0).gave_digest(&data.digest());
        stopped.go_on();
        stopped.wait().exits(0).gave_digest(&data.digest());
    }

    #[test]
    fn a_stopped_writer_keeps_its_reader() {
        let home = Home::new();
        let (mut reader, mut writer) = live_pair(&home);
        writer.stop();
        home.store("x", "beside\n");
        reader.until_gave("beside\n");
        assert!(reader.is_running());
        writer.go_on();
        writer.feed("four\n").end_input();
        writer.wait().exits(0);
        reader.wait().exits(0).gave([TEXT, "beside\nfour\n"].concat());
    }
}

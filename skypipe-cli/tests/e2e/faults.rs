//! Faults: processes that vanish in the middle of much data.

use std::time::{Duration, Instant};

use crate::harness::{Data, Home, In, Out, Signal, until};

const MIB: u64 = 1 << 20;

#[test]
fn a_reader_killed_while_taking_a_stored_item_leaves_it_whole() {
    let home = Home::new();
    let data = Data::random(20, 40 * MIB);
    home.skypipe(["write", "x"]).stdin(In::Data(data.clone())).ok();
    for _ in 0..3 {
        let reader = home.skypipe(["read", "x"]).stdout(Out::Unread).start();
        home.until_stat("x", |s| s.readers == 1);
        until("it has begun to write out", || (reader.unread() > 0).then_some(()));
        reader.kill();
        home.until_stat("x", |s| s.readers == 0);
    }
    home.skypipe(["read", "x"]).stdout(Out::Summed).ok().gave_digest(&data.digest()).quietly();
}

#[test]
fn a_writer_killed_in_the_middle_is_told() {
    let home = Home::new();
    let data = Data::random(21, 400 * MIB);
    let reader = home.skypipe(["read", "x"]).stdout(Out::Summed).start();
    home.until_stat("x", |s| s.readers == 1);
    let writer = home.skypipe(["write", "x"]).stdin(In::Data(data.clone())).start();
    reader.until_received(10 * MIB);
    writer.kill();
    let done = reader.wait().exits(4).says("skypipe: ");
    assert_eq!(done.digest, data.prefix(done.digest.count).digest());
}

#[test]
fn a_large_cat_ended_by_ctrl_c_is_never_taken_for_a_whole_file() {
    let home = Home::new();
    let data = Data::random(22, 4096 * MIB);
    let writer = home.skypipe(["files"]).stdin(In::Data(data.clone())).start();
    home.until_stat("files", |s| s.bytes > 20 * MIB);
    writer.send(Signal::INT);
    writer.wait().exits(130);
    let done = home.skypipe(["read", "files"]).stdout(Out::Summed).run().exits(4).fails_with("E_INCOMPLETE");
    // What `stat` counts has headers, so a little less than it said may be data.
    assert!(done.digest.count > 10 * MIB);
    assert_eq!(done.digest, data.prefix(done.digest.count).digest());
}

#[test]
fn a_second_ctrl_c_stops_at_once() {
    let home = Home::new();
    let mut writer = home.open_writer("x");
    // Without a relay that answers, what was read cannot be sent.
    let relay = home.relay();
    crate::harness::stop(relay);
    let start = Instant::now();
    until("it is gone", || {
        writer.send(Signal::INT);
        (!writer.is_running()).then_some(())
    });
    assert!(start.elapsed() < Duration::from_secs(4), "it waited on: {:?}", start.elapsed());
    writer.wait().exits(130);
    crate::harness::send(relay, Signal::CONT);
}

#[test]
fn eight_writers_into_eight_pipes_at_once() {
    let home = Home::new();
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let text: String = (0..2000).map(|line| format!("writer {n} line {line}\n")).collect();
            home.skypipe(["write", &format!("many/{n}")]).stdin(In::Pipe(text.into_bytes())).start()
        })
        .collect();
    writers.into_iter().for_each(|w| drop(w.wait().exits(0).quietly()));
    for n in 0..8 {
        let text: String = (0..2000).map(|line| format!("writer {n} line {line}\n")).collect();
        home.skypipe(["read", &format!("many/{n}")]).ok().gave(text);
    }
}

#[test]
fn eight_writers_into_one_pipe_tear_no_line() {
    let home = Home::new();
    let reader = home.live_reader("logs");
    let mut first = home.open_writer("logs");
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let text: String = (0..2000).map(|line| format!("{n} {line} {}\n", "-".repeat(line % 200))).collect();
            home.skypipe(["write", "logs"]).stdin(In::Pipe(text.into_bytes())).start()
        })
        .collect();
    writers.into_iter().for_each(|w| drop(w.wait().exits(0)));
    first.end_input();
    first.wait().exits(0);
    let got = reader.wait().exits(0).text();
    for n in 0..8 {
        let of_one: Vec<&str> = got.lines().filter(|l| l.starts_with(&format!("{n} "))).collect();
        let expected: Vec<String> = (0..2000).map(|line| format!("{n} {line} {}", "-".repeat(line % 200))).collect();
        assert_eq!(of_one, expected);
    }
    assert_eq!(got.lines().count(), 8 * 2000);
}

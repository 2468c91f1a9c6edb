//! Records of any length in queues and broadcasts: each is one, whole or not there, however it travels.

use crate::harness::{Data, Digest, Home, In, Out, Signal, until};

const MIB: u64 = 1 << 20;

fn write(home: &Home, mode: &str, pipe: &str, record: &Data) {
    home.skypipe(["write", mode, pipe, "--item"]).stdin(In::Data(record.clone())).ok();
}

#[test]
fn a_broadcast_gives_it_to_all_and_nothing_comes_between() {
    let home = Home::new();
    let record = Data::random(1, 5 * MIB);
    let live = home.skypipe(["read", "-b", "news"]).stdout(Out::Summed).start();
    home.until_stat("news", |stat| stat.readers == 1);
    let mut writer = home.skypipe(["write", "-b", "news", "--item"]).stdin(In::Open).start();
    home.until_stat("news", |stat| stat.writers == 1);
    let (begin, rest) = (record.prefix(MIB).bytes(), record.bytes()[MIB as usize..].to_vec());
    writer.feed(begin);
    // What others write meanwhile need not wait.
    home.skypipe(["write", "-b", "news", "one"]).ok();
    live.until_received(4);
    assert_eq!(home.stat("news").items, 1, "a part is no record");
    writer.feed(rest).end_input();
    writer.wait().exits(0);
    home.skypipe(["write", "-b", "news", "two"]).ok();
    let all = Digest::of(&[b"one\n", &record.bytes()[..], b"two\n"].concat());
    home.kill_relay();
    home.skypipe(["read", "news", "--from", "start", "--no-wait"]).stdout(Out::Summed).ok().gave_digest(&all);
    home.skypipe(["peek", "news"]).stdout(Out::Summed).ok().gave_digest(&all);
    home.skypipe(["read", "news", "--from", "-1", "--no-wait"]).ok().gave("two\n");
    home.skypipe(["read", "news", "--from", "-2", "-n", "1"]).stdout(Out::Summed).ok().gave_digest(&record.digest());
    live.until_received(record.len() + 8);
    live.send(Signal::INT);
    live.wait().exits(130).gave_digest(&all);
}

#[test]
fn a_queue_gives_it_to_one_reader_and_its_command() {
    let home = Home::new();
    let record = Data::random(2, 3 * MIB);
    for _ in 0..3 {
        write(&home, "-q", "jobs", &record);
    }
    assert_eq!((home.stat("jobs").items, home.stat("jobs").readers), (3, 0));
    let all = Digest::of(&record.bytes().repeat(3));
    home.skypipe(["peek", "jobs"]).stdout(Out::Summed).ok().gave_digest(&all);
    home.skypipe(["read", "jobs", "-n", "1"]).stdout(Out::Summed).ok().gave_digest(&record.digest());
    home.skypipe(["read", "jobs", "-n", "1", "--exec", "cat > whole"]).ok();
    assert_eq!(Digest::of_file(&home.path("whole")), record.digest());
    // A command may have enough of it sooner.
    home.skypipe(["read", "jobs", "-n", "1", "--exec", "head -c 9 > begin"]).ok();
    assert_eq!(Digest::of_file(&home.path("begin")), record.prefix(9).digest());
    home.skypipe(["read", "jobs", "--no-wait"]).run().exits(3).fails_with("E_EMPTY");
    home.until_stat("jobs", |stat| stat.bytes == 0);
}

#[test]
fn what_failed_goes_to_the_dead_letters_and_back_whole() {
    let home = Home::new();
    let record = Data::random(3, 5 * MIB);
    home.skypipe(["write", "-q", "jobs", "--max-deliveries", "1", "--item", "-H", "kind=long"])
        .stdin(In::Data(record.clone()))
        .ok();
    let worker = home.skypipe(["read", "jobs", "--exec", "cat > /dev/null; exit 1"]).start();
    home.until_stat("jobs/dead", |stat| stat.items == 1);
    worker.send(Signal::TERM);
    worker.wait().exits(143);
    home.until_stat("jobs", |stat| stat.items == 0);
    home.skypipe(["redrive", "jobs"]).ok();
    let command = "cat > again; test $SKYPIPE_HEADER_KIND = long";
    home.skypipe(["read", "jobs", "--no-wait", "--exec", command]).ok();
    assert_eq!(Digest::of_file(&home.path("again")), record.digest());
    assert_eq!((home.stat("jobs").items, home.stat("jobs/dead").items), (0, 0));
}

#[test]
fn a_command_whose_record_is_torn_is_stopped_before_it_sees_an_end() {
    let home = Home::new();
    for stubborn in ["", "trap '' TERM; "] {
        write(&home, "-q", "jobs", &Data::random(6, 24 * MIB));
        let command =
            format!("{stubborn}touch begun; while [ ! -e go ]; do sleep 0.01; done; cat > /dev/null; touch whole");
        let worker = home.skypipe(["read", "jobs", "--exec", &command]).start();
        until("it has begun", || home.path("begun").exists().then_some(()));
        home.skypipe(["rm", "jobs"]).ok();
        home.file("go", "");
        worker.wait().exits(3).says("(E_ACCESS)");
        assert!(!home.path("whole").exists(), "it took a part for the whole");
        ["begun", "go"].iter().for_each(|file| std::fs::remove_file(home.path(file)).unwrap());
    }
}

#[test]
fn a_writer_that_dies_within_it_leaves_nothing_of_it() {
    let home = Home::new();
    for mode in ["-q", "-b"] {
        let mut writer = home.skypipe(["write", mode, "x", "--item"]).stdin(In::Open).start();
        home.until_stat("x", |stat| stat.writers == 1);
        writer.feed(Data::random(4, MIB).bytes());
        home.until_stat("x", |stat| stat.bytes > MIB / 2);
        writer.kill();
        home.until_stat("x", |stat| stat.writers == 0);
        until("its bytes are gone", || (home.stat("x").bytes < MIB / 2).then_some(()));
        assert_eq!(home.stat("x").items, 0);
        home.skypipe(["rm", "x"]).ok();
    }
}

/// The relay is killed while the record comes, and while it goes.
fn survives_kills(mode: &str, read: &[&str]) {
    let home = Home::new();
    let record = Data::random(5, 24 * MIB);
    let mut writer = home.skypipe(["write", mode, "x", "--item"]).stdin(In::Open).start();
    home.until_stat("x", |stat| stat.writers == 1);
    for part in record.bytes().chunks(6 * MIB as usize) {
        writer.feed(part);
        home.until_stat("x", |stat| stat.bytes > MIB);
        home.kill_relay();
    }
    writer.end_input();
    writer.wait().exits(0);
    let reader = home.skypipe(read.iter().copied()).stdout(Out::Summed).start();
    for part in 1..=3 {
        reader.until_received(part * 6 * MIB);
        // One that came this far by what it held when the relay died calls the next one only now; with all of it, none.
        until("it has a relay or all", || {
            (home.relay_now().is_some() || reader.received() == record.len()).then_some(())
        });
        reader.stop();
        if home.relay_now().is_some() && reader.received() < record.len() {
            home.kill_relay();
        }
        reader.go_on();
    }
    reader.wait().exits(0).gave_digest(&record.digest());
    home.skypipe(["rm", "x"]).ok();
}

#[test]
fn a_queue_whose_relay_is_killed_gives_it_once() {
    survives_kills("-q", &["read", "x", "-n", "1"]);
}

#[test]
fn a_broadcast_whose_relay_is_killed_gives_it_once() {
    survives_kills("-b", &["read", "x", "--from", "start", "-n", "1"]);
}

#[test]
fn of_many_pipes_each_comes_in_one_piece() {
    let home = Home::new();
    for (mode, read) in [("-q", &["--no-wait"][..]), ("-b", &["--from", "start", "--no-wait"])] {
        let records: Vec<Data> = (0..4).map(|seed| Data::random(10 + seed, 2 * MIB)).collect();
        for (number, record) in records.iter().enumerate() {
            write(&home, mode, &format!("all{mode}/{number}"), record);
        }
        let pattern = format!("all{mode}/*");
        let read = ["read", mode, &pattern].into_iter().chain(read.iter().copied());
        home.skypipe(read).stdout(Out::File(home.path("out"))).ok();
        let out = std::fs::read(home.path("out")).unwrap();
        let mut left: Vec<Vec<u8>> = records.iter().map(Data::bytes).collect();
        let mut rest = &out[..];
        while !rest.is_empty() {
            let at = left.iter().position(|record| rest.starts_with(record)).expect("one of them, whole");
            rest = &rest[left.remove(at).len()..];
        }
        assert!(left.is_empty(), "{} of them did not come", left.len());
    }
}

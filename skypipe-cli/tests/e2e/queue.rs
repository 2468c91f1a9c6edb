//! Queues: each record to one reader, until one is done with it.

use std::collections::BTreeMap;
use std::fs;

use crate::harness::{Home, Running, Signal, until};

/// Jobs that are there, each a line.
fn jobs(count: usize) -> String {
    (1..=count).map(|n| format!("job {n}\n")).collect()
}

fn write_jobs(home: &Home, count: usize) {
    home.skypipe(["write", "-q", "jobs"]).stdin(crate::harness::In::Pipe(jobs(count).into_bytes())).ok();
}

fn worker(home: &Home, command: &str, more: &[&str]) -> Running {
    home.skypipe(["read", "-q", "jobs", "--exec", command].iter().chain(more).copied()).start()
}

#[test]
fn each_record_goes_to_one_reader_and_is_gone_when_it_was_read() {
    let home = Home::new();
    write_jobs(&home, 3);
    let stat = home.skypipe(["stat", "--json", "jobs"]).ok().json();
    assert_eq!((stat["mode"].as_str(), stat["items"].as_u64()), (Some("queue"), Some(3)));
    home.skypipe(["read", "-q", "jobs", "-n", "2"]).ok().gave("job 1\njob 2\n");
    // Without the option it is the queue that it is.
    home.skypipe(["read", "jobs", "--no-wait"]).ok().gave("job 3\n");
    home.skypipe(["read", "jobs", "--no-wait"]).run().exits(3).fails_with("E_EMPTY");
    assert_eq!(home.skypipe(["stat", "--json", "jobs"]).ok().json()["items"], 0, "a queue stays");
    home.skypipe(["rm", "jobs"]).ok();
    home.skypipe(["stat", "jobs"]).run().exits(3);
}

#[test]
fn a_look_into_a_queue_shows_what_waits_and_takes_nothing() {
    let home = Home::new();
    write_jobs(&home, 3);
    home.skypipe(["peek", "jobs"]).ok().gave("job 1\njob 2\njob 3\n");
    home.skypipe(["read", "jobs", "-n", "2"]).ok().gave("job 1\njob 2\n");
    let worker = worker(&home, "sleep 1000", &[]);
    home.until_stat("jobs", |stat| stat.readers == 1);
    home.kill_relay();
    home.skypipe(["peek", "jobs"]).ok().gave("job 3\n");
    assert_eq!(home.skypipe(["peek", "jobs", "--json"]).ok().json()["text"], "job 3\n");
    worker.send(Signal::TERM);
    worker.wait().exits(143);
    home.skypipe(["read", "jobs", "-n", "1"]).ok().gave("job 3\n");
    home.skypipe(["peek", "jobs"]).run().exits(3).fails_with("E_EMPTY");
    write_jobs(&home, 1);
    home.skypipe(["read", "--item", "jobs"]).run().exits(2).fails_with("E_UNSUPPORTED");
    home.skypipe(["read", "jobs", "--json", "-n", "1"]).ok().json();
    assert_eq!(home.stat("jobs").items, 0);
}

#[test]
fn records_come_as_json_with_position_and_attempt() {
    let home = Home::new();
    write_jobs(&home, 1);
    let line = home.skypipe(["read", "jobs", "--json", "-n", "1"]).ok().json();
    assert_eq!((line["attempt"].as_u64(), line["text"].as_str()), (Some(1), Some("job 1\n")));
    assert!(line["position"].as_str().is_some_and(|position| position.starts_with('@')), "{line}");
}

#[test]
fn a_mode_that_the_pipe_has_not_is_one_line_and_changes_nothing() {
    let home = Home::new();
    write_jobs(&home, 1);
    home.store("plain", "x\n");
    for (pipe, option) in [("jobs", "-b"), ("plain", "-q"), ("plain", "-b")] {
        for verb in ["read", "write"] {
            let done = home.skypipe([verb, option, pipe]).stdin(crate::harness::In::Pipe(b"y\n".to_vec())).run();
            done.exits(2).gave("").fails_with("E_MODE");
        }
    }
    home.skypipe(["read", "jobs", "--no-wait"]).ok().gave("job 1\n");
    home.skypipe(["read", "plain"]).ok().gave("x\n");
}

#[test]
fn a_command_gets_the_record_and_where_it_stands() {
    let home = Home::new();
    write_jobs(&home, 2);
    let command = r#"read line; echo "$SKYPIPE_PIPE $SKYPIPE_ATTEMPT $line"; echo "$SKYPIPE_RECORD" >&2"#;
    let done = home.skypipe(["read", "-q", "jobs", "--no-wait", "--exec", command]).ok();
    done.gave("jobs 1 job 1\njobs 1 job 2\n").says("@");
    assert_eq!(home.stat("jobs").items, 0);
}

#[test]
fn what_failed_is_tried_again_and_goes_to_the_dead_letters_in_the_end() {
    let home = Home::new();
    home.skypipe(["write", "-q", "jobs", "--max-deliveries", "2", "bad"]).ok();
    home.skypipe(["write", "jobs", "good"]).ok();
    let command = r#"read line; echo "$SKYPIPE_ATTEMPT $line"; [ "$line" = good ]"#;
    let worker = worker(&home, command, &[]);
    worker.until_gave("1 bad\n1 good\n2 bad\n");
    home.until_stat("jobs/dead", |stat| stat.items == 1);
    home.until_stat("jobs", |stat| stat.items == 0);
    worker.send(Signal::TERM);
    worker.wait().exits(143);
    home.skypipe(["write", "jobs/dead", "x"]).run().exits(2);
    home.skypipe(["redrive", "jobs"]).ok().says("1 record");
    home.skypipe(["read", "-q", "jobs/dead", "--no-wait"]).run().exits(3);
    home.skypipe(["read", "-q", "jobs", "--no-wait"]).ok().gave("bad\n");
    home.skypipe(["redrive", "jobs"]).ok().says("0 records");
}

#[test]
fn a_delayed_record_holds_up_no_other() {
    let home = Home::new();
    home.skypipe(["write", "-q", "jobs", "--delay", "1h", "later"]).ok();
    home.skypipe(["write", "jobs", "now"]).ok();
    home.skypipe(["read", "-q", "jobs", "-n", "1"]).ok().gave("now\n");
    home.skypipe(["read", "-q", "jobs", "--no-wait"]).run().exits(3);
    assert_eq!(home.stat("jobs").items, 1);
}

#[test]
fn a_delayed_record_comes_in_its_time() {
    let home = Home::new();
    let start = std::time::Instant::now();
    home.skypipe(["write", "-q", "jobs", "--delay", "1s", "later"]).ok();
    home.skypipe(["read", "-q", "jobs", "-n", "1"]).ok().gave("later\n");
    // Both clocks are this machine's; the wall clock counts in milliseconds.
    assert!(start.elapsed().as_millis() >= 990, "it came after {:?}", start.elapsed());
}

/// The relay is killed while a command runs: the command goes on, and its record is done with once.
#[test]
fn work_in_hand_outlives_the_relay() {
    let home = Home::new();
    write_jobs(&home, 2);
    let go = home.path("go");
    let command = r#"read line; echo "begun $line"; until [ -e go ]; do sleep 0.05; done; echo "done $line""#;
    let worker = worker(&home, command, &["-n", "2", "-j", "2"]);
    until("both have begun", || (worker.output().matches("begun").count() == 2).then_some(()));
    home.kill_relay();
    // Whoever comes starts the next one.
    home.until_stat("jobs", |stat| stat.items == 2);
    fs::write(go, "").unwrap();
    let text = worker.wait().exits(0).text();
    assert_eq!((text.matches("begun").count(), text.matches("done").count()), (2, 2), "{text}");
    assert_eq!(home.stat("jobs").items, 0);
}

#[test]
fn a_signal_is_passed_on_and_what_was_in_hand_is_for_others() {
    let home = Home::new();
    write_jobs(&home, 1);
    // The trap runs when a child has ended: short ones.
    let command = "trap 'echo told; exit 9' TERM; echo begun; while :; do sleep 0.05; done";
    let worker = worker(&home, command, &[]);
    worker.until_gave("begun\n");
    worker.send(Signal::TERM);
    worker.wait().exits(143).gave("begun\ntold\n");
    let line = until("it is handed out again", || {
        let done = home.skypipe(["read", "jobs", "--json", "--no-wait"]).run();
        (!done.text().is_empty()).then(|| done.json())
    });
    assert_eq!((line["text"].as_str(), line["attempt"].as_u64()), (Some("job 1\n"), Some(2)));
}

/// A worker dies with work in hand: others have it at once, and a lease is not waited for.
#[test]
fn workers_that_die_lose_nothing_and_repeat_only_what_they_had() {
    let home = Home::new();
    let (count, workers) = (400, 8);
    write_jobs(&home, count);
    // Each notes what it did in a file of its own, in one short write.
    let command = "cat >> done.$PPID";
    let mut running: Vec<Running> = (0..workers).map(|_| worker(&home, command, &[])).collect();
    home.until_stat("jobs", |stat| stat.items < count as u64 * 3 / 4);
    let victims: Vec<Running> = running.drain(..2).collect();
    for victim in &victims {
        victim.stop();
    }
    let in_hand = home.skypipe(["stat", "--json", "jobs"]).ok().json()["leased"].as_u64().unwrap();
    victims.into_iter().for_each(Running::kill);
    home.until_stat("jobs", |stat| stat.items == 0);
    for worker in running {
        worker.send(Signal::TERM);
        worker.wait().exits(143);
    }
    let mut times: BTreeMap<String, u64> = BTreeMap::new();
    for file in fs::read_dir(home.work()).unwrap().map(|entry| entry.unwrap().path()) {
        let lines = fs::read_to_string(file).unwrap();
        lines.lines().for_each(|line| *times.entry(line.to_owned()).or_default() += 1);
    }
    assert_eq!(times.len(), count, "not every job was done");
    let repeats: u64 = times.values().map(|times| times - 1).sum();
    // Without `-j` each has one at a time; what the relay counts are all that were in hand then.
    assert!(repeats <= 2.min(in_hand), "{repeats} jobs were done twice, and {in_hand} were in hand");
}

#[test]
fn a_queue_is_there_after_a_crash() {
    let home = Home::new();
    write_jobs(&home, 5);
    home.skypipe(["read", "-q", "jobs", "-n", "2"]).ok();
    home.kill_relay();
    home.skypipe(["read", "-q", "jobs", "--no-wait"]).ok().gave("job 3\njob 4\njob 5\n");
}

//! Queues and broadcasts over every way to another machine.

use super::sky::Sky;
use crate::harness::{Data, Home, In, Out, Signal, until};

/// Runs `what` for each URL of a relay, and of its own machine's socket, at a home that joined it.
fn over_each(what: impl Fn(&dyn Fn(&[&str]) -> crate::harness::Command, &str)) {
    let sky = Sky::new();
    let home: Home = sky.joined(&[]);
    for (number, url) in sky.urls.iter().enumerate() {
        let command = |arguments: &[&str]| home.skypipe(["--relay", url].iter().chain(arguments).copied());
        what(&command, &format!("over/{number}"));
    }
}

#[test]
fn work_is_handed_out_and_what_fails_is_tried_again() {
    over_each(|skypipe, pipe| {
        let jobs = (1..=20).map(|n| format!("job {n}\n")).collect::<String>();
        skypipe(&["write", "-q", pipe, "-H", "from=afar"]).stdin(In::Pipe(jobs.into_bytes())).ok();
        let command = r#"read -r job; echo "$SKYPIPE_ATTEMPT $SKYPIPE_HEADER_FROM $job"; [ "$SKYPIPE_ATTEMPT" = 2 ] || [ "$job" != "job 7" ]"#;
        let workers = [(); 2].map(|()| skypipe(&["read", "-q", pipe, "-j", "2", "--exec", command]).start());
        until("the last is done", || {
            let output: String = workers.iter().map(|worker| worker.output()).collect();
            output.contains("2 afar job 7\n").then_some(())
        });
        until("nothing is left", || (skypipe(&["stat", pipe, "--json"]).ok().json()["items"] == 0).then_some(()));
        let mut lines: Vec<String> = Vec::new();
        for worker in workers {
            worker.send(Signal::TERM);
            lines
                .extend(worker.wait().exits(143).text().lines().filter(|line| line.contains("job")).map(str::to_owned));
        }
        assert_eq!(lines.iter().filter(|line| line.starts_with("1 afar")).count(), 20, "{lines:?}");
    });
}

#[test]
fn news_is_kept_and_comes_live_and_of_many_pipes() {
    over_each(|skypipe, pipe| {
        let (a, b) = (format!("{pipe}/a"), format!("{pipe}/b"));
        skypipe(&["write", "-b", &a, "one", "two"]).ok();
        skypipe(&["read", &a, "--as", "me", "--from", "start", "-n", "1"]).ok().gave("one\n");
        skypipe(&["read", &a, "--as", "me", "--no-wait"]).ok().gave("two\n");
        let live = skypipe(&["read", "-b", &format!("{pipe}/*"), "--tag", "--from", "start"]).start();
        live.until_gave(&format!("{a}: two\n"));
        skypipe(&["write", "-b", &b, "three"]).ok();
        live.until_gave(&format!("{b}: three\n"));
        live.send(Signal::INT);
        live.wait().exits(130);
        let answer = skypipe(&["chat", &a, "-n", "1"]).stdin(In::Open).start();
        until("both ends are there", || (skypipe(&["stat", &a, "--json"]).ok().json()["readers"] == 1).then_some(()));
        skypipe(&["chat", &a, "--timeout", "20s", "-n", "1", "--echo"]).stdin(In::Pipe(b"hello\n".to_vec())).ok();
        answer.wait().exits(0).gave("hello\n");
    });
}

#[test]
fn records_of_any_length_come_whole() {
    let record = Data::random(7, 3 << 20);
    over_each(|skypipe, pipe| {
        let (jobs, news) = (format!("{pipe}/jobs"), format!("{pipe}/news"));
        for (mode, pipe) in [("-q", &jobs), ("-b", &news)] {
            skypipe(&["write", mode, pipe, "--item"]).stdin(In::Data(record.clone())).ok();
        }
        skypipe(&["read", &jobs, "-n", "1"]).stdout(Out::Summed).ok().gave_digest(&record.digest());
        let read = ["read", &news, "--from", "start", "--no-wait"];
        skypipe(&read).stdout(Out::Summed).ok().gave_digest(&record.digest());
    });
}

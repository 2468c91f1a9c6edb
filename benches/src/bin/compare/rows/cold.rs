//! A command that sends one record and ends: from its start to the record at a reader that waits.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::contender::{Contender, Side};
use crate::crew::Crew;
use crate::flow::{check, reader};
use crate::ground::Ground;
use crate::peers::skypipe::{DATA, program};
use crate::peers::{Bare, Mosquitto, PipingServer, Redis, Skypipe};
use crate::process::until;
use crate::record::Records;
use crate::row::{Entry, Outcome, Row, Setting};
use crate::table::median;
use crate::task::{Pace, Task};

const RECORD_BYTES: usize = 16;
/// Commands in each run, one after the other.
const WHOLE: u64 = 40;
const QUICK: u64 = 4;
const WHO: [&dyn Contender; 7] =
    [&Skypipe::Local, &Skypipe::Ws, &Skypipe::Quic, &Bare::Unix, &Mosquitto, &Redis::Publish, &PipingServer];

/// How long a relay may take to end when it is told to.
const END_LIMIT: Duration = Duration::from_secs(10);

pub(super) fn rows(setting: &Setting) -> Vec<Row> {
    let commands = setting.size(WHOLE, QUICK);
    let first = Row {
        family: "cold",
        name: "cold start of a command that sends 16 B, to the reader's first byte".to_owned(),
        entries: WHO.map(|who| to_reader(who, commands)).into(),
    };
    let last = Row {
        family: "cold",
        name: "cold start of a command that sends 16 B, to its exit, nobody reads".to_owned(),
        entries: vec![to_exit(true, commands), to_exit(false, commands)],
    };
    vec![first, last]
}

fn to_reader(who: &'static dyn Contender, commands: u64) -> Entry {
    let mut entry = Entry::of(who, move |setting| {
        let task = Task::live(RECORD_BYTES, commands).with_pace(Pace::Awaited);
        let (ground, mut records) = (Ground::new(setting)?, Records::of(&task, 0));
        let server = who.serve(&ground)?;
        let mut crew = Crew::new(&ground, "control")?;
        reader(&mut crew, who, &task, &server)?;
        crew.ready(1)?;
        let mut begins = Vec::new();
        for _ in 0..commands {
            let begin = crate::now();
            run(&mut who.command(Side::Write, &server, &ground)?, records.next())?;
            begins.push(begin);
        }
        let reports = crew.reports()?;
        check(&task, &reports)?;
        let ends = reports.into_iter().flat_map(|report| report.times);
        let mut times: Vec<f64> = ends.zip(begins).map(|(end, begin)| (end - begin) as f64 / 1e6).collect();
        times.sort_by(f64::total_cmp);
        Ok(Outcome::one("ms", median(&times)))
    });
    if who.name() == Bare::Unix.name() {
        entry.who = "a trivial Rust program, Unix socket".to_owned();
    }
    entry.acknowledged("nothing: until the record is at the reader")
}

/// Skypipe alone: with its local relay there, or none.
fn to_exit(has_relay: bool, commands: u64) -> Entry {
    let run = move |setting: &Setting| {
        let mut times = Vec::new();
        for _ in 0..commands.min(WHOLE / 4) {
            let ground = Ground::new(setting)?;
            let home = ground.data().join(DATA);
            let task = Task::live(RECORD_BYTES, 2);
            let mut records = Records::of(&task, 0);
            let relay = LocalRelay { home: &home };
            if has_relay {
                run(&mut relay.command()?, records.next())?;
            }
            let begin = Instant::now();
            run(&mut relay.command()?, records.next())?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok(Outcome::one("ms", median(&times)))
    };
    let who = if has_relay { "skypipe, its local relay up" } else { "skypipe, no relay up" };
    Entry { who: who.to_owned(), acknowledgement: "stored".to_owned(), missing: Vec::new(), run: Box::new(run) }
}

/// A command with this on its stdin.
fn run(command: &mut Command, input: &[u8]) -> Result<(), Failure> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended: {status}").into()) }
}

/// The relay that `skypipe` starts for itself in this folder; ended when this is dropped.
struct LocalRelay<'a> {
    home: &'a Path,
}

impl LocalRelay<'_> {
    fn command(&self) -> Result<Command, Failure> {
        let mut command = Command::new(program()?);
        command.arg("p").env("SKYPIPE_HOME", self.home).env("XDG_CONFIG_HOME", self.home).env("SKYPIPE_KEEP_FREE", "0");
        command.env_remove("SKYPIPE_RELAY");
        Ok(command)
    }

    /// The process that the lock names.
    fn process(&self) -> Option<rustix::process::Pid> {
        let lock = std::fs::read_to_string(self.home.join("lock")).ok()?;
        let id = lock.split_whitespace().next()?.parse().ok()?;
        rustix::process::Pid::from_raw(id)
    }
}

impl Drop for LocalRelay<'_> {
    fn drop(&mut self) {
        let Some(process) = self.process() else { return };
        let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        let is_over = || Ok(rustix::process::test_kill_process(process).is_err());
        if let Err(error) = until(END_LIMIT, "the local relay ends", is_over) {
            eprintln!("{error}");
        }
    }
}

//! What a reader costs a server that waits for something to come.

use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Failure;
use crate::contender::Contender;
use crate::crew::Crew;
use crate::flow::reader;
use crate::ground::Ground;
use crate::peers::{Nats, Redis, Skypipe};
use crate::row::{Entry, Outcome, Row, Setting};
use crate::task::{Pace, Task};

const WHOLE: u64 = 10_000;
const QUICK: u64 = 100;
/// What a server may still do behind the last attach.
const SETTLING: Duration = Duration::from_secs(1);
const WHO: [&dyn Contender; 6] = [&Skypipe::Local, &Skypipe::Ws, &Skypipe::Wss, &Skypipe::Quic, &Nats, &Redis::Publish];

pub(super) fn rows(setting: &Setting) -> Vec<Row> {
    // What is started may have as many connections as this machine allows.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let sessions = setting.size(WHOLE, QUICK);
    let task = Task::live(16, sessions).with_pace(Pace::Idle);
    vec![Row {
        family: "idle",
        name: format!("{sessions} idle readers, each on a connection of its own"),
        entries: WHO.map(|who| entry(who, task.clone())).into(),
    }]
}

fn entry(who: &'static dyn Contender, task: Task) -> Entry {
    let measure = move |setting: &Setting| {
        let each = memory_of_each(who, &task, setting)?;
        Ok(Outcome::one("KiB of the server's memory for each", each / 1024.0))
    };
    Entry::of(who, measure).acknowledged("attached")
}

/// Bytes of the server's memory for each idle reader.
pub(crate) fn memory_of_each(who: &dyn Contender, task: &Task, setting: &Setting) -> Result<f64, Failure> {
    let ground = Ground::new(setting)?;
    let server = who.serve(&ground)?;
    let process = server.process.as_ref().ok_or("no server")?;
    let before = process.resident()?;
    let mut crew = Crew::new(&ground, "control")?;
    reader(&mut crew, who, task, &server)?;
    crew.ready(1)?;
    thread::sleep(SETTLING);
    let each = process.resident()?.saturating_sub(before) as f64 / task.records as f64;
    crew.go()?;
    crew.reports()?;
    Ok(each)
}

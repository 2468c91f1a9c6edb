//! One run of one contender: records from writers through the server to readers, checked.

use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::Failure;
use crate::contender::{Contender, Ends, Side};
use crate::control::Report;
use crate::crew::Crew;
use crate::ground::{Ground, Server};
use crate::process::cpu_of_ended;
use crate::record::Digest;
use crate::row::Setting;
use crate::task::{Pace, Task};

/// How long commands get to reach their server before the first byte: they do not say when they have.
const SETTLING: Duration = Duration::from_millis(300);

/// What came of a run.
pub(crate) struct Flown {
    /// From the first record to the last byte at the last reader.
    pub(crate) seconds: f64,
    /// CPU of all processes.
    pub(crate) cpu: f64,
    /// See [`Report::times`]; of all readers.
    pub(crate) times: Vec<u64>,
}

/// What came of a run in which all is stored first and then read.
pub(crate) struct Kept {
    /// From the first record to the last acknowledgement.
    pub(crate) writing: f64,
    /// From the reader's attaching to its last byte.
    pub(crate) reading: f64,
    /// CPU of all processes while writing.
    pub(crate) cpu: f64,
}

/// To readers that are there.
pub(crate) fn live(
    contender: &dyn Contender,
    task: &Task,
    readers: usize,
    setting: &Setting,
) -> Result<Flown, Failure> {
    let ground = Ground::new(setting)?;
    let server = contender.serve(&ground)?;
    let (ended, served) = (cpu_of_ended(), server.cpu());
    let mut crew = Crew::new(&ground, "control")?;
    match contender.ends() {
        Ends::Own => own_ends(&mut crew, contender, task, readers, &server)?,
        Ends::Commands => command_ends(&mut crew, contender, task, &server, &ground)?,
        Ends::Pipe => pipe_ends(&mut crew, task)?,
    }
    crew.go()?;
    let reports = crew.reports()?;
    let cpu = cpu_of_ended() - ended + server.cpu() - served;
    let (readers, writers): (Vec<Report>, Vec<Report>) =
        reports.into_iter().partition(|report| report.digest.is_some());
    check(task, &readers)?;
    let begin = writers.iter().map(|report| report.begin).min().unwrap_or(0);
    let end = readers.iter().map(|report| report.end).max().unwrap_or(0);
    let times = readers.into_iter().flat_map(|report| report.times).collect();
    Ok(Flown { seconds: seconds(begin, end), cpu, times })
}

/// To nobody, and then to a reader. `between` is called with the folder of the data before that.
pub(crate) fn kept(
    contender: &dyn Contender,
    task: &Task,
    setting: &Setting,
    between: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<Kept, Failure> {
    let ground = Ground::new(setting)?;
    let server = contender.serve(&ground)?;
    let (ended, served) = (cpu_of_ended(), server.cpu());
    let mut crew = Crew::new(&ground, "writers")?;
    let count = writers(&mut crew, contender, task, &server)?;
    crew.ready(count)?;
    crew.go()?;
    let writers = crew.reports()?;
    let cpu = cpu_of_ended() - ended + server.cpu() - served;
    between(ground.data())?;
    let mut crew = Crew::new(&ground, "readers")?;
    reader(&mut crew, contender, task, &server)?;
    crew.ready(1)?;
    let readers = crew.reports()?;
    check(task, &readers)?;
    let begin = writers.iter().map(|report| report.begin).min().unwrap_or(0);
    let end = writers.iter().map(|report| report.end).max().unwrap_or(0);
    let reading = readers.iter().map(|report| seconds(report.begin, report.end)).sum();
    Ok(Kept { writing: seconds(begin, end), reading, cpu })
}

/// Fails unless every reader got everything.
pub(crate) fn check(task: &Task, readers: &[Report]) -> Result<(), Failure> {
    let expected = Digest::expected(task);
    match readers.iter().filter_map(|report| report.digest).find(|digest| *digest != expected) {
        Some(digest) => Err(format!("{digest:?} came, {expected:?} was sent").into()),
        None => Ok(()),
    }
}

fn own_ends(
    crew: &mut Crew,
    contender: &dyn Contender,
    task: &Task,
    readers: usize,
    server: &Server,
) -> Result<(), Failure> {
    for _ in 0..readers {
        reader(crew, contender, task, server)?;
    }
    crew.ready(readers)?;
    let writers = writers(crew, contender, task, server)?;
    crew.ready(readers + writers)
}

/// Starts one reader.
pub(crate) fn reader(crew: &mut Crew, contender: &dyn Contender, task: &Task, server: &Server) -> Result<(), Failure> {
    let mut role = crew.role("read", task, &[&contender.name(), &server.at])?;
    crew.start("reader", &mut role)
}

/// Starts the processes of the writers, and says how many they are.
pub(crate) fn writers(
    crew: &mut Crew,
    contender: &dyn Contender,
    task: &Task,
    server: &Server,
) -> Result<usize, Failure> {
    let processes = if task.pace == Pace::Outstanding { 1 } else { task.writers };
    for writer in 0..processes {
        let task = Task { writer, ..task.clone() };
        let mut role = crew.role("write", &task, &[&contender.name(), &server.at])?;
        crew.start("writer", &mut role)?;
    }
    Ok(usize::from(processes))
}

fn command_ends(
    crew: &mut Crew,
    contender: &dyn Contender,
    task: &Task,
    server: &Server,
    ground: &Ground,
) -> Result<(), Failure> {
    let reading = &mut contender.command(Side::Read, server, ground)?;
    let output = crew.start_with_stdout("the reading command", reading.stdin(Stdio::null()))?;
    let mut check = crew.role("check", task, &[])?;
    crew.start("checker", check.stdin(output))?;
    crew.ready(1)?;
    thread::sleep(SETTLING);
    let mut generate = crew.role("generate", task, &[])?;
    let output = crew.start_with_stdout("generator", &mut generate)?;
    let writing = &mut contender.command(Side::Write, server, ground)?;
    crew.start("the writing command", writing.stdin(output))?;
    crew.ready(2)?;
    thread::sleep(SETTLING);
    Ok(())
}

fn pipe_ends(crew: &mut Crew, task: &Task) -> Result<(), Failure> {
    let mut generate = crew.role("generate", task, &[])?;
    let output = crew.start_with_stdout("generator", &mut generate)?;
    let mut check = crew.role("check", task, &[])?;
    crew.start("checker", check.stdin(output))?;
    crew.ready(2)
}

fn seconds(begin: u64, end: u64) -> f64 {
    end.saturating_sub(begin) as f64 / 1e9
}

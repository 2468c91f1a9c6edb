//! What grows, and what it is measured by.

use std::time::Instant;

use super::Axis;
use crate::Failure;
use crate::contender::Contender;
use crate::crew::Crew;
use crate::flow::{kept, live, writers};
use crate::ground::{Ground, Server};
use crate::peers::Skypipe;
use crate::row::{Outcome, Setting};
use crate::rows::{idle, pipes};
use crate::task::{Pace, Task};

const RECORD_BYTES: usize = 128;
/// Of what is stored to see how long a start takes: enough bytes in each that the disk and not the records count.
const LARGE_RECORD_BYTES: usize = 16 * 1024;
/// Records that arrive, all readers together.
const ARRIVING: u64 = 6_400_000;
const ALL: &dyn Contender = &Skypipe::Local;

pub(super) const AXES: &[Axis] = &[
    Axis { name: "records stored in one pipe", sizes: [10_000, 100_000, 1_000_000, 10_000_000], measure: records },
    Axis { name: "readers of one pipe", sizes: [1, 4, 16, 64], measure: readers },
    Axis { name: "writers of one pipe", sizes: [1, 4, 16, 64], measure: many_writers },
    Axis { name: "pipes with one stored record", sizes: [1_000, 10_000, 100_000, 1_000_000], measure: with_pipes },
    Axis { name: "connections that idle", sizes: [10, 100, 1_000, 10_000], measure: connections },
    Axis { name: "bytes stored", sizes: [64 << 20, 256 << 20, 1 << 30, 4 << 30], measure: stored },
];

fn records(setting: &Setting, count: u64) -> Result<Outcome, Failure> {
    let kept = kept(ALL, &Task::stored(RECORD_BYTES, count), setting, |_| Ok(()))?;
    let each = |seconds: f64| seconds * 1e9 / count as f64;
    Ok(Outcome::one("ns to store each record", each(kept.writing)).and("ns to read each record", each(kept.reading)))
}

fn readers(setting: &Setting, count: u64) -> Result<Outcome, Failure> {
    let task = Task::live(RECORD_BYTES, ARRIVING / count);
    each_delivered(live(ALL, &task, usize::try_from(count)?, setting)?.cpu)
}

fn many_writers(setting: &Setting, count: u64) -> Result<Outcome, Failure> {
    let task = Task::live(RECORD_BYTES, ARRIVING / count).with_writers(u16::try_from(count)?);
    each_delivered(live(ALL, &task, 1, setting)?.cpu)
}

fn each_delivered(cpu: f64) -> Result<Outcome, Failure> {
    Ok(Outcome::one("ns of CPU for each delivered record", cpu * 1e9 / ARRIVING as f64))
}

fn with_pipes(setting: &Setting, count: u64) -> Result<Outcome, Failure> {
    let measured = pipes::measured(setting, count)?;
    let each = |value: f64| value / count as f64;
    Ok(Outcome::one("bytes of the relay's memory for each pipe", each(measured.memory_started as f64))
        .and("µs of a start for each pipe", each(measured.start * 1e6))
        .and("ms, `ls` of one prefix", measured.listing * 1e3))
}

fn connections(setting: &Setting, count: u64) -> Result<Outcome, Failure> {
    let task = Task::live(16, count).with_pace(Pace::Idle);
    Ok(Outcome::one(
        "KiB of the relay's memory for each connection",
        idle::memory_of_each(ALL, &task, setting)? / 1024.0,
    ))
}

/// Records of [`LARGE_RECORD_BYTES`] in one pipe, and then the relay again on what is there.
fn stored(setting: &Setting, bytes: u64) -> Result<Outcome, Failure> {
    let ground = Ground::new(setting)?;
    let server = ALL.serve(&ground)?;
    let task = Task::stored(LARGE_RECORD_BYTES, bytes / LARGE_RECORD_BYTES as u64);
    write(&ground, &task, &server)?;
    drop(server);
    let start = Instant::now();
    let server = ALL.serve(&ground)?;
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    let resident = server.process.as_ref().ok_or("no relay")?.resident()?;
    Ok(Outcome::one("ms until a relay that was killed accepts again", milliseconds)
        .and("MiB of its memory then", resident as f64 / f64::from(1 << 20)))
}

fn write(ground: &Ground, task: &Task, server: &Server) -> Result<(), Failure> {
    let mut crew = Crew::new(ground, "writers")?;
    let count = writers(&mut crew, ALL, task, server)?;
    crew.ready(count)?;
    crew.go()?;
    crew.reports().map(drop)
}

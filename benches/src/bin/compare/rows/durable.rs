//! Records that are stored before the writer goes on, and a writer that does not wait for each.

use super::{KIB, length};
use crate::contender::Contender;
use crate::flow::kept;
use crate::peers::{PlainFile, Redis, Skypipe};
use crate::row::{Entry, Outcome, Row, Setting};
use crate::task::{Pace, Task};

const LENGTHS: [usize; 2] = [128, 16 * KIB];
/// Of so many writers: records of each, and of `--quick`.
const WRITERS: [(u16, u64, u64); 2] = [(1, 5_000, 200), (64, 2_000, 20)];
/// Of each length, by a writer that does not wait.
const PIPELINED: [(u64, u64); 2] = [(3_000_000, 100_000), (32_768, 2_000)];
const WAITING: [&dyn Contender; 3] = [&Skypipe::Local, &PlainFile::Grouped, &Redis::Stream];
const NOT_WAITING: [&dyn Contender; 4] = [&Skypipe::Local, &PlainFile::Grouped, &PlainFile::Sequential, &Redis::Stream];

pub(super) fn rows(setting: &Setting) -> Vec<Row> {
    let waiting = LENGTHS.into_iter().flat_map(|bytes| WRITERS.map(|writers| waiting(setting, bytes, writers)));
    let not_waiting = LENGTHS.into_iter().zip(PIPELINED).map(|(bytes, records)| not_waiting(setting, bytes, records));
    waiting.chain(not_waiting).collect()
}

fn waiting(setting: &Setting, record_bytes: usize, (writers, whole, quick): (u16, u64, u64)) -> Row {
    let task = Task::stored(record_bytes, setting.size(whole, quick));
    let task = task.with_writers(writers).with_pace(Pace::Outstanding);
    let who = if writers == 1 { "1 writer".to_owned() } else { format!("{writers} writers") };
    Row {
        family: "durable",
        name: format!("stored one by one, {who}, {}", length(record_bytes)),
        entries: WAITING.map(|who| entry(who, task.clone())).into(),
    }
}

fn not_waiting(setting: &Setting, record_bytes: usize, (whole, quick): (u64, u64)) -> Row {
    let task = Task::stored(record_bytes, setting.size(whole, quick));
    Row {
        family: "pipelined",
        name: format!("stored without waiting, 1 writer, {}", length(record_bytes)),
        entries: NOT_WAITING.map(|who| entry(who, task.clone())).into(),
    }
}

fn entry(who: &'static dyn Contender, task: Task) -> Entry {
    let entry = Entry::of(who, move |setting| {
        let kept = kept(who, &task, setting, |_| Ok(()))?;
        let rate = task.records_of_all() as f64 / 1e3 / kept.writing;
        Ok(Outcome::one("k records/s", rate).with_cpu(kept.cpu, task.bytes()))
    });
    stored(who, entry)
}

/// What skypipe waits for here.
pub(super) fn stored(who: &dyn Contender, entry: Entry) -> Entry {
    if who.name().starts_with("skypipe") { entry.acknowledged("stored") } else { entry }
}

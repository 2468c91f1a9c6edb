//! Small records on one machine, from one writer to one reader.

use super::{KIB, length, records_per_second};
use crate::contender::Contender;
use crate::peers::{Bare, Nats, Redis, Skypipe};
use crate::row::{Row, Setting};
use crate::task::Task;

/// Of each length: records, and records of `--quick`.
const SIZES: [(usize, u64, u64); 4] =
    [(16, 8_000_000, 100_000), (128, 6_000_000, 100_000), (KIB, 1_500_000, 20_000), (16 * KIB, 131_072, 2_000)];
const WHO: [&dyn Contender; 4] = [&Skypipe::Local, &Bare::Unix, &Nats, &Redis::Publish];

pub(super) fn rows(setting: &Setting) -> Vec<Row> {
    SIZES.map(|(record_bytes, whole, quick)| row(record_bytes, setting.size(whole, quick))).into()
}

fn row(record_bytes: usize, records: u64) -> Row {
    let task = Task::live(record_bytes, records);
    Row {
        family: "messages",
        name: format!("messages 1 to 1, {}, local", length(record_bytes)),
        entries: WHO.map(|who| records_per_second(who, task.clone(), 1)).into(),
    }
}

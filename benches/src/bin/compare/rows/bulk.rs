//! Large records on one machine, made and checked in memory.

use super::{KIB, bytes_per_second, length};
use crate::contender::Contender;
use crate::peers::{Bare, Nats, Redis, Skypipe};
use crate::row::{Row, Setting};
use crate::task::Task;

const WHOLE: u64 = 2 << 30;
const QUICK: u64 = 32 << 20;
const WHO: [&dyn Contender; 5] = [&Skypipe::Local, &Bare::Unix, &Bare::Tcp, &Redis::Publish, &Nats];

pub(super) fn rows(setting: &Setting) -> Vec<Row> {
    [64 * KIB, 256 * KIB, KIB * KIB].map(|bytes| row(setting, bytes)).into()
}

fn row(setting: &Setting, record_bytes: usize) -> Row {
    let task = Task::live(record_bytes, setting.size(WHOLE, QUICK) / record_bytes as u64);
    Row {
        family: "bulk",
        name: format!("bulk, {}, local", length(record_bytes)),
        entries: WHO.map(|who| bytes_per_second(who, task.clone())).into(),
    }
}

//! One writer to eight readers, eight writers to one.

use super::{length, records_per_second};
use crate::contender::Contender;
use crate::peers::{Nats, Redis, Skypipe};
use crate::row::{Row, Setting};
use crate::task::Task;

const MANY: u16 = 8;
const RECORD_BYTES: usize = 128;
/// Records that arrive, all readers together.
const WHOLE: u64 = 8_000_000;
const QUICK: u64 = 80_000;
const WHO: [&dyn Contender; 3] = [&Skypipe::Local, &Nats, &Redis::Publish];

pub(super) fn rows(setting: &Setting) -> Vec<Row> {
    let each = setting.size(WHOLE, QUICK) / u64::from(MANY);
    let task = Task::live(RECORD_BYTES, each);
    vec![row("fan-out 1 to 8", &task, usize::from(MANY)), row("fan-in 8 to 1", &task.clone().with_writers(MANY), 1)]
}

fn row(name: &str, task: &Task, readers: usize) -> Row {
    Row {
        family: "fan",
        name: format!("{name}, {}, local", length(RECORD_BYTES)),
        entries: WHO.map(|who| records_per_second(who, task.clone(), readers)).into(),
    }
}

//! `generator | skypipe p` and `skypipe read p | checker`, beside what people would type instead.

use super::{KIB, bytes_per_second};
use crate::contender::Contender;
use crate::peers::{KernelPipe, PipingServer, Skypipe, SkypipeCommands, Socat};
use crate::row::{Row, Setting};
use crate::task::Task;

const WHOLE: u64 = 4 << 30;
const QUICK: u64 = 32 << 20;
/// What the generator writes at once.
const BLOCK_BYTES: usize = 256 * KIB;
const WHO: [&dyn Contender; 4] = [&SkypipeCommands(Skypipe::Local), &KernelPipe, &Socat, &PipingServer];

pub(super) fn rows(setting: &Setting) -> Vec<Row> {
    let task = Task::live(BLOCK_BYTES, setting.size(WHOLE, QUICK) / BLOCK_BYTES as u64);
    vec![Row {
        family: "commands",
        name: "bulk through commands, local".to_owned(),
        entries: WHO.map(|who| bytes_per_second(who, task.clone())).into(),
    }]
}

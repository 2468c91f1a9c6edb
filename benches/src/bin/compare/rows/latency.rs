//! How long a record is on its way when there is little to do.

use super::length;
use crate::contender::Contender;
use crate::flow::live;
use crate::peers::{Bare, Mosquitto, Nats, Redis, Skypipe};
use crate::row::{Entry, Outcome, Row, Setting};
use crate::task::{Pace, Task};

const RECORD_BYTES: usize = 128;
const EVERY_MICROS: u64 = 1000;
const WHOLE: u64 = 10_000;
const QUICK: u64 = 1_000;
/// Records at the beginning that do not count: caches and timers are cold.
const COLD: usize = 200;

const LOCAL: [&dyn Contender; 6] = [&Skypipe::Local, &Bare::Unix, &Bare::Tcp, &Nats, &Redis::Publish, &Mosquitto];
const QUIC: [&dyn Contender; 2] = [&Skypipe::Quic, &Bare::Quinn];
const WS: [&dyn Contender; 2] = [&Skypipe::Ws, &Bare::Ws];

pub(super) fn rows(setting: &Setting) -> Vec<Row> {
    vec![row(setting, "local", &LOCAL), row(setting, "quic", &QUIC), row(setting, "ws", &WS)]
}

fn row(setting: &Setting, medium: &str, who: &[&'static dyn Contender]) -> Row {
    let task = Task::live(RECORD_BYTES, setting.size(WHOLE, QUICK)).with_pace(Pace::Every(EVERY_MICROS));
    Row {
        family: "latency",
        name: format!("latency, {} at 1,000/s, {medium}", length(RECORD_BYTES)),
        entries: who.iter().map(|&who| entry(who, task.clone())).collect(),
    }
}

fn entry(who: &'static dyn Contender, task: Task) -> Entry {
    Entry::of(who, move |setting| {
        let mut times = live(who, &task, 1, setting)?.times.split_off(COLD);
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1e3;
        Ok(Outcome::one("us, p50", at(0.5)).and("us, p99", at(0.99)).and("us, p99.9", at(0.999)))
    })
    .acknowledged("nothing: one way, writer to reader")
}

//! The rows, a family each.

mod afar;
mod bulk;
mod cold;
mod commands;
mod durable;
mod fan;
pub(crate) mod idle;
mod latency;
mod messages;
pub(crate) mod pipes;
mod store;

pub(crate) use pipes::fill;

use crate::contender::Contender;
use crate::flow::live;
use crate::row::{Entry, Outcome, Row, Setting};
use crate::task::Task;

const KIB: usize = 1024;

/// All rows, those first that tell most.
pub(crate) fn all(setting: &Setting) -> Vec<Row> {
    let families = [
        bulk::rows,
        messages::rows,
        latency::rows,
        commands::rows,
        afar::rows,
        durable::rows,
        store::rows,
        fan::rows,
        cold::rows,
        idle::rows,
        pipes::rows,
    ];
    families.into_iter().flat_map(|rows| rows(setting)).collect()
}

/// Bytes per second that reach all readers together.
fn bytes_per_second(contender: &'static dyn Contender, task: Task) -> Entry {
    Entry::of(contender, move |setting| {
        let flown = live(contender, &task, 1, setting)?;
        let rate = task.bytes() as f64 / 1e9 / flown.seconds;
        Ok(Outcome::one("GB/s", rate).with_cpu(flown.cpu, task.bytes()))
    })
}

/// Records per second that reach all readers together.
fn records_per_second(contender: &'static dyn Contender, task: Task, readers: usize) -> Entry {
    Entry::of(contender, move |setting| {
        let flown = live(contender, &task, readers, setting)?;
        let rate = (task.records_of_all() * readers as u64) as f64 / 1e3 / flown.seconds;
        Ok(Outcome::one("k records/s", rate).with_cpu(flown.cpu, task.bytes() * readers as u64))
    })
}

fn length(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= KIB * KIB => format!("{} MiB", bytes / KIB / KIB),
        bytes if bytes >= KIB => format!("{} KiB", bytes / KIB),
        bytes => format!("{bytes} B"),
    }
}

//! Processes that had a session at the last host, and may be gone since.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::caller::ProcessId;
use crate::delivery::Machine;
use crate::time::Time;

use super::cell::SharedCell;
use super::shared::Shared;

/// How often it is looked whether a process that has not come back still runs: what others wait at most for the end of a process
/// that died without a link. One look reads one small file of the kernel.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Tells a running process from a dead one.
pub(super) type IsAlive = fn(ProcessId) -> bool;

/// Watches the sessions of these pipes until all have come back or are given up.
pub(super) fn watch(shared: &Arc<Shared>, cells: Vec<SharedCell>, is_alive: IsAlive) {
    if !cells.is_empty() {
        tokio::spawn(run(Arc::downgrade(shared), cells, is_alive));
    }
}

/// Gives up the sessions whose process is gone. Returns whether other processes are still to come back.
pub(super) fn give_up_the_dead(pipe: &mut Machine, is_alive: IsAlive, now: Time) -> bool {
    let mut some_are_awaited = false;
    for (session, process) in pipe.away() {
        match process {
            Some(process) if is_alive(process) => some_are_awaited = true,
            Some(_) => pipe.lost(session, now),
            None => {}
        }
    }
    some_are_awaited
}

async fn run(shared: Weak<Shared>, mut cells: Vec<SharedCell>, is_alive: IsAlive) {
    while !cells.is_empty() {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(shared) = shared.upgrade().filter(|shared| !shared.is_draining()) else { return };
        let now = shared.env.now();
        cells.retain(|cell| cell.change(&shared, |pipe| give_up_the_dead(pipe, is_alive, now)) == Some(true));
    }
}

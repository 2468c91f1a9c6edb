//! One task that wakes pipes when something is due.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Notify;

use crate::id::PipeId;
use crate::time::Time;

use super::shared::{Shared, lock};

/// When which pipe wants to be woken. A pipe stands here once, at the earliest moment it asked for; waking it too early costs a look.
#[derive(Default)]
pub(super) struct Timers {
    due: Mutex<BTreeSet<(Time, PipeId)>>,
    changed: Notify,
}

impl Timers {
    /// Starts the task. It ends with the broker.
    pub(super) fn start(shared: &Arc<Shared>) {
        tokio::spawn(run(Arc::downgrade(shared)));
    }

    /// Wakes `pipe` at `at`, instead of at `before`.
    pub(super) fn set(&self, pipe: PipeId, before: Option<Time>, at: Time) {
        let mut due = lock(&self.due);
        if let Some(before) = before {
            due.remove(&(before, pipe));
        }
        due.insert((at, pipe));
        if due.first() == Some(&(at, pipe)) {
            self.changed.notify_one();
        }
    }

    fn first(&self) -> Option<Time> {
        lock(&self.due).first().map(|(at, _)| *at)
    }

    fn take_due(&self, now: Time) -> Option<PipeId> {
        let mut due = lock(&self.due);
        let first = *due.first()?;
        (first.0 <= now && due.remove(&first)).then_some(first.1)
    }
}

async fn run(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let now = strong.env.now();
        while let Some(pipe) = strong.timers.take_due(now) {
            let cell = strong.directory().by_id(pipe);
            if let Some(cell) = cell {
                cell.tick(&strong, now);
            }
        }
        // While the task sleeps it must not keep the broker alive, so it looks again every now and then.
        let wait = strong.timers.first().map_or(LOOK_AGAIN, |at| at.since(now).min(LOOK_AGAIN));
        let shared_changed = strong.clone();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared_changed.timers.changed.notified() => {}
        }
    }
}

/// How long the task of a broker that nobody holds any more may linger.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

//! One task that wakes pipes when something is due.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::id::PipeId;
use crate::time::Time;

use super::shared::{Shared, lock};
use super::{owners, pressure};

/// When which pipe wants to be woken. A pipe stands here once, at the earliest moment it asked for; waking it too early costs a look.
#[derive(Default)]
pub(super) struct Timers {
    due: Mutex<BTreeSet<(Time, PipeId)>>,
    changed: Arc<Notify>,
    /// What the pipes know of memory, so that they are told when it changes.
    pub(super) is_pressed: AtomicBool,
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

    /// Lets the task see what else changed: who has room, or that the broker is gone.
    pub(super) fn look(&self) {
        self.changed.notify_one();
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
        owners::follow(&strong);
        let is_pressed = pressure::follow(&strong);
        let (first, changed) = (strong.timers.first(), strong.timers.changed.clone());
        let intake = strong.memory.intake.clone();
        // While the task sleeps it must not keep the broker alive.
        drop(strong);
        tokio::select! {
            () = wait(first.map(|at| at.since(now)), &changed) => {}
            _ = poll_fn(|cx| intake.poll_pressure(is_pressed, cx)) => {}
        }
    }
}

async fn wait(at_most: Option<Duration>, changed: &Notify) {
    match at_most {
        Some(at_most) => drop(tokio::time::timeout(at_most, changed.notified()).await),
        None => changed.notified().await,
    }
}

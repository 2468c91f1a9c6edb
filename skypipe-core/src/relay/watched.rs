//! A value that others wait for.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// A value that others wait for. They are woken in the order in which they came to wait; tokio's own `watch` leaves that to chance.
#[derive(Debug)]
pub(super) struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Copy> Watched<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    pub(super) fn get(&self) -> T {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it and wakes who waits.
    pub(super) fn modify(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
    }

    /// Resolves when it is as `wanted`.
    pub(super) async fn wait_for(&self, wanted: impl Fn(T) -> bool) {
        loop {
            // From here on no change is missed.
            let changed = self.changed.notified();
            if wanted(self.get()) {
                return;
            }
            changed.await;
        }
    }

    /// Resolves at the next change behind this call, if it is as `still` now; else at once.
    pub(super) async fn changed_from(&self, still: impl Fn(T) -> bool) {
        let changed = self.changed.notified();
        if still(self.get()) {
            changed.await;
        }
    }
}

//! Told to all streams of a link: what they were admitted to is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The link's side. A fraction of what a watch channel costs, and every idle link has one.
pub(super) struct Over(Arc<Shared>);

/// A stream's side, counted until it is dropped.
pub(super) struct OverWatch(Arc<Shared>);

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    /// Wakes the streams.
    told: Notify,
    streams: AtomicUsize,
    /// Wakes the link when the last stream let go.
    left: Notify,
}

impl Over {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    pub(super) fn watch(&self) -> OverWatch {
        self.0.streams.fetch_add(1, Ordering::AcqRel);
        OverWatch(self.0.clone())
    }

    /// Tells all streams, and waits until they let go.
    pub(super) async fn declare(&self) {
        self.0.is_over.store(true, Ordering::Release);
        self.0.told.notify_waiters();
        while self.0.streams.load(Ordering::Acquire) > 0 {
            self.0.left.notified().await;
        }
    }
}

impl OverWatch {
    /// Resolves when it is over.
    pub(super) async fn declared(&self) {
        // Waits before it looks, so that no word falls between the two.
        let told = self.0.told.notified();
        if !self.0.is_over.load(Ordering::Acquire) {
            told.await;
        }
    }
}

impl Drop for OverWatch {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_streams_are_told_and_waited_for() {
        let over = Over::new();
        over.declare().await;
        let over = Over::new();
        let streams: Vec<OverWatch> = (0..3).map(|_| over.watch()).collect();
        let waiting = streams.into_iter().map(|stream| tokio::spawn(async move { stream.declared().await }));
        let waiting: Vec<_> = waiting.collect();
        tokio::task::yield_now().await;
        over.declare().await;
        for stream in waiting {
            stream.await.unwrap();
        }
    }
}

//! Told to all streams of a link: it is over, and why.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::bucket::Bucket;
use crate::error::{Code, Error};
use crate::time::Time;

/// Streams a minute that a peer may cut before they were answered. Honest ones are cut when a command is interrupted.
const CUTS_PER_MINUTE_MAX: u32 = 1_000;

/// Why a link is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// What its key was admitted to.
    Revoked,
    /// How much its key may have was changed, and nothing else.
    Limited,
    /// Too many of its streams came to nothing.
    Floods,
}

impl Why {
    /// What the streams are told. Sessions go on over another link by themselves where the key is as good as before.
    pub(super) fn error(self) -> Error {
        match self {
            Self::Revoked => Error::new(Code::Access, "the key was revoked, or what it may do was changed"),
            Self::Limited => Error::new(Code::Disconnected, "how much the key may have was changed"),
            Self::Floods => Error::new(Code::Busy, "too many streams of this link were cut before they were answered"),
        }
    }
}

/// The link's side. A fraction of what a watch channel costs, and every idle link has one.
pub(super) struct Over(Arc<Shared>);

/// A stream's side, counted until it is dropped.
pub(super) struct OverWatch(Arc<Shared>);

struct Shared {
    why: OnceLock<Why>,
    /// Wakes the streams.
    told: Notify,
    streams: AtomicUsize,
    /// Wakes the link when the last stream let go.
    left: Notify,
    cuts: Mutex<Bucket>,
    /// Wakes the link when there were too many.
    flooded: Notify,
}

impl Over {
    pub(super) fn new(now: Time) -> Self {
        let cuts = Mutex::new(Bucket::new(CUTS_PER_MINUTE_MAX, now));
        let (why, told, streams, left, flooded) = Default::default();
        Self(Arc::new(Shared { why, told, streams, left, cuts, flooded }))
    }

    pub(super) fn watch(&self) -> OverWatch {
        self.0.streams.fetch_add(1, Ordering::AcqRel);
        OverWatch(self.0.clone())
    }

    /// Resolves when more streams were cut than may be.
    pub(super) async fn flooded(&self) {
        self.0.flooded.notified().await;
    }

    /// Tells all streams, and waits until they let go.
    pub(super) async fn declare(&self, why: Why) {
        let _ = self.0.why.set(why);
        self.0.told.notify_waiters();
        while self.0.streams.load(Ordering::Acquire) > 0 {
            self.0.left.notified().await;
        }
    }
}

impl OverWatch {
    /// Resolves when it is over.
    pub(super) async fn declared(&self) -> Why {
        loop {
            // Waits before it looks, so that no word falls between the two.
            let told = self.0.told.notified();
            if let Some(why) = self.0.why.get() {
                return *why;
            }
            told.await;
        }
    }

    /// The stream was cut before it was answered.
    pub(super) fn cut(&self, now: Time) {
        if !self.0.cuts.lock().unwrap_or_else(PoisonError::into_inner).take(now) {
            self.0.flooded.notify_one();
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
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn all_streams_are_told_and_waited_for() {
        let over = Over::new(Time(0));
        over.declare(Why::Revoked).await;
        let over = Over::new(Time(0));
        let streams: Vec<OverWatch> = (0..3).map(|_| over.watch()).collect();
        let waiting = streams.into_iter().map(|stream| tokio::spawn(async move { stream.declared().await }));
        let waiting: Vec<_> = waiting.collect();
        tokio::task::yield_now().await;
        over.declare(Why::Floods).await;
        for stream in waiting {
            assert_eq!(stream.await.unwrap(), Why::Floods);
        }
    }

    #[test]
    fn a_thousand_cuts_a_minute_are_none_too_many() {
        let over = Over::new(Time(0));
        let mut now = Time(0);
        for _ in 0..CUTS_PER_MINUTE_MAX {
            over.watch().cut(now);
        }
        for _ in 0..CUTS_PER_MINUTE_MAX {
            now = now.plus(Duration::from_millis(60));
            over.watch().cut(now);
        }
        assert!(over.flooded().now_or_never().is_none());
        over.watch().cut(now);
        assert!(over.flooded().now_or_never().is_some());
    }
}

//! A flood of frames is read no faster than allowed.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::time::{Instant, Sleep};

/// A stream of messages that gives no more than so many a second.
pub(super) struct Paced<S> {
    stream: S,
    per_second: u32,
    taken: u32,
    since: Instant,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, per_second: u32) -> Self {
        Self { stream, per_second: per_second.max(1), taken: 0, since: Instant::now(), pause: None }
    }

    /// Counts a message. The last one that a second may have begins a pause until that second is over. The clock is read once
    /// in so many messages, not for each.
    fn took_one(&mut self) {
        self.taken += 1;
        if self.taken < self.per_second {
            return;
        }
        let (now, end) = (Instant::now(), self.since + Duration::from_secs(1));
        self.pause = (now < end).then(|| Box::pin(tokio::time::sleep_until(end)));
        self.taken = 0;
        self.since = end.max(now);
    }
}

impl<S: Stream + Unpin> Stream for Paced<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let next = ready!(self.stream.poll_next_unpin(cx));
        self.took_one();
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_takes_its_seconds() {
        let start = Instant::now();
        let mut paced = Paced::new(futures::stream::iter(0..35), 10);
        assert_eq!(paced.by_ref().count().await, 35);
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(4), "{took:?}");
    }
}

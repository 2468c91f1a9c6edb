//! A flood is read no faster than allowed: of frames by anybody, of bytes by a key with a rate.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::time::{Instant, Sleep};

use super::rates::{SharedRate, lock};
use crate::env::Env;
use crate::error::Error;
use crate::wire::Message;

/// A stream of messages that gives no more than so many a second, and no faster than its key may write.
pub(super) struct Paced<S> {
    stream: S,
    per_second: u32,
    taken: u32,
    since: Instant,
    pause: Option<Pin<Box<Sleep>>>,
    /// Boxed: few keys have one.
    rate: Option<Box<KeyRate>>,
}

/// How fast the key may write that a stream belongs to.
pub(super) struct KeyRate {
    pub(super) rate: SharedRate,
    pub(super) env: Env,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, per_second: u32) -> Self {
        let (per_second, since) = (per_second.max(1), Instant::now());
        Self { stream, per_second, taken: 0, since, pause: None, rate: None }
    }

    /// The same at the rate of a key. What the key sent before, on other streams too, is waited for first.
    pub(super) fn at(mut self, rate: Option<KeyRate>) -> Self {
        self.rate = rate.map(Box::new);
        self.spend(0);
        self
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

    /// Counts bytes of a key that has a rate.
    fn spend(&mut self, bytes: usize) {
        let Some(KeyRate { rate, env }) = self.rate.as_deref() else { return };
        let (mut rate, now) = (lock(rate), env.now());
        rate.spend(bytes as u64, now);
        let wait = rate.wait(now);
        if wait > Duration::ZERO {
            self.pause = Some(Box::pin(tokio::time::sleep(wait)));
        }
    }
}

impl<M: Message, S: Stream<Item = Result<M, Error>> + Unpin> Stream for Paced<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let next = ready!(self.stream.poll_next_unpin(cx));
        self.took_one();
        if let Some(Ok(message)) = &next {
            self.spend(message.batch_bytes());
        }
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::broker::{ReaderUp, WriterUp};
    use crate::id::{Epoch, Seq, SessionId};
    use crate::identity::PublicKey;
    use crate::relay::rates::Rates;

    fn batches(count: u64, bytes: usize) -> impl Stream<Item = Result<WriterUp, Error>> + Unpin {
        futures::stream::iter((0..count).map(move |number| {
            let mut batch = BatchBuilder::new(SessionId([1; 16]), Epoch(1), Seq(number));
            assert!(batch.push(&vec![0; bytes], true, true));
            Ok(WriterUp::Batch(batch.build(None)))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_takes_its_seconds() {
        let start = Instant::now();
        let frames = futures::stream::iter((0..35).map(|_| Ok(ReaderUp::Credit(1))));
        let mut paced = Paced::new(frames, 10);
        assert_eq!(paced.by_ref().count().await, 35);
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(4), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn two_streams_of_a_key_share_its_rate_and_lose_nothing() {
        let (rates, env) = (Rates::default(), Env::system());
        let stream = || {
            let rate = rates.of(PublicKey([1; 32]), 100_000, env.now());
            Paced::new(batches(50, 10_000), 1_000_000).at(Some(KeyRate { rate, env: env.clone() }))
        };
        let start = Instant::now();
        let (first, second) = futures::join!(stream().count(), stream().count());
        assert_eq!((first, second), (50, 50));
        let took = start.elapsed();
        // A megabyte at 100 kB a second, of which one second is free.
        assert!(took >= Duration::from_millis(8_800) && took < Duration::from_secs(11), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nothing_waits() {
        let start = Instant::now();
        assert_eq!(Paced::new(batches(50, 10_000), 1_000_000).at(None).count().await, 50);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

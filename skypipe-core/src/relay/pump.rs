//! Passes messages on, from a stream to a sink, until one of them ends.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{Sink, Stream};

use crate::error::Error;
use crate::wire::Message;

/// Messages passed on before other tasks get their turn.
const BURST: u32 = 64;
/// Bytes of batches passed on before that: what a processor has in its cache still when the other half of the pipe gets its turn.
const BURST_BYTES: usize = 512 * 1024;

/// Why a pump stopped.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The stream ended and all of it was passed on.
    Ended,
    /// The stream failed; what it gave before was passed on.
    Stream(Error),
    /// The sink failed.
    Sink(Error),
}

/// Passes on what `stream` gives. Whatever is ready goes into the sink before one flush.
pub(super) async fn pump<M: Message>(
    stream: &mut (impl Stream<Item = Result<M, Error>> + Unpin),
    sink: &mut (impl Sink<M, Error = Error> + Unpin),
) -> Stopped {
    let mut pumping = Pumping { stream, sink, last: None };
    poll_fn(|cx| pumping.poll(cx)).await
}

struct Pumping<'a, S, K> {
    stream: &'a mut S,
    sink: &'a mut K,
    /// How the stream ended, while the sink still flushes. Boxed: it is seldom there.
    last: Option<Box<Stopped>>,
}

impl<M: Message, S, K> Pumping<'_, S, K>
where
    S: Stream<Item = Result<M, Error>> + Unpin,
    K: Sink<M, Error = Error> + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stopped> {
        match self.poll_burst(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(self.last.take().map_or(Stopped::Ended, |last| *last)),
            Poll::Ready(Err(error)) => Poll::Ready(Stopped::Sink(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_burst(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut bytes = 0;
        for _ in 0..BURST {
            if self.last.is_some() {
                return Pin::new(&mut *self.sink).poll_flush(cx);
            }
            ready!(Pin::new(&mut *self.sink).poll_ready(cx))?;
            match Pin::new(&mut *self.stream).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => {
                    bytes += message.batch_bytes();
                    Pin::new(&mut *self.sink).start_send(message)?;
                    if bytes >= BURST_BYTES {
                        break;
                    }
                }
                Poll::Ready(Some(Err(error))) => self.last = Some(Box::new(Stopped::Stream(error))),
                Poll::Ready(None) => self.last = Some(Box::new(Stopped::Ended)),
                Poll::Pending => {
                    ready!(Pin::new(&mut *self.sink).poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
        }
        ready!(Pin::new(&mut *self.sink).poll_flush(cx))?;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

//! One stream of a link.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::failure;
use crate::leaving;
use crate::link::Life;

/// Bytes taken over with one write: copied once, into memory that quinn keeps until they are acknowledged. Small enough to come from
/// memory that was used before, large enough that quinn is woken seldom.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// The application's code of a stream that was dropped in the middle of something.
const TORN: VarInt = VarInt::from_u32(1);

type Acknowledged = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

/// Both directions of a stream.
///
/// Shut down, it has arrived: the peer acknowledged every byte and the end. Dropped with something unflushed it is torn, which the
/// peer sees as an error. Dropped otherwise, what was flushed still arrives; the peer finds the end of the bytes there, and the end of
/// what they mean is for the layer above to say.
pub(crate) struct QuicStream {
    sending: SendStream,
    receiving: RecvStream,
    /// Taken over, but not by quinn yet.
    held: Bytes,
    /// Something was written after the last flush.
    unflushed: bool,
    /// Something was written after the peer last said something: it may not have heard it.
    unanswered: bool,
    ending: Ending,
    life: Arc<Life>,
}

enum Ending {
    No,
    /// Waits until the peer has it all.
    Finishing(Acknowledged),
    Done,
}

impl QuicStream {
    pub(crate) fn new((sending, receiving): (SendStream, RecvStream), life: Arc<Life>) -> Self {
        let (held, ending) = (Bytes::new(), Ending::No);
        Self { sending, receiving, held, unflushed: false, unanswered: false, ending, life }
    }

    /// Hands on what is held.
    fn poll_hand_on(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            // The future holds no state: a new one for each poll is the same write going on.
            let mut held = [std::mem::take(&mut self.held)];
            let written = pin!(self.sending.write_chunks(&mut held)).poll(cx);
            [self.held] = held;
            ready!(written).map_err(unwritable)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether something may still be on its way that the peer should get.
    fn owes(&self) -> bool {
        self.unanswered && !self.unflushed && matches!(self.ending, Ending::No | Ending::Finishing(_))
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.receiving.poll_read_buf(cx, buf)).map_err(unreadable)?;
        self.unanswered &= buf.filled().len() == before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !matches!(self.ending, Ending::No) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_hand_on(cx))?;
        self.held = gather(bufs);
        let taken = self.held.len();
        if taken > 0 {
            (self.unflushed, self.unanswered) = (true, true);
        }
        // What quinn has no room for now goes with the next write or the flush.
        if let Poll::Ready(Err(error)) = self.poll_hand_on(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_hand_on(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Ready when the peer has acknowledged all: a process may end right after.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        loop {
            match &mut self.ending {
                Ending::No => {
                    self.sending.finish().map_err(io::Error::other)?;
                    self.ending = Ending::Finishing(Box::pin(self.sending.stopped()));
                }
                Ending::Finishing(acknowledged) => {
                    let arrived = ready!(acknowledged.as_mut().poll(cx));
                    self.ending = Ending::Done;
                    return Poll::Ready(arrived.map_err(unacknowledged).and_then(read_to_the_end));
                }
                Ending::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        self.life.stream_closed();
        if self.unflushed {
            // It may have ended by itself: then nothing is torn.
            let _ = self.sending.reset(TORN);
        } else if self.owes() && self.life.is_client() {
            let _ = self.sending.finish();
            let arrived = self.sending.stopped();
            leaving::linger(self.life.clone(), async move {
                let _ = arrived.await;
            });
        }
        // Else quinn finishes it.
    }
}

/// The slices as one, up to [`WRITE_BYTES_MAX`].
fn gather(bufs: &[IoSlice<'_>]) -> Bytes {
    let length = bufs.iter().map(|b| b.len()).sum::<usize>().min(WRITE_BYTES_MAX);
    let mut gathered = BytesMut::with_capacity(length);
    for buf in bufs {
        let part = buf.len().min(length - gathered.len());
        gathered.extend_from_slice(&buf[..part]);
    }
    gathered.freeze()
}

fn unwritable(error: WriteError) -> io::Error {
    match error {
        WriteError::ConnectionLost(lost) => failure::lost(&lost),
        WriteError::Stopped(_) => io::Error::new(io::ErrorKind::BrokenPipe, "the other side reads no more"),
        other => io::Error::other(other),
    }
}

fn unreadable(error: ReadError) -> io::Error {
    match error {
        ReadError::ConnectionLost(lost) => failure::lost(&lost),
        ReadError::Reset(_) => io::Error::new(io::ErrorKind::ConnectionReset, "the other side gave the stream up"),
        other => io::Error::other(other),
    }
}

fn unacknowledged(error: StoppedError) -> io::Error {
    match error {
        StoppedError::ConnectionLost(lost) => failure::lost(&lost),
        StoppedError::ZeroRttRejected => io::Error::other(error),
    }
}

fn read_to_the_end(stopped: Option<VarInt>) -> io::Result<()> {
    match stopped {
        None => Ok(()),
        Some(_) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the other side did not read to the end")),
    }
}

//! A writer as a `Sink` of records and as an `AsyncWrite`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Sink;
use tokio::io::AsyncWrite;

use crate::batch::{EndKind, PIECE_BYTES_MAX};
use crate::error::{Code, Error};
use crate::pipe::RECORD_BYTES_MAX;
use crate::session::{Until, WriterSession};
use crate::writer::Writer;

/// Takes anything that is bytes as one record. Closing ends the item and waits until it is stored.
impl<R: AsRef<[u8]>> Sink<R> for Writer {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(cx, |machine| machine.has_room())
    }

    fn start_send(self: Pin<&mut Self>, record: R) -> Result<(), Error> {
        let record = record.as_ref();
        if record.len() > RECORD_BYTES_MAX {
            return Err(Error::new(Code::Usage, "a record over 64 MiB goes through `send`, which waits for room"));
        }
        self.stamp();
        self.shared.with(|machine| machine.push_whole(record))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(cx, |machine| machine.reached(Until::Received))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.shared.with(|machine| machine.end(EndKind::Finished));
        self.poll_end(cx, Until::Stored).map_ok(|_| ())
    }
}

/// A writer as a sink of bytes: each `write` is one record, of at most 256 KiB. `flush` hands over what was written;
/// `shutdown` ends the item and waits until it is stored. Dropped without `shutdown`, the item ends as aborted.
pub struct WriterIo {
    writer: Writer,
}

impl WriterIo {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer }
    }

    /// The writer again.
    pub fn into_inner(self) -> Writer {
        self.writer
    }
}

impl AsyncWrite for WriterIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let record = &bytes[..bytes.len().min(PIECE_BYTES_MAX)];
        if record.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.writer.stamp();
        ready!(self.writer.poll(cx, |machine: &mut WriterSession| machine.push(record, true, true)))
            .map_err(io::Error::other)?;
        Poll::Ready(Ok(record.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        <Writer as Sink<&[u8]>>::poll_flush(Pin::new(&mut self.writer), cx).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        <Writer as Sink<&[u8]>>::poll_close(Pin::new(&mut self.writer), cx).map_err(io::Error::other)
    }
}

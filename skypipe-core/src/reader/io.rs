//! A reader as a `Stream` of records and as an `AsyncRead`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use futures::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use crate::error::Error;
use crate::reader::Reader;
use crate::record::Record;

/// Record by record; ends when the reader is done, or behind its error.
impl Stream for Reader {
    type Item = Result<Record, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_failed {
            return Poll::Ready(None);
        }
        let record = ready!(self.poll_record(cx));
        self.has_failed = record.is_err();
        Poll::Ready(record.transpose())
    }
}

/// The bytes of all records, one behind the other. A run is acknowledged when more is read than it held.
impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.bytes.is_empty() {
            match ready!(self.poll_chunk(cx)).map_err(io::Error::other)? {
                Some(chunk) => self.bytes = chunk.bodies(),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = into.remaining().min(self.bytes.len());
        into.put_slice(&self.bytes[..length]);
        self.bytes.advance(length);
        Poll::Ready(Ok(()))
    }
}

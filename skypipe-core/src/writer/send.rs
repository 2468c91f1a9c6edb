//! One call of `send`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::Writer;
use crate::error::Error;

/// Sends a part of a record. Most calls are done at the first look, so it is no more than that needs: to make the future of an async function for
/// each small record, and to move it from one to the other, costs more than all that is done with the record.
pub(super) struct SendPart<'a> {
    new: Option<Part<'a>>,
    waiting: Option<BoxFuture<'a, Result<(), Error>>>,
}

/// What is to be sent.
struct Part<'a> {
    writer: &'a mut Writer,
    bytes: &'a [u8],
    first: bool,
    last: bool,
}

impl<'a> SendPart<'a> {
    pub(super) fn new(writer: &'a mut Writer, bytes: &'a [u8], first: bool, last: bool) -> Self {
        Self { new: Some(Part { writer, bytes, first, last }), waiting: None }
    }
}

impl Future for SendPart<'_> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(Part { writer, bytes, first, last }) = self.new.take() {
            if writer.push_at_once(bytes, first, last) {
                return Poll::Ready(Ok(()));
            }
            self.waiting = Some(Box::pin(writer.send_pieces(bytes, first, last)));
        }
        self.waiting.as_mut().map_or(Poll::Ready(Ok(())), |waiting| waiting.poll_unpin(cx))
    }
}

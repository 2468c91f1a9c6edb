//! Records of a queue as they come: whole, or in parts.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use crate::broker::LeaseId;
use crate::error::{Code, Error};
use crate::name::PipePath;
use crate::record::Chunk;
use crate::session::ReaderSession;

use super::{Lease, Reader, poll_next};

/// The record that comes in parts, if one does.
#[derive(Default)]
pub(super) struct Leases {
    coming: Option<(PipePath, LeaseId)>,
    /// Its parts so far, where it is wanted whole.
    joined: Option<(Lease, BytesMut)>,
    /// A record that came instead of its rest.
    ahead: Option<Chunk>,
}

impl Reader {
    pub(super) fn poll_begun_lease(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Lease>, Error>> {
        loop {
            let Some(chunk) = ready!(self.poll_leased(cx))? else { return Poll::Ready(Ok(None)) };
            if chunk.batch.first_start() != Some(chunk.from) {
                // The rest of one that was not asked for.
                continue;
            }
            let lease = chunk.lease.clone().filter(|_| chunk.batch.is_open());
            self.leases.coming = lease.map(|lease| (chunk.pipe.clone(), lease));
            return Poll::Ready(Ok(Lease::of(chunk, self.shared.clone())));
        }
    }

    pub(super) fn poll_more(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        let Some((pipe, coming)) = self.leases.coming.clone() else { return Poll::Ready(Ok(None)) };
        let lost = || Error::new(Code::LeaseLost, "the rest of the record does not come: it is somebody else's by now");
        let is_held = |machine: &mut ReaderSession| machine.holds(&pipe, &coming);
        let chunk = match self.poll_leased(cx) {
            Poll::Pending if self.shared.with(is_held) => return Poll::Pending,
            Poll::Pending => None,
            Poll::Ready(chunk) => chunk?,
        };
        let is_next =
            |chunk: &Chunk| chunk.lease.as_ref() == Some(&coming) && chunk.batch.first_start() != Some(chunk.from);
        if chunk.as_ref().is_none_or(|chunk| !chunk.batch.is_open() || !is_next(chunk)) {
            self.leases.coming = None;
        }
        match chunk {
            Some(chunk) if is_next(&chunk) => Poll::Ready(Ok(Some(chunk.bodies()))),
            other => {
                self.leases.ahead = other;
                Poll::Ready(Err(lost()))
            }
        }
    }

    pub(super) fn poll_whole_lease(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Lease>, Error>> {
        loop {
            if self.leases.joined.is_none() {
                match ready!(self.poll_begun_lease(cx))? {
                    Some(lease) if !lease.is_whole() => {
                        let body = BytesMut::from(&lease.body()[..]);
                        self.leases.joined = Some((lease, body));
                    }
                    lease => return Poll::Ready(Ok(lease)),
                }
            }
            match ready!(self.poll_more(cx)) {
                Ok(Some(part)) => self.leases.join(&part, self.join.record_bytes_max())?,
                Ok(None) => return Poll::Ready(Ok(self.leases.whole())),
                // It was told as an event; others follow.
                Err(error) if error.code() == Code::LeaseLost => self.leases.joined = None,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// The next run of a queue. A reader that wants no more stays until its leases are settled.
    fn poll_leased(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        if let Some(chunk) = self.leases.ahead.take() {
            return Poll::Ready(Ok(Some(chunk)));
        }
        self.shared.poll(cx, |machine| if machine.is_stopping() { Poll::Ready(Ok(None)) } else { poll_next(machine) })
    }
}

impl Leases {
    fn join(&mut self, part: &Bytes, bytes_max: usize) -> Result<(), Error> {
        let Some((lease, mut body)) = self.joined.take() else { return Ok(()) };
        if body.len() + part.len() > bytes_max {
            let text = format!("a record is longer than {bytes_max} bytes");
            return Err(Error::new(Code::FrameSize, text));
        }
        body.extend_from_slice(part);
        self.joined = Some((lease, body));
        Ok(())
    }

    fn whole(&mut self) -> Option<Lease> {
        self.joined.take().map(|(lease, body)| lease.joined(body.freeze()))
    }
}

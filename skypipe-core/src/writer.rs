//! Writing to a pipe.

mod io;
mod send;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;

use crate::batch::{EndKind, PIECE_BYTES_MAX};
use crate::broker::WriterAttach;
use crate::env::Env;
use crate::error::{Code, Error};
use crate::event::Events;
use crate::headers::Headers;
use crate::id::SessionId;
use crate::pipe::Endpoint;
use crate::session::drive::{self, Halves, Shared, Side};
use crate::session::{Progress, Until, WriterSession, WriterWants};
use crate::time::WallTime;

use send::SendPart;

pub use io::WriterIo;

/// Writes one item. What is sent goes out at once, many records together when they come fast, and again over another
/// link when one breaks.
///
/// An item ends with [`Writer::end`]. Dropped without it, it ends as aborted: its readers are told that it is incomplete.
pub struct Writer {
    shared: Arc<Shared<WriterSession>>,
    env: Env,
    delay: Option<Duration>,
}

/// How an item ended for its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The session of the item; of the last one, if the writer had to go on with a new item.
    pub session: SessionId,
    /// How far its records are.
    pub progress: Progress,
}

impl Writer {
    pub(crate) async fn attach(endpoint: Endpoint, wants: WriterWants, events: Option<Events>) -> Result<Self, Error> {
        let env = endpoint.env.clone();
        let machine = WriterSession::new(env.session(), wants, env.now());
        let mut writer = Self { shared: Shared::new(machine, events, env.clone()), env, delay: None };
        if let Some(shutdown) = &endpoint.shutdown {
            writer.shared.ends_with(shutdown);
        }
        tokio::spawn(drive::run(writer.shared.clone(), WriterSide { endpoint }));
        writer.wait(|machine| machine.connection().was_attached()).await?;
        Ok(writer)
    }

    /// Sends one record of any length. Waits only while the window of unacknowledged bytes is full.
    ///
    /// # Errors
    /// The error with which the session ended. What happened to earlier records is in its text and in [`Writer::progress`].
    ///
    /// # Cancel safety
    /// A dropped call sent nothing, or, of a record over 256 KiB, a part: the next record then ends it where it is.
    pub fn send<'a>(&'a mut self, record: &'a [u8]) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        self.send_part(record, true, true)
    }

    /// Sends a part of a record: `first` begins it, `last` ends it. Lets a record of any length pass through little memory.
    ///
    /// # Errors
    /// As [`Writer::send`].
    ///
    /// # Cancel safety
    /// As [`Writer::send`].
    pub fn send_part<'a>(
        &'a mut self,
        bytes: &'a [u8],
        first: bool,
        last: bool,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        SendPart::new(self, bytes, first, last)
    }

    /// Sends a part of at most [`PIECE_BYTES_MAX`] bytes if there is room for it now; else does nothing and gives false. Then
    /// [`Writer::ready`] tells when to try again, or why it is in vain.
    #[must_use]
    pub fn try_send_part(&mut self, piece: &[u8], first: bool, last: bool) -> bool {
        self.stamp();
        self.shared.with(|machine| machine.push(piece, first, last))
    }

    /// Sends each whole line of `bytes`, its `delimiter` with it, as a record, while there is room now. Gives how many bytes it took. What is left begins with a
    /// line that has no end yet or is longer than [`PIECE_BYTES_MAX`], or there was no room: then [`Writer::ready`] tells when to try again.
    #[must_use]
    pub fn try_send_lines(&mut self, bytes: &[u8], delimiter: u8) -> usize {
        self.stamp();
        self.shared.with(|machine| machine.push_lines(bytes, delimiter))
    }

    /// A queue hands what is sent from now on to nobody before so long after it was sent, by this machine's clock. Other pipes do not mind.
    pub fn delay(&mut self, delay: Option<Duration>) {
        self.delay = delay;
        self.shared.with(|machine| machine.not_before(None));
    }

    /// What is sent from now on carries these headers. They travel once for each batch, so records with the same ones cost little; one after the other
    /// with headers of its own makes each a batch of its own. Of a record in parts, its first part's count.
    pub fn headers(&mut self, headers: Headers) {
        self.shared.with(|machine| machine.headers(headers));
    }

    /// What is pushed next may be handed out so long after now.
    fn stamp(&self) {
        if let Some(delay) = self.delay {
            let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            let moment = WallTime(self.env.clock.wall().0.saturating_add(ms));
            self.shared.with(|machine| machine.not_before(Some(moment)));
        }
    }

    /// Waits until there is room for a piece.
    ///
    /// # Errors
    /// As [`Writer::send`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ready(&mut self) -> Result<(), Error> {
        self.wait(|machine| machine.has_room()).await
    }

    /// Waits until the session ends with an error, which may be never: for whoever has nothing to send now and wants to know.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn failed(&self) -> Error {
        match poll_fn(|cx| self.poll(cx, |_| false)).await {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    }

    /// Waits until a reader is there that gets what is sent as it comes, or was there before.
    ///
    /// # Errors
    /// As [`Writer::send`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn has_reader(&mut self) -> Result<(), Error> {
        self.wait(|machine| machine.has_reader()).await
    }

    /// Waits until all was handed to the link. No acknowledgement is waited for.
    ///
    /// # Errors
    /// As [`Writer::send`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.reach(Until::Received).await
    }

    /// Waits until all records so far are stored, or delivered already: they will not be lost.
    ///
    /// # Errors
    /// As [`Writer::send`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn settled(&mut self) -> Result<(), Error> {
        self.reach(Until::Stored).await
    }

    /// Waits until so many records are stored, or delivered already, of all that this writer sent.
    ///
    /// # Errors
    /// As [`Writer::send`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn settled_to(&mut self, records: u64) -> Result<(), Error> {
        self.wait(|machine| machine.progress().settled >= records).await
    }

    /// Waits until all records so far were acknowledged by every reader they were owed to.
    ///
    /// # Errors
    /// As [`Writer::send`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn delivered(&mut self) -> Result<(), Error> {
        self.reach(Until::Delivered).await
    }

    /// How far the records are.
    pub fn progress(&self) -> Progress {
        self.shared.with(|machine| machine.progress())
    }

    /// The session, which is the item's identity. It changes when the writer has to go on with a new item.
    pub fn session(&self) -> SessionId {
        self.shared.with(|machine| machine.session())
    }

    /// Ends the item and waits until all of it, the end mark included, got as far as `until`.
    ///
    /// # Errors
    /// As [`Writer::send`]; `E_UNKNOWN` when it cannot be known whether all was stored.
    ///
    /// # Cancel safety
    /// A dropped call drops the writer: the end mark may have gone out.
    pub async fn end(mut self, until: Until) -> Result<Receipt, Error> {
        self.end_as(EndKind::Finished, until).await
    }

    /// Ends the item as interrupted: what was sent so far is all there is. Waits at most so long until it is stored.
    ///
    /// # Errors
    /// As [`Writer::end`]; `E_UNKNOWN` when the time is over before.
    ///
    /// # Cancel safety
    /// As [`Writer::end`].
    pub async fn interrupt(mut self, at_most: Duration) -> Result<Receipt, Error> {
        let ended = tokio::time::timeout(at_most, self.end_as(EndKind::Interrupted, Until::Stored)).await;
        ended.unwrap_or_else(|_| {
            let known = self.progress();
            Err(Error::new(
                Code::Unknown,
                format!("interrupted: {} of {} records are known to be stored", known.settled, known.records),
            ))
        })
    }

    /// Gives the item up, as a drop does, and waits until that has left this process: it ends as aborted. One without a record that nobody reads
    /// leaves nothing.
    ///
    /// # Cancel safety
    /// A dropped call drops the writer.
    pub async fn abort(self) {
        self.shared.with(WriterSession::abort);
        poll_fn(|cx| {
            self.shared.poll(cx, |machine| if machine.connection().is_over() { Poll::Ready(()) } else { Poll::Pending })
        })
        .await;
    }

    /// The writer as a sink of bytes; see [`WriterIo`].
    pub fn into_async_write(self) -> WriterIo {
        WriterIo::new(self)
    }

    /// Takes what there is room for now, unless the session's task has enough to do: then it is to run first.
    fn push_at_once(&self, piece: &[u8], first: bool, last: bool) -> bool {
        self.stamp();
        self.shared.with(|machine| !machine.is_batch_waiting() && machine.push(piece, first, last))
    }

    async fn send_pieces(&mut self, bytes: &[u8], first: bool, last: bool) -> Result<(), Error> {
        let (mut first, mut rest) = (first, bytes);
        loop {
            let (piece, tail) = rest.split_at(rest.len().min(PIECE_BYTES_MAX));
            let last = last && tail.is_empty();
            self.send_piece(piece, first, last).await?;
            if tail.is_empty() {
                return Ok(());
            }
            (first, rest) = (false, tail);
        }
    }

    async fn send_piece(&mut self, piece: &[u8], first: bool, last: bool) -> Result<(), Error> {
        if self.shared.with(|machine| machine.is_batch_waiting()) {
            // On a runtime of one thread the session's task runs only when this one lets it.
            tokio::task::yield_now().await;
        }
        self.stamp();
        self.wait(|machine| machine.push(piece, first, last)).await
    }

    async fn end_as(&mut self, kind: EndKind, until: Until) -> Result<Receipt, Error> {
        self.shared.with(|machine| machine.end(kind));
        poll_fn(|cx| self.poll_end(cx, until)).await
    }

    /// Waits until the ended item got as far as `until`, and closes the session.
    fn poll_end(&mut self, cx: &Context<'_>, until: Until) -> Poll<Result<Receipt, Error>> {
        self.shared.poll(cx, |machine| {
            if machine.reached(until) {
                machine.close();
                return Poll::Ready(Ok(Receipt { session: machine.session(), progress: machine.progress() }));
            }
            machine.failure().map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
        })
    }

    async fn reach(&mut self, until: Until) -> Result<(), Error> {
        self.wait(|machine| machine.reached(until)).await
    }

    async fn wait(&mut self, mut done: impl FnMut(&mut WriterSession) -> bool) -> Result<(), Error> {
        poll_fn(|cx| self.poll(cx, &mut done)).await
    }

    fn poll(&self, cx: &Context<'_>, done: impl FnOnce(&mut WriterSession) -> bool) -> Poll<Result<(), Error>> {
        self.shared.poll(cx, |machine| {
            if done(machine) {
                return Poll::Ready(Ok(()));
            }
            machine.ended_with().map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.with(WriterSession::abort);
    }
}

/// How a writer's session gets a link.
struct WriterSide {
    endpoint: Endpoint,
}

#[async_trait]
impl Side for WriterSide {
    type Machine = WriterSession;

    async fn attach(&self, attach: WriterAttach) -> Result<Halves<WriterSession>, Error> {
        let Endpoint { broker, caller, pipe, .. } = &self.endpoint;
        let halves = broker.attach_writer(caller, pipe, attach).await?;
        Ok(Halves { welcome: halves.welcome, up: halves.up, down: halves.down })
    }
}

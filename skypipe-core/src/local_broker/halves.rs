//! The two halves of an attach to a local broker. They queue nothing: what comes down is asked of the pipe when it is wanted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::{Sink, SinkExt, Stream};

use crate::broker::{
    ReaderDown, ReaderHalves, ReaderUp, ReaderWelcome, WriterDown, WriterHalves, WriterUp, WriterWelcome,
};
use crate::caller::{Caller, Peer};
use crate::delivery::{Came, Machine, Next, conflict};
use crate::error::{Code, Error};
use crate::id::{Epoch, Seq, SessionId};
use crate::log::Read;
use crate::memory::Part;

use super::cell::SharedCell;
use super::log_reading::LogReading;
use super::shared::Shared;

/// Whether a party writes or reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    Writer,
    Reader,
}

/// One attach, shared by its halves: with the last of them the link is broken.
pub(super) struct Attached {
    pub(super) shared: Arc<Shared>,
    pub(super) cell: SharedCell,
    party: Party,
    pub(super) session: SessionId,
    pub(super) epoch: Epoch,
    /// A broken link is a dead process.
    pub(super) dies_with_link: bool,
    /// The memory that its reads may take.
    pub(super) part: Arc<Part>,
}

impl Attached {
    pub(super) fn new(
        shared: &Arc<Shared>,
        cell: &SharedCell,
        caller: &Caller,
        party: Party,
        session: SessionId,
        epoch: Epoch,
    ) -> Self {
        let dies_with_link = matches!(caller.peer, Peer::InProcess | Peer::Process(_));
        let part = shared.memory.part_of(caller.key);
        Self { shared: shared.clone(), cell: cell.clone(), party, session, epoch, dies_with_link, part }
    }

    /// Changes the pipe on behalf of this attach. `None` when the pipe is gone.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Machine, SessionId, Epoch) -> R) -> Option<R> {
        self.cell.change(&self.shared, |pipe| change(pipe, self.session, self.epoch))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let (session, epoch, now) = (self.session, self.epoch, self.shared.env.now());
        self.cell.forget_waker(session);
        if self.shared.is_draining() {
            return;
        }
        self.cell.change(&self.shared, |pipe| {
            match self.party {
                Party::Writer => pipe.writer_away(session, epoch, now),
                Party::Reader => pipe.reader_away(session, epoch, now),
            }
            if self.dies_with_link && pipe.is_away(session) {
                pipe.lost(session, now);
            }
        });
    }
}

pub(super) fn of_writer(attached: Arc<Attached>, welcome: WriterWelcome) -> WriterHalves {
    let down = WriterStream { attached: attached.clone(), over: false };
    WriterHalves { welcome, up: Box::pin(WriterSink { attached, comparing: None }), down: Box::pin(down) }
}

pub(super) fn of_reader(attached: Arc<Attached>, welcome: ReaderWelcome) -> ReaderHalves {
    let down = ReaderStream { attached: attached.clone(), reading: LogReading::of(&attached), over: false };
    ReaderHalves { welcome, up: Box::pin(ReaderSink(attached)), down: Box::pin(down) }
}

/// For a writer whose item is long over: the welcome says all there is to say.
pub(super) fn of_closed_writer(welcome: WriterWelcome) -> WriterHalves {
    WriterHalves {
        welcome,
        up: Box::pin(futures::sink::drain().sink_map_err(never)),
        down: Box::pin(futures::stream::pending()),
    }
}

/// For a reader that left and did not hear of it.
pub(super) fn of_closed_reader() -> ReaderHalves {
    let finished = futures::stream::iter([Ok(ReaderDown::Finished)]);
    let up = Box::pin(futures::sink::drain().sink_map_err(never));
    ReaderHalves { welcome: ReaderWelcome::default(), up, down: Box::pin(finished) }
}

fn never(never: std::convert::Infallible) -> Error {
    match never {}
}

fn gone() -> Error {
    Error::new(Code::Access, "the pipe was removed")
}

/// What a writer sends is done at once.
struct WriterSink {
    attached: Arc<Attached>,
    /// A batch that came before is compared with what the log has; one at a time.
    comparing: Option<BoxFuture<'static, Result<bool, Error>>>,
}

impl WriterSink {
    /// Waits for the look into the log. What cannot be read there is the disk's fault, not the writer's.
    fn poll_compared(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(comparing) = &mut self.comparing else { return Poll::Ready(Ok(())) };
        let differs = ready!(comparing.as_mut().poll(cx)).unwrap_or(false);
        self.comparing = None;
        Poll::Ready(if differs { Err(conflict()) } else { Ok(()) })
    }
}

impl Sink<WriterUp> for WriterSink {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_compared(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: WriterUp) -> Result<(), Error> {
        let Attached { shared, cell, session, epoch, .. } = &*self.attached;
        let now = shared.env.now();
        let batch = match message {
            WriterUp::Batch(batch) => batch,
            WriterUp::Abort => {
                return cell.change(shared, |pipe| pipe.abort(*session, *epoch, now)).unwrap_or_else(|| Err(gone()));
            }
        };
        let (first, checksum) = (batch.first(), batch.checksum());
        let (records, bytes) = (batch.ends_from(first), batch.encoded().len());
        let came = cell.change(shared, |pipe| pipe.batch(*session, *epoch, batch, now));
        if matches!(came, Some(Ok(_))) {
            cell.meter.came(records, bytes);
        }
        if let Came::Again(item) = came.unwrap_or_else(|| Err(gone()))? {
            let (log, pipe) = (shared.log.clone(), cell.id);
            let differs =
                move || Ok(log.read(pipe, item, first, 1).is_ok_and(|read| has_other(&read, first, checksum)));
            self.comparing = Some(shared.env.work.read(differs));
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_compared(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flush(cx)
    }
}

/// Whether the log has another batch from this number on. A batch never changes, so its sum tells.
fn has_other(read: &Read, first: Seq, checksum: u32) -> bool {
    let Read::Batches(batches) = read else { return false };
    batches.first().is_some_and(|known| known.first() == first && known.checksum() != checksum)
}

/// What a reader sends is done at once.
struct ReaderSink(Arc<Attached>);

impl Sink<ReaderUp> for ReaderSink {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: ReaderUp) -> Result<(), Error> {
        let Attached { shared, cell, session, epoch, .. } = &*self.0;
        let now = shared.env.now();
        cell.change(shared, |pipe| pipe.reader_up(*session, *epoch, message, now)).unwrap_or_else(|| Err(gone()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

/// What comes down to a writer.
struct WriterStream {
    attached: Arc<Attached>,
    over: bool,
}

impl Stream for WriterStream {
    type Item = Result<WriterDown, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let Attached { shared, cell, session, epoch, .. } = &*self.attached;
        let next = cell.poll(shared, *session, cx, |pipe| match pipe.next_for_writer(*session, *epoch) {
            Next::Wait | Next::FromLog { .. } => None,
            Next::Message(message) => Some(Ok(message)),
            Next::End(error) => Some(Err(error)),
        });
        let error = match ready!(next) {
            Ok(message) => return Poll::Ready(Some(Ok(message))),
            Err(error) => error,
        };
        self.over = true;
        Poll::Ready(error.map(Err))
    }
}

/// What comes down to a reader.
struct ReaderStream {
    attached: Arc<Attached>,
    reading: LogReading,
    over: bool,
}

impl Stream for ReaderStream {
    type Item = Result<ReaderDown, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        let result = ready!(this.poll_message(cx));
        if let Ok(Some(message)) = &result {
            this.attached.cell.meter.goes(message);
        }
        this.over = !matches!(result, Ok(Some(_))) || matches!(result, Ok(Some(ReaderDown::Finished)));
        Poll::Ready(result.transpose())
    }
}

impl ReaderStream {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<ReaderDown>, Error>> {
        loop {
            let Attached { shared, cell, session, epoch, .. } = &*self.attached;
            let next = cell.poll(shared, *session, cx, |pipe| match pipe.next_for_reader(*session, *epoch) {
                Next::Wait => None,
                next => Some(next),
            });
            match ready!(next) {
                Next::Message(message) => return Poll::Ready(Ok(Some(message))),
                Next::End(error) => return Poll::Ready(error.map_or(Ok(None), Err)),
                Next::FromLog { item, from, bytes_max } => {
                    if let Some(message) = ready!(self.reading.poll(&self.attached, cx, item, from, bytes_max))? {
                        return Poll::Ready(Ok(Some(message)));
                    }
                }
                Next::Wait => return Poll::Pending,
            }
        }
    }
}

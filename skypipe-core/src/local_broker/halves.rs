//! The two halves of an attach to a local broker. They queue nothing: what comes down is asked of the pipe when it is wanted.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::{Sink, SinkExt, Stream};

use crate::batch::{BATCH_BYTES_MAX, Batch};
use crate::broker::{
    ReaderDown, ReaderHalves, ReaderUp, ReaderWelcome, WriterDown, WriterHalves, WriterUp, WriterWelcome,
};
use crate::budget::{Budget, Place, Reservation};
use crate::caller::{Caller, Peer};
use crate::delivery::{Came, Machine, Next, conflict};
use crate::error::{Code, Error};
use crate::id::{Epoch, ItemNo, Seq, SessionId};
use crate::log::{Read, TAPE};
use crate::memory::Part;

use super::cell::SharedCell;
use super::shared::Shared;

/// Encoded bytes read from the log at once for one reader: few enough to hold for thousands of readers, enough to keep a disk busy.
const READ_BYTES: usize = 1024 * 1024;

/// Whether a party writes or reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    Writer,
    Reader,
}

/// One attach, shared by its halves: with the last of them the link is broken.
pub(super) struct Attached {
    shared: Arc<Shared>,
    cell: SharedCell,
    party: Party,
    session: SessionId,
    epoch: Epoch,
    /// A broken link is a dead process.
    dies_with_link: bool,
    /// The memory that its reads may take.
    part: Arc<Part>,
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
    let own = attached.dies_with_link.then(|| attached.part.reads.part(LOCAL_READS_BYTES));
    let down = ReaderStream {
        attached: attached.clone(),
        fetched: VecDeque::new(),
        fetching: None,
        own,
        waiting: None,
        over: false,
    };
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
        let (records, bytes) = (batch.count(), batch.encoded().len());
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

/// What one reader on this machine may hold of what was read: what is read next, and what is on its way out.
const LOCAL_READS_BYTES: u64 = 3 * 1024 * 1024;
/// The same while memory is short: a batch at a time.
const READ_BYTES_PRESSED: usize = 64 * 1024;

/// A batch of an item, and its first number there.
type Fetched = (ItemNo, Seq, Batch);
/// Batches of one item read from the log, and the memory they lie in.
type Fetch = BoxFuture<'static, Result<(Read, Reservation), Error>>;

/// What comes down to a reader.
struct ReaderStream {
    attached: Arc<Attached>,
    /// Batches from the log, in order, that the pipe has not sent yet. At most [`READ_BYTES`] and one batch, and no more than the reader
    /// takes at once.
    fetched: VecDeque<Fetched>,
    fetching: Option<(ItemNo, Seq, Fetch)>,
    /// What a process of this machine may hold for itself. It waits for nobody else: others that a person stopped hold what they have for
    /// long, as their links are not cut so soon. None of a reader elsewhere.
    own: Option<Budget>,
    /// Waits for memory to read into. Boxed: it is seldom there.
    waiting: Option<Box<Place>>,
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
                    if let Some(message) = ready!(self.poll_log(cx, item, from, bytes_max))? {
                        return Poll::Ready(Ok(Some(message)));
                    }
                }
                Next::Wait => return Poll::Pending,
            }
        }
    }

    /// The next message from the log; `None` when the pipe is to be asked again.
    fn poll_log(
        &mut self,
        cx: &mut Context<'_>,
        item: ItemNo,
        from: Seq,
        bytes_max: u64,
    ) -> Poll<Result<Option<ReaderDown>, Error>> {
        if let Some((at, batch)) = self.take_fetched(item, from) {
            let now = self.attached.shared.env.now();
            let give = |pipe: &mut Machine, session, epoch| pipe.from_log(session, epoch, (item, at), &batch, now);
            return Poll::Ready(Ok(self.change(give)));
        }
        let wrong = self.fetching.as_ref().is_some_and(|(i, s, _)| (*i, *s) != (item, from));
        if self.fetching.is_none() || wrong {
            let (bytes_max, reserved) = ready!(self.poll_memory(cx, bytes_max));
            let (shared, pipe) = (&self.attached.shared, self.attached.cell.id);
            let log = shared.log.clone();
            let read = shared.env.work.read(move || Ok((log.read(pipe, item, from, bytes_max)?, reserved)));
            self.fetching = Some((item, from, read));
        }
        let Some((_, _, read)) = &mut self.fetching else { return Poll::Ready(Ok(None)) };
        let read = ready!(read.as_mut().poll(cx));
        self.fetching = None;
        let (read, mut reserved) = read?;
        match read {
            Read::Batches(batches) => {
                let paid = batches.into_iter().map(|batch| batch.paid_from(&mut reserved));
                self.fetched = paid.map(|batch| (item, batch.first(), batch)).collect();
                Poll::Ready(Ok(None))
            }
            Read::Tape(batches) => {
                let paid = batches.into_iter().map(|(at, batch)| (item, at, batch.paid_from(&mut reserved)));
                self.fetched = paid.collect();
                Poll::Ready(Ok(None))
            }
            Read::Gap { to } => {
                Poll::Ready(Ok(self.change(|pipe, session, epoch| pipe.missing(session, epoch, item, from, to))))
            }
            Read::End => {
                let end = Seq(u64::MAX);
                Poll::Ready(Ok(self.change(|pipe, session, epoch| pipe.missing(session, epoch, item, from, end))))
            }
        }
    }

    /// How much may be read at once, and the memory for it.
    fn poll_memory(&mut self, cx: &Context<'_>, bytes_max: u64) -> Poll<(usize, Reservation)> {
        let is_pressed = self.attached.part.reads.is_pressed();
        let at_once = if is_pressed { READ_BYTES_PRESSED } else { READ_BYTES };
        let bytes_max = usize::try_from(bytes_max).map_or(at_once, |bytes| bytes.min(at_once));
        let place = self.waiting.get_or_insert_default();
        // The last batch may go beyond.
        let bytes = (bytes_max + BATCH_BYTES_MAX) as u64;
        let reserved = match &self.own {
            // While memory is short it must have let go of all before.
            Some(own) if is_pressed => own.poll_take_own(own.bytes_max(), place, cx),
            Some(own) => own.poll_take_own(bytes, place, cx),
            None => self.attached.part.reads.poll_take(bytes, place, cx),
        };
        let reserved = ready!(reserved);
        self.waiting = None;
        Poll::Ready((bytes_max, reserved))
    }

    /// The batch that holds `from`, if it was read ahead; what stands before it is not wanted any more.
    fn take_fetched(&mut self, item: ItemNo, from: Seq) -> Option<(Seq, Batch)> {
        while let Some((of, at, batch)) = self.fetched.pop_front() {
            let next = if item == TAPE { at.plus(u64::from(batch.count())) } else { batch.next() };
            if of == item && at <= from && from < next {
                return Some((at, batch));
            }
        }
        None
    }

    fn change(&self, change: impl FnOnce(&mut Machine, SessionId, Epoch) -> Option<ReaderDown>) -> Option<ReaderDown> {
        let Attached { shared, cell, session, epoch, .. } = &*self.attached;
        cell.change(shared, |pipe| change(pipe, *session, *epoch)).flatten()
    }
}

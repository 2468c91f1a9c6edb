//! What a reader takes from the log.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;

use crate::batch::{BATCH_BYTES_MAX, Batch};
use crate::broker::ReaderDown;
use crate::budget::{Budget, Place, Reservation};
use crate::delivery::Machine;
use crate::error::Error;
use crate::id::{ItemNo, Seq};
use crate::log::{Read, TAPE};
use crate::memory::Part;

use super::halves::Attached;

/// Encoded bytes read from the log at once for one reader: few enough to hold for thousands of readers, enough to keep a disk busy.
const READ_BYTES: usize = 1024 * 1024;
/// What one reader on this machine may hold of what was read: what is read next, and what is on its way out.
const LOCAL_READS_BYTES: u64 = 3 * 1024 * 1024;
/// The same while memory is short: a batch at a time.
const READ_BYTES_PRESSED: usize = 64 * 1024;

/// A batch of an item, and its first number there.
type Fetched = (ItemNo, Seq, Batch);
/// Batches of one item read from the log, and the memory they lie in.
type Fetch = BoxFuture<'static, Result<(Read, Reservation), Error>>;

/// Batches read ahead for one reader, of one pipe at a time.
pub(super) struct LogReading {
    /// In order, what the pipe has not sent yet. At most [`READ_BYTES`] and one batch, and no more than the reader takes at once.
    fetched: VecDeque<Fetched>,
    fetching: Option<(ItemNo, Seq, Fetch)>,
    /// What a process of this machine may hold for itself. It waits for nobody else: others that a person stopped hold what they have for
    /// long, as their links are not cut so soon. None of a reader elsewhere.
    own: Option<Budget>,
    /// Waits for memory to read into. Boxed: it is seldom there.
    waiting: Option<Box<Place>>,
}

impl LogReading {
    pub(super) fn of(attached: &Attached) -> Self {
        Self::new(&attached.part, attached.dies_with_link)
    }

    /// Out of this part of the memory, for a process of this machine or a reader elsewhere.
    pub(super) fn new(part: &Part, is_local: bool) -> Self {
        let own = is_local.then(|| part.reads.part(LOCAL_READS_BYTES));
        Self { fetched: VecDeque::new(), fetching: None, own, waiting: None }
    }

    /// Whether it holds nothing that was read.
    pub(super) fn is_empty(&self) -> bool {
        self.fetched.is_empty()
    }

    /// Nobody wants what was read.
    pub(super) fn forget(&mut self) {
        self.fetched.clear();
        (self.fetching, self.waiting) = (None, None);
    }

    /// The next message from the log; `None` when the pipe is to be asked again.
    pub(super) fn poll(
        &mut self,
        attached: &Attached,
        cx: &mut Context<'_>,
        item: ItemNo,
        from: Seq,
        bytes_max: u64,
    ) -> Poll<Result<Option<ReaderDown>, Error>> {
        if let Some((at, batch)) = self.take_fetched(item, from) {
            let now = attached.shared.env.now();
            let give = |pipe: &mut Machine, session, epoch| pipe.from_log(session, epoch, (item, at), &batch, now);
            return Poll::Ready(Ok(attached.change(give).flatten()));
        }
        let wrong = self.fetching.as_ref().is_some_and(|(i, s, _)| (*i, *s) != (item, from));
        if self.fetching.is_none() || wrong {
            let (bytes_max, reserved) = ready!(self.poll_memory(attached, cx, bytes_max));
            let (shared, pipe) = (&attached.shared, attached.cell.id);
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
                let missing = |pipe: &mut Machine, session, epoch| pipe.missing(session, epoch, item, from, to);
                Poll::Ready(Ok(attached.change(missing).flatten()))
            }
            Read::End => {
                let end = Seq(u64::MAX);
                let missing = |pipe: &mut Machine, session, epoch| pipe.missing(session, epoch, item, from, end);
                Poll::Ready(Ok(attached.change(missing).flatten()))
            }
        }
    }

    /// How much may be read at once, and the memory for it.
    fn poll_memory(&mut self, attached: &Attached, cx: &Context<'_>, bytes_max: u64) -> Poll<(usize, Reservation)> {
        let is_pressed = attached.part.reads.is_pressed();
        let at_once = if is_pressed { READ_BYTES_PRESSED } else { READ_BYTES };
        let bytes_max = usize::try_from(bytes_max).map_or(at_once, |bytes| bytes.min(at_once));
        let place = self.waiting.get_or_insert_default();
        // The last batch may go beyond.
        let bytes = (bytes_max + BATCH_BYTES_MAX) as u64;
        let reserved = match &self.own {
            // While memory is short it must have let go of all before.
            Some(own) if is_pressed => own.poll_take_own(own.bytes_max(), place, cx),
            Some(own) => own.poll_take_own(bytes, place, cx),
            None => attached.part.reads.poll_take(bytes, place, cx),
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
}

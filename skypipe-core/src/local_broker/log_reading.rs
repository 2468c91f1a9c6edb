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
/// What one reader on this machine may hold of what was read: what is on its way out, what comes next, and what is read meanwhile.
const LOCAL_READS_BYTES: u64 = 4 * 1024 * 1024;
/// The same while memory is short: a batch at a time.
const READ_BYTES_PRESSED: usize = 64 * 1024;

/// A batch of an item, and its first number there.
type Fetched = (ItemNo, Seq, Batch);
/// Batches of one item read from the log, and the memory they lie in.
type Fetch = BoxFuture<'static, Result<(Read, Reservation), Error>>;

/// A read that goes on.
struct Fetching {
    item: ItemNo,
    from: Seq,
    /// It began before the pipe asked for it. What it did not find may be there when the pipe does.
    is_ahead: bool,
    read: Fetch,
}

/// Batches read ahead for one reader, of one pipe at a time.
pub(super) struct LogReading {
    /// In order, what the pipe has not sent yet. At most [`READ_BYTES`] and one batch, and no more than the reader takes at once.
    fetched: VecDeque<Fetched>,
    fetching: Option<Fetching>,
    /// Whether the last read found as much as it may bring: then the next one begins while this is sent. Never where the pipes of a pattern
    /// take turns.
    goes_on: bool,
    reads_ahead: bool,
    /// What a process of this machine may hold for itself. It waits for nobody else: others that a person stopped hold what they have for
    /// long, as their links are not cut so soon. None of a reader elsewhere.
    own: Option<Budget>,
    /// Waits for memory to read into. Boxed: it is seldom there.
    waiting: Option<Box<Place>>,
}

impl LogReading {
    pub(super) fn of(attached: &Attached) -> Self {
        Self { reads_ahead: true, ..Self::new(&attached.part, attached.dies_with_link) }
    }

    /// Out of this part of the memory, for a process of this machine or a reader elsewhere.
    pub(super) fn new(part: &Part, is_local: bool) -> Self {
        let own = is_local.then(|| part.reads.part(LOCAL_READS_BYTES));
        Self { fetched: VecDeque::new(), fetching: None, goes_on: false, reads_ahead: false, own, waiting: None }
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
            self.read_ahead(attached, item, (at, &batch), bytes_max);
            let now = attached.shared.env.now();
            let give = |pipe: &mut Machine, session, epoch| pipe.from_log(session, epoch, (item, at), &batch, now);
            return Poll::Ready(Ok(attached.change(give).flatten()));
        }
        let fits = self.fetching.as_ref().is_some_and(|fetching| (fetching.item, fetching.from) == (item, from));
        if !fits {
            let (bytes_max, reserved) = ready!(self.poll_memory(attached, cx, bytes_max));
            let read = fetch(attached, item, from, bytes_max, reserved);
            self.fetching = Some(Fetching { item, from, is_ahead: false, read });
        }
        let Some(Fetching { read, is_ahead, .. }) = &mut self.fetching else { return Poll::Ready(Ok(None)) };
        let (read, is_ahead) = (ready!(read.as_mut().poll(cx)), *is_ahead);
        self.fetching = None;
        if is_ahead && !matches!(read, Ok((Read::Batches(_) | Read::Tape(_), _))) {
            return Poll::Ready(Ok(None));
        }
        let (read, mut reserved) = read?;
        match read {
            Read::Batches(batches) => {
                let paid = batches.into_iter().map(|batch| batch.paid_from(&mut reserved));
                self.fetched = paid.map(|batch| (item, batch.first(), batch)).collect();
                self.goes_on = self.fetched_bytes() >= READ_BYTES as u64 / 2;
                Poll::Ready(Ok(None))
            }
            Read::Tape(batches) => {
                let paid = batches.into_iter().map(|(at, batch)| (item, at, batch.paid_from(&mut reserved)));
                self.fetched = paid.collect();
                self.goes_on = self.fetched_bytes() >= READ_BYTES as u64 / 2;
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

    /// Begins to read what stands behind all that was read, while that is sent: so neither disk nor link waits for the other. Only where there is
    /// memory that nobody waits for, and no more than the reader takes.
    fn read_ahead(&mut self, attached: &Attached, item: ItemNo, (at, batch): (Seq, &Batch), bytes_max: u64) {
        if !self.reads_ahead || !self.goes_on || self.fetching.is_some() || attached.part.reads.is_pressed() {
            return;
        }
        let from = self.fetched.back().map_or(behind(item, at, batch), |(item, at, batch)| behind(*item, *at, batch));
        let left = bytes_max.saturating_sub(batch.encoded().len() as u64 + self.fetched_bytes());
        let bytes_max = usize::try_from(left).map_or(READ_BYTES, |left| left.min(READ_BYTES));
        if bytes_max < READ_BYTES / 2 {
            return;
        }
        let budget = self.own.as_ref().unwrap_or(&attached.part.reads);
        let Some(reserved) = budget.take((bytes_max + BATCH_BYTES_MAX) as u64) else { return };
        let read = fetch(attached, item, from, bytes_max, reserved);
        self.fetching = Some(Fetching { item, from, is_ahead: true, read });
    }

    fn fetched_bytes(&self) -> u64 {
        self.fetched.iter().map(|(_, _, batch)| batch.encoded().len() as u64).sum()
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
            if of == item && at <= from && from < behind(item, at, &batch) {
                return Some((at, batch));
            }
        }
        None
    }
}

/// The number behind a batch of this item.
fn behind(item: ItemNo, at: Seq, batch: &Batch) -> Seq {
    if item == TAPE { at.plus(u64::from(batch.count())) } else { batch.next() }
}

fn fetch(attached: &Attached, item: ItemNo, from: Seq, bytes_max: usize, reserved: Reservation) -> Fetch {
    let (log, pipe) = (attached.shared.log.clone(), attached.cell.id);
    attached.shared.env.work.read(move || Ok((log.read(pipe, item, from, bytes_max)?, reserved)))
}

//! One item: all that one writer writes from attach to end.

use std::collections::{BTreeSet, VecDeque};

use crate::batch::{Batch, EndKind};
use crate::broker::{Ack, Notice};
use crate::caller::Holder;
use crate::id::{Epoch, Seq, SessionId};
use crate::stat::Presence;
use crate::time::Time;

use super::limits::{CREDIT_STEPS, STORED_CREDIT_BYTES};
use super::ranges::Ranges;
use super::read_only::NEVER;

/// How a party is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Over a link.
    Attached,
    /// Not since this moment.
    Away(Time),
}

impl Link {
    /// The same for people.
    pub(super) fn presence(self) -> Presence {
        match self {
            Self::Attached => Presence::Attached,
            Self::Away(_) => Presence::Away,
        }
    }
}

/// The end of an item, once it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// How it ended.
    pub(super) kind: EndKind,
    /// The number behind the end mark.
    pub(super) next: Seq,
    /// Which append of the pipe holds the fact, once it is appended.
    pub(super) append: Option<u64>,
}

/// A batch in memory.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) batch: Batch,
    /// When it came.
    pub(super) arrived: Time,
    /// Which append of the pipe holds it, once it is appended.
    pub(super) append: Option<u64>,
}

impl Slot {
    fn is_on_disk(&self, durable: u64) -> bool {
        self.append.is_some_and(|append| append <= durable)
    }
}

/// One item. What is in memory is a window at its end; what left the window is in the log or forgotten.
#[derive(Debug)]
pub(super) struct Item {
    /// The writer's session.
    pub(super) session: SessionId,
    /// The writer's newest attach.
    pub(super) epoch: Epoch,
    /// How the writer is reached.
    pub(super) link: Link,
    /// Who holds the writer's session.
    pub(super) holder: Holder,
    /// Which append says that the writer joined.
    pub(super) joined: u64,
    /// The next number expected of the writer.
    pub(super) accepted: Seq,
    /// Batches in memory, contiguous, the last one ending at `accepted`.
    pub(super) window: VecDeque<Slot>,
    /// All below is on disk or was taken after it was.
    pub(super) stored: Seq,
    /// All below is on disk or delivered.
    pub(super) settled: Seq,
    /// All below is acknowledged by everybody it was owed to, and by somebody.
    pub(super) delivered: Seq,
    /// What at least one reader acknowledged for good.
    pub(super) acked: Ranges,
    /// What was delivered without the log, as far as the log says so.
    pub(super) holes: Ranges,
    /// Readers that took a part of it: none is given the rest, or its numbers would not tell what it has.
    pub(super) had_by: BTreeSet<SessionId>,
    /// The reader that takes it alone.
    pub(super) taker: Option<SessionId>,
    /// Its end, once known.
    pub(super) end: Option<End>,
    /// Encoded bytes of the window that are not appended.
    unlogged_bytes: usize,
    /// Encoded bytes of the window.
    window_bytes: usize,
    /// All below is appended to the log, or a fact there says that it was delivered.
    pub(super) logged: Seq,
    /// A fact in the log says that all below was delivered, or is about to.
    pub(super) forgotten: Seq,
    /// That fact is not durable yet.
    pub(super) is_forgetting: bool,
    /// Whether the last batch ended within a record.
    pub(super) open_record: bool,
    /// The writer was told that it is not the only one.
    pub(super) second_writer_told: bool,
    /// The writer knows that a reader is there.
    pub(super) reader_told: bool,
    /// All of it is taken; it stands here only until its writer heard the last acknowledgement.
    pub(super) over: bool,
    /// What the writer was told last.
    told: Ack,
    /// Bytes of credit to give back.
    credit_due: u64,
    /// Bytes that the writer was told it may send and has not sent; a batch may overdraw it.
    credit: i64,
    /// Notices for the writer.
    notices: VecDeque<Notice>,
}

impl Item {
    pub(super) fn new(session: SessionId, epoch: Epoch, holder: Holder, joined: u64) -> Self {
        Self {
            session,
            epoch,
            link: Link::Attached,
            holder,
            joined,
            accepted: Seq(0),
            window: VecDeque::new(),
            stored: Seq(0),
            settled: Seq(0),
            delivered: Seq(0),
            acked: Ranges::default(),
            holes: Ranges::default(),
            had_by: BTreeSet::new(),
            taker: None,
            end: None,
            unlogged_bytes: 0,
            window_bytes: 0,
            logged: Seq(0),
            forgotten: Seq(0),
            is_forgetting: false,
            open_record: false,
            second_writer_told: false,
            reader_told: false,
            over: false,
            told: Ack::default(),
            credit_due: 0,
            credit: STORED_CREDIT_BYTES as i64,
            notices: VecDeque::new(),
        }
    }

    /// The first number that nobody has acknowledged.
    pub(super) fn first_left(&self) -> Seq {
        self.acked.first_gap(Seq(0))
    }

    /// The number behind the last record that anybody is known to have: readers may be ahead of a relay that crashed.
    pub(super) fn known_until(&self) -> Seq {
        self.acked.iter().last().map_or(self.accepted, |range| range.end.max(self.accepted))
    }

    /// The number behind its last record so far; the end mark is none.
    pub(super) fn records_end(&self) -> Seq {
        self.end.map_or(self.accepted, |end| self.accepted.min(Seq(end.next.0.saturating_sub(1))))
    }

    /// Whether nobody takes it alone and something of it is left. Its end may be acknowledged before that is durable: who comes
    /// in between finds nothing.
    pub(super) fn has_left(&self) -> bool {
        let all_acked = self.end.is_some_and(|end| self.first_left() >= end.next);
        self.taker.is_none() && !self.over && !all_acked
    }

    /// The batch in memory that holds `seq`.
    pub(super) fn in_memory(&self, seq: Seq) -> Option<&Batch> {
        let at = self.window.partition_point(|slot| slot.batch.next() <= seq);
        self.window.get(at).map(|slot| &slot.batch).filter(|batch| batch.first() <= seq)
    }

    /// Takes a new batch into the window.
    pub(super) fn accept(&mut self, batch: Batch, now: Time) {
        self.accepted = batch.next();
        if batch.count() > 0 {
            self.open_record = batch.is_open();
        }
        if let Some(mark) = batch.end() {
            self.end = Some(End { kind: mark.kind, next: batch.next(), append: None });
        }
        self.unlogged_bytes += batch.encoded().len();
        self.window_bytes += batch.encoded().len();
        self.window.push_back(Slot { batch, arrived: now, append: None });
    }

    /// When the oldest batch came that is neither in the log nor delivered.
    pub(super) fn unlogged_since(&self) -> Option<Time> {
        self.window.get(self.first_unlogged()).map(|slot| slot.arrived)
    }

    /// Encoded bytes that are neither in the log nor delivered.
    pub(super) fn unlogged_bytes(&self) -> usize {
        self.unlogged_bytes
    }

    /// Whether its writer is there and may send more.
    pub(super) fn is_sending(&self) -> bool {
        self.end.is_none() && self.link == Link::Attached
    }

    /// Encoded bytes in memory.
    pub(super) fn window_bytes(&self) -> usize {
        self.window_bytes
    }

    /// The batches that are neither in the log nor delivered, which the caller appends now: `append` counts on from here.
    pub(super) fn log_window(&mut self, append: &mut u64) -> Vec<Batch> {
        let at = self.first_unlogged();
        self.unlogged_bytes = 0;
        let number = |slot: &mut Slot| {
            *append += 1;
            slot.append = Some(*append);
            slot.batch.clone()
        };
        self.window.range_mut(at..).map(number).collect()
    }

    /// Whether the log has its end among the entries up to `confirmed`, which are all there ever will be when that is [`NEVER`].
    pub(super) fn is_end_known(&self, confirmed: u64) -> bool {
        let append = self.end.and_then(|end| end.append);
        confirmed == NEVER || append.is_some_and(|append| append <= confirmed)
    }

    /// Whether nothing in the window waits for the log.
    pub(super) fn is_logged(&self) -> bool {
        self.first_unlogged() == self.window.len()
    }

    /// The number of the first batch that waits for the log.
    pub(super) fn unlogged_from(&self) -> Option<Seq> {
        self.window.get(self.first_unlogged()).map(|slot| slot.batch.first())
    }

    fn first_unlogged(&self) -> usize {
        // Appends are made in order, and what is delivered has left the window.
        self.window.partition_point(|slot| slot.append.is_some())
    }

    /// Counts what became durable or delivered, and drops from memory what need not stay. Returns whether the writer has
    /// something to hear. What is on disk stays in memory for readers while the window has at most `keep_bytes`.
    pub(super) fn settle(&mut self, durable: u64, keep_bytes: usize, window: Option<u64>) -> bool {
        self.stored = self.run_from(self.stored, |slot| slot.is_on_disk(durable)).0;
        let delivered = self.delivered;
        let (settled, bytes) =
            self.run_from(self.settled, |slot| slot.is_on_disk(durable) || slot.batch.next() <= delivered);
        self.settled = settled;
        self.credit_due += bytes;
        self.shrink(durable, keep_bytes);
        self.has_news(durable, window)
    }

    /// How far batches from `from` on are `good` without a break, and how many bytes they have.
    fn run_from(&self, from: Seq, good: impl Fn(&Slot) -> bool) -> (Seq, u64) {
        let at = self.window.partition_point(|slot| slot.batch.next() <= from);
        let (mut to, mut bytes) = (from, 0);
        for slot in self.window.range(at..).take_while(|slot| good(slot)) {
            if slot.batch.first() > to {
                break;
            }
            to = slot.batch.next();
            bytes += slot.batch.encoded().len() as u64;
        }
        (to, bytes)
    }

    fn shrink(&mut self, durable: u64, keep_bytes: usize) {
        while let Some(slot) = self.window.front() {
            let bytes = slot.batch.encoded().len();
            let delivered = slot.batch.next() <= self.delivered;
            if !(delivered || (slot.is_on_disk(durable) && self.window_bytes > keep_bytes)) {
                break;
            }
            if slot.append.is_none() {
                self.unlogged_bytes -= bytes;
            }
            self.window_bytes -= bytes;
            self.window.pop_front();
        }
    }

    /// What the writer may hear: the end mark counts only once its fact is on disk, and nothing that the writer is still to send again
    /// does, though readers may have it since before a crash.
    fn ack(&self, durable: u64) -> Ack {
        let cap = match self.end {
            Some(end) if end.append.is_none_or(|append| append > durable) => Seq(end.next.0 - 1),
            Some(end) => end.next,
            None => self.accepted,
        };
        // An end whose fact is on disk, with all before it settled, is settled itself.
        let settled = match self.end {
            Some(end) if cap == end.next && self.settled.0 + 1 >= end.next.0 => end.next,
            _ => self.settled.min(cap),
        };
        Ack { settled, stored: self.stored.min(cap), delivered: self.delivered.min(cap) }
    }

    fn has_news(&self, durable: u64, window: Option<u64>) -> bool {
        self.link == Link::Attached
            && (self.ack(durable) != self.told || self.credit_to_give(window).is_some() || !self.notices.is_empty())
    }

    /// The acknowledgement the writer has not heard yet.
    pub(super) fn take_ack(&mut self, durable: u64) -> Option<Ack> {
        let ack = self.ack(durable);
        (ack != self.told).then(|| {
            self.told = ack;
            ack
        })
    }

    /// Credit for a new link: what is accepted and not settled is under way still, and gives its part back later. What the window has no
    /// room for comes later; all of it where there is none.
    pub(super) fn welcome_credit(&mut self, window: Option<u64>) -> u64 {
        let (_, under_way) = self.run_from(self.settled, |_| true);
        let credit = STORED_CREDIT_BYTES.saturating_sub(under_way);
        let given = window.unwrap_or(0).saturating_sub(under_way).min(credit);
        self.credit_due = credit - given;
        self.credit = given as i64;
        given
    }

    #[cfg(test)]
    pub(super) fn has_credit(&self) -> bool {
        self.credit > 0
    }

    /// Takes a batch off the credit; false when there is none.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        let has_credit = self.credit > 0;
        self.credit -= bytes as i64;
        has_credit
    }

    /// What a welcome says: everything so far.
    pub(super) fn welcome_ack(&mut self, durable: u64) -> Ack {
        self.told = self.ack(durable);
        self.told
    }

    /// Credit to give back, if it is worth a message and there is room for what comes of it.
    pub(super) fn take_credit(&mut self, window: Option<u64>) -> Option<u64> {
        let given = self.credit_to_give(window)?;
        self.credit_due -= given;
        self.credit += given as i64;
        Some(given)
    }

    fn credit_to_give(&self, window: Option<u64>) -> Option<u64> {
        let window = window?;
        // All that is not due is the writer's already: under way, or its to send.
        let given = self.credit_due.saturating_sub(STORED_CREDIT_BYTES.saturating_sub(window));
        (given > 0 && given >= window / CREDIT_STEPS).then_some(given)
    }

    /// Gives back the credit of a batch that was known already.
    pub(super) fn refund(&mut self, bytes: usize) {
        self.credit_due += bytes as u64;
    }

    pub(super) fn notify(&mut self, notice: Notice) {
        if self.link == Link::Attached && self.notices.len() < NOTICES_MAX {
            self.notices.push_back(notice);
        }
    }

    pub(super) fn take_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Whether the writer heard that all of the item is settled, and delivered if it is over.
    pub(super) fn heard_all(&self) -> bool {
        self.end.is_some_and(|end| self.told.settled >= end.next && (!self.over || self.told.delivered >= end.next))
    }
}

/// Most notices that wait for one party: they are said once each, so more only come when nobody listens.
pub(super) const NOTICES_MAX: usize = 16;

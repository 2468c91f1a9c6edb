//! One writer of a tape.

use std::collections::VecDeque;

use crate::batch::EndKind;
use crate::broker::{Ack, Notice};
use crate::caller::Holder;
use crate::id::{Epoch, ItemNo, Seq};
use crate::time::Time;

use super::super::item::{Link, NOTICES_MAX};
use super::super::limits::{AWAY_LOST, CREDIT_STEPS, WRITER_CREDIT_BYTES};
use super::long::Open;

/// Places that tell how far a writer's records are delivered: the last is exact, and two next to each other become one when there are more.
const STEPS_MAX: usize = 64;

/// One writer.
#[derive(Debug)]
pub(super) struct Writer {
    /// Its number in the log.
    pub(super) no: ItemNo,
    pub(super) epoch: Epoch,
    pub(super) link: Link,
    pub(super) holder: Holder,
    /// Which append says that it joined.
    pub(super) joined: u64,
    /// The next number expected of it.
    pub(super) accepted: Seq,
    /// The record of which more parts are to come.
    pub(super) open: Option<Open>,
    /// How it ended: how, the number behind the end mark, and which append says so.
    pub(super) end: Option<(EndKind, Seq, u64)>,
    /// It was given up, and goes once the log has all up to this append: only then may anybody be told how much of it there is.
    pub(super) gone_at: Option<u64>,
    /// All below is on disk.
    stored: Seq,
    delivered: Seq,
    /// Records that are not on disk yet, in order: up to which number, and encoded bytes.
    under_way: VecDeque<(Seq, u64)>,
    /// All below the number stands before the place.
    steps: VecDeque<(Seq, Seq)>,
    told: Ack,
    credit_due: u64,
    credit: i64,
    notices: VecDeque<Notice>,
    /// It knows that a reader is there.
    pub(super) reader_told: bool,
}

impl Writer {
    pub(super) fn new(no: ItemNo, epoch: Epoch, holder: Holder, joined: u64) -> Self {
        Self {
            no,
            epoch,
            link: Link::Attached,
            holder,
            joined,
            accepted: Seq(0),
            open: None,
            end: None,
            gone_at: None,
            stored: Seq(0),
            delivered: Seq(0),
            under_way: VecDeque::new(),
            steps: VecDeque::new(),
            told: Ack::default(),
            credit_due: 0,
            credit: WRITER_CREDIT_BYTES as i64,
            notices: VecDeque::new(),
            reader_told: false,
        }
    }

    /// Records of `bytes` encoded bytes, up to but not including number `next`, stand before place `behind`.
    pub(super) fn accept(&mut self, next: Seq, bytes: usize, behind: Seq) {
        self.accepted = next;
        self.under_way.push_back((next, bytes as u64));
        self.step(next, behind);
    }

    /// A part of a record of `bytes` encoded bytes, which has no place yet.
    pub(super) fn accept_part(&mut self, next: Seq, bytes: usize) {
        self.accepted = next;
        self.under_way.push_back((next, bytes as u64));
    }

    /// The oldest records under way are on disk.
    pub(super) fn settle_one(&mut self) {
        if let Some((next, bytes)) = self.under_way.pop_front() {
            self.stored = self.stored.max(next);
            self.credit_due += bytes;
        }
    }

    /// All below `next` is in the log, as far as it goes.
    pub(super) fn recover(&mut self, now: Time) {
        (self.stored, self.link) = (self.accepted, Link::Away(now));
    }

    /// All below place `below` is delivered. Returns whether the writer has something to hear.
    pub(super) fn deliver(&mut self, below: Seq) -> bool {
        let before = self.delivered;
        while let Some((next, _)) = self.steps.front().copied().filter(|(_, behind)| *behind <= below) {
            self.delivered = next;
            self.steps.pop_front();
        }
        self.delivered > before
    }

    pub(super) fn step(&mut self, next: Seq, behind: Seq) {
        self.steps.push_back((next, behind));
        if self.steps.len() > STEPS_MAX {
            let mut keep = true;
            // Of each two the later one stays, and so does the last of all.
            let length = self.steps.len();
            let mut at = 0;
            self.steps.retain(|_| {
                at += 1;
                keep = !keep;
                keep || at == length
            });
        }
    }

    /// What the writer may hear: its end counts once the fact that says so is durable.
    fn ack(&self, confirmed: u64) -> Ack {
        let known = self.end.filter(|(_, _, append)| *append <= confirmed);
        let all = |upto: Seq| known.map(|(_, next, _)| next).filter(|next| upto.0 + 1 >= next.0).unwrap_or(upto);
        let stored = all(self.stored);
        let delivered = if self.steps.is_empty() { all(self.delivered) } else { self.delivered };
        Ack { settled: stored, stored, delivered: delivered.min(stored) }
    }

    pub(super) fn take_ack(&mut self, confirmed: u64) -> Option<Ack> {
        let ack = self.ack(confirmed);
        (ack != self.told).then(|| {
            self.told = ack;
            ack
        })
    }

    pub(super) fn welcome_ack(&mut self, confirmed: u64) -> Ack {
        self.told = self.ack(confirmed);
        self.told
    }

    pub(super) fn has_news(&self, confirmed: u64, window: Option<u64>) -> bool {
        self.link == Link::Attached
            && (self.ack(confirmed) != self.told || self.credit_to_give(window).is_some() || !self.notices.is_empty())
    }

    /// Whether it ended and heard that all of it is stored and delivered.
    pub(super) fn heard_all(&self) -> bool {
        self.end.is_some_and(|(_, next, _)| self.told.delivered >= next)
    }

    /// All below is on disk.
    pub(super) fn stored(&self) -> Seq {
        self.stored
    }

    /// Whether its end is durable.
    pub(super) fn is_over(&self, confirmed: u64) -> bool {
        self.end.is_some_and(|(_, _, append)| append <= confirmed)
    }

    /// When it is given up, if it stays away.
    pub(super) fn lost_at(&self) -> Option<Time> {
        match self.link {
            Link::Away(since) if self.gone_at.is_none() => Some(since.plus(AWAY_LOST)),
            _ => None,
        }
    }

    /// Credit for a new link: what is accepted and not on disk is under way still, and gives its part back later.
    pub(super) fn welcome_credit(&mut self, window: Option<u64>) -> u64 {
        let under_way: u64 = self.under_way.iter().map(|(_, bytes)| bytes).sum();
        let credit = WRITER_CREDIT_BYTES.saturating_sub(under_way);
        let given = window.unwrap_or(0).saturating_sub(under_way).min(credit);
        self.credit_due = credit - given;
        self.credit = given as i64;
        given
    }

    /// Takes a batch off the credit; false when there is none.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        let has_credit = self.credit > 0;
        self.credit -= bytes as i64;
        has_credit
    }

    /// Gives back the credit of what takes no room.
    pub(super) fn refund(&mut self, bytes: usize) {
        self.credit_due += bytes as u64;
    }

    pub(super) fn take_credit(&mut self, window: Option<u64>) -> Option<u64> {
        let given = self.credit_to_give(window)?;
        self.credit_due -= given;
        self.credit += given as i64;
        Some(given)
    }

    fn credit_to_give(&self, window: Option<u64>) -> Option<u64> {
        let window = window?;
        let given = self.credit_due.saturating_sub(WRITER_CREDIT_BYTES.saturating_sub(window));
        (given > 0 && given >= window / CREDIT_STEPS).then_some(given)
    }

    pub(super) fn notify(&mut self, notice: Notice) {
        if self.link == Link::Attached && self.notices.len() < NOTICES_MAX {
            self.notices.push_back(notice);
        }
    }

    pub(super) fn take_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }
}

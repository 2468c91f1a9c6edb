//! One reader of a default pipe: a cursor per item it has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use crate::broker::{Notice, ReaderDown, Take};
use crate::caller::Holder;
use crate::id::{Epoch, ItemNo, Seq, SessionId};
use crate::time::Time;

use super::fact::{Fact, Held, Place};
use super::item::{Link, NOTICES_MAX};
use super::ranges::Ranges;

/// One reader.
#[derive(Debug)]
pub(super) struct Reader {
    /// Its newest attach.
    pub(super) epoch: Epoch,
    /// How it is reached.
    pub(super) link: Link,
    /// Who holds it.
    pub(super) holder: Holder,
    /// What it wants.
    pub(super) take: Take,
    /// Whether it starts again at its end.
    pub(super) keep: bool,
    /// Whether it ends where there is nothing to take, instead of waiting.
    pub(super) no_wait: bool,
    /// Its place among the readers of the pipe, in the order in which they came.
    pub(super) arrival: u64,
    /// Which append says that it joined.
    pub(super) joined: u64,
    /// What it has.
    pub(super) holds: Holds,
    /// Which append says that it has that, where it had something else before.
    pub(super) given: u64,
    /// Bytes it may still be sent; a batch may overdraw it.
    pub(super) credit: i64,
    /// Messages that go before the next batch.
    pub(super) outbox: VecDeque<ReaderDown>,
    /// Which append says that it left; it is told when that is durable.
    pub(super) leaving: Option<u64>,
    /// When it took something last, while writers wait for room.
    pub(super) idle_since: Option<Time>,
    /// It was told that a second writer joined.
    pub(super) second_writer_told: bool,
}

/// What a reader has.
#[derive(Debug)]
pub(super) enum Holds {
    /// Nothing yet: it waits for an item of its own.
    Waiting,
    /// This item, alone.
    Alone(ItemNo, Cursor),
    /// All items that are live, and what was stored when it came.
    Live(Live),
    /// A look at these items, from a number up to a number.
    Peek(VecDeque<(ItemNo, Cursor)>),
}

/// A live reader's items.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Where it is in each item.
    pub(super) cursors: BTreeMap<ItemNo, Cursor>,
    /// The items that have something for it, in the order in which they are served. The first one is served until its stored part is through
    /// and no record is half sent.
    pub(super) ready: VecDeque<ItemNo>,
    /// Its place among those that were given something, in the order in which that was: what others took before it was taken before
    /// all that came later, too.
    pub(super) since: u64,
    /// The last writer has ended: it gets what it is owed, and nothing of later writers.
    pub(super) ending: bool,
}

/// Where a reader is in one item.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    /// The first number it is owed.
    pub(super) start: Seq,
    /// The next number to send.
    pub(super) sent: Seq,
    /// All below, from `start` on, is acknowledged.
    pub(super) acked: Seq,
    /// All below was there when the reader came, and is served before anything of the next item.
    pub(super) stored_until: Seq,
    /// Numbers others took before this reader came.
    pub(super) skip: Ranges,
    /// It came within a record, and is owed the item from the next record on.
    pub(super) wants_start: bool,
    /// It came within a record, and only a relay that crashed knew where it began: what it acknowledges first counts as nobody's.
    pub(super) start_unknown: bool,
    /// Half a record was sent.
    pub(super) open_record: bool,
    /// It was told that the item ended.
    pub(super) end_told: bool,
    /// The item stands in [`Live::ready`].
    pub(super) queued: bool,
    /// It let a record wait for longer than a prompt reader does.
    pub(super) lagging: bool,
}

impl Cursor {
    /// A cursor at `start`; all below `stored_until` comes first.
    pub(super) fn new(start: Seq, stored_until: Seq, skip: Ranges) -> Self {
        Self { start, sent: start, acked: start, stored_until, skip, ..Self::default() }
    }

    /// How many numbers below `end` are owed to it and not acknowledged.
    pub(super) fn owed(&self, end: Seq) -> u64 {
        let passed = |range: Range<Seq>| range.end.min(end).0.saturating_sub(range.start.max(self.acked).0);
        let others: u64 = self.skips_ahead().map(passed).sum();
        end.0.saturating_sub(self.acked.0).saturating_sub(others)
    }

    /// What it will pass over.
    pub(super) fn skips_ahead(&self) -> impl Iterator<Item = Range<Seq>> {
        let acked = self.acked;
        self.skip.iter().filter(move |range| range.end > acked)
    }
}

impl Reader {
    /// Something goes down before the next batch. A notice may be left out where many wait, but for that of a middle: there are as many as
    /// items, and who does not hear of one takes the rest for the whole.
    pub(super) fn say(&mut self, message: ReaderDown) {
        let must_go = !matches!(message, ReaderDown::Notice(_)) || middle(&message).is_some();
        if must_go || self.outbox.len() < NOTICES_MAX {
            self.outbox.push_back(message);
        }
    }

    /// The middles that it is still to be told.
    pub(super) fn untold_middles(&self) -> BTreeSet<(SessionId, Seq)> {
        self.outbox.iter().filter_map(middle).collect()
    }

    /// Its cursor in `item`, if it has one.
    pub(super) fn cursor(&mut self, item: ItemNo) -> Option<&mut Cursor> {
        match &mut self.holds {
            Holds::Alone(own, cursor) if *own == item => Some(cursor),
            Holds::Live(live) => live.cursors.get_mut(&item),
            _ => None,
        }
    }

    /// Its live state, while it takes part in what comes.
    pub(super) fn live(&mut self) -> Option<&mut Live> {
        match &mut self.holds {
            Holds::Live(live) => Some(live),
            _ => None,
        }
    }

    /// Whether it is live and was given `item`.
    pub(super) fn has_live(&self, item: ItemNo) -> Option<&Cursor> {
        match &self.holds {
            Holds::Live(live) => live.cursors.get(&item),
            _ => None,
        }
    }

    /// The items it was given.
    pub(super) fn items(&self) -> impl Iterator<Item = ItemNo> {
        let (alone, live) = match &self.holds {
            Holds::Alone(item, _) => (Some(*item), None),
            Holds::Live(live) => (None, Some(live.cursors.keys().copied())),
            Holds::Waiting | Holds::Peek(_) => (None, None),
        };
        alone.into_iter().chain(live.into_iter().flatten())
    }

    /// Whether it gets `item`, alone or live.
    pub(super) fn gets(&self, item: ItemNo) -> bool {
        self.leaving.is_none()
            && match &self.holds {
                Holds::Alone(own, _) => *own == item,
                Holds::Live(live) => live.cursors.contains_key(&item),
                Holds::Waiting | Holds::Peek(_) => false,
            }
    }

    /// Whether it would take whatever is put back.
    pub(super) fn is_idle(&self) -> bool {
        self.leaving.is_none()
            && match &self.holds {
                Holds::Waiting => true,
                Holds::Live(live) => live.cursors.is_empty() && !live.ending,
                _ => false,
            }
    }

    /// What the log has to know of it.
    pub(super) fn joining(&self, session: SessionId) -> Fact {
        let (epoch, take, keep, no_wait, holder) = (self.epoch, self.take, self.keep, self.no_wait, self.holder);
        Fact::ReaderJoined { session, epoch, take, keep, no_wait, holder, holds: self.held() }
    }

    /// What it has, as the log knows it.
    pub(super) fn held(&self) -> Held {
        match &self.holds {
            Holds::Alone(item, _) => Held::Alone(*item),
            Holds::Live(live) => {
                let place = |(item, cursor): (&ItemNo, &Cursor)| {
                    let wants_start = cursor.wants_start || cursor.start_unknown;
                    let (item, from) = (*item, cursor.acked);
                    Place { item, from, wants_start }
                };
                Held::Live(live.cursors.iter().map(place).collect())
            }
            Holds::Waiting | Holds::Peek(_) => Held::Waiting,
        }
    }
}

impl Live {
    /// Puts `item` in line if it is not there.
    pub(super) fn queue(&mut self, item: ItemNo) {
        if let Some(cursor) = self.cursors.get_mut(&item).filter(|cursor| !cursor.queued) {
            cursor.queued = true;
            self.ready.push_back(item);
        }
    }

    /// Takes `item` out: the reader has all of it.
    pub(super) fn complete(&mut self, item: ItemNo) {
        self.cursors.remove(&item);
        self.ready.retain(|other| *other != item);
    }
}

fn middle(message: &ReaderDown) -> Option<(SessionId, Seq)> {
    match message {
        ReaderDown::Notice(Notice::Middle { writer, from }) => Some((*writer, *from)),
        _ => None,
    }
}

/// A reader's name is its session. Boxed: a map of a few keeps room for eleven, and most pipes have one reader or none.
pub(super) type Readers = BTreeMap<SessionId, Box<Reader>>;

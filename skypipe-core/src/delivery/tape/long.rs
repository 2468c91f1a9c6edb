//! Records in parts: longer than one piece, or written bit by bit.
//!
//! ```text
//!  tape    ──┬───┬───┬──────┬───┬──▶ places        a stand-in: empty, takes the place of the whole record
//!            └───┴───┴──┬───┴───┘
//!  beside               └▶ part ▷ part ▷ part      an item of its own in the log, numbered as its writer did
//! ```
//!
//! The parts lie beside the tape, so that nobody else's records wait for the rest of one. When the last part came the record takes its
//! place, one like any other: it is counted, kept, leased and acknowledged as one. Its parts go to readers from the log; none of them
//! stays in memory.

use std::collections::BTreeMap;

use crate::batch::{Batch, BatchBuilder};
use crate::broker::{Mark, Mode};
use crate::error::{Code, Error};
use crate::id::{Epoch, ItemNo, Position, Seq, SessionId};
use crate::time::{Time, WallTime};

use super::super::default::{Effect, Extent};
use super::super::fact::Fact;
use super::super::limits::LONG_MAX;
use super::{Pending, Tape};

/// A record in parts that has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Long {
    /// The item that its parts are.
    pub item: ItemNo,
    /// The number of the first part.
    pub first: Seq,
    /// The number behind the last part.
    pub next: Seq,
    /// A queue hands it out not before this moment.
    pub not_before: Option<WallTime>,
}

/// A record of which more parts are to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    item: ItemNo,
    pub(super) first: Seq,
    not_before: Option<WallTime>,
    /// Encoded bytes so far.
    bytes: u64,
    /// All parts are in the log; it has no place yet. Only so after a crash.
    is_whole: bool,
}

/// What a batch holds of a record in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    begins: bool,
    pub(super) ends: bool,
}

/// A place, and so many parts of the record there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) place: Seq,
    pub(super) parts: u64,
}

impl From<Seq> for Point {
    fn from(place: Seq) -> Self {
        Self { place, parts: 0 }
    }
}

/// The records in parts that have a place.
#[derive(Debug, Default)]
pub(super) struct Longs {
    by_place: BTreeMap<Seq, Long>,
    places: BTreeMap<ItemNo, Seq>,
}

impl Longs {
    pub(super) fn at(&self, place: Seq) -> Option<Long> {
        self.by_place.get(&place).copied()
    }

    /// The place of the record whose parts are this item.
    pub(super) fn place_of(&self, item: ItemNo) -> Option<Seq> {
        self.places.get(&item).copied()
    }

    pub(super) fn first(&self) -> Option<Seq> {
        self.by_place.first_key_value().map(|(place, _)| *place)
    }

    pub(super) fn len(&self) -> usize {
        self.by_place.len()
    }

    fn insert(&mut self, place: Seq, long: Long) {
        if let Some(before) = self.by_place.insert(place, long) {
            self.places.remove(&before.item);
        }
        // Only a damaged log has an item at two places; nobody may wait for what cannot be told apart.
        if let Some(other) = self.places.insert(long.item, place).filter(|other| *other != place) {
            self.by_place.remove(&other);
        }
    }

    /// Takes the first out if it stands below this place, and gives its item.
    pub(super) fn take_first_below(&mut self, below: Seq) -> Option<ItemNo> {
        let long = self.by_place.first_entry().filter(|entry| *entry.key() < below)?.remove();
        self.places.remove(&long.item);
        Some(long.item)
    }
}

impl Long {
    /// The part that a reader which is so far is to be given next.
    pub(super) fn part(self, point: Point) -> Seq {
        self.first.plus(point.parts)
    }

    /// Whether this batch of it has the part that a reader which is so far is to be given next.
    pub(super) fn has_next(self, point: Point, batch: &Batch) -> bool {
        let part = self.part(point);
        batch.first() <= part && part < batch.first().plus(u64::from(batch.count()))
    }

    /// Where a reader is that has a batch of it.
    pub(super) fn behind(self, place: Seq, batch: &Batch) -> Point {
        let next = batch.first().plus(u64::from(batch.count()));
        if next >= self.next {
            place.plus(1).into()
        } else {
            Point { place, parts: next.0.saturating_sub(self.first.0) }
        }
    }

    /// What a batch of it is called that stands at this place: so that who comes back with it has all of it or not, also when it is gone.
    pub(super) fn position(self, place: Seq, batch: &Batch) -> Position {
        let number = |seq: Seq| u32::try_from(seq.0.saturating_sub(self.first.0)).unwrap_or(u32::MAX).to_be_bytes();
        let (before, all) = (number(batch.first()), number(self.next));
        Position([&place.0.to_be_bytes()[..], &before, &all].concat().into())
    }
}

impl Part {
    /// What a batch holds of a record in parts; none where its records are whole.
    ///
    /// # Errors
    /// `E_PROTOCOL` for one that mixes them: a part takes no place.
    pub(super) fn of(batch: &Batch) -> Result<Option<Self>, Error> {
        if batch.are_whole() {
            return Ok(None);
        }
        let (begins, mut ends) = (batch.first_start() == Some(batch.first()), false);
        for piece in batch.pieces() {
            if ends || (piece.first && piece.seq > batch.first()) {
                return Err(Error::new(Code::Protocol, "a batch with a part of a record, and more"));
            }
            ends = piece.last;
        }
        Ok(Some(Self { begins, ends }))
    }
}

impl Tape {
    /// The record in parts that has this place.
    pub(super) fn long(&self, place: Seq) -> Option<Long> {
        self.long.at(place)
    }

    /// The moment before which a queue hands the record at this place to nobody, as far as that is known without the log.
    pub(super) fn not_before(&self, place: Seq) -> Option<WallTime> {
        match self.long.at(place) {
            Some(long) => long.not_before,
            None => self.in_memory(place).and_then(|(_, batch)| batch.not_before()),
        }
    }

    /// Whether parts with this number lie beside the tape.
    pub(super) fn has_item(&self, item: ItemNo) -> bool {
        self.long.place_of(item).is_some() || self.open_items().contains(&item)
    }

    /// The records of which parts are to come.
    pub(super) fn open_items(&self) -> Vec<ItemNo> {
        self.writers.values().filter_map(|writer| writer.open).map(|open| open.item).collect()
    }

    /// Encoded bytes of records of which parts are to come.
    pub(super) fn open_bytes(&self) -> u64 {
        self.writers.values().filter_map(|writer| writer.open).map(|open| open.bytes).sum()
    }

    /// Below are more records in parts than there may be.
    pub(super) fn long_excess(&self) -> Seq {
        let excess = self.long.len().saturating_sub(LONG_MAX);
        let last = excess.checked_sub(1).and_then(|last| self.long.by_place.keys().nth(last));
        last.map_or(Seq(0), |place| place.plus(1))
    }

    /// Where somebody is who has all up to this mark. None for one that was not given out here.
    pub(super) fn behind(&self, mark: &Mark) -> Option<Point> {
        let Ok(bytes) = <[u8; 16]>::try_from(&mark.position.0[..]) else {
            return Some(Seq::try_from(&mark.position).ok()?.plus(u64::from(mark.records)).into());
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let place = Some(Seq(number(&bytes[..8]))).filter(|place| place.0 < u64::MAX / 2)?;
        let (parts, all) = (number(&bytes[8..12]) + u64::from(mark.records), number(&bytes[12..]));
        Some(match parts >= all {
            true => place.plus(1).into(),
            false if self.long.at(place).is_some() => Point { place, parts },
            // One that is not there any more is missed as a whole.
            false => place.into(),
        })
    }

    /// Takes a part of a record. Gives the record's place when it was the last one.
    ///
    /// # Errors
    /// `E_PROTOCOL` for a part that belongs to none, `E_BUSY` when there are as many records in parts as there may be.
    pub(super) fn put_part(
        &mut self,
        session: SessionId,
        batch: Batch,
        part: Part,
        now: Time,
    ) -> Result<Option<Seq>, Error> {
        let Some(writer) = self.writers.get(&session) else { return Err(self.unknown()) };
        let (no, open) = (writer.no, writer.open);
        let mut open = match (open, part.begins) {
            (Some(open), false) => open,
            // The power went when the log knew that it began, and had nothing of it.
            (Some(open), true) if open.first == batch.first() => open,
            (None, true) => self.begin(no, &batch)?,
            _ => return Err(Error::new(Code::Protocol, "a part of a record that is not the next one")),
        };
        let (bytes, next) = (batch.encoded().len(), batch.first().plus(u64::from(batch.count())));
        open.bytes += bytes as u64;
        let epoch = batch.epoch();
        self.appended += 1;
        self.effects.push(Effect::Batch(open.item, batch));
        let Some(writer) = self.writers.get_mut(&session) else { return Ok(None) };
        if !part.ends {
            writer.open = Some(open);
            writer.accept_part(next, bytes);
            self.when_durable(self.appended, Pending::Part(session));
            return Ok(None);
        }
        writer.open = None;
        let place = self.place(session, epoch, open, next, now);
        if let Some(writer) = self.writers.get_mut(&session) {
            writer.accept(next, bytes, place.plus(1));
        }
        Ok(Some(place))
    }

    /// A record in parts begins.
    fn begin(&mut self, writer: ItemNo, batch: &Batch) -> Result<Open, Error> {
        if self.long.len() >= LONG_MAX && self.mode == Mode::Queue {
            return Err(Error::new(Code::Busy, "the pipe has as many records in parts as it may"));
        }
        let (item, first, not_before) = (self.next_item, batch.first(), batch.not_before());
        self.next_item = ItemNo(item.0 + 1);
        self.append(Fact::Begun { writer, item, first, not_before });
        Ok(Open { item, first, not_before, bytes: 0, is_whole: false })
    }

    /// All parts are there: the record takes its place.
    fn place(&mut self, session: SessionId, epoch: Epoch, open: Open, next: Seq, now: Time) -> Seq {
        let Open { item, first, not_before, bytes, .. } = open;
        let last = Seq(next.0.saturating_sub(1));
        let mut stand_in = BatchBuilder::new(session, epoch, last).not_before(not_before).beside();
        let added = stand_in.push(b"", true, true);
        debug_assert!(added, "an empty batch has room for an empty record");
        let place = self.lay(session, stand_in.build(None), bytes, now).start;
        let long = Long { item, first, next, not_before };
        // Before the log is told how far its writer is: else a relay that starts again would not look for the stand-in.
        self.long.insert(place, long);
        self.append(Fact::Long { place, long });
        self.say_progress_if_due();
        place
    }

    /// A writer goes that has not written all parts of its record: there is none.
    pub(super) fn drop_open(&mut self, session: SessionId) {
        if let Some(open) = self.writers.get_mut(&session).and_then(|writer| writer.open.take()) {
            self.effects.push(Effect::Forget(open.item, Seq(u64::MAX)));
        }
    }

    /// The log lets go of the parts of records that are not needed any more; it knows that by now, or it was told just before.
    pub(super) fn forget_long(&mut self) {
        while let Some(item) = self.long.take_first_below(self.forgotten) {
            self.effects.push(Effect::Forget(item, Seq(u64::MAX)));
        }
    }

    pub(super) fn replay_begun(&mut self, no: ItemNo, item: ItemNo, first: Seq, not_before: Option<WallTime>) {
        self.next_item = self.next_item.max(ItemNo(item.0.saturating_add(1)));
        if let Some(writer) = self.writers.values_mut().find(|writer| writer.no == no) {
            writer.open = Some(Open { item, first, not_before, bytes: 0, is_whole: false });
        }
    }

    pub(super) fn replay_long(&mut self, place: Seq, long: Long) {
        self.next_item = self.next_item.max(ItemNo(long.item.0.saturating_add(1)));
        if let Some(writer) = self.writers.values_mut().find(|writer| writer.open.is_some_and(|o| o.item == long.item))
        {
            writer.open = None;
        }
        if place >= self.forgotten {
            self.long.insert(place, long);
        }
    }

    /// A stand-in behind what the facts tell: the power went before the fact about it was on disk.
    pub(super) fn replay_stand_in(&mut self, place: Seq, batch: &Batch) {
        let next = batch.first().plus(u64::from(batch.count()));
        if self.long.at(place).is_some() {
            return;
        }
        let Some(writer) = self.writers.get_mut(&batch.session()) else { return };
        if let Some(Open { item, first, not_before, .. }) = writer.open.take_if(|open| open.first < next) {
            let long = Long { item, first, next, not_before };
            self.long.insert(place, long);
            // Before the log is told anything else of what comes behind.
            self.append(Fact::Long { place, long });
        }
    }

    /// The last batch that the log has of an open record, and how many encoded bytes it has in all.
    pub(super) fn replay_part(&mut self, item: ItemNo, last: &Batch, bytes: u64) {
        let open = self.writers.values_mut().filter_map(|writer| writer.open.as_mut()).find(|open| open.item == item);
        if let Some(open) = open {
            (open.bytes, open.is_whole) = (bytes, last.count() > 0 && !last.is_open());
        }
    }

    /// What the log has of the parts of open records. One whose last part is there takes its place now: the power went before it did.
    pub(super) fn recover_open(&mut self, now: Time, extent: impl Fn(ItemNo) -> Extent) {
        let open = self.writers.iter().filter_map(|(session, writer)| Some((*session, writer.epoch, writer.open?)));
        let open: Vec<_> = open.collect();
        for (session, epoch, open) in open {
            let next = extent(open.item).last().map_or(open.first, |range| range.end).max(open.first);
            let Some(writer) = self.writers.get_mut(&session) else { continue };
            writer.accepted = writer.accepted.max(next);
            if open.is_whole {
                writer.open = None;
                self.place(session, epoch, open, next, now);
            }
        }
    }

    /// The facts that restate all this.
    pub(super) fn long_facts(&self) -> Vec<Fact> {
        let open = self.writers.values().filter_map(|writer| Some((writer.no, writer.open?)));
        let begun =
            open.map(|(writer, Open { item, first, not_before, .. })| Fact::Begun { writer, item, first, not_before });
        let begun = std::iter::once(Fact::NextItem(self.next_item)).chain(begun);
        begun.chain(self.long.by_place.iter().map(|(place, long)| Fact::Long { place: *place, long: *long })).collect()
    }
}

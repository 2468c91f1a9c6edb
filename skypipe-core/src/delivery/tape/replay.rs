//! A tape from its facts, and from what stands behind the last of them.

use crate::batch::{Batch, EndKind};
use crate::caller::Holder;
use crate::id::{Epoch, ItemNo, Seq, SessionId};
use crate::time::{Time, WallTime};

use super::super::default::Extent;
use super::super::fact::{Fact, Held, Place};
use super::super::item::Link;
use super::broadcast::{self, DurableCursor};
use super::queue::{self, Waiting};
use super::writer::Writer;
use super::{Side, Tape, TapePipe};

impl TapePipe {
    /// Applies one fact from the log. Facts come in the order in which they were appended; when all are in, the pipe is made ready with
    /// [`TapePipe::recovered`].
    pub fn replay(&mut self, fact: Fact) {
        let tape = &mut self.tape;
        tape.opened = true;
        match fact {
            Fact::Opened { pipe, .. } => tape.pipe = pipe,
            Fact::Settings(settings) => tape.settings = settings,
            Fact::WriterJoined { session, epoch, item, holder } => {
                tape.next_item = tape.next_item.max(ItemNo(item.0.saturating_add(1)));
                tape.writers.entry(session).or_insert_with(|| Writer::new(item, epoch, holder, 0));
            }
            Fact::Ended { item, kind, next } => tape.replay_end(item, kind, next),
            Fact::Progress { next, writers, mark } => {
                tape.next = tape.next.max(next);
                mark.into_iter().for_each(|mark| tape.marks.insert(mark));
                for (no, accepted) in writers {
                    if let Some(writer) = tape.writers.values_mut().find(|writer| writer.no == no) {
                        writer.accepted = writer.accepted.max(accepted);
                    }
                }
            }
            Fact::Begun { writer, item, first, not_before } => tape.replay_begun(writer, item, first, not_before),
            Fact::Long { place, long } => tape.replay_long(place, long),
            Fact::NextItem(item) => tape.next_item = tape.next_item.max(item),
            Fact::Cut { below } => {
                tape.low = tape.low.max(below);
                tape.next = tape.next.max(below);
                tape.forgotten = tape.forgotten.max(below);
                while tape.long.take_first_below(below).is_some() {}
            }
            Fact::ReaderJoined { session, epoch, holder, holds, .. } => {
                self.replay_reader(session, epoch, holder, holds)
            }
            Fact::ReaderLeft { session } => match &mut self.side {
                Side::Queue(queue) => queue.recover_left(session),
                Side::Broadcast(broadcast) => drop(broadcast.readers.remove(&session)),
            },
            Fact::Returned { session, epoch } => self.replay_return(session, epoch),
            Fact::Snapshot(facts) => {
                let fresh = Self::new(self.tape.pipe.clone(), self.tape.mode, self.tape.wall_at_zero);
                *self = fresh;
                facts.into_iter().for_each(|fact| self.replay(fact));
            }
            fact => self.replay_side(fact),
        }
    }

    fn replay_side(&mut self, fact: Fact) {
        match (&mut self.side, fact) {
            (Side::Queue(queue), Fact::Leased { reader, leases }) => {
                leases.into_iter().for_each(|(place, attempt)| queue.recover_lease(place, reader, attempt));
            }
            (Side::Queue(queue), Fact::Waits { place, attempts, due }) => {
                queue.recover_waiting(place, Waiting { attempts, due });
            }
            (Side::Queue(queue), Fact::Done { places }) => {
                places.into_iter().for_each(|range| queue.recover_done(range));
            }
            (Side::Broadcast(broadcast), Fact::Cursor { name, at }) => {
                let cursor =
                    broadcast.cursors.entry(name).or_insert_with(|| DurableCursor { since: at, ..Default::default() });
                (cursor.at, cursor.saved) = (at, at);
            }
            // What a newer version adds that means nothing here is not for this kind of pipe.
            _ => {}
        }
    }

    fn replay_reader(&mut self, session: SessionId, epoch: Epoch, holder: Holder, holds: Held) {
        match &mut self.side {
            Side::Queue(queue) => drop(queue.readers.insert(session, queue::Reader::new(epoch, holder, 0))),
            Side::Broadcast(broadcast) => {
                let from = match &holds {
                    Held::Live(places) => places.first().map(|place| place.from).unwrap_or_default(),
                    _ => Seq(0),
                };
                broadcast.readers.insert(session, broadcast::Reader::new(epoch, holder, 0, from));
            }
        }
    }

    fn replay_return(&mut self, session: SessionId, epoch: Epoch) {
        if let Some(writer) = self.tape.writers.get_mut(&session) {
            writer.epoch = writer.epoch.max(epoch);
        }
        let known = match &mut self.side {
            Side::Queue(queue) => queue.readers.get_mut(&session).map(|reader| &mut reader.epoch),
            Side::Broadcast(broadcast) => broadcast.readers.get_mut(&session).map(|reader| &mut reader.epoch),
        };
        if let Some(known) = known {
            *known = (*known).max(epoch);
        }
    }

    /// Where to read the tape from so that it is known how far each writer is: behind what the facts tell.
    pub fn unread_from(&self) -> Seq {
        self.tape.next.max(self.tape.low)
    }

    /// A batch that stands at this place of the tape, behind what the facts tell.
    pub fn replay_batch(&mut self, at: Seq, batch: &Batch) {
        let tape = &mut self.tape;
        tape.next = tape.next.max(at.plus(u64::from(batch.count())));
        if let Some(writer) = tape.writers.get_mut(&batch.session()) {
            writer.accepted = writer.accepted.max(batch.first().plus(u64::from(batch.count())));
            tape.unsaid.insert(batch.session());
        }
        tape.unsaid_bytes += batch.encoded().len() as u64;
        if batch.is_beside() {
            tape.replay_stand_in(at, batch);
        }
    }

    /// The last batch that the log has of a record of which more parts were to come, and how many encoded bytes it has in all.
    pub fn replay_part(&mut self, item: ItemNo, last: &Batch, bytes: u64) {
        self.tape.replay_part(item, last, bytes);
    }

    /// Makes the pipe ready after the last fact and the last batch: `extent` is what the log has of the tape, and of the parts of records.
    /// All sessions are away from `now` on.
    pub fn recovered(&mut self, now: Time, extent: impl Fn(ItemNo) -> Extent) {
        let tape = &mut self.tape;
        let end = extent(super::TAPE).last().map(|range| range.end);
        tape.next = tape.next.max(end.unwrap_or_default()).max(tape.low);
        tape.durable = tape.next;
        tape.recover_open(now, extent);
        // The log does not remember what it was told to forget, and may only forget what its own facts tell.
        tape.effects.push(super::Effect::Forget(super::TAPE, tape.forgotten));
        tape.writers.values_mut().for_each(|writer| writer.recover(now));
        tape.drop_those_given_up();
        match &mut self.side {
            Side::Queue(queue) => {
                queue.readers.values_mut().for_each(|reader| reader.link = Link::Away(now));
                queue.recovered(tape, now);
            }
            Side::Broadcast(broadcast) => {
                for (session, reader) in &mut broadcast.readers {
                    reader.link = Link::Away(now);
                    if let Some(cursor) = reader.cursor.as_ref().and_then(|name| broadcast.cursors.get_mut(name)) {
                        cursor.reader = Some(*session);
                    }
                }
                broadcast.keep(tape, now);
            }
        }
    }

    /// All facts of the pipe as of now, as one.
    pub fn snapshot(&self) -> Fact {
        let tape = &self.tape;
        let mut facts = vec![Fact::Opened { pipe: tape.pipe.clone(), mode: tape.mode }, Fact::Settings(tape.settings)];
        for (session, writer) in &tape.writers {
            let (epoch, item, holder) = (writer.epoch, writer.no, writer.holder);
            facts.push(Fact::WriterJoined { session: *session, epoch, item, holder });
        }
        // Marks are restated by the facts that make them.
        for mark in tape.marks.iter() {
            facts.push(Fact::Progress { next: mark.place, writers: Vec::new(), mark: Some(mark) });
        }
        facts.push(tape.progress());
        for writer in tape.writers.values() {
            facts.extend(writer.end.map(|(kind, next, _)| Fact::Ended { item: writer.no, kind, next }));
        }
        facts.push(Fact::Cut { below: tape.forgotten });
        facts.extend(tape.long_facts());
        match &self.side {
            Side::Queue(queue) => {
                facts.extend(
                    queue
                        .readers
                        .iter()
                        .map(|(session, reader)| joined(*session, reader.epoch, reader.holder, Held::Waiting)),
                );
                facts.extend(queue.facts());
            }
            Side::Broadcast(broadcast) => {
                let cursor =
                    |(name, cursor): (&String, &DurableCursor)| Fact::Cursor { name: name.clone(), at: cursor.at };
                facts.extend(broadcast.cursors.iter().map(cursor));
                facts.extend(broadcast.readers.iter().map(|(session, reader)| {
                    let place = Place { item: super::TAPE, from: reader.acked, wants_start: false };
                    joined(*session, reader.epoch, reader.holder, Held::Live(vec![place]))
                }));
            }
        }
        Fact::Snapshot(facts)
    }

    /// Appends [`TapePipe::snapshot`].
    pub fn log_snapshot(&mut self) {
        if self.tape.opened && !self.tape.gone {
            let snapshot = self.snapshot();
            self.tape.append(snapshot);
        }
    }
}

impl Tape {
    fn replay_end(&mut self, no: ItemNo, kind: EndKind, next: Seq) {
        let Some(session) = self.writers.iter().find(|(_, writer)| writer.no == no).map(|(session, _)| *session) else {
            return;
        };
        if let Some(writer) = self.writers.get_mut(&session) {
            writer.end = Some((kind, next, 0));
            writer.accepted = next;
            writer.open = None;
            // The relay before may have been killed before the log knew what it was to say of it.
            writer.gone_at = (kind == EndKind::Aborted).then_some(0);
        }
    }

    /// The moment at which the wall clock says this.
    pub(super) fn time(&self, wall: WallTime) -> Time {
        Time(wall.0.saturating_sub(self.wall_at_zero.0).saturating_mul(1000))
    }
}

fn joined(session: SessionId, epoch: Epoch, holder: Holder, holds: Held) -> Fact {
    let take = crate::broker::Take::Any;
    Fact::ReaderJoined { session, epoch, take, keep: false, no_wait: false, holder, holds }
}

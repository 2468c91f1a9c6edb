//! What must outlive a crash: the facts of a pipe, as they stand in the log.
//!
//! A pipe's state is what its facts say, one after the other. Batches stand beside them in the log and are found by item and number.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::EndKind;
use crate::broker::{Mode, Settings, Take};
use crate::caller::{Holder, ProcessId};
use crate::codec::{Fields, put_settings, put_short, take_settings};
use crate::error::{Code, Error};
use crate::id::{Epoch, ItemNo, Seq, SessionId};
use crate::identity::PublicKey;
use crate::name::{Owner, PipePath, PipeRef};
use crate::time::WallTime;

use super::tape::{Long, TapeMark};

/// One durable fact of a pipe. `docs/log.md` draws each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The pipe exists.
    Opened {
        /// Its owner and path.
        pipe: PipeRef,
        /// Its mode.
        mode: Mode,
    },
    /// A writer attached for the first time: its item begins, owed to every live reader.
    WriterJoined {
        /// The writer's session.
        session: SessionId,
        /// Which attach.
        epoch: Epoch,
        /// The item that began.
        item: ItemNo,
        /// Who holds it.
        holder: Holder,
    },
    /// An item ended.
    Ended {
        /// Which.
        item: ItemNo,
        /// How.
        kind: EndKind,
        /// The number behind the end mark.
        next: Seq,
    },
    /// A reader attached for the first time.
    ReaderJoined {
        /// The reader's session.
        session: SessionId,
        /// Which attach.
        epoch: Epoch,
        /// What it wants.
        take: Take,
        /// Whether it starts again at its end.
        keep: bool,
        /// Whether it ends where there is nothing to take.
        no_wait: bool,
        /// Who holds it.
        holder: Holder,
        /// What it was given at first.
        holds: Held,
    },
    /// A reader that stays was given something new.
    ReaderHolds {
        /// The reader's session.
        session: SessionId,
        /// What it has now.
        holds: Held,
    },
    /// A reader acknowledged these numbers of an item, for good.
    Took {
        /// The reader's session.
        reader: SessionId,
        /// Of which item.
        item: ItemNo,
        /// First number acknowledged.
        from: Seq,
        /// The number behind the last one.
        to: Seq,
    },
    /// A session came back over a new link: an older attach of it must not win, not even after a crash.
    Returned {
        /// The writer's or reader's session.
        session: SessionId,
        /// Which attach.
        epoch: Epoch,
    },
    /// A reader is gone; what it took stands in [`Fact::Took`].
    ReaderLeft {
        /// The reader's session.
        session: SessionId,
    },
    /// The pipe does not exist any more.
    Removed,
    /// How a queue or a broadcast is kept from here on.
    Settings(Settings),
    /// How far writers of a tape are.
    Progress {
        /// All before this place of the tape is counted in.
        next: Seq,
        /// The numbers of the writers, and the number behind the last that each has written.
        writers: Vec<(ItemNo, Seq)>,
        /// When and how much that was.
        mark: Option<TapeMark>,
    },
    /// What stands below this place of a tape is not needed any more.
    Cut {
        /// The place.
        below: Seq,
    },
    /// Records of a queue are handed to a reader.
    Leased {
        /// The reader's session.
        reader: SessionId,
        /// Their places, and how often each was handed out by then.
        leases: Vec<(Seq, u32)>,
    },
    /// A record of a queue is to be handed out again, or later.
    Waits {
        /// Its place.
        place: Seq,
        /// How often it was handed out.
        attempts: u32,
        /// Not before this moment.
        due: WallTime,
    },
    /// Records of a queue are done with.
    Done {
        /// Their places.
        places: Vec<Range<Seq>>,
    },
    /// All below a place of a broadcast was acknowledged with this durable cursor.
    Cursor {
        /// Its name.
        name: String,
        /// The place.
        at: Seq,
    },
    /// A writer of a tape begins a record in parts, which lies beside the tape.
    Begun {
        /// The number of the writer.
        writer: ItemNo,
        /// The item that the parts are.
        item: ItemNo,
        /// The number of the first part.
        first: Seq,
        /// A queue hands it out not before this moment.
        not_before: Option<WallTime>,
    },
    /// All parts of a record are there, and it has its place.
    Long {
        /// The place.
        place: Seq,
        /// What lies beside the tape for it.
        long: Long,
    },
    /// No writer, and no record in parts, of a tape had this number or a later one so far: what the log was told to forget is not begun anew.
    NextItem(ItemNo),
    /// All facts of the pipe as of here; the ones before need not be known.
    Snapshot(Vec<Fact>),
    /// A session ended; kept for a day, so that a lost last acknowledgement is no error. Stands in the log of pipe 0.
    Closed(Closed),
}

/// What a reader has, as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing yet: it waits for an item of its own.
    Waiting,
    /// This item, alone.
    Alone(ItemNo),
    /// Live, and of these items from these numbers on.
    Live(Vec<Place>),
}

/// Where a live reader is in an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which item.
    pub item: ItemNo,
    /// The first number it is owed.
    pub from: Seq,
    /// Whether it came within a record, and is owed only what begins behind it.
    pub wants_start: bool,
}

/// The last numbers of a session that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The session.
    pub session: SessionId,
    /// The number behind a writer's last; 0 of a reader.
    pub next: Seq,
    /// Whether the session came to its proper end; else it was given up.
    pub ended: bool,
    /// Whether all of a writer's records were delivered by then.
    pub delivered: bool,
    /// When.
    pub at: WallTime,
}

impl Fact {
    /// The fact as bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.put(&mut out);
        out.freeze()
    }

    /// The fact from its bytes.
    ///
    /// # Errors
    /// `E_PROTOCOL` when they are none.
    pub fn decode(bytes: Bytes) -> Result<Self, Error> {
        Self::take(&mut Fields(bytes), 0)
    }

    /// Whether these bytes are [`Fact::Ended`], or none that can be read.
    pub fn is_ended(bytes: &[u8]) -> bool {
        bytes.first() == Some(&ENDED)
    }

    /// Whether these bytes are [`Fact::Removed`].
    pub fn is_removed(bytes: &[u8]) -> bool {
        bytes == [REMOVED]
    }

    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Opened { pipe, mode } => {
                out.put_u8(1);
                out.put_u8(*mode as u8);
                put_short(out, pipe.owner.0.as_ref().map_or(&[][..], |key| &key[..]));
                put_short(out, pipe.path.encoded());
            }
            Self::WriterJoined { session, epoch, item, holder } => {
                out.put_u8(kind_by_holder(*holder, 2, 11));
                put_session(out, *session, *epoch);
                out.put_u64_le(item.0);
                put_holder(out, *holder);
            }
            Self::Ended { item, kind, next } => {
                out.put_u8(ENDED);
                out.put_u64_le(item.0);
                out.put_u8(*kind as u8);
                out.put_u64_le(next.0);
            }
            Self::ReaderJoined { session, epoch, take, keep, no_wait, holder, holds } => {
                out.put_u8(kind_by_holder(*holder, 4, 12));
                put_session(out, *session, *epoch);
                out.put_u8(*take as u8);
                out.put_u8(u8::from(*keep) | u8::from(*no_wait) << 1);
                put_holder(out, *holder);
                put_held(out, holds);
            }
            Self::ReaderHolds { session, holds } => {
                out.put_u8(5);
                out.put_slice(&session.0);
                put_held(out, holds);
            }
            Self::Took { reader, item, from, to } => {
                out.put_u8(6);
                out.put_slice(&reader.0);
                out.put_u64_le(item.0);
                out.put_u64_le(from.0);
                out.put_u64_le(to.0);
            }
            Self::ReaderLeft { session } => {
                out.put_u8(7);
                out.put_slice(&session.0);
            }
            Self::Returned { session, epoch } => {
                out.put_u8(13);
                put_session(out, *session, *epoch);
            }
            Self::Settings(settings) => {
                out.put_u8(14);
                put_settings(out, settings);
            }
            Self::Progress { next, writers, mark } => {
                out.put_u8(15);
                out.put_u64_le(next.0);
                out.put_u8(u8::from(mark.is_some()));
                if let Some(mark) = mark {
                    out.put_u64_le(mark.place.0);
                    out.put_u64_le(mark.bytes);
                    out.put_u64_le(mark.at.0);
                }
                put_pairs(out, writers.iter().map(|(writer, next)| (writer.0, next.0)));
            }
            Self::Cut { below } => {
                out.put_u8(16);
                out.put_u64_le(below.0);
            }
            Self::Leased { reader, leases } => {
                out.put_u8(17);
                out.put_slice(&reader.0);
                put_pairs(out, leases.iter().map(|(place, attempt)| (place.0, u64::from(*attempt))));
            }
            Self::Waits { place, attempts, due } => {
                out.put_u8(18);
                out.put_u64_le(place.0);
                out.put_u32_le(*attempts);
                out.put_u64_le(due.0);
            }
            Self::Done { places } => {
                out.put_u8(19);
                put_pairs(out, places.iter().map(|range| (range.start.0, range.end.0)));
            }
            Self::Cursor { name, at } => {
                out.put_u8(20);
                put_short(out, name.as_bytes());
                out.put_u64_le(at.0);
            }
            Self::Begun { writer, item, first, not_before } => {
                out.put_u8(21);
                out.put_u64_le(writer.0);
                out.put_u64_le(item.0);
                out.put_u64_le(first.0);
                put_moment(out, *not_before);
            }
            Self::Long { place, long } => {
                out.put_u8(22);
                out.put_u64_le(place.0);
                out.put_u64_le(long.item.0);
                out.put_u64_le(long.first.0);
                out.put_u64_le(long.next.0);
                put_moment(out, long.not_before);
            }
            Self::NextItem(item) => {
                out.put_u8(23);
                out.put_u64_le(item.0);
            }
            Self::Removed => out.put_u8(REMOVED),
            Self::Snapshot(facts) => {
                out.put_u8(9);
                out.put_u32_le(facts.len() as u32);
                facts.iter().for_each(|fact| fact.put(out));
            }
            Self::Closed(closed) => {
                out.put_u8(10);
                out.put_slice(&closed.session.0);
                out.put_u64_le(closed.next.0);
                out.put_u8(u8::from(closed.ended) | u8::from(!closed.delivered) << 1);
                out.put_u64_le(closed.at.0);
            }
        }
    }

    fn take(fields: &mut Fields, depth: usize) -> Result<Self, Error> {
        Ok(match fields.u8()? {
            1 => {
                let mode = Mode::from_number(fields.u8()?).ok_or_else(unknown)?;
                let owner = match &fields.short()?[..] {
                    [] => Owner::SELF,
                    key => Owner(Some(key.try_into().map_err(|_| unknown())?)),
                };
                Self::Opened { pipe: PipeRef { owner, path: PipePath::decode(&fields.short()?, true)? }, mode }
            }
            kind @ (2 | 11) => {
                let (session, epoch) = take_session(fields)?;
                Self::WriterJoined {
                    session,
                    epoch,
                    item: ItemNo(fields.u64()?),
                    holder: take_holder(fields, kind > 10)?,
                }
            }
            ENDED => Self::Ended {
                item: ItemNo(fields.u64()?),
                kind: EndKind::from_number(fields.u8()?).ok_or_else(unknown)?,
                next: Seq(fields.u64()?),
            },
            kind @ (4 | 12) => {
                let (session, epoch) = take_session(fields)?;
                let take = Take::from_number(fields.u8()?).ok_or_else(unknown)?;
                let flags = fields.u8()?;
                Self::ReaderJoined {
                    session,
                    epoch,
                    take,
                    keep: flags & 1 != 0,
                    no_wait: flags & 2 != 0,
                    holder: take_holder(fields, kind > 10)?,
                    holds: take_held(fields)?,
                }
            }
            5 => Self::ReaderHolds { session: SessionId(fields.array()?), holds: take_held(fields)? },
            6 => Self::Took {
                reader: SessionId(fields.array()?),
                item: ItemNo(fields.u64()?),
                from: Seq(fields.u64()?),
                to: Seq(fields.u64()?),
            },
            7 => Self::ReaderLeft { session: SessionId(fields.array()?) },
            REMOVED => Self::Removed,
            // A snapshot holds no snapshot: nothing recurses further than that.
            9 if depth == 0 => {
                let count = fields.u32()?;
                let facts: Result<Vec<_>, _> = (0..count).map(|_| Self::take(fields, 1)).collect();
                Self::Snapshot(facts?)
            }
            10 => {
                let (session, next, flags) = (SessionId(fields.array()?), Seq(fields.u64()?), fields.u8()?);
                let (ended, delivered) = (flags & 1 != 0, flags & 2 == 0);
                Self::Closed(Closed { session, next, ended, delivered, at: WallTime(fields.u64()?) })
            }
            13 => {
                let (session, epoch) = take_session(fields)?;
                Self::Returned { session, epoch }
            }
            14 => Self::Settings(take_settings(fields)?),
            15 => {
                let next = Seq(fields.u64()?);
                let mark = match fields.u8()? {
                    0 => None,
                    _ => {
                        Some(TapeMark { place: Seq(fields.u64()?), bytes: fields.u64()?, at: WallTime(fields.u64()?) })
                    }
                };
                let writers = take_pairs(fields)?.into_iter().map(|(writer, next)| (ItemNo(writer), Seq(next)));
                Self::Progress { next, writers: writers.collect(), mark }
            }
            16 => Self::Cut { below: Seq(fields.u64()?) },
            17 => {
                let reader = SessionId(fields.array()?);
                let lease = |(place, attempt)| Ok((Seq(place), u32::try_from(attempt).map_err(|_| unknown())?));
                Self::Leased {
                    reader,
                    leases: take_pairs(fields)?.into_iter().map(lease).collect::<Result<_, Error>>()?,
                }
            }
            18 => Self::Waits { place: Seq(fields.u64()?), attempts: fields.u32()?, due: WallTime(fields.u64()?) },
            19 => {
                let range = |(from, to)| Seq(from)..Seq(to);
                Self::Done { places: take_pairs(fields)?.into_iter().map(range).collect() }
            }
            20 => Self::Cursor { name: fields.text()?, at: Seq(fields.u64()?) },
            21 => Self::Begun {
                writer: ItemNo(fields.u64()?),
                item: ItemNo(fields.u64()?),
                first: Seq(fields.u64()?),
                not_before: take_moment(fields)?,
            },
            22 => Self::Long {
                place: Seq(fields.u64()?),
                long: Long {
                    item: ItemNo(fields.u64()?),
                    first: Seq(fields.u64()?),
                    next: Seq(fields.u64()?),
                    not_before: take_moment(fields)?,
                },
            },
            23 => Self::NextItem(ItemNo(fields.u64()?)),
            _ => return Err(unknown()),
        })
    }
}

/// The number of [`Fact::Ended`].
const ENDED: u8 = 3;
/// The number of [`Fact::Removed`].
const REMOVED: u8 = 8;

fn unknown() -> Error {
    Error::new(Code::Protocol, "a fact in the log is not known to this version")
}

/// 0 for none.
fn put_moment(out: &mut BytesMut, moment: Option<WallTime>) {
    out.put_u64_le(moment.map_or(0, |moment| moment.0));
}

fn take_moment(fields: &mut Fields) -> Result<Option<WallTime>, Error> {
    Ok(Some(fields.u64()?).filter(|moment| *moment > 0).map(WallTime))
}

fn put_pairs(out: &mut BytesMut, pairs: impl ExactSizeIterator<Item = (u64, u64)>) {
    out.put_u32_le(pairs.len() as u32);
    for (one, other) in pairs {
        out.put_u64_le(one);
        out.put_u64_le(other);
    }
}

fn take_pairs(fields: &mut Fields) -> Result<Vec<(u64, u64)>, Error> {
    let count = fields.u32()?;
    // One after the other: a count that says more than there is takes no memory.
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((fields.u64()?, fields.u64()?));
    }
    Ok(pairs)
}

fn put_session(out: &mut BytesMut, session: SessionId, epoch: Epoch) {
    out.put_slice(&session.0);
    out.put_u32_le(epoch.0);
}

fn take_session(fields: &mut Fields) -> Result<(SessionId, Epoch), Error> {
    Ok((SessionId(fields.array()?), Epoch(fields.u32()?)))
}

/// Sessions of keys have facts of their own, longer ones: logs from before there were keys are read as they are.
fn kind_by_holder(holder: Holder, of_process: u8, of_key: u8) -> u8 {
    if matches!(holder, Holder::Key(_)) { of_key } else { of_process }
}

fn put_holder(out: &mut BytesMut, holder: Holder) {
    if let Holder::Key(key) = holder {
        return out.put_slice(&key.0);
    }
    let process = holder.process().unwrap_or(ProcessId { pid: 0, started: 0, boot: 0 });
    out.put_u32_le(process.pid);
    out.put_u64_le(process.started);
    out.put_u64_le(process.boot);
}

fn take_holder(fields: &mut Fields, is_key: bool) -> Result<Holder, Error> {
    if is_key {
        return Ok(Holder::Key(PublicKey(fields.array()?)));
    }
    let process = ProcessId { pid: fields.u32()?, started: fields.u64()?, boot: fields.u64()? };
    Ok(if process.pid == 0 { Holder::Unknown } else { Holder::Process(process) })
}

fn put_held(out: &mut BytesMut, held: &Held) {
    match held {
        Held::Waiting => out.put_u8(0),
        Held::Alone(item) => {
            out.put_u8(1);
            out.put_u64_le(item.0);
        }
        Held::Live(items) => {
            out.put_u8(2);
            out.put_u32_le(items.len() as u32);
            for place in items {
                out.put_u64_le(place.item.0);
                out.put_u64_le(place.from.0);
                out.put_u8(u8::from(place.wants_start));
            }
        }
    }
}

fn take_held(fields: &mut Fields) -> Result<Held, Error> {
    Ok(match fields.u8()? {
        0 => Held::Waiting,
        1 => Held::Alone(ItemNo(fields.u64()?)),
        2 => {
            let count = fields.u32()?;
            let items: Result<Vec<_>, Error> = (0..count).map(|_| take_place(fields)).collect();
            Held::Live(items?)
        }
        _ => return Err(unknown()),
    })
}

fn take_place(fields: &mut Fields) -> Result<Place, Error> {
    Ok(Place { item: ItemNo(fields.u64()?), from: Seq(fields.u64()?), wants_start: fields.u8()? != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::PipeName;

    #[test]
    fn facts_survive_the_log() {
        let session = SessionId([9; 16]);
        let holder = Holder::Process(ProcessId { pid: 7, started: 8, boot: 9 });
        let key = Holder::Key(PublicKey([5; 32]));
        let facts = vec![
            Fact::Opened { pipe: PipeRef::from(&PipeName::new("a/b").unwrap()), mode: Mode::Default },
            Fact::WriterJoined { session, epoch: Epoch(1), item: ItemNo(3), holder },
            Fact::WriterJoined { session, epoch: Epoch(1), item: ItemNo(3), holder: key },
            Fact::Ended { item: ItemNo(3), kind: EndKind::Aborted, next: Seq(77) },
            Fact::ReaderJoined {
                session,
                epoch: Epoch(2),
                take: Take::Item,
                keep: true,
                no_wait: true,
                holder: Holder::Unknown,
                holds: Held::Waiting,
            },
            Fact::ReaderJoined {
                session,
                epoch: Epoch(2),
                take: Take::Any,
                keep: false,
                no_wait: false,
                holder: key,
                holds: Held::Waiting,
            },
            Fact::ReaderHolds {
                session,
                holds: Held::Live(vec![
                    Place { item: ItemNo(1), from: Seq(2), wants_start: true },
                    Place { item: ItemNo(4), from: Seq(0), wants_start: false },
                ]),
            },
            Fact::ReaderHolds { session, holds: Held::Alone(ItemNo(8)) },
            Fact::Took { reader: session, item: ItemNo(3), from: Seq(1), to: Seq(9) },
            Fact::Returned { session, epoch: Epoch(7) },
            Fact::ReaderLeft { session },
            Fact::Settings(Settings { max_deliveries: Some(3), ..Settings::default() }),
            Fact::Progress {
                next: Seq(9),
                writers: vec![(ItemNo(1), Seq(4)), (ItemNo(7), Seq(5))],
                mark: Some(TapeMark { place: Seq(3), bytes: 1 << 40, at: WallTime(5) }),
            },
            Fact::Progress { next: Seq(0), writers: vec![], mark: None },
            Fact::Cut { below: Seq(6) },
            Fact::Leased { reader: session, leases: vec![(Seq(4), 1), (Seq(9), 20)] },
            Fact::Begun { writer: ItemNo(1), item: ItemNo(2), first: Seq(3), not_before: Some(WallTime(4)) },
            Fact::Long { place: Seq(5), long: Long { item: ItemNo(2), first: Seq(3), next: Seq(9), not_before: None } },
            Fact::NextItem(ItemNo(3)),
            Fact::Waits { place: Seq(4), attempts: 2, due: WallTime(77) },
            Fact::Done { places: vec![Seq(0)..Seq(4), Seq(5)..Seq(9)] },
            Fact::Cursor { name: "nightly".to_owned(), at: Seq(12) },
            Fact::Removed,
            Fact::Closed(Closed { session, next: Seq(5), ended: true, delivered: false, at: WallTime(6) }),
        ];
        for fact in facts.iter().cloned().chain([Fact::Snapshot(facts.clone())]) {
            let bytes = fact.encode();
            assert_eq!(Fact::decode(bytes.clone()).unwrap(), fact);
            assert_eq!(Fact::is_removed(&bytes), fact == Fact::Removed);
            assert_eq!(Fact::is_ended(&bytes), matches!(fact, Fact::Ended { .. }));
            for cut in 0..bytes.len() {
                assert!(Fact::decode(bytes.slice(..cut)).is_err(), "{fact:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_snapshot_within_a_snapshot_is_none() {
        let removed = Fact::Snapshot(vec![Fact::Removed]).encode();
        assert!(Fact::decode(Fact::Snapshot(vec![Fact::Snapshot(vec![])]).encode()).is_err());
        // As many as an entry holds would be more than any stack.
        let deep = [&[9, 1, 0, 0, 0].repeat(1_000_000)[..], &removed].concat();
        assert!(Fact::decode(deep.into()).is_err());
    }
}

//! What the clients invoked, and what they saw succeed, fail, or stay unknown.
//!
//! All runs in one thread, so the order in which events are noted is the order in which they happened.

use std::sync::{Mutex, PoisonError};

use skypipe_core::{Code, EndKind, PIECE_BYTES_MAX, Seq, SessionId};

/// What one writer of the application writes. It may take several sessions, when one is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemId(pub u32);

/// One reader of the application, through all its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReaderId(pub u32);

/// One record: which item's, and which one of it, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId {
    /// Whose.
    pub item: ItemId,
    /// Which.
    pub n: u32,
}

/// How a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadKind {
    /// The oldest item alone, or live.
    Any,
    /// The same, again and again.
    Keep,
    /// One item, alone.
    Item,
    /// What has ended, alone.
    NoWait,
    /// The first records only.
    Part,
}

impl ReadKind {
    /// Whether it takes items alone and never goes live.
    pub fn is_alone(self) -> bool {
        matches!(self, Self::Item | Self::NoWait)
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A record is given to its writer.
    Sends(RecordId, usize),
    /// The writer's session, and each further one.
    Session(ItemId, SessionId),
    /// The writer was told that so many records will not be lost.
    Settled(ItemId, u64),
    /// The writer was told that so many records are delivered.
    Delivered(ItemId, u64),
    /// The writer is told to end.
    Ends(ItemId, EndKind),
    /// The end is settled.
    Ended(ItemId),
    /// The writer failed, or its outcome is unknown.
    WriteFailed(ItemId, Code),
    /// The writer is given up by its application, or dies.
    GivesUp(ItemId),
    /// A reader attaches.
    Reads(ReaderId, ReadKind),
    /// A record is handed over. None: these bytes are no record of anybody.
    Got(ReaderId, SessionId, Seq, Option<RecordId>, usize),
    /// The last pieces of a record are handed over, without those before.
    Tail(ReaderId, SessionId, Seq, RecordId, usize),
    /// All that was handed over is acknowledged.
    Acks(ReaderId),
    /// The reader is told that an item ended.
    ItemEnd(ReaderId, SessionId, EndKind, bool),
    /// The reader is told that it gets an item from here on.
    Middle(ReaderId, SessionId, Seq),
    /// The reader is told that these records are gone.
    Gap(ReaderId, SessionId, Seq, Seq),
    /// The reader's session was given up: it goes on as a new one.
    NewReader(ReaderId),
    /// The reader is done, all was well or it was told what was not.
    Finished(ReaderId, bool),
    /// The reader failed.
    ReadFailed(ReaderId, Code),
    /// The reader asks to leave, keeping the part it has if so said.
    Leaves(ReaderId, bool),
    /// The relay heard that it left.
    Left(ReaderId),
    /// The reader is dropped, or dies.
    Stops(ReaderId),
    /// The relay runs again.
    RelayStarts,
    /// All is healed and everybody gone: what is read from here on is what was left.
    Drains,
    /// Something that must not be, seen outside the clients.
    Fault(String),
}

/// All events of one simulation.
#[derive(Default)]
pub struct History(Mutex<Vec<Event>>);

impl History {
    /// Something happened.
    pub fn note(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// The record that was sent and ends with these bytes, from one of its pieces on.
    pub fn tail_of(&self, bytes: &[u8]) -> Option<RecordId> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().find_map(|event| match *event {
            Event::Sends(record, len) if len > bytes.len() && (len - bytes.len()).is_multiple_of(PIECE_BYTES_MAX) => {
                body(record, len).ends_with(bytes).then_some(record)
            }
            _ => None,
        })
    }

    /// All that happened so far.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The bytes of a record: it says which it is, and how long.
pub fn body(record: RecordId, len: usize) -> Vec<u8> {
    let mut body = format!("{} {} {len};", record.item.0, record.n).into_bytes();
    let start = body.len();
    let byte = |at: usize| (at as u32).wrapping_mul(record.item.0 * 31 + record.n * 7 + 1).to_le_bytes()[1];
    body.extend((start..len).map(byte));
    body
}

/// The record with these bytes, if there is one.
pub fn identify(bytes: &[u8]) -> Option<RecordId> {
    let end = bytes.iter().take(40).position(|byte| *byte == b';')?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut numbers = text.split(' ').map(|number| number.parse::<u32>().ok());
    let record = RecordId { item: ItemId(numbers.next()??), n: numbers.next()?? };
    let len = numbers.next()?? as usize;
    (body(record, len) == bytes).then_some(record)
}

/// How many numbers a record of this length takes.
pub fn numbers(len: usize) -> u64 {
    len.div_ceil(PIECE_BYTES_MAX).max(1) as u64
}

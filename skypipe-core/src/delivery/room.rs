//! What happens when there is no room: in the quota of the pipe or of its owner, or on the disk.
//!
//! What some reader has acknowledged goes first, and readers that were behind are told the gap. Only records that nobody has acknowledged
//! make a writer wait, and it goes on by itself.

use crate::broker::{Notice, ReaderDown};
use crate::error::Code;
use crate::id::{ItemNo, SessionId};
use crate::time::Time;

use super::default::DefaultPipe;
use super::limits::{IDLE_READER_LOST, SAY_FULL_AFTER};
use super::read_only::NEVER;
use super::reader::{Holds, Reader};

/// What there may be no room in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The pipe has all the bytes in the log that it may have.
    Pipe,
    /// All pipes of its owner together have.
    Owner,
    /// The disk of the log is full.
    Disk,
}

impl Room {
    fn code(self) -> Code {
        match self {
            Self::Pipe | Self::Owner => Code::Quota,
            Self::Disk => Code::NoSpace,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Pipe => "the pipe's quota is used up",
            Self::Owner => "the owner's quota is used up",
            Self::Disk => "the relay's disk is full",
        }
    }

    pub(super) fn notice(self) -> Notice {
        Notice::WaitsForRoom { code: self.code(), text: self.reason().to_owned() }
    }
}

/// Why and since when writers wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    room: Room,
    since: Time,
    told: bool,
}

impl DefaultPipe {
    /// Which quota is used up now, if one is.
    pub fn quota(&mut self, used_up: Option<Room>, now: Time) {
        let Some(room) = used_up else { return self.room_again(|room| room != Room::Disk) };
        self.forget_acknowledged();
        self.waits_for_room(room, now);
    }

    /// Writers wait from now on: `E_QUOTA`, or `E_NO_SPACE` on the disk.
    pub fn waits_for_room(&mut self, room: Room, now: Time) {
        let known = self.full.is_some_and(|full| full.room == room || full.room == Room::Disk);
        if known || self.read_only.is_some() {
            return;
        }
        self.full = Some(Full { room, since: now, told: false });
        if room == Room::Disk {
            // Who waits for the log to say that it joined need not wait any more.
            let sessions: Vec<SessionId> = self.writers.keys().chain(self.readers.keys()).copied().collect();
            sessions.into_iter().for_each(|session| self.wake(session));
            self.offer_aborts();
        }
    }

    /// There is room again of this kind.
    pub fn has_room(&mut self, room: Room) {
        self.room_again(|full| full == room);
    }

    fn room_again(&mut self, of: impl Fn(Room) -> bool) {
        let Some(full) = self.full.take_if(|full| of(full.room)) else { return };
        if full.told {
            self.say_to_writers(&Notice::HasRoom);
        }
        let writers: Vec<SessionId> = self.writers.keys().copied().collect();
        writers.into_iter().for_each(|session| self.wake(session));
        self.readers.values_mut().for_each(|reader| reader.idle_since = None);
    }

    /// Tells a writer that comes while others wait what they were told.
    pub(super) fn say_full(&mut self, no: ItemNo) {
        let Some(full) = self.full.filter(|full| full.told) else { return };
        if let Some(item) = self.items.get_mut(&no) {
            item.notify(full.room.notice());
        }
    }

    /// Whether writers wait for room: they get no more credit for now.
    pub fn waits(&self) -> bool {
        self.full.is_some()
    }

    /// Up to which entry whoever joined is there. On a full disk nobody waits for the log to say so, or nobody could read what makes
    /// room: should the relay crash meanwhile, who joined goes on as somebody new and hears of it.
    pub(super) fn confirmed(&self) -> u64 {
        let is_disk_full = self.full.is_some_and(|full| full.room == Room::Disk);
        if is_disk_full || self.read_only.is_some() { NEVER } else { self.durable }
    }

    /// When [`DefaultPipe::tick_room`] has something to do.
    pub(super) fn next_room_tick(&self) -> Option<Time> {
        let full = self.full?;
        let idle = self.readers.values().filter(|reader| reader.holds_something(self.durable));
        let lost = idle.map(|reader| reader.idle_since.unwrap_or(full.since).plus(IDLE_READER_LOST)).min();
        let say = (!full.told).then(|| full.since.plus(SAY_FULL_AFTER));
        say.into_iter().chain(lost).min()
    }

    /// Tells the writers why they wait, and gives up readers that have taken nothing all the while.
    pub(super) fn tick_room(&mut self, now: Time) {
        let Some(full) = &mut self.full else { return };
        let (since, durable) = (full.since, self.durable);
        if !full.told && since.plus(SAY_FULL_AFTER) <= now {
            full.told = true;
            let notice = full.room.notice();
            self.say_to_writers(&notice);
        }
        let idle = |reader: &Reader| {
            reader.holds_something(durable) && reader.idle_since.unwrap_or(since).plus(IDLE_READER_LOST) <= now
        };
        let lost: Vec<SessionId> = self.readers.iter().filter(|(_, r)| idle(r)).map(|(session, _)| *session).collect();
        lost.into_iter().for_each(|session| self.lost(session));
    }

    /// Readers that are behind what somebody acknowledged are told the gap, so that it can go.
    fn forget_acknowledged(&mut self) {
        let items: Vec<ItemNo> = self.items.keys().copied().collect();
        for no in items {
            let item = &self.items[&no];
            let (writer, until) = (item.session, item.first_left().min(item.accepted));
            let behind: Vec<SessionId> =
                self.readers.iter_mut().filter_map(|(s, r)| r.skip(no, writer, until).then_some(*s)).collect();
            if !behind.is_empty() {
                behind.into_iter().for_each(|session| self.wake(session));
                self.refresh(no);
            }
        }
    }
}

impl Reader {
    /// Moves a live cursor that is behind up to `until`, and tells the gap. Returns whether it was behind.
    fn skip(&mut self, no: ItemNo, writer: SessionId, until: crate::id::Seq) -> bool {
        let Some(cursor) = self.live().and_then(|live| live.cursors.get_mut(&no)) else { return false };
        if cursor.acked >= until {
            return false;
        }
        let from = cursor.sent;
        cursor.acked = until;
        if from < until {
            cursor.sent = until;
            self.say(ReaderDown::Gap { writer, from, to: until });
        }
        true
    }

    /// Whether it has something that it could take.
    fn holds_something(&self, durable: u64) -> bool {
        self.given <= durable
            && match &self.holds {
                Holds::Alone(..) => true,
                Holds::Live(live) => !live.cursors.is_empty(),
                Holds::Waiting | Holds::Peek(_) => false,
            }
    }
}

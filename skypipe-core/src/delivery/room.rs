//! What happens when there is no room: in the pipe's quota, or on the disk.
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

/// Why and since when writers wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    code: Code,
    since: Time,
    told: bool,
}

impl DefaultPipe {
    /// The pipe has so many bytes in the log, of so many that it may have.
    pub fn uses(&mut self, bytes: u64, bytes_max: u64, now: Time) {
        if bytes < bytes_max {
            return self.has_room(Code::Quota);
        }
        self.forget_acknowledged();
        self.waits_for_room(Code::Quota, now);
    }

    /// Writers wait from now on: `E_QUOTA`, or `E_NO_SPACE` on the disk.
    pub fn waits_for_room(&mut self, code: Code, now: Time) {
        let known = self.full.is_some_and(|full| full.code == code || full.code == Code::NoSpace);
        if known || self.read_only.is_some() {
            return;
        }
        self.full = Some(Full { code, since: now, told: false });
        if code == Code::NoSpace {
            // Who waits for the log to say that it joined need not wait any more.
            let sessions: Vec<SessionId> = self.writers.keys().chain(self.readers.keys()).copied().collect();
            sessions.into_iter().for_each(|session| self.wake(session));
            self.offer_aborts();
        }
    }

    /// There is room again of this kind.
    pub fn has_room(&mut self, code: Code) {
        let Some(full) = self.full.take_if(|full| full.code == code) else { return };
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
        let notice = Notice::WaitsForRoom { code: full.code, text: reason(full.code).to_owned() };
        if let Some(item) = self.items.get_mut(&no) {
            item.notify(notice);
        }
    }

    /// Whether writers wait for room: they get no more credit for now.
    pub fn waits(&self) -> bool {
        self.full.is_some()
    }

    /// Up to which entry whoever joined is there. On a full disk nobody waits for the log to say so, or nobody could read what makes
    /// room: should the relay crash meanwhile, who joined goes on as somebody new and hears of it.
    pub(super) fn confirmed(&self) -> u64 {
        let is_disk_full = self.full.is_some_and(|full| full.code == Code::NoSpace);
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
            let (code, text) = (full.code, reason(full.code).to_owned());
            self.say_to_writers(&Notice::WaitsForRoom { code, text });
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

fn reason(code: Code) -> &'static str {
    match code {
        Code::NoSpace => "the relay's disk is full",
        _ => "the pipe's quota is used up",
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

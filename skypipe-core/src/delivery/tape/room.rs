//! What happens on a tape when there is no room, or when the log fails.

use crate::broker::Notice;
use crate::error::Error;
use crate::id::SessionId;
use crate::time::Time;

use super::super::limits::SAY_FULL_AFTER;
use super::super::read_only::{NEVER, ReadOnly};
use super::super::room::Room;
use super::{Side, Tape, TapePipe, side};

/// Why and since when writers wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    room: Room,
    since: Time,
    told: bool,
}

impl TapePipe {
    /// Which quota is used up now, if one is. A broadcast lets go of its oldest; writers of a queue wait.
    pub fn quota(&mut self, used_up: Option<Room>, now: Time) {
        let Some(room) = used_up else { return self.room_again(|room| room != Room::Disk) };
        let has_made_room = match &mut self.side {
            Side::Broadcast(broadcast) => broadcast.make_room(&mut self.tape),
            Side::Queue(_) => false,
        };
        if !has_made_room {
            self.waits_for_room(room, now);
        }
    }

    /// Writers wait from now on: `E_QUOTA`, or `E_NO_SPACE` on the disk.
    pub fn waits_for_room(&mut self, room: Room, now: Time) {
        let tape = &mut self.tape;
        let known = tape.full.is_some_and(|full| full.room == room || full.room == Room::Disk);
        if known || tape.read_only.is_some() {
            return;
        }
        tape.full = Some(Full { room, since: now, told: false });
        if room == Room::Disk {
            // Who waits for the log to say that it joined need not wait any more.
            tape.wake_writers();
            side!(self, |side, tape| side.wake_all(tape));
        }
    }

    /// There is room again of this kind.
    pub fn has_room(&mut self, room: Room) {
        self.room_again(|full| full == room);
    }

    fn room_again(&mut self, of: impl Fn(Room) -> bool) {
        if let Side::Broadcast(broadcast) = &mut self.side {
            broadcast.has_room();
        }
        let Some(full) = self.tape.full.take_if(|full| of(full.room)) else { return };
        if full.told {
            self.tape.say_to_writers(&Notice::HasRoom);
        }
        self.tape.wake_writers();
    }

    /// Whether writers wait for room: they get no more credit for now.
    pub fn waits(&self) -> bool {
        self.tape.full.is_some()
    }

    /// The log failed: nothing can be stored any more, and nothing handed out for good. All end with `cause`, behind what is there.
    pub fn turn_read_only(&mut self, cause: &Error) {
        if self.tape.read_only.is_some() {
            return;
        }
        self.tape.read_only = Some(ReadOnly::because(cause));
        self.tape.full = None;
        self.tape.pending.clear();
        self.tape.drop_those_given_up();
        self.tape.wake_writers();
        side!(self, |side, tape| side.wake_all(tape));
    }
}

impl Tape {
    /// What a writer may have under way now: nothing more where it waits for room.
    pub(super) fn window(&self) -> Option<u64> {
        self.full.is_none().then_some(self.writer_window)
    }

    /// Up to which entry whoever joined is there; see [`super::super::DefaultPipe`].
    pub(super) fn joined_upto(&self) -> u64 {
        let is_disk_full = self.full.is_some_and(|full| full.room == Room::Disk);
        if is_disk_full || self.read_only.is_some() { NEVER } else { self.confirmed }
    }

    pub(super) fn read_only_error(&self) -> Option<Error> {
        self.read_only.as_ref().map(ReadOnly::error)
    }

    /// Says something to every writer that has not ended.
    pub(super) fn say_to_writers(&mut self, notice: &Notice) {
        let open = self.writers.iter_mut().filter(|(_, writer)| writer.end.is_none());
        let told: Vec<SessionId> = open.map(|(session, writer)| (writer.notify(notice.clone()), *session).1).collect();
        told.into_iter().for_each(|session| self.wake(session));
    }

    /// Tells a writer that comes while others wait what they were told.
    pub(super) fn say_full(&mut self, session: SessionId) {
        let Some(full) = self.full.filter(|full| full.told) else { return };
        if let Some(writer) = self.writers.get_mut(&session) {
            writer.notify(full.room.notice());
        }
    }

    pub(super) fn next_room_tick(&self) -> Option<Time> {
        self.full.filter(|full| !full.told).map(|full| full.since.plus(SAY_FULL_AFTER))
    }

    pub(super) fn tick_room(&mut self, now: Time) {
        let Some(full) = self.full.as_mut().filter(|full| !full.told && full.since.plus(SAY_FULL_AFTER) <= now) else {
            return;
        };
        full.told = true;
        let notice = full.room.notice();
        self.say_to_writers(&notice);
    }
}

//! What a reader that comes now gets: rules 2 and 3.

use crate::broker::{Notice, ReaderDown, Take};
use crate::id::{ItemNo, Seq, SessionId};

use super::default::DefaultPipe;
use super::item::Item;
use super::ranges::Ranges;
use super::reader::{Cursor, Holds, Live};

impl DefaultPipe {
    /// Rule 2 and 3: what a reader that comes now gets.
    pub(super) fn assign(&self, session: SessionId, take: Take, no_wait: bool) -> Holds {
        let mut free = self.items.iter().filter(|(no, item)| self.is_free(session, **no, item));
        if no_wait {
            return free.find(|(_, item)| item.end.is_some()).map_or(Holds::Waiting, |(no, item)| alone(*no, item));
        }
        match (free.next(), take) {
            (Some((no, item)), Take::Item) => alone(*no, item),
            (None, Take::Item) => Holds::Waiting,
            (Some((no, item)), _) if item.end.is_some() => alone(*no, item),
            _ => Holds::Live(self.go_live(session)),
        }
    }

    /// Whether no reader is taking the item or was given it.
    fn is_free(&self, session: SessionId, no: ItemNo, item: &Item) -> bool {
        item.has_left()
            && !item.had_by.contains(&session)
            && !self.readers.values().any(|reader| reader.has_live(no).is_some())
    }

    /// Rule 3: everything stored that is nobody's, in order, and all open items from here on.
    fn go_live(&self, session: SessionId) -> Live {
        let mut live = Live::default();
        for (&no, item) in self.items.iter().filter(|(_, item)| item.has_left()) {
            let cursor = if self.is_free(session, no, item) {
                let start = item.first_left();
                Cursor::new(start, item.accepted, item.acked.clone())
            } else if item.end.is_none() && !item.had_by.contains(&session) {
                let wants_start = item.open_record;
                // After a relay's crash others may have acknowledged what is still to be sent again.
                let start = item.known_until();
                Cursor { wants_start, ..Cursor::new(start, start, Ranges::default()) }
            } else {
                continue;
            };
            live.cursors.insert(no, cursor);
        }
        live
    }

    /// All there is, without taking it.
    pub(super) fn peek(&self) -> Holds {
        let look =
            |(no, item): (&ItemNo, &Item)| (*no, Cursor::new(item.first_left(), item.accepted, item.acked.clone()));
        Holds::Peek(self.items.iter().filter(|(_, item)| item.has_left()).map(look).collect())
    }

    /// Gives a reader what was assigned to it.
    pub(super) fn give(&mut self, session: SessionId, holds: Holds) {
        if let Holds::Alone(no, _) = &holds {
            self.with_item(*no, |item| item.taker = Some(session));
        }
        let mut notices = Vec::new();
        if let Holds::Alone(no, cursor) = &holds {
            notices.extend(self.middle(*no, cursor));
        }
        let since = self.next_arrival();
        let Some(reader) = self.readers.get_mut(&session) else { return };
        reader.holds = holds;
        if let Some(live) = reader.live() {
            live.since = since;
            let items: Vec<ItemNo> = live.cursors.keys().copied().collect();
            items.into_iter().for_each(|no| live.queue(no));
        }
        if let Holds::Live(live) = &self.readers[&session].holds {
            notices.extend(live.cursors.iter().filter_map(|(no, cursor)| self.middle(*no, cursor)));
            let open = live.cursors.keys().filter(|no| self.items[no].end.is_none()).count();
            if open > 1 {
                notices.push(Notice::SecondWriter);
            }
        }
        if let Some(reader) = self.readers.get_mut(&session) {
            reader.second_writer_told |= notices.contains(&Notice::SecondWriter);
            notices.into_iter().for_each(|notice| reader.say(ReaderDown::Notice(notice)));
        }
        self.wake(session);
        self.reader_came(session);
    }

    /// What a reader hears that does not get an item from its start.
    pub(super) fn middle(&self, no: ItemNo, cursor: &Cursor) -> Option<Notice> {
        let item = self.items.get(&no)?;
        (cursor.start > Seq(0) && !cursor.wants_start)
            .then_some(Notice::Middle { writer: item.session, from: cursor.start })
    }
}

fn alone(no: ItemNo, item: &Item) -> Holds {
    Holds::Alone(no, Cursor::new(item.first_left(), item.accepted, item.acked.clone()))
}

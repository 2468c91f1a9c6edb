//! What leaves next: streams take turns, and who waits for room gets it in turn.

use bytes::Bytes;

use super::constants::{UNSENT_BYTES_MAX, kind};
use super::message::{self, StreamId};
use super::outgoing::End;
use super::{Mux, Wake};

impl Mux {
    /// The next message to send: one of each stream that has any, in turn.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        if self.streams_due > 0 {
            let more = std::mem::take(&mut self.streams_due);
            self.peer_may_open += more;
            return Some(message::numbered(kind::STREAMS, 0, more));
        }
        while let Some(id) = self.turns.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.in_turns = false;
            if let Some(message) = self.next_of(id) {
                self.turn(id);
                return Some(message);
            }
        }
        None
    }

    /// All messages that were given out have left.
    pub(crate) fn flushed(&mut self) {
        for id in std::mem::take(&mut self.ends) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.outgoing.end = End::Flushed;
                self.wakes.push(Wake::Write(id));
            }
        }
    }

    fn next_of(&mut self, id: StreamId) -> Option<Bytes> {
        let stream = self.streams.get_mut(&id).filter(|stream| stream.has_next())?;
        if std::mem::take(&mut stream.open_due) {
            return Some(message::plain(kind::OPEN, id));
        }
        if stream.window_due > 0 {
            return Some(message::numbered(kind::WINDOW, id, std::mem::take(&mut stream.window_due)));
        }
        if let Some((message, carries)) = stream.outgoing.next() {
            self.unsent -= carries;
            if std::mem::take(&mut stream.outgoing.waits) {
                self.wakes.push(Wake::Write(id));
            }
            self.room();
            return Some(message);
        }
        if stream.outgoing.end == End::Wanted {
            stream.outgoing.end = End::Sent;
            self.ends.push(id);
            return Some(message::plain(kind::FIN, id));
        }
        if stream.reset_due { self.cut(id) } else { None }
    }

    /// Forgets a stream that nobody here has. The peer is told, unless it knows.
    fn cut(&mut self, id: StreamId) -> Option<Bytes> {
        let stream = self.streams.get(&id)?;
        let over = stream.is_over();
        if !stream.incoming.ended {
            self.late += u64::from(stream.incoming.window_left());
        }
        self.forget(id);
        (!over).then(|| message::plain(kind::RESET, id))
    }

    /// Puts a stream that has something to send at the end of the row, once.
    pub(super) fn turn(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !self.broken
            && !stream.in_turns
            && stream.has_next()
        {
            stream.in_turns = true;
            self.turns.push_back(id);
        }
    }

    /// There may be room for who waits longest; with nothing unsent there is for all.
    pub(super) fn room(&mut self) {
        let all = self.unsent == 0;
        while self.unsent < UNSENT_BYTES_MAX
            && let Some(id) = self.waiting.pop_front()
        {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.in_waiting = false;
            }
            self.wakes.push(Wake::Write(id));
            if !all {
                break;
            }
        }
    }
}

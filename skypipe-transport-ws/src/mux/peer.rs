//! What the peer sends, and whether it may.

use bytes::Bytes;
use skypipe_core::Time;

use super::constants::STREAMS_ADMITTED;
use super::message::{self, Said, StreamId};
use super::outgoing::End;
use super::stream::Stream;
use super::{Breach, Mux, Wake};

impl Mux {
    /// Takes a message of the peer.
    pub(crate) fn take(&mut self, message: Bytes, now: Time) -> Result<(), Breach> {
        let (id, said) = message::parse(message)?;
        match said {
            Said::Open => self.peer_opened(id, now),
            Said::Streams(more) => self.peer_allows(more),
            said if self.streams.contains_key(&id) => self.about(id, said, now),
            said => self.stray(id, &said, now),
        }
    }

    fn peer_opened(&mut self, id: StreamId, now: Time) -> Result<(), Breach> {
        if id != self.peer_next {
            return Err(Breach::Protocol("a stream opened out of its turn"));
        }
        let left = self.peer_may_open.checked_sub(1);
        self.peer_may_open = left.ok_or(Breach::Protocol("more streams than allowed"))?;
        self.peer_next = id.checked_add(2).ok_or(Breach::Protocol("a stream's number is too high"))?;
        self.streams.insert(id, Box::new(Stream::new(now, false)));
        if self.deaf {
            self.drop_stream(id);
        } else {
            self.opened.push_back(id);
            self.wakes.push(Wake::Accept);
        }
        Ok(())
    }

    fn peer_allows(&mut self, more: u32) -> Result<(), Breach> {
        let allowed = self.may_open.saturating_add(more);
        if more == 0 || allowed > STREAMS_ADMITTED {
            return Err(Breach::Protocol("more streams allowed than there may be"));
        }
        self.may_open = allowed;
        self.wakes.push(Wake::Open);
        Ok(())
    }

    fn about(&mut self, id: StreamId, said: Said, now: Time) -> Result<(), Breach> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if stream.cut {
            return Err(Breach::Protocol("a message about a stream that was reset"));
        }
        match said {
            // Nobody reads it, but it was promised room.
            Said::Data(bytes) if !stream.held => stream.incoming.count(bytes.len())?,
            Said::Data(bytes) => {
                let length = bytes.len();
                stream.incoming.push(bytes)?;
                self.unread += length;
                self.wakes.push(Wake::Read(id));
            }
            Said::Window(bytes) => {
                stream.outgoing.take_more(bytes)?;
                self.wakes.push(Wake::Write(id));
            }
            Said::Fin if stream.incoming.ended => return Err(Breach::Protocol("a second end of a stream")),
            Said::Fin => {
                stream.incoming.ended = true;
                self.wakes.push(Wake::Read(id));
            }
            Said::Reset => return self.peer_reset(id, now),
            Said::Open | Said::Streams(_) => {}
        }
        Ok(())
    }

    /// A stream that was cut before it was answered cost its peer nothing: those are counted.
    fn peer_reset(&mut self, id: StreamId, now: Time) -> Result<(), Breach> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.cut = true;
        self.unsent -= stream.outgoing.clear();
        let answered = stream.outgoing.began || stream.outgoing.end != End::Open;
        if !stream.held {
            self.forget(id);
        }
        self.wakes.extend([Wake::Read(id), Wake::Write(id)]);
        self.room();
        if answered || self.resets.take(now) { Ok(()) } else { Err(Breach::Flood("streams that are cut at once")) }
    }

    /// About a stream that is over here: what was under way when it ended is passed over.
    fn stray(&mut self, id: StreamId, said: &Said, now: Time) -> Result<(), Breach> {
        let next = if self.is_own(id) { self.own_next } else { self.peer_next };
        if id == 0 || id >= next {
            return Err(Breach::Protocol("a message about a stream that was never opened"));
        }
        if let Said::Data(bytes) = said {
            let left = self.late.checked_sub(bytes.len() as u64);
            self.late = left.ok_or(Breach::Protocol("bytes on a stream that is over"))?;
        }
        if self.strays.take(now) { Ok(()) } else { Err(Breach::Flood("messages about streams that are over")) }
    }
}

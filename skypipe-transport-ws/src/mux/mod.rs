//! Many streams over one connection: a plain state machine. Messages come in and go out, streams are read and written, and what
//! somebody waits for is told as a [`Wake`]. It knows no socket, no task and no clock.
//!
//! ```text
//!   write ─▶ outgoing ─┐                                    ┌─▶ incoming ─▶ read
//!   write ─▶ outgoing ─┼─ turns ─▶ next ─ messages ─▶ take ─┼─▶ incoming ─▶ read
//!   write ─▶ outgoing ─┘                                    └─▶ incoming ─▶ read
//! ```
//!
//! A stream has a window of its own in each direction, so one that nobody reads holds up no other. Streams take turns: one
//! message each.

mod constants;
mod incoming;
mod message;
mod outgoing;
mod peer;
#[cfg(test)]
mod random_tests;
mod stream;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use skypipe_core::{Bucket, Time};

pub(crate) use constants::MESSAGE_BYTES_MAX;
use constants::*;
pub(crate) use message::StreamId;
use outgoing::End;
use stream::Stream;

/// Who opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who connected: its streams have odd numbers. It trusts the relay with memory.
    Client,
    /// Who listened: its streams have even numbers. A client is a stranger until it is admitted.
    Relay,
}

/// How a peer broke the rules. The link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    /// A message that must not be, here or at all.
    Protocol(&'static str),
    /// A message longer than any may be.
    TooLong,
    /// Text, where all is binary.
    Text,
    /// Too often.
    Flood(&'static str),
}

/// Something that somebody may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The stream can be read.
    Read(StreamId),
    /// The stream can be written, or is written out.
    Write(StreamId),
    /// A stream can be accepted.
    Accept,
    /// A stream can be opened.
    Open,
}

/// Why a stream goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The peer dropped it.
    Reset,
    /// The link broke or was closed.
    Link,
}

/// One end of a connection with many streams.
#[derive(Debug)]
pub(crate) struct Mux {
    side: Side,
    /// Boxed: a map of one keeps room for four, and most links have one.
    streams: HashMap<StreamId, Box<Stream>>,
    /// Streams that have something to send, each once.
    turns: VecDeque<StreamId>,
    /// Streams the peer opened, in order, until they are accepted.
    opened: VecDeque<StreamId>,
    /// Streams that wait for room among what is unsent, in order. Some may wait no more.
    waiting: VecDeque<StreamId>,
    /// Streams whose end was given to the socket since the last flush.
    ends: Vec<StreamId>,
    wakes: Vec<Wake>,
    /// The number of the next stream opened here, and at the peer.
    own_next: StreamId,
    peer_next: StreamId,
    /// How many streams the peer allows to open still.
    may_open: u32,
    /// How many streams the peer may open still, as it knows, and how many it is to be told it may open besides.
    peer_may_open: u32,
    streams_due: u32,
    peer_streams_max: u32,
    /// A stranger until it proved who it is.
    admitted: bool,
    /// Nobody accepts streams any more.
    deaf: bool,
    broken: bool,
    unread: usize,
    unsent: usize,
    growth: u32,
    round_trip: Duration,
    /// Bytes that may come yet on streams that were reset here.
    late: u64,
    resets: Bucket,
    pings: Bucket,
    strays: Bucket,
}

/// A round trip until one was measured: most paths are shorter, so at worst a window grows early.
const ROUND_TRIP_AT_FIRST: Duration = Duration::from_millis(50);
/// Windows grow as if no round trip was shorter: between two processes the time they take is more than the path's.
const ROUND_TRIP_MIN: Duration = Duration::from_millis(1);

impl Mux {
    /// A new connection's end.
    pub(crate) fn new(side: Side, now: Time) -> Self {
        let (own_next, peer_next) = if side == Side::Client { (1, 2) } else { (2, 1) };
        Self {
            side,
            streams: HashMap::new(),
            turns: VecDeque::new(),
            opened: VecDeque::new(),
            waiting: VecDeque::new(),
            ends: Vec::new(),
            wakes: Vec::new(),
            own_next,
            peer_next,
            may_open: STREAMS_AT_FIRST,
            peer_may_open: STREAMS_AT_FIRST,
            streams_due: 0,
            peer_streams_max: STREAMS_AT_FIRST,
            admitted: side == Side::Client,
            deaf: false,
            broken: false,
            unread: 0,
            unsent: 0,
            growth: GROWTH_BYTES_MAX,
            round_trip: ROUND_TRIP_AT_FIRST,
            late: 0,
            resets: Bucket::new(RESETS_PER_MINUTE_MAX, now),
            pings: Bucket::new(PINGS_PER_MINUTE_MAX, now),
            strays: Bucket::new(STRAYS_PER_MINUTE_MAX, now),
        }
    }

    // ---- streams, as their users see them

    /// Opens a stream; none while the peer allows no more.
    pub(crate) fn open(&mut self, now: Time) -> Result<Option<StreamId>, Gone> {
        if self.broken {
            return Err(Gone::Link);
        }
        if self.may_open == 0 {
            return Ok(None);
        }
        let id = self.own_next;
        // Two thousand million streams later another link must be opened.
        self.own_next = id.checked_add(2).ok_or(Gone::Link)?;
        self.may_open -= 1;
        self.streams.insert(id, Box::new(Stream::new(now, true)));
        self.turn(id);
        Ok(Some(id))
    }

    /// The next stream that the peer opened.
    pub(crate) fn accept(&mut self) -> Option<StreamId> {
        self.opened.pop_front()
    }

    /// Gives bytes that came on a stream, `room` at most. None: wait. Zero: it ended.
    pub(crate) fn read(
        &mut self,
        id: StreamId,
        room: usize,
        give: impl FnMut(&[u8]),
        now: Time,
    ) -> Result<Option<usize>, Gone> {
        let Some(stream) = self.streams.get_mut(&id) else { return Err(Gone::Link) };
        let read = stream.incoming.read(room, give);
        if read > 0 || room == 0 {
            self.unread -= read;
            let given = stream.incoming.give_back(read, now, self.round_trip.max(ROUND_TRIP_MIN), &mut self.growth);
            stream.window_due += given;
            if given > 0 {
                self.turn(id);
            }
            return Ok(Some(read));
        }
        match stream {
            stream if stream.incoming.ended => Ok(Some(0)),
            stream if stream.cut => Err(Gone::Reset),
            _ if self.broken => Err(Gone::Link),
            _ => Ok(None),
        }
    }

    /// Takes bytes to be sent. None: wait.
    pub(crate) fn write(&mut self, id: StreamId, bytes: &[u8]) -> Result<Option<usize>, Gone> {
        let room = UNSENT_BYTES_MAX.saturating_sub(self.unsent);
        let stream = self.writable(id)?;
        if stream.outgoing.end != End::Open {
            return Err(Gone::Reset);
        }
        let taken = stream.outgoing.write(id, bytes, room);
        if taken == 0 && !bytes.is_empty() {
            stream.outgoing.waits = true;
            if room == 0 && !std::mem::replace(&mut stream.in_waiting, true) {
                self.waiting.push_back(id);
            }
            return Ok(None);
        }
        self.unsent += taken;
        self.turn(id);
        Ok(Some(taken))
    }

    /// Ends what is sent, behind all that was written. True once it left; else wait.
    pub(crate) fn finish(&mut self, id: StreamId) -> Result<bool, Gone> {
        if let Some(stream) = self.streams.get(&id)
            && stream.outgoing.end == End::Flushed
        {
            return Ok(true);
        }
        let stream = self.writable(id)?;
        stream.outgoing.waits = true;
        stream.outgoing.finish();
        self.turn(id);
        Ok(false)
    }

    /// What was written so far is whole: it leaves without being asked, and arrives though the stream is dropped.
    pub(crate) fn flush(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.outgoing.flush();
        }
    }

    /// Nobody holds the stream any more. What was flushed still leaves, and the end behind it. The peer is told that the stream
    /// was cut if it was dropped in the middle of a write, or if the peer might send more.
    pub(crate) fn drop_stream(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        self.unread -= stream.incoming.clear();
        self.unsent -= stream.outgoing.leave();
        stream.leave();
        if self.broken || stream.cut || stream.is_over() {
            self.forget(id);
        } else {
            self.turn(id);
        }
        self.room();
    }

    fn writable(&mut self, id: StreamId) -> Result<&mut Stream, Gone> {
        if self.broken {
            return Err(Gone::Link);
        }
        let stream = self.streams.get_mut(&id).ok_or(Gone::Link)?;
        if stream.cut { Err(Gone::Reset) } else { Ok(stream) }
    }

    // ---- the connection, as its driver sees it

    /// The peer proved who it is.
    pub(crate) fn admit(&mut self) {
        self.admitted = true;
        self.streams_due += STREAMS_ADMITTED.saturating_sub(self.peer_streams_max);
        self.peer_streams_max = self.peer_streams_max.max(STREAMS_ADMITTED);
    }

    /// Whether the peer is no stranger.
    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted
    }

    /// Nobody accepts streams any more: those that were not accepted are cut, and so are all that come.
    pub(crate) fn deafen(&mut self) {
        self.deaf = true;
        while let Some(id) = self.opened.pop_front() {
            self.drop_stream(id);
        }
    }

    /// The connection is over. What came can still be read.
    pub(crate) fn break_off(&mut self) {
        self.broken = true;
        self.turns.clear();
        self.waiting.clear();
        self.wakes.extend([Wake::Accept, Wake::Open]);
        let left: Vec<StreamId> = self.streams.iter().filter(|(_, stream)| !stream.held).map(|(&id, _)| id).collect();
        left.into_iter().for_each(|id| self.forget(id));
        for (&id, stream) in &mut self.streams {
            self.unsent -= stream.outgoing.clear();
            self.wakes.extend([Wake::Read(id), Wake::Write(id)]);
        }
    }

    /// Whether nothing is left to do for anybody.
    pub(crate) fn is_idle(&self) -> bool {
        self.streams.is_empty() && !self.has_next()
    }

    /// Whether anybody here has a stream.
    pub(crate) fn is_held(&self) -> bool {
        self.streams.values().any(|stream| stream.held)
    }

    /// Whether more may come now. A peer whose bytes nobody reads waits.
    pub(crate) fn wants_more(&self) -> bool {
        let most = if self.admitted { UNREAD_BYTES_MAX } else { UNREAD_BYTES_BEFORE_PROOF_MAX };
        self.unread < most
    }

    /// Whether a message is to be sent.
    pub(crate) fn has_next(&self) -> bool {
        !self.broken && (self.streams_due > 0 || !self.turns.is_empty())
    }

    /// What somebody may wait for, since the last call.
    pub(crate) fn wakes(&mut self) -> std::vec::Drain<'_, Wake> {
        self.wakes.drain(..)
    }

    /// A round trip was measured.
    pub(crate) fn took(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// A ping or pong came.
    pub(crate) fn pinged(&mut self, now: Time) -> Result<(), Breach> {
        if self.pings.take(now) { Ok(()) } else { Err(Breach::Flood("pings")) }
    }

    fn forget(&mut self, id: StreamId) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        self.unread -= stream.incoming.clear();
        self.unsent -= stream.outgoing.clear();
        self.growth += stream.incoming.grown();
        if !self.is_own(id) {
            self.streams_due += 1;
        }
    }

    fn is_own(&self, id: StreamId) -> bool {
        (id % 2 == 1) == (self.side == Side::Client)
    }

    /// What holds whatever a peer does.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn assert_bounds(&self) {
        assert!(self.unsent <= UNSENT_BYTES_MAX);
        let unsent: usize = self.streams.values().map(|s| s.outgoing.unsent()).sum();
        let unread: usize = self.streams.values().map(|s| s.incoming.unread()).sum();
        let grown: u32 = self.streams.values().map(|s| s.incoming.grown()).sum();
        assert_eq!((unsent, unread), (self.unsent, self.unread), "the sums are right");
        assert_eq!(grown + self.growth, GROWTH_BYTES_MAX);
        let windows: usize = self.streams.len() * WINDOW_BYTES as usize + grown as usize;
        assert!(self.unread <= windows);
    }
}

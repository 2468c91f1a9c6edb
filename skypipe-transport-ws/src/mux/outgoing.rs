//! What is to be sent on one stream, and how much of it the receiver takes.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::Breach;
use super::constants::{
    DATA_BYTES, HEADER_BYTES, UNSENT_BYTES_PER_STREAM_MAX, WINDOW_BYTES, WINDOW_BYTES_MAX, WINDOW_STEP_BYTES_MIN, kind,
};
use super::message::{self, StreamId};

/// The sending half of a stream.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Whole messages, their headers included; the last one may still grow.
    messages: VecDeque<BytesMut>,
    unsent: usize,
    /// What the receiver takes beyond what waits here.
    credit: u32,
    pub(crate) end: End,
    /// The writer did not say yet that what it wrote is whole.
    torn: bool,
    /// Whether any byte left: the stream was answered.
    pub(crate) began: bool,
    /// A writer waits for room.
    pub(crate) waits: bool,
}

/// How far the end of what is sent has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// More may follow.
    Open,
    /// It is to be sent behind what waits.
    Wanted,
    /// The socket has it, if not yet flushed.
    Sent,
    /// It left.
    Flushed,
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        Self {
            messages: VecDeque::new(),
            unsent: 0,
            credit: WINDOW_BYTES,
            end: End::Open,
            torn: false,
            began: false,
            waits: false,
        }
    }

    /// Takes what the receiver's window, this stream's room and the link's `room` allow.
    pub(crate) fn write(&mut self, stream: StreamId, mut bytes: &[u8], room: usize) -> usize {
        let own = UNSENT_BYTES_PER_STREAM_MAX.saturating_sub(self.unsent);
        let most = bytes.len().min(own).min(room).min(self.credit as usize);
        bytes = &bytes[..most];
        while !bytes.is_empty() {
            bytes = self.append(stream, bytes);
        }
        self.unsent += most;
        self.credit -= most as u32;
        self.torn |= most > 0;
        most
    }

    /// What was written is whole: it arrives, whatever becomes of the stream.
    pub(crate) fn flush(&mut self) {
        self.torn = false;
    }

    /// The end is to be sent behind all that was written.
    pub(crate) fn finish(&mut self) {
        self.torn = false;
        if self.end == End::Open {
            self.end = End::Wanted;
        }
    }

    /// The writer is gone. What it flushed ends behind its last byte. In the middle of a write there is no such end, and where
    /// nothing was said none is needed; how much is forgotten then.
    pub(crate) fn leave(&mut self) -> usize {
        if self.torn || !self.began && self.messages.is_empty() && self.end == End::Open {
            return self.clear();
        }
        self.finish();
        0
    }

    /// Puts what fits behind the last message, or else into a new one; the rest.
    fn append<'b>(&mut self, stream: StreamId, bytes: &'b [u8]) -> &'b [u8] {
        let full = HEADER_BYTES + DATA_BYTES;
        let fits = self.messages.back().map_or(0, |last| full - last.len());
        if fits == 0 {
            self.messages.push_back(message::head(kind::DATA, stream, bytes.len().min(DATA_BYTES)));
            return bytes;
        }
        let (now, later) = bytes.split_at(bytes.len().min(fits));
        if let Some(last) = self.messages.back_mut() {
            last.extend_from_slice(now);
        }
        later
    }

    /// The next message of bytes, and how many it carries.
    pub(crate) fn next(&mut self) -> Option<(Bytes, usize)> {
        let message = self.messages.pop_front()?;
        let carries = message.len() - HEADER_BYTES;
        self.unsent -= carries;
        self.began = true;
        Some((message.freeze(), carries))
    }

    /// The receiver takes so many bytes more.
    pub(crate) fn take_more(&mut self, bytes: u32) -> Result<(), Breach> {
        let outstanding = (self.unsent as u32).saturating_add(self.credit);
        let fits = bytes >= WINDOW_STEP_BYTES_MIN && bytes <= WINDOW_BYTES_MAX.saturating_sub(outstanding);
        if !fits {
            return Err(Breach::Protocol("a window that is none"));
        }
        self.credit += bytes;
        Ok(())
    }

    /// Forgets what was not sent; how much that was.
    pub(crate) fn clear(&mut self) -> usize {
        self.messages = VecDeque::new();
        std::mem::take(&mut self.unsent)
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn unsent(&self) -> usize {
        self.unsent
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_full_and_no_more_is_taken_than_there_is_room() {
        let mut outgoing = Outgoing::new();
        assert_eq!(outgoing.write(1, &[7; 10], 5), 5);
        assert_eq!(outgoing.write(1, &[7; 1_000_000], usize::MAX), UNSENT_BYTES_PER_STREAM_MAX - 5);
        assert_eq!(outgoing.write(1, &[7; 10], usize::MAX), 0);
        let (first, carries) = outgoing.next().unwrap();
        assert_eq!((first.len(), carries), (HEADER_BYTES + DATA_BYTES, DATA_BYTES));
        let rest: Vec<usize> = std::iter::from_fn(|| outgoing.next()).map(|(_, carries)| carries).collect();
        assert_eq!(rest, [DATA_BYTES; UNSENT_BYTES_PER_STREAM_MAX / DATA_BYTES - 1]);
    }

    #[test]
    fn what_the_receiver_does_not_take_does_not_wait_here() {
        let mut outgoing = Outgoing::new();
        let mut taken = 0;
        while let more @ 1.. = outgoing.write(1, &[7; 50_000], usize::MAX) {
            taken += more;
            while outgoing.next().is_some() {}
        }
        assert_eq!(taken, WINDOW_BYTES as usize);
        outgoing.take_more(WINDOW_STEP_BYTES_MIN).unwrap();
        assert_eq!(outgoing.write(1, &[7; 100_000], usize::MAX), WINDOW_STEP_BYTES_MIN as usize);
    }

    #[test]
    fn a_window_out_of_all_bounds_is_refused() {
        let mut outgoing = Outgoing::new();
        for bad in [0, 1, WINDOW_STEP_BYTES_MIN - 1, WINDOW_BYTES_MAX, u32::MAX] {
            assert!(outgoing.take_more(bad).is_err(), "{bad}");
        }
        assert!(outgoing.take_more(WINDOW_BYTES_MAX - WINDOW_BYTES).is_ok());
        assert!(outgoing.take_more(WINDOW_STEP_BYTES_MIN).is_err());
    }
}

//! What came on one stream and was not read yet, and the window that bounds it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use skypipe_core::Time;

use super::Breach;
use super::constants::{PIECE_BYTES_MIN, WINDOW_BYTES, WINDOW_BYTES_MAX};

/// The receiving half of a stream.
#[derive(Debug)]
pub(crate) struct Incoming {
    pieces: VecDeque<Bytes>,
    /// Short pieces behind the last of `pieces`, gathered.
    tail: BytesMut,
    unread: usize,
    window: Window,
    /// The sender said that nothing follows.
    pub(crate) ended: bool,
}

impl Incoming {
    pub(crate) fn new(now: Time) -> Self {
        let window = Window { size: WINDOW_BYTES, left: WINDOW_BYTES, read: 0, since: now };
        Self { pieces: VecDeque::new(), tail: BytesMut::new(), unread: 0, window, ended: false }
    }

    /// Takes bytes that came.
    pub(crate) fn push(&mut self, bytes: Bytes) -> Result<(), Breach> {
        self.count(bytes.len())?;
        self.unread += bytes.len();
        if bytes.len() < PIECE_BYTES_MIN && !(self.pieces.is_empty() && self.tail.is_empty()) {
            self.tail.extend_from_slice(&bytes);
            return Ok(());
        }
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.pieces.push_back(bytes);
        Ok(())
    }

    /// Counts bytes that nobody will read.
    pub(crate) fn count(&mut self, bytes: usize) -> Result<(), Breach> {
        if self.ended {
            return Err(Breach::Protocol("bytes behind the end of a stream"));
        }
        let length = u32::try_from(bytes).map_err(|_| Breach::TooLong)?;
        let left = self.window.left.checked_sub(length);
        self.window.left = left.ok_or(Breach::Protocol("more bytes than the stream's window"))?;
        Ok(())
    }

    /// Gives what there is, `room` bytes at most; how many that were.
    pub(crate) fn read(&mut self, room: usize, mut give: impl FnMut(&[u8])) -> usize {
        let mut left = room;
        while left > 0 {
            if self.pieces.is_empty() && !self.tail.is_empty() {
                self.pieces.push_back(self.tail.split().freeze());
            }
            let Some(piece) = self.pieces.front_mut() else { break };
            let taken = piece.len().min(left);
            give(&piece[..taken]);
            piece.advance(taken);
            left -= taken;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        let taken = room - left;
        self.unread -= taken;
        taken
    }

    /// What the sender may be given back for `bytes` that were read, once that is worth a message. `growth` is what the link's
    /// windows may still grow.
    pub(crate) fn give_back(&mut self, bytes: usize, now: Time, round_trip: Duration, growth: &mut u32) -> u32 {
        if self.ended {
            return 0;
        }
        self.window.give_back(u32::try_from(bytes).unwrap_or(u32::MAX), now, round_trip, growth)
    }

    /// Forgets what was not read; how much that was.
    pub(crate) fn clear(&mut self) -> usize {
        self.pieces = VecDeque::new();
        self.tail = BytesMut::new();
        std::mem::take(&mut self.unread)
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn unread(&self) -> usize {
        self.unread
    }

    /// What the sender may send still.
    pub(crate) fn window_left(&self) -> u32 {
        self.window.left
    }

    /// What of the link's growth this window has.
    pub(crate) fn grown(&self) -> u32 {
        self.window.size - WINDOW_BYTES
    }
}

/// What the sender may send before it hears of more.
#[derive(Debug)]
struct Window {
    size: u32,
    /// Of it, what did not come yet.
    left: u32,
    /// Read and not given back yet.
    read: u32,
    /// When it was last given something back.
    since: Time,
}

impl Window {
    /// Half a window is given back at once. If it was read within two round trips, the sender must have waited for us, or will as
    /// soon as the path is as slow as that: then the window doubles.
    fn give_back(&mut self, bytes: u32, now: Time, round_trip: Duration, growth: &mut u32) -> u32 {
        self.read = self.read.saturating_add(bytes);
        if self.read < self.size / 2 {
            return 0;
        }
        let more = if now.since(self.since) <= 2 * round_trip {
            self.size.min(WINDOW_BYTES_MAX - self.size).min(*growth)
        } else {
            0
        };
        *growth -= more;
        let given = std::mem::take(&mut self.read) + more;
        self.since = now;
        self.size += more;
        self.left += given;
        given
    }
}

#[cfg(test)]
mod tests {
    use super::super::constants::GROWTH_BYTES_MAX;
    use super::*;

    const RTT: Duration = Duration::from_millis(10);

    fn pass(incoming: &mut Incoming, bytes: u32, now: Time, growth: &mut u32) -> u32 {
        incoming.push(vec![0; bytes as usize].into()).unwrap();
        let read = incoming.read(bytes as usize, |_| {});
        incoming.give_back(read, now, RTT, growth)
    }

    #[test]
    fn pieces_of_any_length_come_out_in_order() {
        let mut incoming = Incoming::new(Time(0));
        let lengths = [1, 1, 5000, 3, 4, 4096, 4095, 2, 9000, 1];
        let all: Vec<u8> = (0..lengths.iter().sum::<usize>()).map(|n| n as u8).collect();
        let mut rest = &all[..];
        for length in lengths {
            let (piece, later) = rest.split_at(length);
            incoming.push(Bytes::copy_from_slice(piece)).unwrap();
            rest = later;
        }
        let mut got = Vec::new();
        while incoming.unread() > 0 {
            incoming.read(777, |bytes| got.extend_from_slice(bytes));
        }
        assert_eq!(got, all);
    }

    #[test]
    fn a_window_is_a_window() {
        let mut incoming = Incoming::new(Time(0));
        incoming.push(vec![0; WINDOW_BYTES as usize].into()).unwrap();
        assert!(matches!(incoming.push(Bytes::from_static(b"x")), Err(Breach::Protocol(_))));
    }

    #[test]
    fn a_window_grows_while_its_reader_keeps_up_and_no_further_than_the_link_allows() {
        let (mut incoming, mut growth, mut now) = (Incoming::new(Time(0)), GROWTH_BYTES_MAX, Time(0));
        assert_eq!(pass(&mut incoming, WINDOW_BYTES / 4, now, &mut growth), 0);
        now = now.plus(RTT);
        assert_eq!(pass(&mut incoming, WINDOW_BYTES / 4, now, &mut growth), WINDOW_BYTES / 2 + WINDOW_BYTES);
        now = now.plus(100 * RTT);
        assert_eq!(pass(&mut incoming, WINDOW_BYTES, now, &mut growth), WINDOW_BYTES, "a slow flow needs no more");
        for _ in 0..100 {
            pass(&mut incoming, WINDOW_BYTES, now, &mut growth);
        }
        assert_eq!(incoming.grown(), WINDOW_BYTES_MAX - WINDOW_BYTES);
        let mut little = 1000;
        let mut other = Incoming::new(now);
        pass(&mut other, WINDOW_BYTES, now, &mut little);
        assert_eq!((other.grown(), little), (1000, 0));
    }
}

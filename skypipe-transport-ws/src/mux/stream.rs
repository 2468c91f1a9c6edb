//! One stream at one end.

use skypipe_core::Time;

use super::incoming::Incoming;
use super::outgoing::{End, Outgoing};

/// A stream that is not over, or whose last word is still to be sent.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
    /// The peer does not know of it yet.
    pub(crate) open_due: bool,
    /// What the peer is to be given back.
    pub(crate) window_due: u32,
    /// Nobody here wants it; the peer is to be told, behind all that it is still sent.
    pub(crate) reset_due: bool,
    /// The peer cut it.
    pub(crate) cut: bool,
    /// Somebody here has it, or will accept it.
    pub(crate) held: bool,
    /// It stands in the row of those that have something to send.
    pub(crate) in_turns: bool,
    /// It stands in the row of those that wait for room.
    pub(crate) in_waiting: bool,
}

impl Stream {
    pub(crate) fn new(now: Time, opened_here: bool) -> Self {
        Self {
            incoming: Incoming::new(now),
            outgoing: Outgoing::new(),
            open_due: opened_here,
            window_due: 0,
            reset_due: false,
            cut: false,
            held: true,
            in_turns: false,
            in_waiting: false,
        }
    }

    /// Nobody here has it any more.
    pub(crate) fn leave(&mut self) {
        (self.held, self.reset_due, self.window_due) = (false, true, 0);
    }

    /// Whether both sides said all they had to say.
    pub(crate) fn is_over(&self) -> bool {
        self.incoming.ended && matches!(self.outgoing.end, End::Sent | End::Flushed)
    }

    /// Whether anything is to be sent of it. Of a stream that the peer cut nothing is.
    pub(crate) fn has_next(&self) -> bool {
        let due = self.open_due || self.reset_due || self.window_due > 0;
        !self.cut && (due || !self.outgoing.is_empty() || self.outgoing.end == End::Wanted)
    }
}

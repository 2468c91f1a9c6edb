//! How much a relay takes on.

use std::time::Duration;

/// The limits of a [`Relay`](super::Relay), all in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayLimits {
    /// Streams that have not asked for anything yet. More wait unaccepted: strangers who say nothing cost no more than this many small
    /// buffers.
    pub half_open: usize,
    /// The same for one source over a network, which is an IPv4 address or the first 64 bits of an IPv6 address. One more is closed.
    pub half_open_per_source: usize,
    /// How long a stream may take to say hello and ask. Five seconds carry one flight over any working path.
    pub handshake: Duration,
    /// Streams in all; one more is refused with `E_BUSY`. One descriptor each: a quarter of the usual hard limit of 65,536.
    pub streams: usize,
    /// Frames a second that one stream may send; one that sends more is read more slowly. Ten times what a writer of single lines
    /// manages, so only a flood of empty frames meets it.
    pub frames_per_second: u32,
    /// How long the last words of a stream, `Error` or `Finished`, may take to leave.
    pub farewell: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            half_open: 256,
            half_open_per_source: 16,
            handshake: Duration::from_secs(5),
            streams: 16 * 1024,
            frames_per_second: 1_000_000,
            farewell: Duration::from_secs(5),
        }
    }
}

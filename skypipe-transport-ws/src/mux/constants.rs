//! The numbers of the multiplexer, beside "Over WebSocket" in `docs/wire.md`.

use skypipe_core::{STREAMS_BEFORE_PROOF_MAX, STREAMS_PER_LINK_MAX};

/// Bytes of a message's header: `u8` kind, `u32` stream, little-endian.
pub(crate) const HEADER_BYTES: usize = 5;
/// Most bytes of a stream in one message that is taken: 64 KiB are a millisecond at 500 Mbit/s.
pub(crate) const DATA_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a stream in one message that is sent. With all headers it is one record of TLS. Streams take turns by messages. A
/// WebSocket keeps the room of its longest messages in both directions for as long as it lives, even when it is idle.
pub(crate) const DATA_BYTES: usize = 16 * 1024 - 64;
/// Longest message. A longer one is refused by its length, before memory is found for it.
pub(crate) const MESSAGE_BYTES_MAX: usize = HEADER_BYTES + DATA_BYTES_MAX;

/// Bytes that may be sent on a new stream before the receiver said that it has read some. A batch of half a MiB is on its way at
/// once within two of them.
pub(crate) const WINDOW_BYTES: u32 = 256 * 1024;
/// A window grows up to this while its reader keeps up: 1 Gbit/s over 130 ms. No less than an attach's credit may be.
pub(crate) const WINDOW_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// What all windows of a link may grow together.
pub(crate) const GROWTH_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// A window update gives back at least this, so that updates are few whatever a peer does. Half of the smallest window is more.
pub(crate) const WINDOW_STEP_BYTES_MIN: u32 = 64 * 1024;

/// Bytes that came over a link and were not read yet, of all streams; with more the socket is not read. Streams whose session's
/// credit is kept are read at once, so only a peer that breaks it, and 128 stalled streams, come here.
pub(crate) const UNREAD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The same of a peer that has not proved who it is.
pub(crate) const UNREAD_BYTES_BEFORE_PROOF_MAX: usize = 64 * 1024;
/// Bytes of one stream that wait to be sent: some messages are made while others leave.
pub(crate) const UNSENT_BYTES_PER_STREAM_MAX: usize = 8 * DATA_BYTES;
/// Bytes of all streams of a link that wait to be sent. What a peer's window does not allow never waits here.
pub(crate) const UNSENT_BYTES_MAX: usize = 512 * 1024;
/// Shorter pieces of a stream are gathered, so that a flood of single bytes takes no more memory than its bytes.
pub(crate) const PIECE_BYTES_MIN: usize = 4 * 1024;

/// Streams that each side may open before it was given more.
pub(crate) const STREAMS_AT_FIRST: u32 = STREAMS_BEFORE_PROOF_MAX as u32;
/// Streams that a side may have open once it was admitted.
pub(crate) const STREAMS_ADMITTED: u32 = STREAMS_PER_LINK_MAX as u32;

/// Streams a minute that a peer may cut before they were answered. Honest ones are cut when a command is interrupted.
pub(crate) const RESETS_PER_MINUTE_MAX: u32 = 1_000;
/// Pings and pongs a minute that a peer may send; an honest one sends 24.
pub(crate) const PINGS_PER_MINUTE_MAX: u32 = 1_000;
/// Messages a minute about streams that are over, which cross with their end.
pub(crate) const STRAYS_PER_MINUTE_MAX: u32 = 60_000;

/// Kinds of messages.
pub(crate) mod kind {
    /// The sender opens this stream.
    pub(crate) const OPEN: u8 = 1;
    /// Bytes of the stream.
    pub(crate) const DATA: u8 = 2;
    /// `u32`: so many bytes more may be sent on the stream.
    pub(crate) const WINDOW: u8 = 3;
    /// The sender sends no more on the stream.
    pub(crate) const FIN: u8 = 4;
    /// The sender neither sends nor reads any more.
    pub(crate) const RESET: u8 = 5;
    /// `u32`: so many streams more may be opened. Its stream is 0.
    pub(crate) const STREAMS: u8 = 6;
}

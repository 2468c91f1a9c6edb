//! Every limit of this transport, in one place; the numbers of the multiplexer stand in `mux/constants.rs`.

use std::time::Duration;

/// Longest HTTP request in bytes, headers included. A browser's with cookies fits; nothing larger is kept for a stranger.
pub(crate) const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// Most headers of an HTTP request, many times what proxies add.
pub(crate) const REQUEST_HEADERS_MAX: usize = 64;
/// How long TLS and HTTP may take together until the link stands, at both ends. They are a few flights over any working path.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a TCP connection may take to be made, over all addresses of a host.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// Connections in the handshake, all sources together. More wait in the kernel's backlog.
pub(crate) const HALF_OPEN_MAX: usize = 256;
/// Connections in the handshake of one source: an IPv4 address, or an IPv6 network of 64 bits, which is what one customer has.
/// One more is closed.
pub(crate) const HALF_OPEN_PER_SOURCE_MAX: usize = 16;
/// Connections that wait in the kernel to be accepted.
pub(crate) const BACKLOG: u32 = 1024;

/// A side that sent nothing for so long sends a ping: proxies, which cut silent connections after 60 s, see life, and so does the
/// peer.
pub(crate) const PING_AFTER: Duration = Duration::from_secs(5);
/// A link from which no byte came for so long is broken: three pings were lost.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);
/// A message must be complete so long after the last one: 64 KiB at 1 KiB a second. A peer that drips bytes is no peer.
pub(crate) const MESSAGE: Duration = Duration::from_secs(60);
/// The same for a peer who has not proved who it is.
pub(crate) const MESSAGE_BEFORE_PROOF: Duration = Duration::from_secs(15);
/// How long the close of a link may take to leave.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes read and thrown away behind a close, so that the peer sees the close and not a reset connection.
pub(crate) const FAREWELL_BYTES_MAX: usize = 1024 * 1024;

/// What tungstenite reads at once. It is allocated for every link, so 10,000 idle ones cost 10 MB.
pub(crate) const READ_BYTES: usize = 1024;
/// What the kernel is asked for at once while a link is busy: with 4 KiB, the calls alone halve the rate.
pub(crate) const AHEAD_BYTES: usize = 64 * 1024;
/// A link from which less comes at once is not busy.
pub(crate) const BUSY_BYTES_MIN: usize = 4 * 1024;
/// Messages are gathered until so many bytes can be written with one call. What was gathered and one message more is what
/// tungstenite's buffer holds at most, and it never shrinks.
pub(crate) const WRITE_BYTES: usize = 32 * 1024;
/// Most that waits in tungstenite's buffer: what was gathered, one message more, and a pong.
pub(crate) const WRITE_BYTES_MAX: usize = WRITE_BYTES + crate::mux::MESSAGE_BYTES_MAX + 1024;
/// Bytes that the kernel holds unsent: with more, a stream's small message would wait behind all that others gave to the kernel
/// before it.
pub(crate) const UNSENT_BYTES: u32 = 256 * 1024;

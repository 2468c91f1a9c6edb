//! skypipe over QUIC: a link is one connection, a stream of skypipe is one bidirectional stream of it.
//!
//! ```no_run
//! skypipe_transport_quic::install();
//! // From now on `quic://KEY@host:port` is a relay like any other.
//! let client = skypipe_core::Client::at("quic://nbswy3dpo5xxe3denbswy3dpo5xxe3denbswy3dpo5xxe3denbsa@relay.example")?;
//! # Ok::<(), skypipe_core::Error>(())
//! ```
//!
//! [`QuicListener`] is the relay's side. [`QuicTransport`] is the client's: the URL pins the relay's key, so no authority is asked.
//!
//! What users see of it:
//! * A network that changes under a client, and a NAT that forgets it, do not break the link. A silent peer is given up after 15 s
//!   ([`IDLE_LIMIT`]); a relay that was started anew says so at once.
//! * A stalled stream holds up no other: the windows here are larger than the credit that sessions have.
//! * Until a client has proved who it is, it has few streams and 64 KiB of the relay's memory.
//! * A program that ends should wait for [`goodbye`], or the relay learns only by silence that it went.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![forbid(unsafe_code)]

mod config;
pub use config::{CONNECT_LIMIT, HANDSHAKE_LIMIT, IDLE_LIMIT, KEEP_ALIVE};

mod transport;
pub use transport::QuicTransport;

mod listener;
pub use listener::QuicListener;

mod gate;

mod link;

mod stream;

mod leaving;
pub use leaving::goodbye;

mod socket;

mod failure;

#[cfg(test)]
mod tests;

/// The scheme before the colon.
pub const SCHEME: &str = "quic";

/// Makes `quic://` URLs known to [`skypipe_core::registry`].
pub fn install() {
    skypipe_core::registry::install(SCHEME, std::sync::Arc::new(QuicTransport::default()));
}

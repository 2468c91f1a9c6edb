//! skypipe over WebSocket: many streams over one connection, through whatever lets a web page pass.
//!
//! ```text
//!   stream ─┐                                          ┌─ stream
//!   stream ─┼─ mux ─ WebSocket ─ (TLS) ─ TCP ─ … ─ mux ┼─ stream
//!   stream ─┘                                          └─ stream
//! ```
//!
//! ```no_run
//! # async fn example() -> Result<(), skypipe_core::Error> {
//! skypipe_transport_ws::install();
//! let logs = skypipe_core::Client::at("wss://relay.example/pipes")?.pipe("logs")?;
//! # let _ = logs;
//! # Ok(())
//! # }
//! ```
//!
//! A program that ends should wait for [`goodbye`], or what it said last may be lost.
//!
//! A relay listens with [`WsListener`]: plain behind a proxy that ends TLS, or with a certificate of its own that clients know by
//! the relay's key. The bytes are described in `docs/wire.md`, "Over WebSocket".
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![forbid(unsafe_code)]

use std::sync::Arc;

mod limits;

mod mux;

mod shared;

mod stream;

mod socket;

mod driver;

mod link;

mod transport;
pub use transport::WsTransport;

mod leaving;
pub use leaving::goodbye;

mod gate;

mod upgrade;

mod listener;
pub use listener::{WsListener, WsOptions};

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

/// The scheme of plain WebSocket.
pub const SCHEME: &str = "ws";
/// The scheme of WebSocket over TLS.
pub const SCHEME_TLS: &str = "wss";
/// The WebSocket subprotocol, which both sides must agree on.
pub const SUBPROTOCOL: &str = "skypipe.1";

/// What TLS carries (ALPN).
const HTTP_ALPN: &[u8] = b"http/1.1";
/// Bytes that TLS keeps for a socket that takes no more: one message of the multiplexer.
const TLS_BUFFER_BYTES: usize = 64 * 1024;

/// Makes `ws://` and `wss://` URLs known to [`skypipe_core::Client::at`].
pub fn install() {
    let transport = Arc::new(WsTransport);
    skypipe_core::registry::install(SCHEME, transport.clone());
    skypipe_core::registry::install(SCHEME_TLS, transport);
}

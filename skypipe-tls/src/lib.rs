//! What the network transports of skypipe share: TLS, the form of a relay's URL, the way to one of a host's addresses, and the
//! count of links that are not over.
//!
//! * [`server_config`] is a relay that ends TLS itself, with a certificate made from its own key; [`server_config_of_quic`] is the same
//!   for QUIC.
//! * [`client_config`] trusts the relay with one key, or whoever the system's authorities vouch for: [`Trust`].
//! * [`RelayUrl`] is `scheme://[KEY@]host[:port][/path]`.
//! * [`resolve`] and [`race`] find the address that answers first.
//! * [`LiveLinks`] tells a program that is about to end when its links are over.
//!
//! TLS 1.3 and nothing older, cryptography by ring, no compression, no data before the handshake is over (0-RTT), and no session
//! tickets: a resumed session would pass over the check of the relay's key, and secrets would live longer than their connection.
//! What that costs is one signature for each connection.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![forbid(unsafe_code)]

// Both ends of TLS.
mod server;
pub use server::{server_config, server_config_of_quic};

mod quic;

mod provider;

mod client;
pub use client::{Trust, client_config};

mod pinned;

mod refusal;
pub use refusal::{is_pin_mismatch, refusal};

// The way to a relay.
mod url;
pub use url::RelayUrl;

mod resolve;
pub use resolve::resolve;

mod race;
pub use race::{ADDRESSES_MAX, STAGGER, race};

// The end of a program.
mod live_links;
pub use live_links::{LiveLink, LiveLinks};

#[cfg(test)]
mod tests;

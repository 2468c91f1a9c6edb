//! A proxy in this process that breaks what it carries: cuts, resets, silence, a trickle, latency, flipped bits; and, of
//! datagrams, loss, doubles, wrong order and the new port that a NAT gives.
//!
//! ```no_run
//! # async fn example(relay: std::net::SocketAddr) -> std::io::Result<()> {
//! use skypipe_test::chaos::{Proxy, Times, Way};
//!
//! let proxy = Proxy::tcp(relay).await?;
//! proxy.cut_at(Way::Up, 1000, Times::Once);
//! // … a client of `proxy.address()` loses its first connection behind byte 1000, and the next one lives.
//! # Ok(())
//! # }
//! ```
//!
//! Faults are switched while it runs, and hold for connections that stand as well. What is on its way here is bounded; a
//! connection that is not read holds its sender up, as a network does.

mod datagrams;
mod delayed;
mod faults;
mod proxy;
mod shared;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod udp;

pub use faults::{Times, Way};
pub use proxy::Proxy;

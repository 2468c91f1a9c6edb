//! Hosts of their own on this machine: two clients behind different NATs, and a relay on the open internet.
//!
//! ```text
//!   a ── NAT of a ──┐
//!                   ├── internet ── relay
//!   b ── NAT of b ──┘
//! ```
//!
//! Each box is a network namespace, each line a pair of veth devices with an MTU of 1500. Both private networks have the same IPv4
//! addresses, as at home. Over IPv6 nobody translates addresses; there the same boxes let in only what was asked for.
//!
//! ```no_run
//! use skypipe_test::net::{Host, Net};
//!
//! let net = Net::new();
//! net.command(Host::Relay, "ip").args(["address"]).status().unwrap();
//! net.drop_udp(true);
//! ```
//!
//! It needs root and the programs `ip`, `nft` and `conntrack` (Debian: `iproute2`, `nftables`, `conntrack`). Without root, a user
//! namespace does: [`WITHOUT_ROOT`]. With neither, tests fail and say so. Everything goes when the [`Net`] is dropped; what tests
//! that were killed left behind goes when the next one is made.

mod address;
mod namespaces;
mod network;
#[cfg(test)]
mod tests;

pub use address::Families;
pub use namespaces::WITHOUT_ROOT;
pub use network::{Client, Host, Net};

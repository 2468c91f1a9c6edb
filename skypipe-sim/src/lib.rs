//! Clients, relay, network and disk of skypipe in one thread, from a seed: hours of faults in seconds, and each of them again.
//!
//! ```text
//!   client.rs ─ Writer, Reader ─ RemoteBroker ─▶ net.rs ─▶ Relay ─ LocalBroker ─ Log ─▶ disk.rs
//!       │                                         late, held, cut      relay.rs: killed        │ unsynced, torn, full, slow
//!       ▼                                                                                      │
//!   history.rs ─▶ checker.rs: the promises                        world.rs: which fault comes when ─┘
//! ```
//!
//! Everything between net and disk is the product's own code, as it runs everywhere: clock, randomness, disk and transport are
//! injected ([`skypipe_core::Env`], [`Disk`](skypipe_core::log::Disk), [`Transport`](skypipe_core::Transport)), and tokio's clock is paused, so
//! that time passes only when nobody has anything to do.
//!
//! A relay that is killed is one whose disk and network are no longer there: all that it could still do goes through them.
//!
//! `cargo xtask sim --seed N` plays one seed and prints its trace.

pub mod checker;
pub mod client;
pub mod clock;
pub mod dice;
pub mod disk;
pub mod history;
pub mod net;
pub mod news;
pub mod relay;
pub mod scenes;
pub mod trace;
pub mod workers;
pub mod world;

pub use trace::Keep;
pub use world::{Fault, Plan, Report, run};

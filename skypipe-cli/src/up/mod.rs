//! A relay on a machine of one's own, over the system's ssh.
//!
//! ```text
//!  probe.sh ─▶ Answer ─▶ Machine ─┐
//!             Program (the binary) ├─▶ Plan: copy, serve, or nothing ─▶ script.rs ─▶ Ssh ─▶ Answer: its URLs
//!             Wish (the options)  ─┘        └─ Place, Settings, service.rs: what lies where, and what runs it
//! ```
//!
//! The thinking is in `plan.rs`, and touches nothing. Each step is one script that may be cut off anywhere and run again.

mod answer;
mod files;
#[cfg(test)]
mod golden;
mod machine;
mod place;
mod plan;
mod program;
mod script;
mod service;
pub(crate) mod settings;
mod site;
mod ssh;
mod version;

pub(crate) use files::{compose, dockerfile, systemd};
pub(crate) use machine::{Firewall, Init, Machine};
pub(crate) use place::Place;
pub(crate) use plan::{Plan, Step, Wish};
pub(crate) use program::Program;
pub(crate) use settings::Settings;
pub(crate) use site::{Site, Started, network_urls};

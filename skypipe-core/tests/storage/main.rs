//! The log from outside, on disks that lose power, break and fail: what it said is stored must be there, whatever happens.
//!
//! | | |
//! |---|---|
//! | `owed` | what a log owes, from what it was given and what it said |
//! | `workload` | pipes, facts, batches, forgetting and reading at random, all from a seed |
//! | `crash` | P1d: crash images |
//! | `broker` | P1d: the same under a whole broker, held against what its clients were told |
//! | `damage` | P9: bits that flip, and worse |
//! | `errors` | P10: calls that fail |
//! | `model` | any order of anything, on two threads, made small where it fails |
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod broker;
mod crash;
mod damage;
mod errors;
mod model;
mod owed;
mod workload;

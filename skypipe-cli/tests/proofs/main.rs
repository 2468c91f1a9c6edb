//! Proofs of promises with the real binary: killed, traced, starved, in processes of its own with real files.
//!
//! A binary of its own, since each proof wants the machine for itself. `docs/promises.md` says what each one shows.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test binary exports nothing, `pub` reads better than `pub(crate)`")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod descriptors;
mod disk_errors;
mod each_call;
#[allow(dead_code, unused_imports, reason = "much of it is for the other tests")]
#[path = "../e2e/harness/mod.rs"]
mod harness;
mod kills;
mod order;
mod slow;
mod trace;
mod traced;
mod workload;

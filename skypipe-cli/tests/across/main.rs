//! End-to-end tests between machines: the real binary on three hosts behind NATs, and through a proxy that breaks links.
//!
//! A binary of its own, since hosts need root: see `skypipe_test::net`. The harness is that of the other end-to-end tests.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test binary exports nothing, `pub` reads better than `pub(crate)`")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod broken_links;
mod examples;
#[allow(dead_code, unused_imports, reason = "much of it is for the other tests")]
#[path = "../e2e/harness/mod.rs"]
mod harness;
mod moving;
mod world;

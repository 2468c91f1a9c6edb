//! End-to-end tests: the real binary in real processes, seen from outside.
//!
//! One test binary, so that all tests share one link and run in parallel. A test is a [`Home`](harness::Home), commands in
//! it, and what they must have done; [`harness`] tells how.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test binary exports nothing, `pub` reads better than `pub(crate)`")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod across;
mod bad_input;
mod bench;
mod big;
mod bounds;
mod broadcast;
mod chat;
mod direction;
mod disk;
mod ending;
mod exact;
mod faults;
#[allow(dead_code, reason = "some of it is for the tests between machines, in `tests/across`")]
mod harness;
mod headers;
mod local_relay;
mod long;
mod main_job;
mod pattern;
mod queue;
mod signals;
mod terminal_escapes;
mod up;
mod verbs;
mod wait_reader;
mod watch;

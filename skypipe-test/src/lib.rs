//! What tests of skypipe share. Nothing here is part of a release.
//!
//! | | |
//! |---|---|
//! | [`conformance!`] | what every transport must do: it joins with one line |
//! | [`chaos`] | a proxy for TCP, UDP and local sockets that breaks what it carries, as scripted |
//! | [`disk`] | disks that remember, break and fail |
//! | [`net`] | three hosts with NATs between them, as network namespaces |
//! | [`proof`] | what a proof of a promise prints, and how long it goes on |
//! | [`property`] | properties as proofs: many cases, and the smallest failure |
//!
//! Everything here panics when it cannot go on: then the test has failed.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

pub mod chaos;
pub mod conformance;
pub mod disk;
pub mod net;
pub mod proof;
pub mod property;

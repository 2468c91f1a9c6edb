//! What readers are told of what was lost: by a link, by a quota, by a disk; and what earlier versions said over a link.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod cut_off;
mod dice;
mod gaps;
mod links;
mod old_wire;

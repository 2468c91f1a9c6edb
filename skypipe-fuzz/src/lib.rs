//! What hostile bytes must not do. Each target takes any bytes, gives them to one decoder or state machine, and panics where a promise does not
//! hold: nothing panics, nothing hangs, nothing is allocated because a peer says so, whole and in pieces are the same, and what was understood
//! survives its encoding.
//!
//! The fuzzer (`fuzz/`, with libFuzzer) and the tests (`tests/corpus.rs`, on any toolchain) run the same functions over the same corpus. A crash
//! that the fuzzer finds becomes a file in `corpus/NAME`.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a promise that does not hold panics")]

mod allocated;
pub use allocated::is_counting;

// The wire.
mod batch;
mod frames;
mod messages;
mod proof;

// The state machines.
mod delivery;
mod session;
mod tape;

// The disk.
mod facts;
mod log;
mod tape_facts;

// What people type and copy.
mod keys;
mod names;

/// One thing to be tried with any bytes.
pub struct Target {
    /// Its name: of the fuzzer's program, and of the folder of its corpus.
    pub name: &'static str,
    /// Panics where a promise does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "frames", run: frames::run },
    Target { name: "proof", run: proof::run },
    Target { name: "requests", run: messages::requests },
    Target { name: "answers", run: messages::answers },
    Target { name: "attached", run: messages::attached },
    Target { name: "batch", run: batch::run },
    Target { name: "writer_session", run: session::writer },
    Target { name: "reader_session", run: session::reader },
    Target { name: "delivery", run: delivery::run },
    Target { name: "tape", run: tape::run },
    Target { name: "facts", run: facts::run },
    Target { name: "tape_facts", run: tape_facts::run },
    Target { name: "log", run: log::run },
    Target { name: "names", run: names::run },
    Target { name: "tickets", run: keys::tickets },
    Target { name: "authorized_keys", run: keys::authorized_keys },
    Target { name: "tokens", run: skypipe_keys::fuzzing::token },
    Target { name: "mux", run: skypipe_transport_ws::fuzzing::mux },
    Target { name: "upgrade", run: skypipe_transport_ws::fuzzing::upgrade_request },
];

/// Runs the target of this name.
///
/// # Panics
/// Where a promise does not hold, and when there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("no target {name}")).run)(bytes);
}

//! Where each proof is found.

/// A command that proves something.
pub(crate) struct Command {
    /// The rows it prints: promise, and what is tried. One that is missing is a failure.
    pub(crate) rows: &'static [(&'static str, &'static str)],
    /// What is run, words apart by blanks.
    pub(crate) command: &'static str,
}

/// All of them, quickest first.
pub(crate) const COMMANDS: &[Command] = &[Command {
    rows: &[
        ("P2", "same seed, same trace"),
        ("P1c", "power cuts"),
        ("P2d", "histories of 5 clients with 200 calls"),
        ("P2c", "writers away for 20 and for 25 hours"),
        ("P8", "100 live readers, relay deaths"),
        ("P1", "24 simulated hours of clients and faults"),
        ("P2", "wall clock jumps of up to ten years"),
        ("P11", "1,000 clients come back"),
    ],
    command: "cargo test --release -p skypipe-sim --test proofs -- --nocapture --test-threads 1",
}];

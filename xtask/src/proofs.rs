//! Where each proof is found.

/// A command that proves something.
pub(crate) struct Command {
    /// The rows it prints: promise, and what is tried. One that is missing is a failure.
    pub(crate) rows: &'static [(&'static str, &'static str)],
    /// What is run, words apart by blanks.
    pub(crate) command: &'static str,
}

/// All of them, quickest first.
pub(crate) const COMMANDS: &[Command] = &[
    Command {
        rows: &[("P16", "records and facts of old logs")],
        command: "cargo test --release -p skypipe-core --test fixtures proof_ -- --nocapture --test-threads 1",
    },
    Command {
        rows: &[("P11", "recovery of 100 GB")],
        command: "cargo test --release -p skypipe-core --lib proof_opening_does_not_take_longer -- --nocapture --test-threads 1",
    },
    Command {
        rows: &[
            ("P3", "arrivals cut off"),
            ("P4", "lag, retention and damage"),
            ("P16", "words of old clients and relays"),
        ],
        command: "cargo test --release -p skypipe-core --test losses proof_ -- --nocapture --test-threads 1",
    },
];

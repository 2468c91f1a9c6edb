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
        rows: &[("P5e", "hostile first bytes")],
        command: "cargo test --release -p skypipe-core --test hostile proof_ -- --nocapture",
    },
    Command {
        rows: &[("P13", "tries of each kind of answer")],
        command: "cargo test --release -p skypipe-core --lib proof_p13 -- --nocapture",
    },
    Command {
        rows: &[
            ("P5a", "idle sessions"),
            ("P5b", "stalled readers"),
            ("P5c", "MiB that nobody reads"),
            ("P5d", "seconds of adversaries"),
            ("P13", "operations of strangers"),
            ("P14", "rounds of secrets"),
        ],
        command: "cargo test --release -p skypipe-cli --test e2e -- bounds:: --nocapture --test-threads 1",
    },
];

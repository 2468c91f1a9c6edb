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
        rows: &[("P6", "live records beside a stalled disk"), ("P6", "90 pipes beside 10 stuck ones")],
        command: "cargo test --release -p skypipe-cli --test proofs slow::proof_ -- --nocapture --test-threads 1",
    },
    Command {
        rows: &[("P1e", "order of acknowledgement and sync")],
        command: "cargo test --release -p skypipe-cli --test proofs order::proof_ -- --nocapture --test-threads 1",
    },
    Command {
        rows: &[("P2a", "breaks over QUIC"), ("P2a", "cuts over wss"), ("P2a", "cuts over ws")],
        command: "cargo test --release -p skypipe-cli --test across proof_ -- --nocapture --test-threads 1",
    },
    Command {
        rows: &[("P1b", "kill at each call")],
        command: "cargo test --release -p skypipe-cli --test proofs each_call::proof_ -- --nocapture --test-threads 1",
    },
    Command {
        rows: &[("P10", "each disk call fails in each way"), ("P10", "short writes")],
        command: "cargo test --release -p skypipe-cli --test proofs disk_errors::proof_ -- --nocapture --test-threads 1",
    },
    Command {
        rows: &[("P1a", "kill -9 at random moments")],
        command: "cargo test --release -p skypipe-cli --test proofs kills::proof_ -- --nocapture --test-threads 1",
    },
];

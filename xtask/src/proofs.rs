//! Where each proof is found.

/// A command that proves something.
pub(crate) struct Command {
    /// The rows it prints: promise, and what is tried. One that is missing is a failure.
    pub(crate) rows: &'static [(&'static str, &'static str)],
    /// What is run, words apart by blanks.
    pub(crate) command: &'static str,
    /// Whether it belongs to what runs before each change (`.ci/run`). The others want more time, or a machine with nothing else to do.
    pub(crate) before_each_change: bool,
}

/// All of them, quickest first.
pub(crate) const COMMANDS: &[Command] = &[
    Command {
        rows: &[("P2b", "links cut anywhere, ws"), ("P2b", "links cut anywhere, wss")],
        command: "cargo test --release -p skypipe-transport-ws --test conformance a_cut_anywhere -- --nocapture",
        before_each_change: true,
    },
    Command {
        rows: &[("P2b", "links cut anywhere, quic"), ("P2b", "paths that fall silent, quic")],
        command: "cargo test --release -p skypipe-transport-quic --test conformance anywhere_in -- --nocapture",
        before_each_change: true,
    },
    Command {
        rows: &[("P16", "records and facts of old logs")],
        command: "cargo test --release -p skypipe-core --test fixtures proof_ -- --nocapture --test-threads 1",
        before_each_change: true,
    },
    Command {
        rows: &[("P11", "recovery of 100 GB")],
        command: "cargo test --release -p skypipe-core --lib proof_opening_does_not_take_longer -- --nocapture --test-threads 1",
        before_each_change: true,
    },
    Command {
        rows: &[
            ("P3", "arrivals cut off"),
            ("P4", "lag, retention and damage"),
            ("P16", "words of old clients and relays"),
        ],
        command: "cargo test --release -p skypipe-core --test losses proof_ -- --nocapture --test-threads 1",
        before_each_change: true,
    },
    Command {
        rows: &[
            ("P2", "default mode against its model"),
            ("P2", "sessions against their model"),
            ("P7", "queue against its model"),
            ("P8", "broadcast against its model"),
        ],
        command: "cargo test --release -p skypipe-core --lib _model -- --nocapture --test-threads 1",
        before_each_change: true,
    },
    Command {
        rows: &[
            ("P1", "log against its model"),
            ("P1d", "crash images"),
            ("P1d", "crash images of a broker"),
            ("P9", "bit flips"),
            ("P9", "damage at random"),
            ("P10", "disk errors"),
        ],
        command: "cargo test --release -p skypipe-core --test storage proof_ -- --nocapture --test-threads 1",
        before_each_change: true,
    },
    Command {
        rows: &[
            ("P2", "same seed, same trace"),
            ("P1c", "power cuts"),
            ("P2d", "histories of 5 clients with 200 calls"),
            ("P2c", "writers away for 20 and for 25 hours"),
            ("P8", "100 live readers, relay deaths"),
            ("P7", "queue workers, relay deaths"),
            ("P8", "broadcast readers, relay deaths"),
            ("P1", "24 simulated hours of clients and faults"),
            ("P2", "wall clock jumps of up to ten years"),
            ("P11", "1,000 clients come back"),
        ],
        command: "cargo test --release -p skypipe-sim --test proofs -- --nocapture --test-threads 1",
        before_each_change: true,
    },
    Command {
        rows: &[("P15", "changed bytes")],
        command: "cargo test --release -p skypipe-fuzz --test corpus proof_ -- --nocapture --test-threads 1",
        before_each_change: true,
    },
    Command {
        rows: &[
            ("P15", "fuzz answers"),
            ("P15", "fuzz attached"),
            ("P15", "fuzz authorized_keys"),
            ("P15", "fuzz batch"),
            ("P15", "fuzz delivery"),
            ("P15", "fuzz facts"),
            ("P15", "fuzz frames"),
            ("P15", "fuzz log"),
            ("P15", "fuzz mux"),
            ("P15", "fuzz names"),
            ("P15", "fuzz proof"),
            ("P15", "fuzz reader_session"),
            ("P15", "fuzz requests"),
            ("P15", "fuzz tape"),
            ("P15", "fuzz tape_facts"),
            ("P15", "fuzz tickets"),
            ("P15", "fuzz tokens"),
            ("P15", "fuzz upgrade"),
            ("P15", "fuzz writer_session"),
        ],
        command: "cargo xtask fuzz",
        before_each_change: false,
    },
    Command {
        rows: &[("P6", "live records beside a stalled disk"), ("P6", "90 pipes beside 10 stuck ones")],
        command: "cargo test --release -p skypipe-cli --test proofs slow::proof_ -- --nocapture --test-threads 1",
        before_each_change: true,
    },
    Command {
        rows: &[("P1e", "order of acknowledgement and sync")],
        command: "cargo test --release -p skypipe-cli --test proofs order::proof_ -- --nocapture --test-threads 1",
        before_each_change: true,
    },
    Command {
        rows: &[("P2a", "breaks over QUIC"), ("P2a", "cuts over wss"), ("P2a", "cuts over ws")],
        command: "cargo test --release -p skypipe-cli --test across proof_ -- --nocapture --test-threads 1",
        before_each_change: true,
    },
    Command {
        rows: &[("P1b", "kill at each call")],
        command: "cargo test --release -p skypipe-cli --test proofs each_call::proof_ -- --nocapture --test-threads 1",
        before_each_change: true,
    },
    Command {
        rows: &[("P10", "each disk call fails in each way"), ("P10", "short writes")],
        command: "cargo test --release -p skypipe-cli --test proofs disk_errors::proof_ -- --nocapture --test-threads 1",
        before_each_change: true,
    },
    Command {
        rows: &[("P1a", "kill -9 at random moments")],
        command: "cargo test --release -p skypipe-cli --test proofs kills::proof_ -- --nocapture --test-threads 1",
        before_each_change: true,
    },
    Command {
        rows: &[("P5e", "hostile first bytes")],
        command: "cargo test --release -p skypipe-core --test hostile proof_ -- --nocapture",
        before_each_change: true,
    },
    Command {
        rows: &[("P13", "tries of each kind of answer")],
        command: "cargo test --release -p skypipe-core --lib proof_p13 -- --nocapture",
        before_each_change: true,
    },
    Command {
        rows: &[
            ("P5a", "idle sessions"),
            ("P5b", "stalled readers"),
            ("P5c", "MiB that nobody reads"),
            ("P5d", "seconds of adversaries"),
            ("P6", "rounds beside a flood of cut streams"),
            ("P13", "operations of strangers"),
            ("P14", "rounds of secrets"),
        ],
        command: "cargo test --release -p skypipe-cli --test e2e -- bounds:: --nocapture --test-threads 1",
        before_each_change: false,
    },
];

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
        rows: &[("P15", "changed bytes")],
        command: "cargo test --release -p skypipe-fuzz --test corpus proof_ -- --nocapture --test-threads 1",
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
            ("P15", "fuzz tickets"),
            ("P15", "fuzz tokens"),
            ("P15", "fuzz upgrade"),
            ("P15", "fuzz writer_session"),
        ],
        command: "cargo xtask fuzz",
    },
];

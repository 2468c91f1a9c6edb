//! What was measured, to be measured again:
//!
//! * `cargo run --release -p skypipe-benches --bin store FOLDER`: the log beside fjall, redb and a plain file; the table of
//!   `docs/decisions.md`.
//! * `cargo run --release -p skypipe-benches --bin throughput`: records a second through a pipe.
//! * `cargo run --release -p skypipe-benches --bin wildcard`: what a record costs a reader of a pattern, by how many pipes there are.
//! * `cargo bench -p skypipe-benches --bench micro`: codec, session, delivery and log, a step of each alone.

//! What was measured, to be measured again; `README.md` beside this crate says more.
//!
//! * `cargo run --release -p skypipe-benches --bin compare`: skypipe beside what users would pick instead, and beside the bare libraries.
//! * `cargo run --release -p skypipe-benches --bin idle`: what idle sessions cost a relay.
//! * `cargo run --release -p skypipe-benches --bin websocket`: what a WebSocket link carries.
//! * `cargo run --release -p skypipe-benches --bin store FOLDER`: the log beside fjall, redb and a plain file; the table of
//!   `docs/decisions.md`.
//! * `cargo run --release -p skypipe-benches --bin throughput`: records a second through a pipe.
//! * `cargo run --release -p skypipe-benches --bin wildcard`: what a record costs a reader of a pattern, by how many pipes there are.
//! * `cargo bench -p skypipe-benches --bench micro`: codec, session, delivery and log, a step of each alone.

//! Whole programs on `skypipe-core`. Each runs with one command, ends by itself and checks its own result:
//!
//! * `cargo run -p skypipe-examples --example log_collector`: many write lines, one reads them all.
//! * `cargo run -p skypipe-examples --example fan_out`: one writes, everybody who listens gets a copy.
//! * `cargo run -p skypipe-examples --example hand_over`: jobs from one task to others; a job outlives a worker that fails.
//! * `cargo run -p skypipe-examples --example custom_relay`: a relay of one's own that counts records, over a local socket.

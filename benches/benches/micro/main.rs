//! What one step costs, without sockets, tasks and processes: `cargo bench -p skypipe-benches --bench micro [FILTER]`.
//!
//! Each line is the lower bound, the estimate and the upper bound of one run of the step; `thrpt` is the same for a second. A step handles as many
//! records as its name says. `log/on disk` writes beside the program, so where that lies is the disk that is measured.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement that cannot go on has failed")]
#![allow(missing_docs, reason = "what criterion's macros make")]

mod codec;
mod delivery;
mod log;
mod session;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use skypipe_core::{Batch, BatchBuilder, Epoch, Seq, SessionId};

/// The writer of all batches.
const WRITER: SessionId = SessionId([7; 16]);

criterion_group! {
    name = micro;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = codec::measure, session::measure, delivery::measure, log::measure
}
criterion_main!(micro);

/// Batches of one writer, one behind the other, each of so many records.
fn batches(count: usize, records: usize, record_bytes: usize) -> Vec<Batch> {
    let record = vec![0x5a; record_bytes];
    let mut next = Seq(0);
    let batch = |_| {
        let mut builder = BatchBuilder::new(WRITER, Epoch(1), next);
        (0..records).for_each(|_| assert!(builder.push(&record, true, true), "it fits"));
        next = builder.next();
        builder.build(None)
    };
    (0..count).map(batch).collect()
}

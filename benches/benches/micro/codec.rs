//! Batches and frames: made, cut, checked.

use std::hint::black_box;
use std::io::IoSlice;

use criterion::{BenchmarkId, Criterion, Throughput};
use skypipe_core::wire::constants::WRITE_SLICES_MAX;
use skypipe_core::wire::{Decoder, Message as _, Outbox};
use skypipe_core::{Batch, BatchBuilder, Epoch, Seq, WriterUp};

use super::{WRITER, batches};

/// Records in a batch, and their bytes: one alone, as many lines as a batch takes, one that fills it.
const SHAPES: [(usize, usize); 4] = [(1, 128), (1000, 16), (1000, 128), (1, 256 * 1024)];

pub(super) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for (records, record_bytes) in SHAPES {
        let shape = format!("{records} x {record_bytes} B");
        let batch = batches(1, records, record_bytes).remove(0);
        group.throughput(Throughput::Bytes((records * record_bytes) as u64));
        group.bench_function(BenchmarkId::new("build", &shape), |b| {
            let record = vec![0x5a; record_bytes];
            b.iter(|| {
                let mut builder = BatchBuilder::new(WRITER, Epoch(1), Seq(0));
                (0..records).for_each(|_| assert!(builder.push(black_box(&record), true, true), "it fits"));
                builder.build(None)
            });
        });
        group.bench_function(BenchmarkId::new("decode", &shape), |b| {
            b.iter(|| Batch::decode(black_box(batch.encoded()).clone()).unwrap());
        });
        group.bench_function(BenchmarkId::new("pieces", &shape), |b| {
            b.iter(|| black_box(&batch).pieces().map(|piece| black_box(piece.body).len()).sum::<usize>());
        });
        group.bench_function(BenchmarkId::new("to the socket", &shape), |b| b.iter(|| leave(&batch)));
        group.bench_function(BenchmarkId::new("from the socket", &shape), |b| {
            let mut outbox = Outbox::new();
            outbox.push(WriterUp::Batch(batch.clone()).into_frame()).unwrap();
            let bytes = outbox.to_vec();
            let mut decoder = Decoder::new();
            decoder.trust();
            b.iter(|| arrive(&mut decoder, &bytes));
        });
    }
    group.finish();
}

/// A batch as slices of a vectored write.
fn leave(batch: &Batch) -> usize {
    let mut outbox = Outbox::new();
    outbox.push(WriterUp::Batch(batch.clone()).into_frame()).unwrap();
    let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
    let count = outbox.fill(&mut slices);
    let bytes = slices[..count].iter().map(|slice| slice.len()).sum();
    outbox.written(bytes);
    assert!(outbox.is_empty(), "all of it fits");
    bytes
}

/// The same bytes back to a batch, the copy out of the socket included.
fn arrive(decoder: &mut Decoder, mut bytes: &[u8]) -> Option<WriterUp> {
    let mut frame = None;
    while frame.is_none() {
        decoder.feed(&mut bytes).unwrap();
        frame = decoder.frame().unwrap();
    }
    WriterUp::from_frame(frame?).unwrap()
}

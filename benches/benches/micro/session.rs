//! Sessions: what is pushed until it is acknowledged, what comes until it is handed over.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use skypipe_core::session::{ReaderSession, ReaderWants, WriterSession, WriterWants};
use skypipe_core::{
    Ack, Batch, Mode, Position, ReaderDown, ReaderWelcome, Seq, SessionId, Time, WriterDown, WriterUp, WriterWelcome,
};

use super::{WRITER, batches};

/// Records that are pushed before the link takes any.
const RECORDS: [(usize, usize); 3] = [(1, 128), (1000, 128), (1, 64 * 1024)];
/// Batches that a reader gets, one after the other: as many as its window takes and it gives room for.
const BATCHES: usize = 16;

pub(super) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    for (records, record_bytes) in RECORDS {
        let shape = format!("{records} x {record_bytes} B");
        group.throughput(Throughput::Elements(records as u64));
        group.bench_function(BenchmarkId::new("writer: push, batch, acknowledged", &shape), |b| {
            let (mut session, record) = (writer(), vec![0x5a; record_bytes]);
            b.iter(|| write(&mut session, &record, records));
        });
        group.throughput(Throughput::Elements((BATCHES * records) as u64));
        let name = BenchmarkId::new(format!("reader: {BATCHES} batches down, chunk, acknowledge"), &shape);
        let batches = batches(BATCHES, records, record_bytes);
        group.bench_function(name, |b| b.iter_batched_ref(|| (reader(), batches.clone()), read, BatchSize::SmallInput));
    }
    group.finish();
}

fn writer() -> WriterSession {
    let mut session = WriterSession::new(WRITER, WriterWants::default(), Time(1));
    session.begin(Time(1));
    let (ack, mode) = (Ack::default(), Mode::Default);
    session.attached(&WriterWelcome { next: Seq(0), ack, credit: 1 << 40, readers: 1, mode }, Time(1));
    session
}

fn write(session: &mut WriterSession, record: &[u8], records: usize) {
    for _ in 0..records {
        assert!(session.push(black_box(record), true, true), "the window has room");
    }
    let mut sent = Seq(0);
    while let Some(WriterUp::Batch(batch)) = session.next_up() {
        sent = batch.next();
        session.down(WriterDown::Credit(batch.encoded().len() as u64));
    }
    session.flushed();
    session.down(WriterDown::Ack(Ack { settled: sent, stored: Seq(0), delivered: sent }));
}

fn reader() -> ReaderSession {
    let mut session = ReaderSession::new(SessionId([8; 16]), ReaderWants::default(), Time(1));
    session.begin(Time(1));
    session.attached(ReaderWelcome { mode: Mode::Default, position: Position::default() }, Time(1));
    session
}

fn read((session, batches): &mut (ReaderSession, Vec<Batch>)) {
    for batch in batches.drain(..) {
        let from = batch.first();
        session.down(ReaderDown::Batch { from, position: Position::default(), batch });
        let chunk = session.next_chunk().unwrap();
        session.take(chunk.taken(chunk.next()));
        while let Some(up) = session.next_up() {
            black_box(up);
        }
    }
    assert!(session.failure().is_none(), "{:?}", session.failure());
}

//! A batch is made once: what a relay allocates for each byte and each record that passes through it.
//!
//! The relay runs here, over a Unix socket; its clients are another process, so that every allocation counted is the relay's.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::alloc::System;
use std::process::Command;

use futures::{SinkExt, StreamExt};
use skypipe_core::local_socket::{LocalSocketListener, LocalSocketTransport};
use skypipe_core::{
    Batch, BatchBuilder, Broker, Caller, Env, Epoch, LocalBroker, PipeName, PipeRef, ReaderAttach, ReaderCursor,
    ReaderDown, ReaderHalves, ReaderUp, Relay, RemoteBroker, Seq, SessionId, Take, WriterAttach, WriterDown,
    WriterHalves, WriterUp,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The child process finds the relay's socket here.
const SOCKET: &str = "SKYPIPE_TEST_SOCKET";
/// The shape of the traffic: batches, records in each, bytes of each record.
const SHAPE: &str = "SKYPIPE_TEST_SHAPE";

const WRITER: SessionId = SessionId([1; 16]);

struct Shape {
    batches: u64,
    records: u64,
    record_bytes: usize,
}

impl Shape {
    fn bytes(&self) -> u64 {
        self.batches * self.records * self.record_bytes as u64
    }
}

/// What the relay allocated while the clients were there.
struct Spent {
    bytes: u64,
    allocations: u64,
}

/// The clients' process, started by the tests below.
#[tokio::test(flavor = "current_thread")]
#[ignore = "a part of the other tests"]
async fn clients() {
    let Ok(socket) = std::env::var(SOCKET) else { return };
    let shape: Vec<u64> = std::env::var(SHAPE).unwrap().split(',').map(|n| n.parse().unwrap()).collect();
    let shape = Shape { batches: shape[0], records: shape[1], record_bytes: shape[2] as usize };
    let remote = RemoteBroker::new(std::sync::Arc::new(LocalSocketTransport), &socket);
    let pipe = PipeRef::from(&PipeName::new("p").unwrap());
    let mut reader = remote.attach_reader(&Caller::in_process(), &pipe, reader_attach()).await.unwrap();
    let attach =
        WriterAttach { session: WRITER, epoch: Epoch(1), mode: None, resume: None, settings: Default::default() };
    let writer = remote.attach_writer(&Caller::in_process(), &pipe, attach).await.unwrap();
    let writing = write(writer, &shape);
    let reading = read(&mut reader, &shape);
    tokio::join!(writing, reading);
}

fn reader_attach() -> ReaderAttach {
    ReaderAttach {
        session: SessionId([2; 16]),
        epoch: Epoch(1),
        mode: None,
        take: Take::Any,
        keep: false,
        no_wait: false,
        credit: 1 << 40,
        mid_record: false,
        resume: None,
        tape: Default::default(),
    }
}

fn batch(shape: &Shape, number: u64) -> Batch {
    let mut builder = BatchBuilder::new(WRITER, Epoch(1), Seq(number * shape.records));
    let record = vec![number as u8; shape.record_bytes];
    (0..shape.records).for_each(|_| assert!(builder.push(&record, true, true)));
    builder.build(None)
}

/// Sends all batches, as credit allows.
async fn write(mut writer: WriterHalves, shape: &Shape) {
    let mut credit = writer.welcome.credit as i64;
    let mut delivered = Seq(0);
    let mut number = 0;
    while delivered < Seq(shape.batches * shape.records) {
        while credit > 0 && number < shape.batches {
            let batch = batch(shape, number);
            credit -= batch.encoded().len() as i64;
            number += 1;
            writer.up.send(WriterUp::Batch(batch)).await.unwrap();
        }
        match writer.down.next().await.unwrap().unwrap() {
            WriterDown::Credit(more) => credit += more as i64,
            WriterDown::Ack(ack) => delivered = ack.delivered,
            _ => {}
        }
    }
}

/// Takes all batches and acknowledges each.
async fn read(reader: &mut ReaderHalves, shape: &Shape) {
    let mut next = Seq(0);
    while next < Seq(shape.batches * shape.records) {
        if let ReaderDown::Batch { batch, .. } = reader.down.next().await.unwrap().unwrap() {
            assert_eq!(batch.first(), next);
            next = batch.next();
            reader.up.send(ReaderUp::Ack(ReaderCursor { writer: WRITER, next })).await.unwrap();
        }
    }
}

/// Runs a relay with its clients in a process of their own.
fn relay(shape: &Shape) -> Spent {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _guard = runtime.enter();
    let broker = LocalBroker::open(folder.path(), Env::system(), Default::default()).unwrap();
    let listener = LocalSocketListener::bind(folder.path().join("s")).unwrap();
    let relay = Relay::new(broker).listen(Box::new(listener));
    let url = relay.urls().remove(0);
    runtime.spawn(async move { relay.serve().await });
    let mut clients = Command::new(std::env::current_exe().unwrap());
    clients.args(["--exact", "clients", "--ignored", "--quiet"]).env(SOCKET, &url);
    clients.env(SHAPE, format!("{},{},{}", shape.batches, shape.records, shape.record_bytes));
    let region = Region::new(ALLOCATOR);
    let output = clients.output().unwrap();
    let change = region.change();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let bytes = change.bytes_allocated as i64 + change.bytes_reallocated as i64;
    Spent { bytes: bytes as u64, allocations: (change.allocations + change.reallocations) as u64 }
}

/// One test, so that nothing else in this process allocates meanwhile.
#[test]
fn a_relay_allocates_what_it_receives_once_and_nothing_for_a_record() {
    let large = Shape { batches: 200, records: 1, record_bytes: 256 * 1024 };
    let spent = relay(&large);
    let times = spent.bytes as f64 / large.bytes() as f64;
    println!("256 KiB a batch: {times:.3} bytes allocated for each byte, {} allocations", spent.allocations);
    assert!(times < 1.1, "{times} bytes allocated for each byte that passed");

    let many = Shape { batches: 200, records: 2000, record_bytes: 100 };
    let spent = relay(&many);
    let times = spent.bytes as f64 / many.bytes() as f64;
    let each = spent.allocations as f64 / (many.batches * many.records) as f64;
    println!("2000 records a batch: {times:.3} bytes allocated for each byte, {each:.4} allocations for each record");
    assert!(times < 1.25, "{times} bytes allocated for each byte that passed");
    assert!(each < 0.05, "{each} allocations for each record");
}

//! A pipe that has used up its quota, and a disk that is full.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::SinkExt;
use tokio::time::timeout;

use super::tests::{SOON, WRITER, batch, far, next, open, pipe_ref, read, reader_attach, settled, write};
use super::{LocalBroker, LocalBrokerOptions};
use crate::broker::{Broker, Notice, ReaderCursor, ReaderDown, ReaderHalves, ReaderUp};
use crate::broker::{WriterDown, WriterHalves, WriterUp};
use crate::id::Seq;
use crate::{
    BrokerPipe, Caller, Code, Env, Epoch, Memory, Owner, Pipe, PipeName, PipeRef, Until, WriterAttach, WriterOptions,
    log::RamDisk,
};

static RECORD: [u8; 64 * 1024] = [7; 64 * 1024];
/// Four times the quota and more than all windows together.
const RECORDS: u64 = 256;

fn pipe() -> BrokerPipe {
    let options = LocalBrokerOptions { pipe_bytes_max: 4 * 1024 * 1024, ..LocalBrokerOptions::default() };
    let broker = LocalBroker::on_disk(Arc::new(RamDisk::new()), Env::system(), options).unwrap();
    BrokerPipe::new(broker, Caller::in_process(), PipeName::new("p").unwrap())
}

async fn write_all(pipe: &BrokerPipe, options: WriterOptions) -> Result<(), crate::Error> {
    let mut writer = pipe.writer_with(options).await?;
    for _ in 0..RECORDS {
        writer.send(&RECORD).await?;
    }
    writer.end(Until::Stored).await.map(drop)
}

#[tokio::test]
async fn a_writer_waits_for_a_reader_and_goes_on() {
    let pipe = pipe();
    let writing = tokio::spawn({
        let pipe = pipe.clone();
        async move { write_all(&pipe, WriterOptions::default()).await }
    });
    while pipe.stat().await.map_or(0, |stat| stat.bytes) < 4 * 1024 * 1024 {
        tokio::task::yield_now().await;
    }
    assert!(!writing.is_finished());
    let mut reader = pipe.reader().await.unwrap();
    let mut count = 0;
    while let Some(record) = reader.next().await.unwrap() {
        assert_eq!(record.body.len(), RECORD.len());
        count += 1;
    }
    assert_eq!(count, RECORDS);
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_writer_that_would_not_wait_is_told_the_quota() {
    let options = WriterOptions { no_wait: true, ..WriterOptions::default() };
    let error = write_all(&pipe(), options).await.unwrap_err();
    assert_eq!(error.code(), Code::Quota, "{error}");
}

/// A disk that is full to the last byte, with what a writer stored before and what waits for room.
async fn full_disk() -> (RamDisk, Arc<LocalBroker>, WriterHalves) {
    let disk = RamDisk::new();
    let broker = open(&disk);
    let mut writer = write(&broker, 1, None).await;
    writer.up.send(WriterUp::Batch(batch(0, 3, false))).await.unwrap();
    settled(&mut writer, 3).await;
    disk.set_bytes_max(Some(0));
    writer.up.send(WriterUp::Batch(batch(3, 2, true))).await.unwrap();
    while !matches!(next(&mut writer.down).await, WriterDown::Notice(Notice::WaitsForRoom { .. })) {}
    (disk, broker, writer)
}

/// Takes records until `count` are there.
async fn take(reader: &mut ReaderHalves, count: usize) -> Vec<u64> {
    let mut got = Vec::new();
    while got.len() < count {
        if let ReaderDown::Batch { from, batch, .. } = next(&mut reader.down).await {
            got.extend(from.0..batch.next().0 - u64::from(batch.is_end()));
            let ack = ReaderCursor { writer: WRITER, next: batch.next() };
            reader.up.send(ReaderUp::Ack(ack)).await.unwrap();
        }
    }
    got
}

#[tokio::test]
async fn a_reader_that_comes_on_a_full_disk_gets_all_there_is() {
    let (disk, broker, mut writer) = full_disk().await;
    let mut reader = timeout(SOON, read(&broker, 1, None)).await.expect("the reader is let in");
    assert_eq!(take(&mut reader, 5).await, [0, 1, 2, 3, 4]);
    // What it took becomes durable with the first room there is.
    disk.set_bytes_max(None);
    let start = Instant::now();
    reader.up.send(ReaderUp::Ack(ReaderCursor { writer: WRITER, next: Seq(6) })).await.unwrap();
    while !matches!(next(&mut reader.down).await, ReaderDown::Finished) {}
    settled(&mut writer, 6).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_writer_that_comes_on_a_full_disk_waits_and_goes_on() {
    let (disk, broker, mut first) = full_disk().await;
    for name in ["logs/web", "another"] {
        let pipe = BrokerPipe::new(broker.clone(), Caller::in_process(), PipeName::new(name).unwrap());
        let no_wait = WriterOptions { no_wait: true, ..WriterOptions::default() };
        let refused = timeout(SOON, async {
            let mut writer = pipe.writer_with(no_wait).await?;
            writer.send(b"x").await?;
            writer.end(Until::Stored).await.map(drop)
        });
        assert_eq!(refused.await.expect("it is told").unwrap_err().code(), Code::NoSpace, "{name}");
    }
    let pipe = BrokerPipe::new(broker.clone(), Caller::in_process(), PipeName::new("patient").unwrap());
    let mut writer = timeout(SOON, pipe.writer()).await.expect("it is let in").unwrap();
    writer.send(b"x").await.unwrap();
    let mut ending = Box::pin(writer.end(Until::Stored));
    assert!(timeout(Duration::from_millis(100), &mut ending).await.is_err(), "nothing is said to be stored");
    disk.set_bytes_max(None);
    timeout(SOON, ending).await.unwrap().unwrap();
    settled(&mut first, 6).await;
}

#[tokio::test]
async fn who_joined_on_a_full_disk_goes_on_as_somebody_new_after_a_crash() {
    let (disk, broker, writer) = full_disk().await;
    let mut reader = timeout(SOON, read(&broker, 1, None)).await.expect("the reader is let in");
    assert_eq!(take(&mut reader, 3).await[..3], [0, 1, 2]);
    let crashed = disk.after_power_loss(crate::log::PowerLoss::Everything);
    drop((reader, writer, broker));
    let broker = open(&crashed);
    let again = broker.attach_reader(&far(), &pipe_ref(), reader_attach(2, Some(Vec::new()))).await;
    assert_eq!(again.err().unwrap().code(), Code::SessionExpired);
    let mut reader = read(&broker, 1, None).await;
    assert_eq!(take(&mut reader, 3).await[..3], [0, 1, 2]);
}

#[tokio::test]
async fn an_owner_with_a_million_pipes_fills_its_own_part() {
    let options = LocalBrokerOptions { memory: Memory::of_process(1 << 20), ..LocalBrokerOptions::default() };
    let broker = LocalBroker::on_disk(Arc::new(RamDisk::new()), Env::system(), options).unwrap();
    let owner = |seed: u16| Owner(Some([seed.to_le_bytes(); 16].concat().try_into().unwrap()));
    let caller = |seed: u16| Caller { namespace: owner(seed), ..Caller::in_process() };
    let pipe = |seed: u16, number: usize| {
        let path = PipeName::new(&format!("p{number}")).unwrap().path();
        PipeRef { owner: owner(seed), path }
    };
    let write = async |seed: u16, number: usize| {
        let attach = WriterAttach {
            session: Env::system().session(),
            epoch: Epoch(1),
            mode: None,
            resume: None,
            settings: Default::default(),
        };
        broker.attach_writer(&caller(seed), &pipe(seed, number), attach).await
    };
    let mut held = Vec::new();
    let refused = loop {
        match write(1, held.len()).await {
            Ok(halves) => held.push(halves),
            Err(error) => break error,
        }
        assert!(held.len() < 1000, "nothing bounds it");
    };
    assert!(refused.code() == Code::Quota && held.len() > 10, "{refused} after {}", held.len());
    held.push(write(2, 0).await.expect("another owner is not concerned"));
    // When all is used up, it is the relay that is at its limit.
    let busy = loop {
        match write(100 + held.len() as u16, 0).await {
            Ok(halves) => held.push(halves),
            Err(error) => break error,
        }
        assert!(held.len() < 1000, "nothing bounds it");
    };
    assert_eq!(busy.code(), Code::Busy);
    held.clear();
    broker.remove(&caller(1), &pipe(1, 0)).await.unwrap();
    assert!(write(1, 0).await.is_ok(), "what went has made room");
}

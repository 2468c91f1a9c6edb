//! A pipe that has used up its quota.

use std::sync::Arc;

use super::{LocalBroker, LocalBrokerOptions};
use crate::{
    Broker, BrokerPipe, Caller, Code, Env, Epoch, Memory, Owner, Pipe, PipeName, PipeRef, Until, WriterAttach,
    WriterOptions, log::RamDisk,
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

#[tokio::test]
async fn an_owner_with_a_million_pipes_fills_its_own_part() {
    let options = LocalBrokerOptions { memory: Memory::of_process(1 << 20), ..LocalBrokerOptions::default() };
    let broker = LocalBroker::on_disk(Arc::new(RamDisk::new()), Env::system(), options).unwrap();
    let caller = |seed: u8| Caller { namespace: Owner(Some([seed; 32])), ..Caller::in_process() };
    let pipe = |seed: u8, number: usize| {
        let path = PipeName::new(&format!("p{number}")).unwrap().path();
        PipeRef { owner: Owner(Some([seed; 32])), path }
    };
    let write = async |seed: u8, number: usize| {
        let attach = WriterAttach { session: Env::system().session(), epoch: Epoch(1), mode: None, resume: None };
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
        match write(3 + (held.len() % 200) as u8, held.len()).await {
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

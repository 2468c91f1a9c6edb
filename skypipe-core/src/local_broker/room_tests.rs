//! A pipe that has used up its quota.

use std::sync::Arc;

use super::{LocalBroker, LocalBrokerOptions};
use crate::{BrokerPipe, Caller, Code, Env, Pipe, PipeName, Until, WriterOptions, log::RamDisk};

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

//! Pipes that nobody uses rest, and nobody sees a difference but who counts the memory.

use std::sync::Arc;

use futures::SinkExt;
use tokio::time::timeout;

use super::LocalBroker;
use super::cell::SharedCell;
use super::tests::{SOON, batch, open, pipe, pipe_ref, write};
use crate::broker::{Ack, Broker, ListQuery, WriterResume, WriterUp};
use crate::id::Seq;
use crate::log::{LogOwner, RamDisk};
use crate::memory::{PIPE_AT_REST_BYTES, PIPE_BYTES};
use crate::name::Pattern;
use crate::{BrokerPipe, Caller, Code, Owner, OwnerLimits, Pipe, PipeName, Until, WriterOptions};

fn cell(broker: &LocalBroker) -> SharedCell {
    broker.shared.directory().get(&pipe_ref()).unwrap()
}

async fn until(is_so: impl Fn() -> bool) {
    let becomes_so = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, becomes_so).await.expect("it becomes so");
}

/// Waits until the pipe rests.
async fn at_rest(broker: &LocalBroker) {
    until(|| !cell(broker).is_awake()).await;
}

async fn store(pipe: &BrokerPipe, record: &[u8]) {
    let mut writer = pipe.writer().await.unwrap();
    writer.send(record).await.unwrap();
    writer.end(Until::Stored).await.unwrap();
}

/// Takes one item alone.
async fn take(pipe: &BrokerPipe) -> Vec<u8> {
    let mut reader = pipe.reader().await.unwrap();
    let mut got = Vec::new();
    while let Some(record) = timeout(SOON, reader.next()).await.unwrap().unwrap() {
        got.extend_from_slice(&record.body);
    }
    got
}

async fn stat(broker: &Arc<LocalBroker>) -> (u64, u64, u32, bool) {
    let stat = broker.stat(&Caller::in_process(), &pipe_ref()).await.unwrap();
    (stat.items, stat.ended, stat.writers, stat.bytes > 0)
}

#[tokio::test]
async fn a_pipe_that_nobody_uses_takes_little_memory_and_has_all_it_had() {
    let broker = open(&RamDisk::new());
    store(&pipe(&broker), b"one").await;
    at_rest(&broker).await;
    let used = broker.shared.memory.sessions.used();
    assert!((PIPE_AT_REST_BYTES..PIPE_BYTES / 2).contains(&used), "{used}");
    assert_eq!(stat(&broker).await, (1, 1, 0, true));
    let traffic = cell(&broker).stat(&broker.shared, false).unwrap().traffic;
    assert_eq!(traffic.written.records, 1, "what went through it is not forgotten");
    let query = ListQuery { owner: Owner::SELF, pattern: Pattern::all(), after: None, limit: 10 };
    let listed = broker.list(&Caller::in_process(), query).await.unwrap().pipes;
    assert!(listed.len() == 1 && !cell(&broker).is_awake(), "to look wakes nobody: {listed:?}");

    store(&pipe(&broker), b"two").await;
    at_rest(&broker).await;
    assert_eq!((take(&pipe(&broker)).await, take(&pipe(&broker)).await), (b"one".to_vec(), b"two".to_vec()));
    assert!(broker.stat(&Caller::in_process(), &pipe_ref()).await.is_err(), "it is empty, and gone");
    until(|| broker.shared.memory.sessions.used() == 0).await;
}

#[tokio::test]
async fn pipes_rest_from_the_start_of_the_relay_on() {
    let disk = RamDisk::new();
    let broker = open(&disk);
    store(&pipe(&broker), b"one").await;
    at_rest(&broker).await;
    let before = (stat(&broker).await, broker.shared.memory.sessions.used());
    broker.close(SOON).await;
    drop(broker);

    let broker = open(&disk);
    assert!(!cell(&broker).is_awake());
    assert_eq!((stat(&broker).await, broker.shared.memory.sessions.used()), before);
    // The log asks for all facts as one, and finds a pipe at rest.
    broker.shared.snapshot(cell(&broker).id);
    at_rest(&broker).await;
    broker.close(SOON).await;
    drop(broker);

    let broker = open(&disk);
    assert!(!cell(&broker).is_awake());
    assert_eq!(take(&pipe(&broker)).await, b"one");
}

#[tokio::test]
async fn a_writer_that_did_not_hear_of_its_end_finds_its_item_in_a_pipe_at_rest() {
    let broker = open(&RamDisk::new());
    let mut writer = write(&broker, 1, None).await;
    writer.up.send(WriterUp::Batch(batch(0, 3, true))).await.unwrap();
    drop(writer);
    at_rest(&broker).await;
    assert_eq!(stat(&broker).await, (1, 1, 0, true));
    let resume = WriterResume { settled: Seq(0), stored: Seq(0) };
    let writer = write(&broker, 2, Some(resume)).await;
    let stored = Ack { settled: Seq(4), stored: Seq(4), delivered: Seq(0) };
    assert_eq!((writer.welcome.next, writer.welcome.ack), (Seq(4), stored));
    drop(writer);
    at_rest(&broker).await;
}

#[tokio::test]
async fn what_all_pipes_are_told_a_pipe_at_rest_hears_when_it_wakes() {
    let broker = open(&RamDisk::new());
    let owner = Owner(Some([1; 32]));
    let named = |name: &str, bytes_max| {
        let limits = Some(OwnerLimits { bytes_max, pipes_max: 3 });
        let caller = Caller { namespace: owner, limits, ..Caller::in_process() };
        BrokerPipe::new(broker.clone(), caller, PipeName::new(name).unwrap()).owned_by(owner)
    };
    store(&named("first", 1 << 20), b"one").await;
    store(&named("second", 1 << 20), b"two").await;
    let both = broker.shared.directory().of_owner(owner);
    until(|| both.len() == 2 && !both.iter().any(|cell| cell.is_awake())).await;
    // What they hold together is more than their owner may have from now on.
    let options = WriterOptions { no_wait: true, ..WriterOptions::default() };
    let refused = async {
        let mut writer = named("first", 100).writer_with(options).await?;
        writer.send(b"three").await?;
        writer.end(Until::Stored).await.map(drop)
    };
    let error = timeout(SOON, refused).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Quota, "{error}");
}

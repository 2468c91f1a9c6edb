//! What all pipes of an owner may have together.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::tests::SOON;
use super::{LocalBroker, LocalBrokerOptions};
use crate::log::{PowerLoss, RamDisk};
use crate::{
    BrokerPipe, Caller, Code, Env, Error, Event, Events, Notice, Owner, OwnerLimits, Pipe, PipeName, Until,
    WriterOptions,
};

const MIB: u64 = 1024 * 1024;
static RECORD: [u8; 64 * 1024] = [7; 64 * 1024];
/// More than the quota and what a writer may have under way beyond it, so that it waits before it has sent all.
const RECORDS: u64 = 14 * MIB / RECORD.len() as u64;

const ANNA: Owner = Owner(Some([1; 32]));
const BEN: Owner = Owner(Some([2; 32]));

fn open(disk: &RamDisk) -> Arc<LocalBroker> {
    let mut options = LocalBrokerOptions::default();
    options.log.free_percent = 0;
    LocalBroker::on_disk(Arc::new(disk.clone()), Env::system(), options).unwrap()
}

/// A pipe of somebody who may have 4 MiB and three pipes.
fn pipe(broker: &Arc<LocalBroker>, owner: Owner, name: &str) -> BrokerPipe {
    limited(broker, owner, name, OwnerLimits { bytes_max: 4 * MIB, pipes_max: 3 })
}

fn limited(broker: &Arc<LocalBroker>, owner: Owner, name: &str, limits: OwnerLimits) -> BrokerPipe {
    let caller = Caller { namespace: owner, limits: Some(limits), ..Caller::in_process() };
    BrokerPipe::new(broker.clone(), caller, PipeName::new(name).unwrap()).owned_by(owner)
}

async fn write(pipe: &BrokerPipe, records: u64, options: WriterOptions) -> Result<(), Error> {
    let mut writer = pipe.writer_with(options).await?;
    for _ in 0..records {
        writer.send(&RECORD).await?;
    }
    writer.end(Until::Stored).await.map(drop)
}

fn no_wait() -> WriterOptions {
    WriterOptions { no_wait: true, ..WriterOptions::default() }
}

/// Writes past the quota of its owner, in a pipe that was there before.
async fn waiting(pipe: &BrokerPipe) -> JoinHandle<Result<(), Error>> {
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let events: Events = Arc::new(move |event| drop(told.send(event)));
    let mut writer =
        pipe.writer_with(WriterOptions { events: Some(events), ..WriterOptions::default() }).await.unwrap();
    let writing = tokio::spawn(async move {
        for _ in 0..RECORDS {
            writer.send(&RECORD).await?;
        }
        writer.end(Until::Stored).await.map(drop)
    });
    let full = async {
        loop {
            if let Some(Event::Notice(Notice::WaitsForRoom { code, text })) = hears.recv().await {
                assert_eq!((code, &text[..]), (Code::Quota, "the owner's quota is used up"));
                return;
            }
        }
    };
    timeout(SOON, full).await.expect("it is told why it waits");
    assert!(!writing.is_finished());
    writing
}

async fn read(pipe: &BrokerPipe) -> u64 {
    let mut reader = pipe.reader().await.unwrap();
    let mut count = 0;
    while timeout(SOON, reader.next()).await.unwrap().unwrap().is_some() {
        count += 1;
    }
    count
}

#[tokio::test]
async fn what_is_read_from_one_pipe_makes_room_in_another_and_nobody_else_waits() {
    let broker = open(&RamDisk::new());
    write(&pipe(&broker, ANNA, "first"), 3 * MIB / RECORD.len() as u64, WriterOptions::default()).await.unwrap();
    let writing = waiting(&pipe(&broker, ANNA, "second")).await;
    let error = write(&pipe(&broker, ANNA, "third"), 1, no_wait()).await.unwrap_err();
    assert!(error.code() == Code::Quota && error.text().starts_with("the owner's quota is used up"), "{error}");
    timeout(SOON, write(&pipe(&broker, BEN, "first"), 3 * MIB / RECORD.len() as u64, no_wait()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read(&pipe(&broker, ANNA, "first")).await, 3 * MIB / RECORD.len() as u64);
    assert_eq!(read(&pipe(&broker, ANNA, "second")).await, RECORDS);
    timeout(SOON, writing).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_is_removed_makes_room() {
    let broker = open(&RamDisk::new());
    let first = pipe(&broker, ANNA, "first");
    write(&first, 3 * MIB / RECORD.len() as u64, WriterOptions::default()).await.unwrap();
    let writing = waiting(&pipe(&broker, ANNA, "second")).await;
    first.remove().await.unwrap();
    let grows = async {
        while pipe(&broker, ANNA, "second").stat().await.unwrap().bytes < 4 * MIB {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, grows).await.expect("the other pipe goes on");
    writing.abort();
}

#[tokio::test]
async fn a_new_broker_counts_what_was_there() {
    let disk = RamDisk::with_power_loss();
    let broker = open(&disk);
    // Together they are enough, and none of them by itself; each writer may have all of its own under way.
    for name in ["first", "second", "third"] {
        write(&pipe(&broker, ANNA, name), 22, WriterOptions::default()).await.unwrap();
    }
    let broker = open(&disk.after_power_loss(PowerLoss::Everything));
    let error = timeout(SOON, write(&pipe(&broker, ANNA, "first"), 1, no_wait())).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Quota, "{error}");
    timeout(SOON, write(&pipe(&broker, BEN, "first"), 1, no_wait())).await.unwrap().unwrap();
    read(&pipe(&broker, ANNA, "second")).await;
    timeout(SOON, write(&pipe(&broker, ANNA, "first"), 1, no_wait())).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_wider_quota_is_room() {
    let broker = open(&RamDisk::new());
    let writing = waiting(&pipe(&broker, ANNA, "first")).await;
    let wider = limited(&broker, ANNA, "second", OwnerLimits { bytes_max: 64 * MIB, pipes_max: 3 });
    write(&wider, 1, WriterOptions::default()).await.unwrap();
    timeout(SOON, writing).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn one_pipe_more_than_its_owner_may_have_is_refused() {
    let broker = open(&RamDisk::new());
    for name in ["first", "second", "third"] {
        write(&pipe(&broker, ANNA, name), 1, WriterOptions::default()).await.unwrap();
    }
    let error = pipe(&broker, ANNA, "fourth").writer().await.err().unwrap();
    assert_eq!((error.code(), error.text()), (Code::Quota, "the owner of this pipe has as many pipes as it may"));
    assert_eq!(pipe(&broker, ANNA, "fourth").reader().await.err().unwrap().code(), Code::Quota);
    // Those that are there take more, and others begin as many.
    write(&pipe(&broker, ANNA, "third"), 1, WriterOptions::default()).await.unwrap();
    write(&pipe(&broker, BEN, "fourth"), 1, WriterOptions::default()).await.unwrap();
    read(&pipe(&broker, ANNA, "second")).await;
    write(&pipe(&broker, ANNA, "fourth"), 1, WriterOptions::default()).await.unwrap();
}

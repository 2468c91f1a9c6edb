//! A log whose disk failed: what is there can be read, nothing can be stored or taken, and nothing is lost.

use super::tests::{READER, SOON, batch, far, next, open, pipe, pipe_ref, read, reader_attach, settled, write};
use super::*;
use crate::Until;
use crate::broker::{ReaderCursor, ReaderDown, ReaderUp, Take, WriterDown, WriterResume, WriterUp};
use crate::id::{Epoch, Seq, SessionId};
use crate::name::{Owner, Pattern, PipeName};
use crate::pipe::{BrokerPipe, Pipe};
use futures::{SinkExt, StreamExt};
use tokio::time::timeout;

/// What a reader gets, and the code it ends with.
async fn read_all(reader: &mut ReaderHalves) -> (Vec<u64>, Code) {
    let mut got = Vec::new();
    loop {
        match timeout(SOON, reader.down.next()).await.expect("the reader hangs").expect("the end is told") {
            Ok(ReaderDown::Batch { from, batch, .. }) => {
                got.extend(from.0..batch.next().0 - u64::from(batch.is_end()));
                let ack = ReaderCursor { writer: batch.session(), next: batch.next() };
                reader.up.send(ReaderUp::Ack(ack)).await.unwrap();
            }
            Ok(ReaderDown::Finished) => panic!("nothing can be taken for good"),
            Ok(_) => {}
            Err(error) => return (got, error.code()),
        }
    }
}

/// Reads the writer's side up to its end: what was told to be stored, and the error.
async fn ends(writer: &mut WriterHalves) -> (Seq, Error) {
    let mut stored = writer.welcome.ack.stored;
    loop {
        match timeout(SOON, writer.down.next()).await.expect("the writer hangs").expect("the end is told") {
            Ok(WriterDown::Ack(ack)) => stored = stored.max(ack.stored),
            Ok(_) => {}
            Err(error) => return (stored, error),
        }
    }
}

/// A broker whose log failed when it was to store the last two of five records.
async fn failed(disk: &RamDisk) -> (Arc<LocalBroker>, WriterHalves) {
    let broker = open(disk);
    let mut writer = write(&broker, 1, None).await;
    writer.up.send(WriterUp::Batch(batch(0, 3, false))).await.unwrap();
    settled(&mut writer, 3).await;
    disk.fail_sync(1);
    writer.up.send(WriterUp::Batch(batch(3, 2, true))).await.unwrap();
    (broker, writer)
}

#[tokio::test]
async fn writers_end_with_the_cause_and_the_count_and_no_sync_is_tried_again() {
    let disk = RamDisk::new();
    let (broker, mut writer) = failed(&disk).await;
    let (stored, error) = ends(&mut writer).await;
    // What was stored before was told before; what failed is told by nobody.
    assert_eq!((stored, error.code()), (Seq(0), Code::Storage));
    assert!(error.text().contains("read-only") && error.text().contains("a sync failed"), "{error}");
    let syncs = disk.syncs();
    let attach = WriterAttach {
        session: SessionId([9; 16]),
        epoch: Epoch(1),
        mode: None,
        resume: None,
        settings: Default::default(),
    };
    assert_eq!(broker.attach_writer(&far(), &pipe_ref(), attach).await.err().unwrap().code(), Code::Storage);
    // One that comes back hears how far it got.
    let mut again = write(&broker, 2, Some(WriterResume::default())).await;
    let (stored, error) = ends(&mut again).await;
    assert_eq!((stored, error.code()), (Seq(3), Code::Storage));
    assert_eq!(broker.remove(&far(), &pipe_ref()).await.unwrap_err().code(), Code::Storage);
    timeout(SOON, broker.close(SOON)).await.unwrap();
    assert_eq!(disk.syncs(), syncs, "a sync was tried again");
    // The count was the truth: these survive.
    let broker = open(&disk);
    let again = write(&broker, 3, Some(WriterResume::default())).await;
    assert!(again.welcome.ack.stored >= Seq(3));
}

#[tokio::test]
async fn readers_get_all_there_is_and_it_is_there_again_at_the_next_start() {
    let disk = RamDisk::new();
    let (broker, mut writer) = failed(&disk).await;
    ends(&mut writer).await;
    // On disk and in memory, as often as somebody asks.
    for session in [READER, SessionId([7; 16])] {
        let attach = crate::broker::ReaderAttach { session, ..reader_attach(1, None) };
        let mut reader = timeout(SOON, broker.attach_reader(&far(), &pipe_ref(), attach)).await.unwrap().unwrap();
        assert_eq!(read_all(&mut reader).await, (vec![0, 1, 2, 3, 4], Code::Storage));
    }
    drop((writer, broker));
    let mut reader = read(&open(&disk), 2, None).await;
    let mut got = Vec::new();
    while got.len() < 3 {
        if let ReaderDown::Batch { from, batch, .. } = next(&mut reader.down).await {
            got.extend(from.0..batch.next().0);
        }
    }
    assert_eq!(got[..3], [0, 1, 2]);
}

#[tokio::test]
async fn readers_that_were_there_end_behind_the_last_byte() {
    let disk = RamDisk::new();
    let broker = open(&disk);
    let mut reader = read(&broker, 1, None).await;
    let mut other = {
        let name = PipeRef::from(&PipeName::new("other").unwrap());
        broker.attach_reader(&far(), &name, reader_attach(1, None)).await.unwrap()
    };
    let mut writer = write(&broker, 1, None).await;
    disk.fail_sync(1);
    // Prompt: it is with the reader before anybody knows of the disk, and its end mark is what needs the log.
    writer.up.send(WriterUp::Batch(batch(0, 2, true))).await.unwrap();
    assert_eq!(read_all(&mut reader).await, (vec![0, 1], Code::Storage));
    assert_eq!(read_all(&mut other).await, (vec![], Code::Storage));
    assert_eq!(ends(&mut writer).await.1.code(), Code::Storage);
}

#[tokio::test]
async fn looking_works_and_says_that_the_log_is_read_only() {
    let disk = RamDisk::new();
    let (broker, mut writer) = failed(&disk).await;
    ends(&mut writer).await;
    assert!(broker.features().read_only && !broker.features().stored);
    let stat = broker.stat(&far(), &pipe_ref()).await.unwrap();
    assert!(stat.read_only && stat.items == 1, "{stat:?}");
    let query = ListQuery { owner: Owner::SELF, pattern: Pattern::parse("**").unwrap(), after: None, limit: 10 };
    let mut listed = broker.list(&far(), query).await.unwrap().pipes;
    // Time goes on from one look to the next.
    listed[0].traffic.counted = stat.traffic.counted;
    assert_eq!(listed, [stat]);
    let attach = crate::broker::ReaderAttach { take: Take::Peek, ..reader_attach(1, None) };
    let mut peek = broker.attach_reader(&far(), &pipe_ref(), attach).await.unwrap();
    let mut seen = 0;
    loop {
        match next(&mut peek.down).await {
            ReaderDown::Batch { batch, .. } => seen += batch.count(),
            ReaderDown::Finished => break,
            _ => {}
        }
    }
    assert_eq!(seen, 5);
}

#[tokio::test]
async fn a_whole_program_is_told_in_one_line() {
    let disk = RamDisk::new();
    let broker = open(&disk);
    let mut writer = pipe(&broker).writer().await.unwrap();
    for record in ["a", "b"] {
        writer.send(record.as_bytes()).await.unwrap();
    }
    while writer.progress().stored < 2 {
        timeout(SOON, writer.ready()).await.unwrap().unwrap();
        tokio::task::yield_now().await;
    }
    disk.fail_sync(1);
    writer.send(b"c").await.unwrap();
    let error = timeout(SOON, writer.end(Until::Stored)).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Storage);
    assert!(error.text().contains("2 of 3 records are known to be stored"), "{error}");
    let mut reader = pipe(&broker).reader().await.unwrap();
    for record in ["a", "b", "c"] {
        assert_eq!(&timeout(SOON, reader.next()).await.unwrap().unwrap().unwrap().body[..], record.as_bytes());
    }
    assert_eq!(timeout(SOON, reader.next()).await.unwrap().unwrap_err().code(), Code::Storage);
    // Nothing of it touches another log.
    let other = LocalBroker::in_memory(Env::system()).unwrap();
    let other = BrokerPipe::new(other, Caller::in_process(), PipeName::new("p").unwrap());
    let mut writer = other.writer().await.unwrap();
    writer.send(b"d").await.unwrap();
    timeout(SOON, writer.end(Until::Stored)).await.unwrap().unwrap();
}

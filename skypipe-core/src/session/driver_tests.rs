//! `Writer` and `Reader` over the toy broker, in paused time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{SinkExt, StreamExt, future};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::toy::host::ToyBroker;
use super::*;
use crate::batch::PIECE_BYTES_MAX;
use crate::broker::{Ack, Mode, WriterAttach, WriterWelcome};
use crate::client::Client;
use crate::env::Env;
use crate::error::{Code, Error};
use crate::event::Event;
use crate::id::Seq;
use crate::pipe::{BrokerPipe, Pipe, ReaderOptions, WriterOptions};

fn pipe_over(broker: &ToyBroker) -> BrokerPipe {
    Client::over(Arc::new(broker.clone())).pipe("logs").expect("a name")
}

fn record(number: usize) -> Vec<u8> {
    format!("line {number} {}\n", "y".repeat(number % 50)).into_bytes()
}

async fn write_all(pipe: &BrokerPipe, count: usize) -> Result<crate::Receipt, Error> {
    let mut writer = pipe.writer().await?;
    for number in 0..count {
        writer.send(&record(number)).await?;
        if number % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    writer.end(Until::Delivered).await
}

async fn read_all(pipe: &BrokerPipe) -> Result<(Vec<Vec<u8>>, Outcome), Error> {
    let mut reader = pipe.reader().await?;
    let mut records = Vec::new();
    while let Some(record) = reader.next().await? {
        records.push(record.body.to_vec());
    }
    Ok((records, reader.outcome()))
}

fn all(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(record).collect()
}

#[tokio::test(start_paused = true)]
async fn each_cut_is_survived_by_the_drivers() {
    let clean = ToyBroker::default();
    let pipe = pipe_over(&clean);
    let (written, read) = tokio::join!(write_all(&pipe, 60), read_all(&pipe));
    assert_eq!(written.expect("written").progress.delivered, 60);
    assert_eq!(read.expect("read").0, all(60));
    let messages = clean.lock().messages;
    assert!(messages > 20);
    for cut in 1..=messages {
        let broker = ToyBroker::default();
        broker.lock().cuts = vec![cut, cut + 7];
        let pipe = pipe_over(&broker);
        let both = async { tokio::join!(write_all(&pipe, 60), read_all(&pipe)) };
        let (written, read) = timeout(Duration::from_secs(60), both).await.unwrap_or_else(|_| panic!("hangs at {cut}"));
        assert_eq!(written.expect("written").progress.delivered, 60, "cut {cut}");
        let (records, outcome) = read.expect("read");
        assert_eq!(records, all(60), "cut {cut}");
        assert!(!outcome.incomplete && !outcome.gap && outcome.records == 60);
    }
}

#[tokio::test(start_paused = true)]
async fn never_connected_gives_up_after_ten_seconds() {
    let broker = ToyBroker::default();
    broker.lock().is_down = true;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = heard.clone();
    let options = WriterOptions::default().on_event(move |event| ears.lock().expect("whole").push(event));
    let start = Instant::now();
    let error = pipe_over(&broker).writer_with(options).await.err().expect("nobody there");
    assert_eq!(error.code(), Code::Unreachable);
    assert_eq!(start.elapsed().as_secs(), 10);
    assert!(matches!(heard.lock().expect("whole")[..], [Event::NotConnected { .. }]));
}

#[tokio::test(start_paused = true)]
async fn lost_for_a_day_gives_up_and_back_in_time_goes_on() {
    let broker = ToyBroker::default();
    let pipe = pipe_over(&broker);
    let (mut writer, reader) = (pipe.writer().await.expect("a writer"), pipe.reader().await.expect("a reader"));
    broker.lock().is_down = true;
    broker.lock().cut();
    writer.send(b"x").await.expect("room");
    tokio::time::sleep(Duration::from_secs(23 * 3600)).await;
    broker.lock().is_down = false;
    timeout(Duration::from_secs(6), writer.settled()).await.expect("within one pause").expect("stored");
    broker.lock().is_down = true;
    broker.lock().cut();
    writer.send(b"y").await.expect("room");
    let start = Instant::now();
    let error = writer.end(Until::Stored).await.expect_err("given up");
    assert_eq!(error.code(), Code::Unknown);
    assert!(error.text().contains("1 of 2 records"), "{error}");
    assert_eq!(start.elapsed().as_secs(), GIVE_UP.as_secs());
    assert_eq!(reader.leave(false).await.expect_err("given up").code(), Code::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final_and_busy_is_not() {
    let broker = ToyBroker::default();
    broker.lock().refusals.extend([Code::Mode]);
    assert_eq!(pipe_over(&broker).writer().await.err().map(|e| e.code()), Some(Code::Mode));
    broker.lock().refusals.extend([Code::Empty]);
    assert_eq!(pipe_over(&broker).reader().await.err().map(|e| e.code()), Some(Code::Empty));
    broker.lock().refusals.extend([Code::Busy, Code::GoingAway]);
    assert!(pipe_over(&broker).writer().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn long_records_are_cut_and_joined() {
    let broker = ToyBroker::default();
    let pipe = pipe_over(&broker);
    let long: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
    let write = async {
        let mut writer = pipe.writer().await?;
        writer.send(b"short").await?;
        writer.send(&long).await?;
        for (index, part) in long.chunks(100_000).enumerate() {
            writer.send_part(part, index == 0, index == 49).await?;
        }
        writer.end(Until::Stored).await
    };
    let (written, read) = tokio::join!(write, read_all(&pipe));
    assert_eq!(written.expect("written").progress.settled, 3);
    let (records, outcome) = read.expect("read");
    assert_eq!(records.len(), 3);
    assert!(records[0] == b"short" && records[1] == long && records[2] == long);
    assert_eq!((outcome.records, outcome.bytes), (3, 10_000_005));
}

#[tokio::test(start_paused = true)]
async fn a_record_over_the_bound_is_an_error() {
    let broker = ToyBroker::default();
    let pipe = pipe_over(&broker);
    let mut writer = pipe.writer().await.expect("a writer");
    writer.send(&vec![0; 2 * PIECE_BYTES_MAX]).await.expect("room");
    let options = ReaderOptions { record_bytes_max: PIECE_BYTES_MAX, ..ReaderOptions::default() };
    let mut reader = pipe.reader_with(options).await.expect("a reader");
    assert_eq!(reader.next().await.expect_err("too long").code(), Code::FrameSize);
}

#[tokio::test(start_paused = true)]
async fn sink_stream_and_bytes() {
    let broker = ToyBroker::default();
    let pipe = pipe_over(&broker);
    let write = async {
        let mut writer = pipe.writer().await?;
        SinkExt::<Vec<u8>>::feed(&mut writer, record(0)).await?;
        SinkExt::send(&mut writer, record(1)).await?;
        let mut io = writer.into_async_write();
        io.write_all(&record(2)).await.expect("written");
        io.flush().await.expect("flushed");
        io.shutdown().await.expect("stored");
        Ok::<_, Error>(())
    };
    let read = async {
        let reader = pipe.reader().await?;
        Ok::<_, Error>(StreamExt::collect::<Vec<_>>(reader).await)
    };
    let (written, read) = tokio::join!(write, read);
    written.expect("written");
    let records: Vec<_> = read.expect("read").into_iter().map(|r| r.expect("whole").body.to_vec()).collect();
    assert_eq!(records, all(3));

    let broker = ToyBroker::default();
    let pipe = pipe_over(&broker);
    let mut bytes = Vec::new();
    let read = async { pipe.reader().await.expect("a reader").read_to_end(&mut bytes).await.expect("read") };
    let (written, _) = tokio::join!(write_all(&pipe, 100), read);
    written.expect("written");
    assert_eq!(bytes, all(100).concat());
}

#[tokio::test(start_paused = true)]
async fn dropped_or_interrupted_the_item_ends_so() {
    let broker = ToyBroker::default();
    let mut writer = pipe_over(&broker).writer().await.expect("a writer");
    writer.send(b"x").await.expect("room");
    writer.settled().await.expect("stored");
    drop(writer);
    tokio::task::yield_now().await;
    assert_eq!(broker.lock().toy.items[0].end, Some(crate::EndKind::Aborted));

    let mut writer = pipe_over(&broker).writer().await.expect("a writer");
    writer.send(b"x").await.expect("room");
    assert_eq!(writer.interrupt(Duration::from_secs(5)).await.expect("stored").progress.settled, 1);
    assert_eq!(broker.lock().toy.items[1].end, Some(crate::EndKind::Interrupted));

    let writer = pipe_over(&broker).writer().await.expect("a writer");
    broker.lock().is_down = true;
    broker.lock().cut();
    let start = Instant::now();
    assert_eq!(writer.interrupt(Duration::from_secs(5)).await.expect_err("no link").code(), Code::Unknown);
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn records_are_acknowledged_when_the_next_is_asked_for() {
    let broker = ToyBroker::default();
    let pipe = pipe_over(&broker);
    let mut writer = pipe.writer().await.expect("a writer");
    for number in 0..3 {
        writer.send(&record(number)).await.expect("room");
    }
    let mut reader = pipe.reader().await.expect("a reader");
    assert!(reader.next().await.expect("one").is_some());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(writer.progress().delivered, 0);
    assert!(reader.next().await.expect("two").is_some());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(writer.progress().delivered, 1);
    reader.ack();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(writer.progress().delivered, 2);
    reader.leave(true).await.expect("left");
}

#[tokio::test(start_paused = true)]
async fn try_send_stops_at_the_window_and_ready_says_when() {
    let broker = ToyBroker::default();
    let options = WriterOptions { window_bytes: 1000, ..WriterOptions::default() };
    let mut writer = pipe_over(&broker).writer_with(options).await.expect("a writer");
    broker.lock().is_down = true;
    broker.lock().cut();
    assert!((0..).take_while(|_| writer.try_send_part(&[0; 100], true, true)).count() < 12);
    assert!(timeout(Duration::from_secs(1), writer.ready()).await.is_err());
    broker.lock().is_down = false;
    writer.ready().await.expect("room");
    assert!(writer.try_send_part(b"x", true, true));
    writer.flush().await.expect("handed over");
    writer.delivered().now_or_never_is_pending();
}

#[tokio::test]
async fn stored_and_live_over_the_embedded_broker() {
    let broker = crate::LocalBroker::in_memory(crate::Env::system()).expect("open");
    let pipe = Client::over(broker).pipe("logs").expect("a name");
    let mut writer = pipe.writer().await.expect("a writer");
    for number in 0..10_000 {
        writer.send(&record(number)).await.expect("room");
    }
    assert_eq!(writer.end(Until::Stored).await.expect("stored").progress.settled, 10_000);
    assert_eq!(read_all(&pipe).await.expect("read").0, all(10_000));

    let (reader, written) = tokio::join!(read_all(&pipe), write_all(&pipe, 100));
    assert_eq!(reader.expect("read").0, all(100));
    assert_eq!(written.expect("written").progress.delivered, 100);
}

/// A link whose relay closed it: writing fails at once, why comes a moment later.
struct ClosedByRelay;

#[async_trait::async_trait]
impl drive::Side for ClosedByRelay {
    type Machine = WriterSession;

    async fn attach(&self, _: WriterAttach) -> Result<drive::Halves<WriterSession>, Error> {
        let broke = || Error::new(Code::Disconnected, "the link broke");
        let why = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Err(Error::new(Code::Storage, "the disk failed"))
        };
        Ok(drive::Halves {
            welcome: WriterWelcome { next: Seq(0), ack: Ack::default(), credit: 1000, readers: 0, mode: Mode::Default },
            up: Box::pin(futures::sink::unfold((), move |(), _| future::err(broke()))),
            down: Box::pin(futures::stream::once(why)),
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_relay_said_last_counts_more_than_a_failed_write() {
    let env = Env::system();
    let mut writer = WriterSession::new(env.session(), WriterWants::default(), env.now());
    assert!(writer.push(b"x", true, true));
    let shared = drive::Shared::new(writer, None, env);
    drive::run(shared.clone(), ClosedByRelay).await;
    assert_eq!(shared.with(|writer| writer.failure().map(|e| e.code())), Some(Code::Storage));
}

trait Pending {
    fn now_or_never_is_pending(self);
}

impl<F: Future> Pending for F {
    fn now_or_never_is_pending(self) {
        assert!(futures::FutureExt::now_or_never(self).is_none());
    }
}

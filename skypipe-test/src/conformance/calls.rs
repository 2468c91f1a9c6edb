//! What a relay and its client say to each other, over a toy broker.

use std::path::Path;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use skypipe_core::wire::SoftwareVersion;
use skypipe_core::wire::constants::PING_BYTES_MAX;
use skypipe_core::{
    Batch, BatchBuilder, Broker, Caller, Code, EndKind, Epoch, LinkStream, ListQuery, Mode, Notice, Owner, Pattern,
    ReaderAttach, ReaderCursor, ReaderDown, ReaderHalves, ReaderUp, Seq, WriterAttach, WriterDown, WriterUp,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::rig::{VERSION, WRITER, reader_attach, writer_attach};
use super::{Ends, Rig, Toy, batch, pipe};

/// So long a case waits for what must come at once.
const SOON: Duration = Duration::from_secs(20);

/// Calls are answered, and refusals come with code and text.
pub async fn calls_and_refusals(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::toy(&make).await;
    let caller = Caller::in_process();
    assert_eq!(rig.remote.stat(&caller, &pipe()).await.unwrap().bytes, 7);
    let query = ListQuery { owner: Owner::SELF, pattern: Pattern::all(), after: None, limit: 1 };
    let page = rig.remote.list(&caller, query).await.unwrap();
    assert!(page.more && page.pipes[0].path.display() == "toy");
    let refused = rig.remote.remove(&caller, &pipe()).await.unwrap_err();
    assert_eq!((refused.code(), refused.text()), (Code::Access, "no such pipe"));
    let queue = WriterAttach { mode: Some(Mode::Queue), ..writer_attach() };
    assert_eq!(rig.remote.attach_writer(&caller, &pipe(), queue).await.err().unwrap().code(), Code::Mode);
    let no_wait = ReaderAttach { no_wait: true, ..reader_attach() };
    assert_eq!(rig.remote.attach_reader(&caller, &pipe(), no_wait).await.err().unwrap().code(), Code::Empty);
    assert!(rig.remote.features().stored && !rig.remote.features().queue);
    let pong = rig.remote.ping(vec![5; PING_BYTES_MAX].into()).await.unwrap();
    assert_eq!(pong.software, VERSION);
    assert_eq!(rig.remote.ping(vec![5; PING_BYTES_MAX + 1].into()).await.unwrap_err().code(), Code::FrameSize);
    assert_eq!(rig.relay.attached(), 0);
}

/// A batch, its acknowledgements, and a reader's.
pub async fn messages_flow_both_ways(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::toy(&make).await;
    let (mut reader, mut writer) = (rig.reader().await, rig.writer().await);
    assert_eq!((writer.welcome.credit, rig.relay.attached()), (1 << 20, 2));
    writer.up.send(WriterUp::Batch(batch(0, 10))).await.unwrap();
    let Some(Ok(ReaderDown::Batch { from, batch: got, .. })) = reader.down.next().await else { panic!("no batch") };
    assert_eq!((from, &got), (Seq(0), &batch(0, 10)));
    let Some(Ok(WriterDown::Ack(ack))) = writer.down.next().await else { panic!("no ack") };
    assert_eq!(ack.settled, Seq(1));
    let taken = ReaderUp::Ack(ReaderCursor { writer: WRITER, next: Seq(1) });
    reader.up.send(taken.clone()).await.unwrap();
    assert_eq!(rig.broker.from_reader().await, Some(taken));
}

/// Eight MiB in order.
pub async fn much_goes_through(make: impl AsyncFn(&Path) -> Ends) {
    all_go_through(make, |number| batch(number, 256 * 1024), 32).await;
}

/// Batches as long as they may be: half a MiB each.
pub async fn batches_of_full_length_go_through(make: impl AsyncFn(&Path) -> Ends) {
    all_go_through(make, full_batch, 8).await;
}

async fn all_go_through(make: impl AsyncFn(&Path) -> Ends, batch: impl Fn(u64) -> Batch, count: u64) {
    let rig = Rig::toy(&make).await;
    let (mut reader, mut writer) = (rig.reader().await, rig.writer().await);
    let sending = async {
        for number in 0..count {
            writer.up.send(WriterUp::Batch(batch(number))).await.unwrap();
        }
    };
    let reading = async {
        for number in 0..count {
            let Some(Ok(ReaderDown::Batch { batch: got, .. })) = reader.down.next().await else { panic!("no batch") };
            assert!(got == batch(number), "another batch came");
        }
    };
    timeout(SOON, async { futures::join!(sending, reading) }).await.unwrap();
}

/// As much as fits into one batch.
fn full_batch(number: u64) -> Batch {
    let mut builder = BatchBuilder::new(WRITER, Epoch(1), Seq(1000 * number));
    let record = vec![number as u8; 1000];
    while builder.fits(record.len()) {
        assert!(builder.push(&record, true, true));
    }
    let batch = builder.build(None);
    assert!(batch.encoded().len() > 250 * 1024, "{} bytes are no full batch", batch.encoded().len());
    batch
}

/// Dropped halves are a broken link to the broker, and only when both are.
pub async fn a_clients_end_is_the_brokers_broken_link(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::toy(&make).await;
    let (reader, writer) = (rig.reader().await, rig.writer().await);
    rig.broker.held(2).await;
    drop(writer);
    timeout(SOON, rig.broker.held(1)).await.unwrap();
    let ReaderHalves { up, down, .. } = reader;
    drop(up);
    assert_eq!(rig.relay.attached(), 1, "one half still holds the attach");
    drop(down);
    timeout(SOON, rig.broker.held(0)).await.unwrap();
    timeout(SOON, rig.relay.idle_for(Duration::from_millis(1))).await.unwrap();
    assert_eq!(rig.relay.attached(), 0);
}

/// Whatever the broker said before its end arrives, then the end.
pub async fn a_stream_ends_with_the_brokers_last_message(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::toy(&make).await;
    let mut reader = rig.reader().await;
    let mut broker = rig.broker.take_reader();
    let end = ReaderDown::ItemEnd { writer: WRITER, kind: EndKind::Aborted, alone: false, next: Seq(9) };
    for message in [end.clone(), ReaderDown::Notice(Notice::HasRoom), ReaderDown::Finished] {
        broker.send(message).await.unwrap();
    }
    drop(broker);
    let seen: Vec<_> = reader.down.by_ref().map(Result::unwrap).collect().await;
    assert_eq!(seen, [end, ReaderDown::Notice(Notice::HasRoom), ReaderDown::Finished]);
}

/// An end without a last message is never taken for one.
pub async fn without_a_last_message_it_is_a_broken_link(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::toy(&make).await;
    let mut reader = rig.reader().await;
    drop(rig.broker.take_reader());
    assert!(reader.down.next().await.unwrap().unwrap_err().is_disconnected());
    assert!(reader.down.next().await.is_none());
}

/// A relay that stops says so to all, once its broker has written down what must be kept.
pub async fn draining_tells_everybody(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::toy(&make).await;
    let (mut reader, mut writer) = (rig.reader().await, rig.writer().await);
    // Its clients hear of it while it waits for their streams to close.
    let relay = rig.relay.clone();
    let draining = tokio::spawn(async move { relay.drain(Duration::from_secs(10)).await });
    assert_eq!(writer.down.next().await.unwrap().unwrap_err().code(), Code::GoingAway);
    assert_eq!(reader.down.next().await.unwrap().unwrap_err().code(), Code::GoingAway);
    assert_eq!(rig.broker.drained(), 1);
    drop((reader, writer));
    timeout(SOON, draining).await.unwrap().unwrap();
    rig.broker.held(0).await;
    let late = timeout(SOON, rig.another().stat(&Caller::in_process(), &pipe())).await.unwrap().unwrap_err();
    assert!(late.is_disconnected(), "{late}");
}

/// A relay makes way for newer programs of its own machine.
pub async fn only_a_newer_program_takes_over(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::toy(&make).await;
    let asks = |minor| rig.another().with_version(SoftwareVersion::new(1, minor, 3));
    for minor in [1, 2] {
        let refused = if rig.is_network().await { Code::Access } else { Code::Version };
        assert_eq!(asks(minor).step_down().await.unwrap_err().code(), refused);
    }
    if rig.is_network().await {
        assert_eq!(asks(3).step_down().await.unwrap_err().code(), Code::Access);
        return;
    }
    asks(3).step_down().await.unwrap();
    rig.relay.step_down_asked().await;
}

/// One stream more than a relay may have is told so.
pub async fn too_many_streams_are_refused(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::serving(Toy::new(), &make, |limits| limits.streams = 1).await;
    let _reader = rig.reader().await;
    assert_eq!(rig.remote.stat(&Caller::in_process(), &pipe()).await.unwrap_err().code(), Code::Busy);
}

/// Who opens a link or a stream and says nothing is dropped soon.
pub async fn who_says_nothing_is_dropped(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::serving(Toy::new(), &make, |limits| limits.handshake = Duration::from_millis(50)).await;
    let link = rig.transport.connect(&rig.url).await.unwrap();
    let LinkStream::Bytes(mut stream) = link.open().await.unwrap() else { return };
    // Half a frame's header: over some links a stream is there only with its first byte.
    stream.write_all(&[9, 0, 0]).await.unwrap();
    let mut said = Vec::new();
    // Whatever the relay says about it, it says no more then.
    let _ = timeout(SOON, stream.read_to_end(&mut said)).await.expect("the stream is closed in time");
}

/// A key that the relay does not know is refused, whatever it asks.
pub async fn a_key_that_is_not_known_gets_nothing(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::toy(&make).await;
    if !rig.is_network().await {
        return;
    }
    let stranger = rig.stranger();
    assert_eq!(stranger.stat(&Caller::in_process(), &pipe()).await.unwrap_err().code(), Code::Access);
    assert_eq!(stranger.ping(vec![5].into()).await.unwrap_err().code(), Code::Access);
    let attach = stranger.attach_reader(&Caller::in_process(), &pipe(), reader_attach()).await;
    assert_eq!(attach.err().unwrap().code(), Code::Access);
}

//! One suite over a toy broker; each transport joins with one line.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use tokio::sync::watch;

use super::*;
use crate::batch::{Batch, BatchBuilder, EndKind};
use crate::broker::{
    Ack, DownStream, Features, ListPage, ListQuery, Mode, Notice, PipeStat, ReaderAttach, ReaderCursor, ReaderDown,
    ReaderHalves, ReaderUp, Take, WriterAttach, WriterDown, WriterHalves, WriterUp, WriterWelcome,
};
use crate::error::Code;
use crate::id::{Epoch, Position, Seq, SessionId};
use crate::local_socket::{LocalSocketListener, LocalSocketTransport};
use crate::mem::{MemListener, MemTransport};
use crate::name::{Owner, Pattern, PipeName, PipeRef};
use crate::remote::RemoteBroker;
use crate::transport::Transport;
use crate::wire::constants::PING_BYTES_MAX;

/// One pipe: what its one writer sends goes to its one reader, and each acknowledges at once.
struct Toy {
    to_reader: std::sync::Mutex<Option<mpsc::Sender<ReaderDown>>>,
    from_reader: tokio::sync::Mutex<mpsc::Receiver<ReaderUp>>,
    reader_up: mpsc::Sender<ReaderUp>,
    /// Attaches whose halves are not dropped yet.
    held: watch::Sender<usize>,
    drained: AtomicUsize,
}

impl Toy {
    fn new() -> Arc<Self> {
        let (reader_up, from_reader) = mpsc::channel(16);
        Arc::new(Self {
            to_reader: std::sync::Mutex::default(),
            from_reader: tokio::sync::Mutex::new(from_reader),
            reader_up,
            held: watch::Sender::new(0),
            drained: AtomicUsize::new(0),
        })
    }

    fn hold(&self) -> Held {
        self.held.send_modify(|count| *count += 1);
        Held(self.held.clone())
    }

    /// Waits until the halves of so many attaches are left.
    async fn held(&self, count: usize) {
        self.held.subscribe().wait_for(|held| *held == count).await.unwrap();
    }
}

struct Held(watch::Sender<usize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Gives what comes over the channel, and holds its attach meanwhile.
fn down<T: Send + 'static>(receiver: mpsc::Receiver<T>, held: Held) -> DownStream<T> {
    Box::pin(receiver.map(move |message| {
        let _ = &held;
        Ok(message)
    }))
}

fn gone<T>(_: T) -> Error {
    Error::new(Code::Disconnected, "the toy is gone")
}

#[async_trait]
impl Broker for Toy {
    fn features(&self) -> Features {
        Features { stored: true, ..Features::default() }
    }

    async fn attach_writer(&self, _: &Caller, _: &PipeRef, attach: WriterAttach) -> Result<WriterHalves, Error> {
        if attach.mode == Some(Mode::Queue) {
            return Err(Error::new(Code::Mode, "the toy has no queues"));
        }
        let (mut acks, receiver) = mpsc::channel(64);
        let reader = self.to_reader.lock().unwrap().clone();
        let welcome = WriterWelcome { next: Seq(0), ack: Ack::default(), credit: 1 << 20, readers: 1 };
        let up = futures::sink::unfold(reader, move |mut reader, message| {
            let WriterUp::Batch(batch) = message else { unreachable!("the tests send batches") };
            let next = batch.next();
            let sent = acks.try_send(WriterDown::Ack(Ack { settled: next, ..Ack::default() })).map_err(gone);
            async move {
                let down =
                    ReaderDown::Batch { from: batch.first(), position: Position(Bytes::from_static(b"p")), batch };
                if let Some(reader) = &mut reader {
                    reader.send(down).await.map_err(gone)?;
                }
                sent.map(|()| reader)
            }
        });
        Ok(WriterHalves { welcome, up: Box::pin(up), down: down(receiver, self.hold()) })
    }

    async fn attach_reader(&self, _: &Caller, _: &PipeRef, attach: ReaderAttach) -> Result<ReaderHalves, Error> {
        if attach.no_wait {
            return Err(Error::new(Code::Empty, "nothing there"));
        }
        let (sender, receiver) = mpsc::channel(4);
        *self.to_reader.lock().unwrap() = Some(sender);
        Ok(ReaderHalves { up: Box::pin(self.reader_up.clone().sink_map_err(gone)), down: down(receiver, self.hold()) })
    }

    async fn list(&self, _: &Caller, query: ListQuery) -> Result<ListPage, Error> {
        let pipes = vec![PipeStat::empty(PipeName::new("toy").unwrap().path(), Mode::Default)];
        Ok(ListPage { pipes, more: query.limit == 1 })
    }

    async fn stat(&self, _: &Caller, pipe: &PipeRef) -> Result<PipeStat, Error> {
        Ok(PipeStat { bytes: 7, ..PipeStat::empty(pipe.path.clone(), Mode::Default) })
    }

    async fn remove(&self, _: &Caller, _: &PipeRef) -> Result<(), Error> {
        Err(Error::new(Code::Access, "no such pipe"))
    }

    async fn drain(&self) {
        self.drained.fetch_add(1, Ordering::SeqCst);
    }
}

/// A toy behind a relay behind a link.
struct Rig {
    toy: Arc<Toy>,
    relay: Relay,
    remote: RemoteBroker,
    transport: Arc<dyn Transport>,
    url: String,
    _folder: tempfile::TempDir,
}

/// A listener in this folder and the transport that reaches it.
type Make = fn(&std::path::Path) -> (Box<dyn Listener>, Arc<dyn Transport>);

fn mem(folder: &std::path::Path) -> (Box<dyn Listener>, Arc<dyn Transport>) {
    (Box::new(MemListener::bind(&folder.display().to_string()).unwrap()), Arc::new(MemTransport))
}

fn unix(folder: &std::path::Path) -> (Box<dyn Listener>, Arc<dyn Transport>) {
    (Box::new(LocalSocketListener::bind(folder.join("s")).unwrap()), Arc::new(LocalSocketTransport))
}

impl Rig {
    fn new(make: Make) -> Self {
        Self::with_limits(make, RelayLimits::default())
    }

    fn with_limits(make: Make, limits: RelayLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (listener, transport) = make(folder.path());
        let (url, toy) = (listener.url(), Toy::new());
        let relay =
            Relay::new(toy.clone()).with_limits(limits).with_version(SoftwareVersion::new(1, 2, 3)).listen(listener);
        let serving = relay.clone();
        tokio::spawn(async move { serving.serve().await });
        let remote = RemoteBroker::new(transport.clone(), &url);
        Self { toy, relay, remote, transport, url, _folder: folder }
    }

    async fn reader(&self) -> ReaderHalves {
        self.remote.attach_reader(&Caller::in_process(), &pipe(), reader_attach()).await.unwrap()
    }

    async fn writer(&self) -> WriterHalves {
        self.remote.attach_writer(&Caller::in_process(), &pipe(), writer_attach()).await.unwrap()
    }
}

fn pipe() -> PipeRef {
    PipeRef::from(&PipeName::new("logs/web").unwrap())
}

fn writer_attach() -> WriterAttach {
    WriterAttach { session: SessionId([1; 16]), epoch: Epoch(1), mode: None, resume: None }
}

fn reader_attach() -> ReaderAttach {
    ReaderAttach {
        session: SessionId([2; 16]),
        epoch: Epoch(1),
        mode: None,
        take: Take::Any,
        keep: false,
        no_wait: false,
        credit: 1 << 20,
        mid_record: false,
        resume: None,
    }
}

fn batch(first: u64, bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new(SessionId([1; 16]), Epoch(1), Seq(first));
    assert!(builder.push(&vec![first as u8; bytes], true, true));
    builder.build(None)
}

async fn calls_and_refusals(make: Make) {
    let rig = Rig::new(make);
    let caller = Caller::in_process();
    assert_eq!(rig.remote.stat(&caller, &pipe()).await.unwrap().bytes, 7);
    let page = rig
        .remote
        .list(&caller, ListQuery { owner: Owner::SELF, pattern: Pattern::all(), after: None, limit: 1 })
        .await
        .unwrap();
    assert!(page.more && page.pipes[0].path.display() == "toy");
    let refused = rig.remote.remove(&caller, &pipe()).await.unwrap_err();
    assert_eq!((refused.code(), refused.text()), (Code::Access, "no such pipe"));
    let queue = WriterAttach { mode: Some(Mode::Queue), ..writer_attach() };
    assert_eq!(rig.remote.attach_writer(&caller, &pipe(), queue).await.err().unwrap().code(), Code::Mode);
    let no_wait = ReaderAttach { no_wait: true, ..reader_attach() };
    assert_eq!(rig.remote.attach_reader(&caller, &pipe(), no_wait).await.err().unwrap().code(), Code::Empty);
    assert!(rig.remote.features().stored && !rig.remote.features().queue);
    let pong = rig.remote.ping(vec![5; PING_BYTES_MAX].into()).await.unwrap();
    assert_eq!(pong.software, SoftwareVersion::new(1, 2, 3));
    assert_eq!(rig.remote.ping(vec![5; PING_BYTES_MAX + 1].into()).await.unwrap_err().code(), Code::FrameSize);
    assert_eq!(rig.relay.attached(), 0);
}

async fn messages_flow_both_ways(make: Make) {
    let rig = Rig::new(make);
    let (mut reader, mut writer) = (rig.reader().await, rig.writer().await);
    assert_eq!((writer.welcome.credit, rig.relay.attached()), (1 << 20, 2));
    writer.up.send(WriterUp::Batch(batch(0, 10))).await.unwrap();
    let Some(Ok(ReaderDown::Batch { from, batch: got, .. })) = reader.down.next().await else { panic!("no batch") };
    assert_eq!((from, &got), (Seq(0), &batch(0, 10)));
    let Some(Ok(WriterDown::Ack(ack))) = writer.down.next().await else { panic!("no ack") };
    assert_eq!(ack.settled, Seq(1));
    let taken = ReaderUp::Ack(ReaderCursor { writer: SessionId([1; 16]), next: Seq(1) });
    reader.up.send(taken.clone()).await.unwrap();
    assert_eq!(rig.toy.from_reader.lock().await.next().await, Some(taken));
}

async fn much_goes_through(make: Make) {
    let rig = Rig::new(make);
    let (mut reader, mut writer) = (rig.reader().await, rig.writer().await);
    let sending = async {
        for number in 0..32 {
            writer.up.send(WriterUp::Batch(batch(number, 256 * 1024))).await.unwrap();
        }
    };
    let reading = async {
        for number in 0..32 {
            let Some(Ok(ReaderDown::Batch { batch: got, .. })) = reader.down.next().await else { panic!("no batch") };
            assert_eq!(got, batch(number, 256 * 1024));
        }
    };
    futures::join!(sending, reading);
}

async fn a_clients_end_is_the_brokers_broken_link(make: Make) {
    let rig = Rig::new(make);
    let (reader, writer) = (rig.reader().await, rig.writer().await);
    rig.toy.held(2).await;
    drop(writer);
    rig.toy.held(1).await;
    let ReaderHalves { up, down } = reader;
    drop(up);
    assert_eq!(rig.relay.attached(), 1, "one half still holds the attach");
    drop(down);
    rig.toy.held(0).await;
    rig.relay.idle_for(Duration::from_millis(1)).await;
    assert_eq!(rig.relay.attached(), 0);
}

async fn a_stream_ends_with_the_brokers_last_message(make: Make) {
    let rig = Rig::new(make);
    let mut reader = rig.reader().await;
    let mut broker = rig.toy.to_reader.lock().unwrap().take().unwrap();
    let end = ReaderDown::ItemEnd { writer: SessionId([1; 16]), kind: EndKind::Aborted, alone: false, next: Seq(9) };
    for message in [end.clone(), ReaderDown::Notice(Notice::HasRoom), ReaderDown::Finished] {
        broker.send(message).await.unwrap();
    }
    drop(broker);
    let seen: Vec<_> = reader.down.by_ref().map(Result::unwrap).collect().await;
    assert_eq!(seen, [end, ReaderDown::Notice(Notice::HasRoom), ReaderDown::Finished]);
}

async fn without_a_last_message_it_is_a_broken_link(make: Make) {
    let rig = Rig::new(make);
    let mut reader = rig.reader().await;
    rig.toy.to_reader.lock().unwrap().take();
    assert!(reader.down.next().await.unwrap().unwrap_err().is_disconnected());
    assert!(reader.down.next().await.is_none());
}

async fn draining_tells_everybody(make: Make) {
    let rig = Rig::new(make);
    let (mut reader, mut writer) = (rig.reader().await, rig.writer().await);
    rig.relay.drain(Duration::from_secs(10)).await;
    assert_eq!(rig.toy.drained.load(Ordering::SeqCst), 1);
    assert_eq!(writer.down.next().await.unwrap().unwrap_err().code(), Code::GoingAway);
    assert_eq!(reader.down.next().await.unwrap().unwrap_err().code(), Code::GoingAway);
    rig.toy.held(0).await;
    let late = rig.remote.stat(&Caller::in_process(), &pipe()).await.unwrap_err();
    assert!(late.is_disconnected(), "{late}");
}

async fn only_a_newer_program_takes_over(make: Make) {
    let rig = Rig::new(make);
    let asks =
        |minor| RemoteBroker::new(rig.transport.clone(), &rig.url).with_version(SoftwareVersion::new(1, minor, 3));
    for minor in [1, 2] {
        assert_eq!(asks(minor).step_down().await.unwrap_err().code(), Code::Version);
    }
    asks(3).step_down().await.unwrap();
    rig.relay.step_down_asked().await;
}

async fn too_many_streams_are_refused(make: Make) {
    let rig = Rig::with_limits(make, RelayLimits { streams: 1, ..RelayLimits::default() });
    let _reader = rig.reader().await;
    assert_eq!(rig.remote.stat(&Caller::in_process(), &pipe()).await.unwrap_err().code(), Code::Busy);
}

async fn who_says_nothing_is_dropped(make: Make) {
    let rig = Rig::new(make);
    let link = rig.transport.connect(&rig.url).await.unwrap();
    let (_sink, mut source) = crate::wire::carry(link.open().await.unwrap());
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let hello = crate::remote::next::<crate::wire::Hello>(&mut source).await.unwrap();
    assert!(hello.is_some() && start.elapsed() >= RelayLimits::default().handshake);
    assert_eq!(crate::remote::next::<crate::wire::Answer>(&mut source).await.unwrap_err().code(), Code::Timeout);
    assert!(source.next().await.is_none());
}

macro_rules! suite {
    ($make:ident: $($case:ident)*) => {
        mod $make {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::$make).await;
            })*
        }
    };
    ($($make:ident)*) => { $(suite!($make:
        calls_and_refusals messages_flow_both_ways much_goes_through a_clients_end_is_the_brokers_broken_link
        a_stream_ends_with_the_brokers_last_message without_a_last_message_it_is_a_broken_link
        draining_tells_everybody only_a_newer_program_takes_over too_many_streams_are_refused who_says_nothing_is_dropped
    );)* };
}

suite!(mem unix);

#[tokio::test]
async fn over_mem_a_batch_is_the_same_memory_at_both_ends() {
    let rig = Rig::new(mem);
    let (mut reader, mut writer) = (rig.reader().await, rig.writer().await);
    let sent = batch(0, 1000);
    writer.up.send(WriterUp::Batch(sent.clone())).await.unwrap();
    let Some(Ok(ReaderDown::Batch { batch: got, .. })) = reader.down.next().await else { panic!("no batch") };
    assert_eq!(got.bodies().as_ptr(), sent.bodies().as_ptr());
}

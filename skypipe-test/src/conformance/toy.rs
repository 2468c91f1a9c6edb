//! A broker of which each message can be foretold.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use skypipe_core::{
    Ack, Broker, Caller, Code, DownStream, Error, Features, ListPage, ListQuery, Mode, PipeName, PipeRef, PipeStat,
    Position, ReaderAttach, ReaderDown, ReaderHalves, ReaderUp, ReaderWelcome, Seq, WriterAttach, WriterDown,
    WriterHalves, WriterUp, WriterWelcome,
};
use tokio::sync::watch;

/// Messages from the writer to the reader that wait; the writer is held up behind them.
const WAITING_MAX: usize = 4;
/// Acknowledgements that wait for their client; more than any case has.
const ACKS_MAX: usize = 64;

/// One pipe: what its one writer sends goes to its one reader, and each acknowledges at once.
pub struct Toy {
    to_reader: Mutex<Option<mpsc::Sender<ReaderDown>>>,
    from_reader: tokio::sync::Mutex<mpsc::Receiver<ReaderUp>>,
    reader_up: mpsc::Sender<ReaderUp>,
    /// Attaches whose halves are not dropped yet.
    held: watch::Sender<usize>,
    drained: AtomicUsize,
}

impl Toy {
    /// A toy nobody plays with yet.
    pub fn new() -> Arc<Self> {
        let (reader_up, from_reader) = mpsc::channel(ACKS_MAX);
        Arc::new(Self {
            to_reader: Mutex::default(),
            from_reader: tokio::sync::Mutex::new(from_reader),
            reader_up,
            held: watch::Sender::new(0),
            drained: AtomicUsize::new(0),
        })
    }

    /// Waits until the halves of so many attaches are left.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    pub async fn held(&self, count: usize) {
        self.held.subscribe().wait_for(|held| *held == count).await.unwrap();
    }

    /// Takes the way to the reader: the reader's stream ends when it is dropped.
    pub fn take_reader(&self) -> mpsc::Sender<ReaderDown> {
        self.to_reader.lock().unwrap().take().expect("a reader is attached")
    }

    /// The next message that the reader sent.
    ///
    /// # Cancel safety
    /// A dropped call loses no message.
    pub async fn from_reader(&self) -> Option<ReaderUp> {
        self.from_reader.lock().await.next().await
    }

    /// How often it was drained.
    pub fn drained(&self) -> usize {
        self.drained.load(Ordering::SeqCst)
    }

    fn hold(&self) -> Held {
        self.held.send_modify(|count| *count += 1);
        Held(self.held.clone())
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
        let mut features = Features::default();
        features.stored = true;
        features
    }

    async fn attach_writer(&self, _: &Caller, _: &PipeRef, attach: WriterAttach) -> Result<WriterHalves, Error> {
        if attach.mode == Some(Mode::Queue) {
            return Err(Error::new(Code::Mode, "the toy has no queues"));
        }
        let (mut acks, receiver) = mpsc::channel(ACKS_MAX);
        let reader = self.to_reader.lock().unwrap().clone();
        let welcome =
            WriterWelcome { next: Seq(0), ack: Ack::default(), credit: 1 << 20, readers: 1, mode: Mode::Default };
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
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        *self.to_reader.lock().unwrap() = Some(sender);
        let welcome = ReaderWelcome::default();
        Ok(ReaderHalves {
            welcome,
            up: Box::pin(self.reader_up.clone().sink_map_err(gone)),
            down: down(receiver, self.hold()),
        })
    }

    async fn list(&self, _: &Caller, query: ListQuery) -> Result<ListPage, Error> {
        let pipes = vec![PipeStat::empty(PipeName::new("toy")?.path(), Mode::Default)];
        Ok(ListPage { pipes, more: query.limit == 1 })
    }

    async fn stat(&self, _: &Caller, pipe: &PipeRef) -> Result<PipeStat, Error> {
        let mut stat = PipeStat::empty(pipe.path.clone(), Mode::Default);
        stat.bytes = 7;
        Ok(stat)
    }

    async fn remove(&self, _: &Caller, _: &PipeRef) -> Result<(), Error> {
        Err(Error::new(Code::Access, "no such pipe"))
    }

    async fn drain(&self) {
        self.drained.fetch_add(1, Ordering::SeqCst);
    }
}

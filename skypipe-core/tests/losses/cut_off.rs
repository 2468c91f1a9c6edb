//! An item whose arrival is cut off, at every place: its reader never takes it for a whole one.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use skypipe_core::session::Patience;
use skypipe_core::wire::constants::kind;
use skypipe_core::{
    BrokerPipe, Caller, Code, Env, Error, Link, LinkStream, Listener, LocalBroker, Peer, Pipe as _, PipeName,
    ReaderOptions, Relay, RemoteBroker, Transport, Until,
};
use skypipe_test::proof::{Proof, cases, seed};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

use crate::dice::Dice;

/// What a stream holds at most; more than any of the arrivals here.
const STREAM_BYTES: usize = 1 << 20;
/// Records of the item: enough for many batches, one of them of several pieces.
const RECORDS: u64 = 60;
/// A batch that holds nothing but the end mark is shorter than this, and any other here is longer.
const END_MARK_BYTES_MAX: usize = 120;
/// In front of each frame's payload: its length in four bytes, then what it is.
const FRAME_HEADER_BYTES: usize = 8;

fn record(n: u64) -> Vec<u8> {
    let length = if n == 30 { 600 * 1024 } else { 20 + n * 37 % 900 };
    vec![n as u8; length as usize]
}

/// Links in memory that carry bytes. What comes down is remembered.
struct Recording {
    relay: mpsc::Sender<Box<dyn Link>>,
    came: Arc<Mutex<Vec<u8>>>,
}

/// A link of one stream each.
struct Near {
    far: mpsc::Sender<DuplexStream>,
    came: Arc<Mutex<Vec<u8>>>,
}

struct Far(tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>);

#[async_trait]
impl Transport for Recording {
    async fn connect(&self, _: &str) -> Result<Box<dyn Link>, Error> {
        let (far, streams) = mpsc::channel(1);
        self.relay.send(Box::new(Far(tokio::sync::Mutex::new(streams)))).await.map_err(|_| nobody())?;
        Ok(Box::new(Near { far, came: self.came.clone() }))
    }
}

#[async_trait]
impl Link for Near {
    async fn open(&self) -> Result<LinkStream, Error> {
        let (near, far) = tokio::io::duplex(STREAM_BYTES);
        self.far.send(far).await.map_err(|_| nobody())?;
        Ok(LinkStream::bytes(Tap { stream: near, came: self.came.clone() }))
    }
    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        std::future::pending().await
    }
    fn peer(&self) -> Peer {
        Peer::InProcess
    }
    fn path(&self) -> String {
        "memory".to_owned()
    }
}

#[async_trait]
impl Link for Far {
    async fn open(&self) -> Result<LinkStream, Error> {
        Err(nobody())
    }
    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        Ok(self.0.lock().await.recv().await.map(LinkStream::bytes))
    }
    fn peer(&self) -> Peer {
        Peer::InProcess
    }
    fn path(&self) -> String {
        "memory".to_owned()
    }
}

struct Links(tokio::sync::Mutex<mpsc::Receiver<Box<dyn Link>>>);

#[async_trait]
impl Listener for Links {
    async fn accept(&self) -> Result<Box<dyn Link>, Error> {
        self.0.lock().await.recv().await.ok_or_else(nobody)
    }
    fn url(&self) -> String {
        "memory:".to_owned()
    }
}

fn nobody() -> Error {
    Error::new(Code::Unreachable, "nobody is there any more")
}

/// Remembers what is read.
struct Tap {
    stream: DuplexStream,
    came: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.came.lock().unwrap().extend_from_slice(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A relay that says these bytes once, whatever it hears, and is never seen again.
struct Replayed(Mutex<Option<Vec<u8>>>);

#[async_trait]
impl Transport for Replayed {
    async fn connect(&self, _: &str) -> Result<Box<dyn Link>, Error> {
        let says = self.0.lock().unwrap().take().ok_or_else(nobody)?;
        Ok(Box::new(Last(Mutex::new(Some(says)))))
    }
}

struct Last(Mutex<Option<Vec<u8>>>);

#[async_trait]
impl Link for Last {
    async fn open(&self) -> Result<LinkStream, Error> {
        let says = self.0.lock().unwrap().take().ok_or_else(nobody)?;
        Ok(LinkStream::bytes(tokio::io::join(io::Cursor::new(says), tokio::io::sink())))
    }
    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        std::future::pending().await
    }
    fn peer(&self) -> Peer {
        Peer::InProcess
    }
    fn path(&self) -> String {
        "memory".to_owned()
    }
}

/// All that a relay says to the reader of one stored item.
async fn arrival() -> Vec<u8> {
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let mut writer =
        BrokerPipe::new(broker.clone(), Caller::in_process(), PipeName::new("p").unwrap()).writer().await.unwrap();
    for n in 0..RECORDS {
        writer.send(&record(n)).await.unwrap();
        // Small batches: more borders to cut at.
        writer.flush().await.unwrap();
    }
    writer.end(Until::Stored).await.unwrap();
    let (relay_side, links) = mpsc::channel(1);
    let relay = Relay::new(broker).listen(Box::new(Links(tokio::sync::Mutex::new(links))));
    let serving = tokio::spawn(async move { relay.serve().await });
    let came = Arc::new(Mutex::new(Vec::new()));
    let outcome = read(Arc::new(Recording { relay: relay_side, came: came.clone() })).await;
    serving.abort();
    assert_eq!(outcome.unwrap(), RECORDS, "the whole of it is a whole one");
    let came = came.lock().unwrap();
    came.clone()
}

/// Reads a whole item; gives how many records there were.
async fn read(transport: Arc<dyn Transport>) -> Result<u64, Error> {
    let broker = Arc::new(RemoteBroker::new(transport, "memory:"));
    let pipe = BrokerPipe::new(broker, Caller::in_process(), PipeName::new("p").unwrap());
    let mut options = ReaderOptions::default();
    let short = Duration::from_millis(50);
    options.patience = Patience { connect_timeout: short, give_up: short };
    let mut reader = pipe.reader_with(options).await?;
    let mut count = 0;
    while let Some(record_came) = reader.next().await? {
        assert_eq!(record_came.body, record(count));
        count += 1;
    }
    assert!(!reader.outcome().gap && !reader.outcome().incomplete);
    Ok(count)
}

/// The frames of an arrival, as the places where they begin and end.
fn frames(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        frames.push(at..at + FRAME_HEADER_BYTES + length);
        at += FRAME_HEADER_BYTES + length;
    }
    assert_eq!(at, bytes.len());
    frames
}

#[tokio::test(start_paused = true)]
async fn proof_a_cut_off_item_is_never_a_whole_one() {
    let whole = {
        // A log has a thread of its own, which a paused clock would overtake.
        tokio::time::resume();
        let whole = arrival().await;
        tokio::time::pause();
        whole
    };
    let frames = frames(&whole);
    let is_batch = |frame: &std::ops::Range<usize>| whole[frame.start + 4] == kind::READER_BATCH;
    let batches: Vec<usize> = (0..frames.len()).filter(|at| is_batch(&frames[*at])).collect();
    assert!(batches.len() > 20, "{} batches", batches.len());
    let proof = Proof::begin("P3", "arrivals cut off");
    let (mut tried, mut failures) = (0, Vec::new());
    let mut check = async |what: String, bytes: Vec<u8>| {
        tried += 1;
        if let Ok(count) = read(Arc::new(Replayed(Mutex::new(Some(bytes))))).await {
            failures.push(format!("{what}: taken for whole with {count} records"));
        }
    };
    // The link ends at every border between two frames, and anywhere.
    for frame in &frames {
        check(format!("cut before byte {}", frame.start), whole[..frame.start].to_vec()).await;
    }
    let mut dice = Dice(seed());
    for _ in 0..cases(200, 10_000, 1_000_000) {
        let at = dice.below(whole.len() as u64) as usize;
        check(format!("cut behind byte {at}"), whole[..at].to_vec()).await;
    }
    // The link stays, and a relay that lost a part says that the item has ended: from every batch on, and single ones. Not the first one: a reader
    // that never heard of a beginning has joined behind it.
    for (nth, first) in batches.iter().enumerate().skip(1) {
        for last in [batches.len() - 1, nth] {
            let lost = frames[*first].start..frames[batches[last]].end;
            let bytes = [&whole[..lost.start], &whole[lost.end..]].concat();
            // The end mark may travel alone, and the relay says it as well: then no record is lost.
            if first == batches.last().unwrap() && lost.len() < END_MARK_BYTES_MAX {
                continue;
            }
            check(format!("without the bytes {lost:?}"), bytes).await;
        }
    }
    proof.end(tried, &failures);
}

//! What a link owes by itself: streams of bytes, without a relay.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use skypipe_core::{ByteStream, Link, LinkStream, Listener, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Ends;
use super::ends::made;

/// So long a case waits for what must come at once.
const SOON: Duration = Duration::from_secs(20);
/// Streams that wait to be taken.
const STREAMS_MAX: usize = 128;

/// A client's link, and the streams that come out of it on the other side.
struct Wire {
    link: Box<dyn Link>,
    accepted: mpsc::Receiver<LinkStream>,
    _folder: tempfile::TempDir,
}

type Stream = Box<dyn ByteStream>;

impl Wire {
    /// None where streams are no bytes.
    async fn new(make: impl AsyncFn(&Path) -> Ends) -> Option<Self> {
        let (folder, Ends { listener, transport }) = made(&make).await;
        let (url, (send, accepted)) = (listener.url(), mpsc::channel(STREAMS_MAX));
        tokio::spawn(accept_links(listener.into(), send));
        let link = timeout(SOON, transport.connect(&url)).await.unwrap().unwrap();
        let mut wire = Self { link, accepted, _folder: folder };
        // The first stream shows what kind they are; the link's other end knows by now that its peer was admitted.
        let (mut near, mut far) = wire.open().await?;
        end(&mut near).await;
        end(&mut far).await;
        Some(wire)
    }

    /// Both ends of a new stream, over which a byte has gone up.
    async fn open(&mut self) -> Option<(Stream, Stream)> {
        let LinkStream::Bytes(mut near) = timeout(SOON, self.link.open()).await.unwrap().unwrap() else { return None };
        // Over some links a stream is there only with its first byte.
        near.write_all(&[0]).await.unwrap();
        near.flush().await.unwrap();
        let far = timeout(SOON, self.accepted.recv()).await.expect("the stream comes out").expect("the link stands");
        let LinkStream::Bytes(mut far) = far else { panic!("bytes at one end alone") };
        assert_eq!(far.read_u8().await.unwrap(), 0);
        Some((near, far))
    }

    fn is_network(&self) -> bool {
        matches!(self.link.peer(), Peer::Network(_))
    }
}

/// Passes on all streams of all links. The links stay as long as there are streams to come.
async fn accept_links(listener: Arc<dyn Listener>, streams: mpsc::Sender<LinkStream>) {
    while let Ok(link) = listener.accept().await {
        link.admitted();
        let streams = streams.clone();
        tokio::spawn(async move {
            while let Ok(Some(stream)) = link.accept().await {
                if streams.send(stream).await.is_err() {
                    return;
                }
            }
            // A local socket's link has one stream only, which outlives it.
            std::future::pending::<()>().await;
        });
    }
}

async fn end(stream: &mut Stream) {
    stream.shutdown().await.unwrap();
}

async fn rest_of(stream: &mut Stream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("the stream ends").map(|_| bytes)
}

/// Sends `bytes` and ends; the other side gives them back and ends.
async fn echo((mut near, mut far): (Stream, Stream), bytes: Vec<u8>) {
    let there = async {
        near.write_all(&bytes).await.unwrap();
        end(&mut near).await;
        rest_of(&mut near).await.unwrap()
    };
    let back = async {
        let got = rest_of(&mut far).await.unwrap();
        far.write_all(&got).await.unwrap();
        end(&mut far).await;
    };
    let (got, ()) = timeout(SOON, async { futures::join!(there, back) }).await.unwrap();
    assert!(got == bytes, "{} bytes came back of {}", got.len(), bytes.len());
}

/// What a stream took of the link's limits is given back.
pub async fn a_thousand_streams_one_after_the_other(make: impl AsyncFn(&Path) -> Ends) {
    let Some(mut wire) = Wire::new(make).await else { return };
    for number in 0..1000_u32 {
        let ends = wire.open().await.unwrap();
        echo(ends, number.to_be_bytes().to_vec()).await;
    }
}

/// Many streams at once, each with more than one buffer holds.
pub async fn sixty_four_streams_at_once(make: impl AsyncFn(&Path) -> Ends) {
    let Some(mut wire) = Wire::new(make).await else { return };
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(wire.open().await.unwrap());
    }
    let echoes = streams.into_iter().enumerate().map(|(n, ends)| echo(ends, vec![n as u8; 256 * 1024 + n]));
    join_all(echoes).await;
}

/// The end of one direction arrives as an end, and the other direction goes on.
pub async fn one_direction_ends_before_the_other(make: impl AsyncFn(&Path) -> Ends) {
    let Some(mut wire) = Wire::new(make).await else { return };
    let (mut near, mut far) = wire.open().await.unwrap();
    near.write_all(b"question").await.unwrap();
    end(&mut near).await;
    assert_eq!(rest_of(&mut far).await.unwrap(), b"question");
    for _ in 0..3 {
        far.write_all(b"answer").await.unwrap();
        far.flush().await.unwrap();
        let mut answer = [0; 6];
        timeout(SOON, near.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"answer");
    }
    end(&mut far).await;
    assert!(rest_of(&mut near).await.unwrap().is_empty());
}

/// Between machines, a stream that was dropped before what was written to it was flushed is an error at the other side. (A local
/// socket has no such word: there the frames say what is missing. What was flushed before the drop may arrive and then end, since
/// what an end means is said by the last frame.)
pub async fn a_stream_dropped_in_a_write_is_no_end(make: impl AsyncFn(&Path) -> Ends) {
    let Some(mut wire) = Wire::new(make).await else { return };
    if !wire.is_network() {
        return;
    }
    for dropped_near in [true, false] {
        let (near, far) = wire.open().await.unwrap();
        let (mut dropped, mut left) = if dropped_near { (near, far) } else { (far, near) };
        dropped.write_all(b"half a").await.unwrap();
        drop(dropped);
        assert!(rest_of(&mut left).await.is_err(), "dropped near: {dropped_near}");
    }
    let ends = wire.open().await.unwrap();
    echo(ends, b"the link lives".to_vec()).await;
}

/// What was flushed arrives, though the stream is dropped right after: so the last acknowledgement of a process that ends.
pub async fn what_was_flushed_arrives(make: impl AsyncFn(&Path) -> Ends) {
    let Some(mut wire) = Wire::new(make).await else { return };
    for dropped_near in [true, false] {
        let (near, far) = wire.open().await.unwrap();
        let (mut dropped, mut left) = if dropped_near { (near, far) } else { (far, near) };
        dropped.write_all(b"last words").await.unwrap();
        dropped.flush().await.unwrap();
        drop(dropped);
        let mut words = [0; 10];
        timeout(SOON, left.read_exact(&mut words)).await.unwrap().unwrap();
        assert_eq!(&words, b"last words");
    }
}

/// What was said before a stream was ended and dropped arrives, however late it is read.
pub async fn last_words_arrive(make: impl AsyncFn(&Path) -> Ends) {
    let Some(mut wire) = Wire::new(make).await else { return };
    for length in [0, 1, 1000, 100_000] {
        let (mut near, mut far) = wire.open().await.unwrap();
        far.write_all(&vec![7; length]).await.unwrap();
        end(&mut far).await;
        drop(far);
        // A round trip later they are still to be read.
        let ends = wire.open().await.unwrap();
        echo(ends, b"meanwhile".to_vec()).await;
        assert_eq!(rest_of(&mut near).await.unwrap(), vec![7; length]);
    }
}

/// A stream that nobody reads takes so much and no more, and the others go on.
pub async fn a_stream_that_nobody_reads_holds_up_no_other(make: impl AsyncFn(&Path) -> Ends) {
    let Some(mut wire) = Wire::new(make).await else { return };
    let (mut near, _far) = wire.open().await.unwrap();
    let (chunk, mut sent) = (vec![0; 64 * 1024], 0);
    while let Ok(written) = timeout(Duration::from_millis(100), near.write(&chunk)).await {
        sent += written.unwrap();
        assert!(sent < 64 << 20, "a stream that nobody reads takes without an end");
    }
    for _ in 0..10 {
        let ends = wire.open().await.unwrap();
        echo(ends, vec![1; 100_000]).await;
    }
}

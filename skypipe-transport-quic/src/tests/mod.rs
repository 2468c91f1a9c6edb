//! Links over loopback.

mod door;
mod ends;
mod network;
mod streams;

use std::net::SocketAddr;
use std::time::Duration;

use skypipe_core::{ByteStream, KeyPair, Link, LinkStream, Listener, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::Times;
use crate::{QuicListener, QuicTransport};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(10);

fn relay_key() -> KeyPair {
    KeyPair::from_seed(&[7; 32])
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn listener() -> QuicListener {
    QuicListener::bind(any_port(), &relay_key()).unwrap()
}

/// Gives up on a silent peer soon, and never says anything by itself.
fn impatient() -> Times {
    Times { idle: Duration::from_millis(400), keep_alive: Duration::from_millis(100), ..Times::default() }
}

/// Both ends of a link.
struct Pair {
    near: Box<dyn Link>,
    far: Box<dyn Link>,
    listener: QuicListener,
}

async fn pair() -> Pair {
    let listener = listener();
    let (near, far) = meet(&QuicTransport::default(), &listener, &listener.url()).await;
    Pair { near, far, listener }
}

async fn meet(transport: &QuicTransport, listener: &QuicListener, url: &str) -> (Box<dyn Link>, Box<dyn Link>) {
    let (near, far) = tokio::join!(transport.connect(url), listener.accept());
    (near.unwrap(), far.unwrap())
}

fn bytes(stream: LinkStream) -> Box<dyn ByteStream> {
    match stream {
        LinkStream::Bytes(duplex) => duplex,
        _ => panic!("a stream of another kind"),
    }
}

/// A stream opened at `near`, with its first byte on it.
async fn stream(near: &dyn Link, far: &dyn Link) -> (Box<dyn ByteStream>, Box<dyn ByteStream>) {
    let mut here = bytes(near.open().await.unwrap());
    here.write_all(b"!").await.unwrap();
    here.flush().await.unwrap();
    let mut there = bytes(soon(far.accept()).await.unwrap().unwrap());
    assert_eq!(there.read_u8().await.unwrap(), b'!');
    (here, there)
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.expect("took too long")
}

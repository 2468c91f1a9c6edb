//! Links over sockets of this machine: plain and with TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use skypipe_core::{
    Code, KeyPair, Link, LinkStream, Listener, Peer, RelayIdentity, STREAMS_BEFORE_PROOF_MAX, Transport,
};
use skypipe_transport_ws::{WsListener, WsOptions, WsTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Stream = Box<dyn skypipe_core::ByteStream>;

fn relay() -> KeyPair {
    KeyPair::from_seed(&[7; 32])
}

fn bytes(stream: LinkStream) -> Stream {
    match stream {
        LinkStream::Bytes(stream) => stream,
        _ => panic!("a stream of bytes"),
    }
}

async fn listener(tls: bool) -> WsListener {
    let options = if tls { WsOptions::default().with_key(&relay()) } else { WsOptions::default() };
    WsListener::bind("127.0.0.1:0".parse().unwrap(), options).await.unwrap()
}

/// A client's link and the relay's.
async fn pair(tls: bool) -> (Box<dyn Link>, Box<dyn Link>) {
    let listener = listener(tls).await;
    let url = listener.url();
    let (near, far) = tokio::join!(WsTransport.connect(&url), listener.accept());
    (near.unwrap(), far.unwrap())
}

async fn stream(near: &dyn Link, far: &dyn Link) -> (Stream, Stream) {
    let (opened, accepted) = tokio::join!(near.open(), far.accept());
    (bytes(opened.unwrap()), bytes(accepted.unwrap().unwrap()))
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 % 251) as u8).collect()
}

async fn both_ways(tls: bool) {
    let (near, far) = pair(tls).await;
    let (mut here, mut there) = stream(&*near, &*far).await;
    let (up, down) = (pattern(3_000_000), pattern(2_999_999));
    let mut came = (Vec::new(), Vec::new());
    let (mut here_reads, mut here_writes) = tokio::io::split(&mut here);
    let (mut there_reads, mut there_writes) = tokio::io::split(&mut there);
    tokio::join!(
        async {
            here_writes.write_all(&up).await.unwrap();
            here_writes.shutdown().await.unwrap();
        },
        async {
            there_writes.write_all(&down).await.unwrap();
            there_writes.shutdown().await.unwrap();
        },
        async { here_reads.read_to_end(&mut came.0).await.unwrap() },
        async { there_reads.read_to_end(&mut came.1).await.unwrap() },
    );
    assert!(came.0 == down && came.1 == up);
}

#[tokio::test]
async fn bytes_cross_both_ways_and_end() {
    both_ways(false).await;
}

#[tokio::test]
async fn bytes_cross_both_ways_and_end_over_tls() {
    both_ways(true).await;
}

#[tokio::test]
async fn a_link_tells_who_and_where() {
    let (near, far) = pair(false).await;
    let Peer::Network(relay_at) = near.peer() else { panic!("a network") };
    let Peer::Network(client_at) = far.peer() else { panic!("a network") };
    assert!(relay_at.starts_with("127.0.0.1:") && client_at.starts_with("127.0.0.1:"));
    assert_eq!(near.path(), format!("WebSocket {relay_at}"));
    assert_eq!((near.exporter(), far.exporter(), near.relay(), far.relay()), (None, None, None, None));
}

#[tokio::test]
async fn over_tls_both_ends_derive_the_same_and_the_client_knows_whom_it_wants() {
    let (near, far) = pair(true).await;
    assert!(near.exporter().is_some());
    assert_eq!(near.exporter(), far.exporter());
    assert_eq!(near.relay(), Some(RelayIdentity::Pinned(relay().public())));
    assert!(near.path().starts_with("WebSocket over TLS 127.0.0.1:"));
    let (other, _) = pair(true).await;
    assert_ne!(near.exporter(), other.exporter());
}

#[tokio::test]
async fn a_key_in_a_plain_url_is_known_to_the_link() {
    let listener = listener(false).await;
    let url = listener.url().replace("ws://", &format!("ws://{}@", relay().public()));
    let near = WsTransport.connect(&url).await.unwrap();
    assert_eq!(near.relay(), Some(RelayIdentity::Pinned(relay().public())));
}

#[tokio::test]
async fn another_key_than_the_pinned_one_is_refused() {
    let listener = listener(true).await;
    let other = KeyPair::from_seed(&[8; 32]).public();
    let url = listener.url().replace(&relay().public().to_string(), &other.to_string());
    let refused = WsTransport.connect(&url).await.err().unwrap();
    assert_eq!(refused.code(), Code::Pin, "{refused}");
    let nobody_vouches = listener.url().replace(&format!("{}@", relay().public()), "");
    assert_eq!(WsTransport.connect(&nobody_vouches).await.err().unwrap().code(), Code::Pin);
}

#[tokio::test]
async fn nobody_there_is_told_with_host_and_port() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["ws", "wss"] {
        let refused = WsTransport.connect(&format!("{scheme}://{free}")).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unreachable);
        assert!(refused.text().contains(&free.to_string()), "{refused}");
    }
    assert_eq!(WsTransport.connect("http://h").await.err().unwrap().code(), Code::Usage);
}

#[tokio::test]
async fn two_cannot_listen_at_one_address() {
    let first = listener(false).await;
    let address = first.url().trim_start_matches("ws://").parse().unwrap();
    let refused = WsListener::bind(address, WsOptions::default()).await.err().unwrap();
    assert_eq!(refused.code(), Code::Locked);
}

/// A server that answers a request with these words, or closes if there are none.
async fn server(answer: &'static str) -> String {
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", tcp.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = tcp.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        if !answer.is_empty() {
            let _ = stream.read(&mut request).await;
        }
    });
    url
}

#[tokio::test]
async fn what_is_no_relay_is_told_by_what_it_answers() {
    for (answer, code, told) in [
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", Code::Unreachable, "502 Bad Gateway"),
        ("HTTP/1.1 404 Not Found\r\n\r\n", Code::Unreachable, "404 Not Found"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", Code::Access, "403 Forbidden"),
        ("HTTP/1.1 400 Bad\r\nSec-WebSocket-Protocol: skypipe.2\r\n\r\n", Code::Version, "skypipe.1"),
        ("SSH-2.0-OpenSSH_9.2\r\n", Code::Unreachable, "no WebSocket"),
        ("", Code::Unreachable, "closed the connection"),
    ] {
        let refused = WsTransport.connect(&server(answer).await).await.err().unwrap();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.text().contains(told), "{refused}");
    }
}

#[tokio::test]
async fn a_dropped_stream_is_an_error_and_a_shut_one_an_end() {
    let (near, far) = pair(false).await;
    let (mut here, mut there) = stream(&*near, &*far).await;
    here.write_all(b"whole").await.unwrap();
    here.shutdown().await.unwrap();
    drop(here);
    let mut came = Vec::new();
    there.read_to_end(&mut came).await.unwrap();
    assert_eq!(came, b"whole");
    let (mut here, mut there) = stream(&*near, &*far).await;
    here.write_all(b"half").await.unwrap();
    drop(here);
    let error = there.read_to_end(&mut came).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_was_flushed_arrives_though_stream_and_link_are_dropped() {
    for (tls, length) in [(false, 10), (true, 10), (false, 120_000), (true, 120_000)] {
        let (near, far) = pair(tls).await;
        let (mut here, mut there) = stream(&*near, &*far).await;
        here.write_all(&pattern(length)).await.unwrap();
        here.flush().await.unwrap();
        drop((here, near));
        let mut came = Vec::new();
        there.read_to_end(&mut came).await.unwrap();
        assert!(came == pattern(length), "{} bytes of {length}", came.len());
        assert!(far.accept().await.unwrap().is_none(), "closed, not broken");
    }
}

#[tokio::test]
async fn streams_outlive_their_link_and_the_last_one_closes_it() {
    let (near, far) = pair(true).await;
    let (mut here, mut there) = stream(&*near, &*far).await;
    drop(far);
    there.write_all(b"still here").await.unwrap();
    let mut came = [0; 10];
    here.read_exact(&mut came).await.unwrap();
    here.write_all(b"last words").await.unwrap();
    here.shutdown().await.unwrap();
    let mut last = Vec::new();
    there.read_to_end(&mut last).await.unwrap();
    assert_eq!(last, b"last words");
    there.shutdown().await.unwrap();
    drop(there);
    assert!(near.accept().await.unwrap().is_none(), "closed, not broken");
    assert_eq!(near.open().await.err().unwrap().code(), Code::Disconnected);
}

#[tokio::test]
async fn a_stalled_stream_holds_up_no_other() {
    let (near, far) = pair(false).await;
    far.admitted();
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let (mut here, there) = stream(&*near, &*far).await;
        // Its window, and not a byte more, is taken; then it waits.
        let stuffed = tokio::spawn(async move { here.write_all(&[0; 10_000_000]).await });
        stalled.push((stuffed, there));
    }
    let (mut here, mut there) = stream(&*near, &*far).await;
    let sent = pattern(5_000_000);
    let sending = async {
        here.write_all(&sent).await.unwrap();
        here.shutdown().await.unwrap();
    };
    let mut came = Vec::new();
    let (_, read) = tokio::join!(sending, there.read_to_end(&mut came));
    read.unwrap();
    assert!(came == sent);
    assert!(stalled.iter().all(|(stuffed, _)| !stuffed.is_finished()));
    stalled.iter().for_each(|(stuffed, _)| stuffed.abort());
}

#[tokio::test]
async fn strangers_have_few_streams_and_the_admitted_many() {
    let (near, far) = pair(false).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS_BEFORE_PROOF_MAX {
        streams.push(near.open().await.unwrap());
    }
    let one_more = near.open();
    tokio::pin!(one_more);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut one_more).await.is_err());
    far.admitted();
    streams.push(one_more.await.unwrap());
    for _ in 0..1000 {
        streams.push(near.open().await.unwrap());
    }
    let mut accepted = Vec::new();
    for opened in streams {
        let (mut here, mut there) = (bytes(opened), bytes(far.accept().await.unwrap().unwrap()));
        here.write_all(b"x").await.unwrap();
        assert_eq!(there.read_u8().await.unwrap(), b'x');
        accepted.push((here, there));
    }
}

#[tokio::test]
async fn more_streams_than_there_may_be_at_once_come_one_after_the_other() {
    let (near, far) = pair(false).await;
    for n in 0..200_u32 {
        let (mut here, mut there) = stream(&*near, &*far).await;
        here.write_all(&n.to_le_bytes()).await.unwrap();
        assert_eq!(there.read_u32_le().await.unwrap(), n);
        there.shutdown().await.unwrap();
    }
}

/// Proxies that let nothing pass from some moment on: a listener whose other end is held by the test.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_a_broken_link_after_fifteen_seconds() {
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", tcp.local_addr().unwrap());
    let silent = async {
        let (mut stream, _) = tcp.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let request = String::from_utf8(request).unwrap();
        let key = request.lines().find_map(|l| l.strip_prefix("Sec-WebSocket-Key: ")).unwrap().to_owned();
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: skypipe.1\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream
    };
    let (near, _held) = tokio::join!(WsTransport.connect(&url), silent);
    let near = near.unwrap();
    let start = tokio::time::Instant::now();
    let mut stream = bytes(near.open().await.unwrap());
    let error = near.accept().await.err().unwrap();
    assert_eq!(error.code(), Code::Disconnected);
    assert!(error.text().contains("15 s"), "{error}");
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(14) && took < Duration::from_secs(21), "{took:?}");
    assert!(stream.read_u8().await.is_err() && stream.write_all(b"x").await.is_err());
}

#[tokio::test]
async fn a_link_that_says_nothing_is_kept_alive() {
    let (near, far) = pair(false).await;
    let (mut here, mut there) = stream(&*near, &*far).await;
    tokio::time::pause();
    for _ in 0..24 {
        tokio::time::advance(Duration::from_secs(5)).await;
        // The sockets are real: each side must get to see the other's ping.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::resume();
    here.write_all(b"alive").await.unwrap();
    let mut came = [0; 5];
    there.read_exact(&mut came).await.unwrap();
}

#[test]
fn a_runtime_that_ends_leaves_nobody_waiting() {
    let (runtime, other) = (tokio::runtime::Runtime::new().unwrap(), tokio::runtime::Runtime::new().unwrap());
    let (near, _far) = runtime.block_on(pair(false));
    let waiting = other.spawn(async move { near.accept().await.err().map(|e| e.code()) });
    runtime.shutdown_background();
    assert_eq!(other.block_on(waiting).unwrap(), Some(Code::Disconnected));
}

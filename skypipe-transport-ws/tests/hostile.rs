//! What a stranger may send by hand, and what it gets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use skypipe_core::{KeyPair, Listener, Transport};
use skypipe_transport_ws::{WsListener, WsOptions, WsTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: relay.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
    Sec-WebSocket-Protocol: skypipe.1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
/// The frame is the last of its message.
const FINAL: u8 = 0x80;

async fn listener() -> WsListener {
    WsListener::bind("127.0.0.1:0".parse().unwrap(), WsOptions::default()).await.unwrap()
}

fn address(listener: &WsListener) -> std::net::SocketAddr {
    listener.url().rsplit(['/', '@']).next().unwrap().parse().unwrap()
}

/// Sends a request and reads the answer's head.
async fn ask(listener: &WsListener, request: &str) -> (TcpStream, String) {
    let mut tcp = TcpStream::connect(address(listener)).await.unwrap();
    tcp.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut tcp).await;
    (tcp, head)
}

async fn head(tcp: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tcp.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A connection that was let in.
async fn inside(listener: &WsListener) -> TcpStream {
    let (tcp, head) = ask(listener, &format!("{REQUEST}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(!head.to_ascii_lowercase().contains("deflate"), "nothing is compressed: {head}");
    tcp
}

/// A client's frame, with a mask that changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// The code of the close frame that comes, whatever comes before it.
async fn close_code(tcp: &mut TcpStream) -> Option<u16> {
    loop {
        let (first, length) = (tcp.read_u8().await.ok()?, tcp.read_u8().await.ok()?);
        let length = if length == 126 { tcp.read_u16().await.ok()?.into() } else { usize::from(length) };
        let mut payload = vec![0; length];
        tcp.read_exact(&mut payload).await.ok()?;
        if first == FINAL | CLOSE {
            return Some(u16::from_be_bytes([payload[0], payload[1]]));
        }
    }
}

/// What the relay closes with when it is sent this, over and over.
async fn closes(listener: &WsListener, bytes: &[u8], times: usize) -> Option<u16> {
    let tcp = inside(listener).await;
    let (mut reads, mut writes) = tcp.into_split();
    let bytes = bytes.to_vec();
    let sending = tokio::spawn(async move {
        for _ in 0..times {
            if writes.write_all(&bytes).await.is_err() {
                break;
            }
        }
        writes
    });
    let mut whole = Vec::new();
    // All that comes until the relay closes; the last frame is its close.
    let read = timeout(Duration::from_secs(20), reads.read_to_end(&mut whole)).await;
    assert!(read.is_ok(), "it was not closed");
    sending.abort();
    let close = whole.windows(4).rev().find(|four| four[0] == FINAL | CLOSE && four[1] == 2)?;
    Some(u16::from_be_bytes([close[2], close[3]]))
}

#[tokio::test]
async fn frames_that_must_not_be_are_answered_with_a_close() {
    let listener = listener().await;
    let unmasked = [FINAL | BINARY, 1, 0];
    let huge = [&[FINAL | BINARY, 0x80 | 127][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    let open = [1, 1, 0, 0, 0];
    for (what, bytes, times, code) in [
        ("unmasked", unmasked.to_vec(), 1, 1002),
        ("text", frame(FINAL | TEXT, b"hello"), 1, 1003),
        ("text that is none", frame(FINAL | TEXT, &[0xff]), 1, 1003),
        ("compressed", frame(FINAL | 0x40 | BINARY, &open), 1, 1002),
        ("a reserved bit", frame(FINAL | 0x10 | BINARY, &open), 1, 1002),
        ("a reserved kind of data", frame(FINAL | 0x3, &open), 1, 1002),
        ("a reserved kind of control", frame(FINAL | 0xb, &[]), 1, 1002),
        ("a control frame in pieces", frame(PING, &[]), 1, 1002),
        ("a long ping", frame(FINAL | PING, &[0; 126]), 1, 1002),
        ("the rest of nothing", frame(FINAL | CONTINUATION, &[]), 1, 1002),
        ("16 EiB", huge, 1, 1009),
        ("2 MiB", frame(FINAL | BINARY, &vec![0; 2 << 20]), 1, 1009),
        ("no message of ours", frame(FINAL | BINARY, &[9, 9, 9]), 1, 1002),
        ("a stream twice", frame(FINAL | BINARY, &open), 2, 1002),
        ("a ping flood", frame(FINAL | PING, &[]), 100_000, 1008),
    ] {
        assert_eq!(closes(&listener, &bytes, times).await, Some(code), "{what}");
    }
}

#[tokio::test]
async fn a_message_without_end_is_not_gathered() {
    let listener = listener().await;
    let mut tcp = inside(&listener).await;
    tcp.write_all(&frame(BINARY, &[0; 1000])).await.unwrap();
    let mut sent = 0;
    while sent < 10_000_000 && tcp.write_all(&frame(CONTINUATION, &[0; 1000])).await.is_ok() {
        sent += 1000;
    }
    assert!(sent < 10_000_000);
    assert!(matches!(close_code(&mut tcp).await, Some(1009) | None));
}

#[tokio::test]
async fn a_flood_of_cut_streams_is_closed() {
    let listener = listener().await;
    let mut tcp = inside(&listener).await;
    let link = listener.accept().await.unwrap();
    let flooding = tokio::spawn(async move {
        for stream in (1..u32::MAX).step_by(2) {
            let message = |kind: u8| [&[kind][..], &stream.to_le_bytes()].concat();
            let both = [frame(FINAL | BINARY, &message(1)), frame(FINAL | BINARY, &message(5))].concat();
            if tcp.write_all(&both).await.is_err() {
                break;
            }
            // It must not be ahead of what it is allowed to open.
            tokio::task::yield_now().await;
        }
    });
    let mut opened = 0;
    let error = loop {
        match link.accept().await {
            Ok(_) => opened += 1,
            Err(error) => break error,
        }
    };
    assert!(error.text().contains("too many") && opened <= 1010, "{opened}: {error}");
    timeout(Duration::from_secs(10), flooding).await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_that_must_not_be_are_answered_and_closed() {
    let listener = listener().await;
    for (request, status) in [
        (format!("{REQUEST}Origin: https://evil.example\r\n\r\n"), "403"),
        (format!("{REQUEST}Sec-Fetch-Site: cross-site\r\n\r\n"), "403"),
        (format!("{REQUEST}X: {}\r\n\r\n", "x".repeat(10 * 1024)), "431"),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "426"),
        ("\r\n\r\n\0\0\0\r\n\r\n".to_owned(), "400"),
    ] {
        let (mut tcp, head) = ask(&listener, &request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let mut rest = Vec::new();
        timeout(Duration::from_secs(5), tcp.read_to_end(&mut rest)).await.unwrap().unwrap();
    }
    // It still serves.
    let url = listener.url();
    let (near, far) = tokio::join!(WsTransport.connect(&url), listener.accept());
    assert!(near.is_ok() && far.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_drips_is_cut_off_after_five_seconds() {
    let listener = listener().await;
    let start = Instant::now();
    let mut tcp = TcpStream::connect(address(&listener)).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nX: ").await.unwrap();
    let answer = head(&mut tcp).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_tls_handshake_that_never_comes_is_cut_off_after_five_seconds() {
    let options = WsOptions::default().with_key(&KeyPair::from_seed(&[7; 32]));
    let listener = WsListener::bind("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
    let start = Instant::now();
    let mut tcp = TcpStream::connect(address(&listener)).await.unwrap();
    assert!(tcp.read_u8().await.is_err());
    assert!(start.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn one_source_has_sixteen_half_open_and_another_still_comes_in() {
    let listener = listener().await;
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(TcpStream::connect(address(&listener)).await.unwrap());
    }
    let mut one_more = TcpStream::connect(address(&listener)).await.unwrap();
    assert!(!matches!(one_more.read(&mut [0; 9]).await, Ok(1..)), "closed without a word");
    let elsewhere = tokio::net::TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = elsewhere.connect(address(&listener)).await.unwrap();
    other.write_all(format!("{REQUEST}\r\n").as_bytes()).await.unwrap();
    assert!(head(&mut other).await.starts_with("HTTP/1.1 101 "));
}

/// A message that was begun and drips on, a byte a second, for ever: bytes come, but no message does.
#[tokio::test]
async fn a_message_that_drips_is_cut_off_after_fifteen_seconds() {
    let listener = listener().await;
    let mut tcp = inside(&listener).await;
    let link = listener.accept().await.unwrap();
    tokio::time::pause();
    let dripping = tokio::spawn(async move {
        let _ = tcp.write_all(&frame(FINAL | BINARY, &[0; 60_000])[..100]).await;
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if tcp.write_all(&[0]).await.is_err() {
                break;
            }
        }
    });
    let start = Instant::now();
    let error = link.accept().await.err().unwrap();
    assert!(error.text().contains("no whole message"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    dripping.abort();
}

#[tokio::test]
async fn a_peer_that_reads_nothing_does_not_keep_a_link_that_was_dropped() {
    let listener = listener().await;
    let mut tcp = inside(&listener).await;
    let open = [1, 1, 0, 0, 0];
    tcp.write_all(&frame(FINAL | BINARY, &open)).await.unwrap();
    let link = listener.accept().await.unwrap();
    let Some(skypipe_core::LinkStream::Bytes(mut stream)) = link.accept().await.unwrap() else { panic!("a stream") };
    // More windows than it needs to fill all buffers in between.
    for _ in 0..200 {
        let more = [&[3, 1, 0, 0, 0][..], &(64 * 1024_u32).to_le_bytes()].concat();
        tcp.write_all(&frame(FINAL | BINARY, &more)).await.unwrap();
    }
    let stuck = timeout(Duration::from_millis(300), stream.write_all(&[0; 50_000_000])).await;
    assert!(stuck.is_err());
    drop((stream, link));
    let start = Instant::now();
    // The peer goes on sending: that alone keeps no link.
    while tcp.write_all(&frame(FINAL | PING, &[])).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! A program that ends: alone in its process, as `goodbye` waits for all links of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::mpsc;
use std::time::{Duration, Instant};

use skypipe_core::{KeyPair, LinkStream, Listener, Transport};
use skypipe_transport_quic::{QuicListener, QuicTransport, goodbye};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_program_that_says_goodbye_leaves_its_last_words_and_no_silence() {
    let (tell, told) = mpsc::channel();
    let relay = std::thread::spawn(move || {
        runtime().block_on(async {
            let listener = QuicListener::bind("127.0.0.1:0".parse().unwrap(), &KeyPair::from_seed(&[7; 32])).unwrap();
            tell.send(listener.url()).unwrap();
            let link = listener.accept().await.unwrap();
            let Ok(Some(LinkStream::Bytes(mut stream))) = link.accept().await else { panic!("no stream") };
            let mut words = String::new();
            stream.read_to_string(&mut words).await.unwrap();
            assert!(link.accept().await.unwrap().is_none());
            words
        })
    });
    let url = told.recv().unwrap();
    let start = runtime().block_on(async move {
        let link = QuicTransport::default().connect(&url).await.unwrap();
        let LinkStream::Bytes(mut stream) = link.open().await.unwrap() else { panic!("another kind of stream") };
        stream.write_all(b"last words").await.unwrap();
        stream.flush().await.unwrap();
        let start = Instant::now();
        drop((stream, link));
        goodbye(Duration::from_secs(10)).await;
        start
    });
    assert_eq!(relay.join().unwrap(), "last words");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

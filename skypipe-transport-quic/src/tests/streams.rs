//! Streams side by side.

use futures::future::join_all;
use skypipe_core::{ALPN, Peer, RelayIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::config::{self, STREAMS_AT_FIRST};
use crate::socket;

/// What each of many streams carries.
const BODY_BYTES: usize = 256 * 1024;

#[tokio::test]
async fn either_end_opens_streams_that_carry_both_ways() {
    let Pair { near, far, .. } = pair().await;
    for (one, other) in [(&*near, &*far), (&*far, &*near)] {
        let (mut here, mut there) = stream(one, other).await;
        here.write_all(b"question").await.unwrap();
        let (ended, _) = tokio::join!(here.shutdown(), async {
            let mut question = String::new();
            there.read_to_string(&mut question).await.unwrap();
            assert_eq!(question, "question");
            there.write_all(b"answer").await.unwrap();
        });
        ended.unwrap();
        let (ended, answer) = tokio::join!(there.shutdown(), async {
            let mut answer = String::new();
            here.read_to_string(&mut answer).await.unwrap();
            answer
        });
        ended.unwrap();
        assert_eq!(answer, "answer");
    }
}

#[tokio::test]
async fn both_ends_know_where_they_are() {
    let Pair { near, far, listener } = pair().await;
    let place = listener.address().to_string();
    assert_eq!(near.peer(), Peer::Network(place.clone()));
    assert_eq!(near.path(), format!("QUIC {place}"));
    assert!(matches!(far.peer(), Peer::Network(place) if place.starts_with("127.0.0.1:")));
    assert_eq!((near.relay(), far.relay()), (Some(RelayIdentity::Pinned(relay_key().public())), None));
    assert!(near.exporter().is_some() && near.exporter() == far.exporter());
    assert_eq!(ALPN, b"skypipe/1");
    let other = pair().await;
    assert_ne!(near.exporter(), other.near.exporter());
}

#[tokio::test]
async fn a_stalled_stream_holds_up_no_other() {
    let Pair { near, far, .. } = pair().await;
    far.admitted();
    let (mut stalled, _unread) = stream(&*near, &*far).await;
    // Fills its window; nobody reads it.
    let block = vec![0; 1024 * 1024];
    while tokio::time::timeout(Duration::from_millis(200), stalled.write_all(&block)).await.is_ok() {}
    let body = vec![7; BODY_BYTES];
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(stream(&*near, &*far).await);
    }
    let moved = streams.iter_mut().map(|(here, there)| async {
        let (written, read) = tokio::join!(
            async {
                here.write_all(&body).await?;
                here.shutdown().await
            },
            async {
                let mut read = Vec::new();
                there.read_to_end(&mut read).await.map(|_| read)
            }
        );
        written.unwrap();
        assert!(read.unwrap() == body);
    });
    soon(join_all(moved)).await;
}

#[tokio::test]
async fn a_stranger_has_few_streams_and_who_was_admitted_many() {
    let Pair { near, far, .. } = pair().await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS_AT_FIRST {
        streams.push(stream(&*near, &*far).await);
    }
    assert!(tokio::time::timeout(Duration::from_millis(200), near.open()).await.is_err());
    far.admitted();
    for _ in 0..300 {
        streams.push(soon(stream(&*near, &*far)).await);
    }
}

#[tokio::test]
async fn a_stranger_fills_no_more_than_its_window() {
    let Pair { near, far, .. } = pair().await;
    let (mut here, mut there) = stream(&*near, &*far).await;
    let (block, mut written) = (vec![7; 64 * 1024], 0);
    while let Ok(taken) = tokio::time::timeout(Duration::from_millis(200), here.write(&block)).await {
        written += taken.unwrap();
    }
    // One read takes all that is there.
    let mut unread = vec![0; 1024 * 1024];
    let first = there.read(&mut unread).await.unwrap();
    assert!(first <= 64 * 1024, "{first} of {written} bytes");
    far.admitted();
    let much = vec![7; 12 * 1024 * 1024];
    let writing = async {
        here.write_all(&much).await?;
        here.shutdown().await
    };
    let mut rest = Vec::new();
    let (ended, read) = soon(async { tokio::join!(writing, there.read_to_end(&mut rest)) }).await;
    ended.unwrap();
    assert_eq!(first + read.unwrap(), written + much.len());
}

#[tokio::test]
async fn slices_of_any_length_arrive_in_order() {
    let Pair { near, far, .. } = pair().await;
    let (mut here, mut there) = stream(&*near, &*far).await;
    let parts: Vec<Vec<u8>> = (0..200).map(|n| vec![n as u8; (n * 7919) % 3000]).collect();
    let whole = parts.concat();
    let writing = async {
        let mut done = 0;
        while done < whole.len() {
            let slices: Vec<_> = whole[done..].chunks(977).take(128).map(std::io::IoSlice::new).collect();
            done += here.write_vectored(&slices).await.unwrap();
        }
        here.shutdown().await.unwrap();
    };
    let reading = async {
        let mut read = Vec::new();
        there.read_to_end(&mut read).await.unwrap();
        assert!(read == whole);
    };
    soon(async { tokio::join!(writing, reading) }).await;
}

/// The relay makes keys for packets when it needs them; those after a change of keys it never needed before.
#[tokio::test]
async fn either_end_may_change_the_keys() {
    let times = Times::default();
    let server = config::server(&relay_key(), &times).unwrap();
    let far = socket::serving(any_port(), config::server_endpoint(&relay_key()), server).unwrap();
    let address = far.local_addr().unwrap();
    let near = socket::calling(address).unwrap();
    let connecting =
        near.connect_with(config::client(relay_key().public(), &times).unwrap(), address, "relay").unwrap();
    let (near, far) = tokio::join!(connecting, async { far.accept().await.unwrap().await });
    let (near, far) = (near.unwrap(), far.unwrap());
    for from in [&near, &far, &far, &near] {
        from.force_key_update();
        let (mut sending, mut receiving) = near.open_bi().await.unwrap();
        sending.write_all(b"question").await.unwrap();
        sending.finish().unwrap();
        let (mut answering, mut asked) = soon(far.accept_bi()).await.unwrap();
        assert_eq!(soon(asked.read_to_end(99)).await.unwrap(), b"question");
        answering.write_all(b"answer").await.unwrap();
        answering.finish().unwrap();
        assert_eq!(soon(receiving.read_to_end(99)).await.unwrap(), b"answer");
    }
}

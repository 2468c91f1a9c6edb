//! How streams and links end.

use std::io::ErrorKind;

use skypipe_core::Code;

use super::*;

#[tokio::test]
async fn a_stream_dropped_in_the_middle_is_torn() {
    let Pair { near, far, .. } = pair().await;
    for (one, other) in [(&*near, &*far), (&*far, &*near)] {
        let (mut here, mut there) = stream(one, other).await;
        here.write_all(b"half").await.unwrap();
        drop(here);
        let error = soon(there.read_to_end(&mut Vec::new())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
}

#[tokio::test]
async fn what_was_flushed_arrives_though_stream_and_link_are_dropped() {
    let Pair { near, far, .. } = pair().await;
    let (mut here, mut there) = stream(&*near, &*far).await;
    here.write_all(b"last words").await.unwrap();
    here.flush().await.unwrap();
    drop(here);
    drop(near);
    let mut read = String::new();
    soon(there.read_to_string(&mut read)).await.unwrap();
    assert_eq!(read, "last words");
}

#[tokio::test]
async fn what_was_shut_down_has_arrived_though_the_relay_ends_right_after() {
    let Pair { near, far, listener } = pair().await;
    let (mut here, mut there) = stream(&*near, &*far).await;
    there.write_all(&vec![7; 300_000]).await.unwrap();
    let (ended, first) = tokio::join!(there.shutdown(), here.read_u8());
    ended.unwrap();
    drop((there, far, listener));
    assert!(soon(near.accept()).await.unwrap().is_none());
    let mut rest = Vec::new();
    here.read_to_end(&mut rest).await.unwrap();
    assert_eq!((first.unwrap(), rest.len()), (7, 299_999));
}

#[tokio::test]
async fn who_does_not_read_to_the_end_is_told_of() {
    let Pair { near, far, .. } = pair().await;
    let (here, mut there) = stream(&*near, &*far).await;
    drop(here);
    let error = loop {
        if let Err(error) = soon(there.write_all(&[0; 1024])).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
}

#[tokio::test]
async fn a_link_that_is_dropped_says_goodbye() {
    let Pair { near, far, .. } = pair().await;
    drop(near);
    assert!(soon(far.accept()).await.unwrap().is_none());
    assert_eq!(far.open().await.err().unwrap().code(), Code::Disconnected);
}

#[tokio::test]
async fn a_link_that_lost_its_handle_lives_on_in_its_streams() {
    let Pair { near, far, listener } = pair().await;
    let (mut here, mut there) = stream(&*near, &*far).await;
    drop((near, far, listener));
    here.write_all(b"still here").await.unwrap();
    here.flush().await.unwrap();
    let mut read = [0; 10];
    soon(there.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"still here");
}

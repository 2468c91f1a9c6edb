//! Pipes of a relay over WebSocket: keys are proved, records cross, and a link lasts through whatever its streams do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use skypipe_core::{
    Admission, Caller, Client, Code, Env, Error, Gatekeeper, Invite, KeyPair, Link, Listener, LocalBroker, Owner, Pipe,
    PublicKey, Relay, RemoteBroker, Transport, Until,
};
use skypipe_transport_ws::{WsListener, WsOptions, WsTransport};

/// Admits one key.
struct One {
    relay: KeyPair,
    client: PublicKey,
}

#[async_trait]
impl Gatekeeper for One {
    fn relay_key(&self) -> &KeyPair {
        &self.relay
    }
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
    fn owner(&self, key: PublicKey) -> Owner {
        Owner(Some(key.0))
    }
    async fn admit(&self, key: PublicKey, _: Option<Bytes>) -> Result<Admission, Error> {
        if key != self.client {
            return Err(Error::new(Code::Access, "not known"));
        }
        let revoked = std::future::pending().boxed();
        Ok(Admission { namespace: self.owner(key), grants: None, admin: false, revoked })
    }
    async fn invite(&self, _: &Caller, _: Invite) -> Result<Bytes, Error> {
        Err(Error::new(Code::Access, "no"))
    }
    async fn keys(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
    async fn add(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }
    async fn revoke(&self, _: &str) -> Result<u32, Error> {
        Ok(0)
    }
}

fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

/// A relay that knows key 2, and its URL.
async fn relay(tls: bool) -> String {
    let options = if tls { WsOptions::default().with_key(&key(1)) } else { WsOptions::default() };
    let listener = WsListener::bind("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
    let url = listener.url().replace("ws://", &format!("ws://{}@", key(1).public()));
    let url = if tls { listener.url() } else { url };
    let keeper = Arc::new(One { relay: key(1), client: key(2).public() });
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let relay = Relay::new(broker).with_gatekeeper(keeper).listen(Box::new(listener));
    tokio::spawn(async move { relay.serve().await });
    url
}

fn client(url: &str, seed: u8) -> Client {
    Client::over(Arc::new(remote(url, seed)))
}

fn remote(url: &str, seed: u8) -> RemoteBroker {
    RemoteBroker::new(Arc::new(WsTransport), url).with_signer(Arc::new(key(seed)))
}

async fn a_pipe_crosses(tls: bool) {
    let url = relay(tls).await;
    let (writing, reading) = (client(&url, 2), client(&url, 2));
    let record = vec![7; 200_000];
    let write = async {
        let mut writer = writing.pipe("logs").unwrap().writer().await.unwrap();
        for _ in 0..100 {
            writer.send(&record).await.unwrap();
        }
        writer.end(Until::Delivered).await.unwrap();
    };
    let read = async {
        let mut reader = reading.pipe("logs").unwrap().reader().await.unwrap();
        let mut count = 0;
        while let Some(came) = reader.next().await.unwrap() {
            assert!(came.body == record);
            count += 1;
        }
        assert_eq!(count, 100);
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn a_pipe_crosses_plain() {
    a_pipe_crosses(false).await;
}

#[tokio::test]
async fn a_pipe_crosses_over_tls() {
    a_pipe_crosses(true).await;
}

#[tokio::test]
async fn a_key_that_is_not_known_gets_nothing() {
    for tls in [false, true] {
        let url = relay(tls).await;
        assert_eq!(remote(&url, 3).ping(Bytes::new()).await.unwrap_err().code(), Code::Access);
        assert!(remote(&url, 2).ping(Bytes::new()).await.is_ok());
    }
}

/// Counts the links it makes.
#[derive(Default)]
struct Counting(AtomicUsize);

#[async_trait]
impl Transport for Counting {
    async fn connect(&self, url: &str) -> Result<Box<dyn Link>, Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        WsTransport.connect(url).await
    }
}

/// An application that writes many short items closes many streams on one link: that is no flood.
#[tokio::test]
async fn two_thousand_short_writers_in_a_row_keep_their_link() {
    let url = relay(true).await;
    let transport = Arc::new(Counting::default());
    let broker = Arc::new(RemoteBroker::new(transport.clone(), &url).with_signer(Arc::new(key(2))));
    let pipe = Client::over(broker.clone()).pipe("short").unwrap();
    for _ in 0..2000 {
        let mut writer = pipe.writer().await.unwrap();
        writer.send(b"x").await.unwrap();
        writer.end(Until::Stored).await.unwrap();
    }
    assert!(broker.ping(Bytes::new()).await.is_ok());
    assert_eq!(transport.0.load(Ordering::Relaxed), 1);
}

/// More calls at once than a stranger may have streams.
#[tokio::test]
async fn many_calls_share_a_link() {
    let url = relay(false).await;
    let broker = Arc::new(remote(&url, 2));
    let calls = (0..500).map(|n: u32| {
        let broker = broker.clone();
        async move { broker.ping(Bytes::copy_from_slice(&n.to_le_bytes())).await }
    });
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
}

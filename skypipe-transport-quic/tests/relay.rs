//! Pipes of a relay that is reached over QUIC.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use skypipe_core::{
    Admission, Caller, Client, Code, Env, Error, Gatekeeper, Invite, KeyPair, LocalBroker, Owner, Pipe, PublicKey,
    Relay, RemoteBroker, Until,
};
use skypipe_transport_quic::{QuicListener, QuicTransport};

/// Longer than anything here takes, and far less than the minute that a session may be away.
const SOON: Duration = Duration::from_secs(20);

/// Admits everybody, each to its own pipes.
struct Anybody(KeyPair);

#[async_trait]
impl Gatekeeper for Anybody {
    fn relay_key(&self) -> &KeyPair {
        &self.0
    }
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
    fn owner(&self, key: PublicKey) -> Owner {
        Owner(Some(key.0))
    }
    async fn admit(&self, key: PublicKey, _: Option<Bytes>) -> Result<Admission, Error> {
        let revoked = std::future::pending().boxed();
        Ok(Admission { namespace: Owner(Some(key.0)), admin: false, grants: None, revoked })
    }
    async fn invite(&self, _: &Caller, _: Invite) -> Result<Bytes, Error> {
        Err(Error::new(Code::Unsupported, "nobody invites here"))
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

/// A relay, and its URL.
fn relay() -> String {
    let key = KeyPair::from_seed(&[7; 32]);
    let listener = QuicListener::bind("127.0.0.1:0".parse().unwrap(), &key).unwrap();
    let relay = Relay::new(LocalBroker::in_memory(Env::system()).unwrap())
        .with_gatekeeper(Arc::new(Anybody(key)))
        .listen(Box::new(listener));
    let url = relay.urls().remove(0);
    tokio::spawn(async move { relay.serve().await });
    url
}

fn pipe(url: &str, name: &str) -> skypipe_core::BrokerPipe {
    let broker = RemoteBroker::new(Arc::new(QuicTransport::default()), url);
    Client::over(Arc::new(broker.with_signer(Arc::new(KeyPair::from_seed(&[2; 32]))))).pipe(name).unwrap()
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.expect("took too long")
}

#[tokio::test]
async fn records_cross_a_relay_that_is_reached_over_quic() {
    let url = relay();
    let line = Bytes::from(vec![b'x'; 50_000]);
    let writing = async {
        let mut writer = pipe(&url, "logs").writer().await.unwrap();
        for _ in 0..400 {
            writer.send(&line).await.unwrap();
        }
        writer.end(Until::Delivered).await.unwrap();
    };
    let reading = async {
        let mut reader = pipe(&url, "logs").reader().await.unwrap();
        let mut count = 0;
        while let Some(record) = reader.next().await.unwrap() {
            assert!(record.body == line);
            count += 1;
        }
        count
    };
    assert_eq!(soon(async { tokio::join!(writing, reading) }).await.1, 400);
}

#[tokio::test]
async fn a_writer_that_gives_its_item_up_is_heard_of_at_once() {
    let url = relay();
    let mut writer = pipe(&url, "logs").writer().await.unwrap();
    writer.send(b"half").await.unwrap();
    let mut reader = pipe(&url, "logs").reader().await.unwrap();
    assert_eq!(soon(reader.next()).await.unwrap().unwrap().body, &b"half"[..]);
    drop(writer);
    // Its end, one way or the other; a writer that merely vanished would be waited for.
    let _ = soon(reader.next()).await;
}

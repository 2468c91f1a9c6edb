//! Who is let in, over a link that is as if it came from another machine.

use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::watch;

use super::*;
use crate::caller::{Caller, Grant, Peer, Rights};
use crate::client::Client;
use crate::error::Code;
use crate::gatekeeper::{Admission, Invite};
use crate::identity::{KeyPair, PublicKey, RelayIdentity};
use crate::local_broker::LocalBroker;
use crate::mem::{MemListener, MemTransport};
use crate::name::{Owner, Pattern};
use crate::pipe::Pipe;
use crate::remote::RemoteBroker;
use crate::transport::{LinkStream, Transport};

mod floods;
mod same_answer;

const RELAY: [u8; 32] = [1; 32];

/// A key and what it may do; none is everything in its namespace.
type Known = (PublicKey, Option<Arc<[Grant]>>);

/// Admits the keys that are known.
struct Toy {
    key: KeyPair,
    known: Mutex<Vec<Known>>,
    revoked: watch::Sender<bool>,
}

#[async_trait]
impl Gatekeeper for Toy {
    fn relay_key(&self) -> &KeyPair {
        &self.key
    }
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
    fn owner(&self, key: PublicKey) -> Owner {
        Owner(Some(key.0))
    }
    async fn admit(&self, key: PublicKey, _: Option<Bytes>) -> Result<Admission, Error> {
        let known = self.known.lock().unwrap().iter().find(|(known, _)| *known == key).cloned();
        let (_, grants) = known.ok_or_else(|| Error::new(Code::Access, "the key is not known"))?;
        let mut revoked = self.revoked.subscribe();
        let revoked = async move { drop(revoked.wait_for(|over| *over).await) }.boxed();
        Ok(Admission { namespace: Owner(Some(key.0)), admin: grants.is_none(), grants, revoked })
    }
    async fn invite(&self, _: &Caller, _: Invite) -> Result<Bytes, Error> {
        Ok(Bytes::from_static(b"token"))
    }
    async fn keys(&self) -> Result<Vec<String>, Error> {
        Ok(vec!["a key".to_owned()])
    }
    async fn add(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }
    async fn revoke(&self, _: &str) -> Result<u32, Error> {
        Ok(1)
    }
}

/// Links within this process, seen as if they came over a network.
struct Afar<T>(T, Option<RelayIdentity>);

#[async_trait]
impl Transport for Afar<MemTransport> {
    async fn connect(&self, url: &str) -> Result<Box<dyn Link>, Error> {
        Ok(Box::new(Afar(self.0.connect(url).await?, self.1.clone())))
    }
}

#[async_trait]
impl Listener for Afar<MemListener> {
    async fn accept(&self) -> Result<Box<dyn Link>, Error> {
        Ok(Box::new(Afar(self.0.accept().await?, None)))
    }
    fn url(&self) -> String {
        self.0.url()
    }
}

#[async_trait]
impl Link for Afar<Box<dyn Link>> {
    async fn open(&self) -> Result<LinkStream, Error> {
        self.0.open().await
    }
    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        self.0.accept().await
    }
    fn peer(&self) -> Peer {
        Peer::Network("192.0.2.1:7473".to_owned())
    }
    fn path(&self) -> String {
        "afar".to_owned()
    }
    fn relay(&self) -> Option<RelayIdentity> {
        self.1.clone()
    }
}

struct Rig {
    toy: Arc<Toy>,
    url: String,
    relay: Relay,
}

impl Rig {
    fn new(name: &str) -> Self {
        let (key, revoked) = (KeyPair::from_seed(&RELAY), watch::Sender::new(false));
        let toy = Arc::new(Toy { key, known: Mutex::default(), revoked });
        let listener = MemListener::bind(name).unwrap();
        let url = listener.url();
        let relay = Relay::new(LocalBroker::in_memory(Env::system()).unwrap())
            .with_gatekeeper(toy.clone())
            .listen(Box::new(Afar(listener, None)));
        let serving = relay.clone();
        tokio::spawn(async move { serving.serve().await });
        Self { toy, url, relay }
    }

    /// A client with key `seed`, which pins the relay's.
    fn client(&self, seed: u8) -> RemoteBroker {
        self.client_that_knows(seed, Some(RelayIdentity::Pinned(self.toy.key.public())))
    }

    fn client_that_knows(&self, seed: u8, knows: Option<RelayIdentity>) -> RemoteBroker {
        RemoteBroker::new(Arc::new(Afar(MemTransport, knows)), &self.url)
            .with_signer(Arc::new(KeyPair::from_seed(&[seed; 32])))
    }

    fn knows(&self, seed: u8, grants: Option<Vec<Grant>>) {
        let key = KeyPair::from_seed(&[seed; 32]).public();
        self.toy.known.lock().unwrap().push((key, grants.map(Arc::from)));
    }
}

fn owner(seed: u8) -> Owner {
    Owner(Some(KeyPair::from_seed(&[seed; 32]).public().0))
}

fn grant(owner: Owner, pattern: &str, rights: Rights) -> Grant {
    Grant { owner, pattern: Pattern::parse(pattern).unwrap(), rights }
}

fn code<T>(result: Result<T, Error>) -> Code {
    result.err().expect("refused").code()
}

async fn write(client: RemoteBroker, name: &str) -> Result<(), Error> {
    let mut writer = Client::over(Arc::new(client)).pipe(name)?.writer().await?;
    writer.send(b"x").await?;
    writer.end(crate::Until::Stored).await.map(drop)
}

async fn read(client: RemoteBroker, name: &str) -> Result<Option<Bytes>, Error> {
    let mut reader = Client::over(Arc::new(client)).pipe(name)?.reader().await?;
    Ok(reader.next().await?.map(|record| record.body))
}

#[tokio::test]
async fn only_a_known_key_is_served_and_only_by_the_relay_it_pins() {
    let rig = Rig::new("only-a-known-key");
    rig.knows(2, None);
    assert_eq!(code(rig.client(3).ping(Bytes::new()).await), Code::Access);
    let wrong = Some(RelayIdentity::Pinned(KeyPair::from_seed(&[9; 32]).public()));
    assert_eq!(code(rig.client_that_knows(2, wrong).ping(Bytes::new()).await), Code::Pin);
    let without = RemoteBroker::new(Arc::new(Afar(MemTransport, None)), &rig.url);
    assert_eq!(code(without.ping(Bytes::new()).await), Code::Key);
    let client = rig.client(2);
    let admitted = client.admitted().await.unwrap().unwrap();
    assert_eq!((admitted.namespace, admitted.admin), (owner(2), true));
    assert!(client.ping(Bytes::new()).await.is_ok() && client.keys().await.is_ok());
}

#[tokio::test]
async fn a_relay_without_a_gatekeeper_serves_its_machine_only() {
    let listener = MemListener::bind("no-gatekeeper").unwrap();
    let url = listener.url();
    let relay = Relay::new(LocalBroker::in_memory(Env::system()).unwrap()).listen(Box::new(Afar(listener, None)));
    tokio::spawn(async move { relay.serve().await });
    let client =
        RemoteBroker::new(Arc::new(Afar(MemTransport, None)), &url).with_signer(Arc::new(KeyPair::from_seed(&[2; 32])));
    assert_eq!(code(client.ping(Bytes::new()).await), Code::Access);
}

#[tokio::test]
async fn two_owners_have_two_pipes_of_one_name() {
    let rig = Rig::new("two-owners");
    rig.knows(2, None);
    rig.knows(3, None);
    write(rig.client(2), "logs").await.unwrap();
    let pipe = Client::over(Arc::new(rig.client(3))).pipe("logs").unwrap();
    assert_eq!(code(pipe.stat().await), Code::Access);
    assert_eq!(read(rig.client(2), "logs").await.unwrap().as_deref(), Some(&b"x"[..]));
}

#[tokio::test]
async fn grants_bound_what_a_key_does_and_forbidden_looks_like_unknown() {
    let rig = Rig::new("grants");
    let reads = Rights { read: true, ..Rights::NONE };
    let writes = Rights { write: true, create: true, ..Rights::NONE };
    rig.knows(2, None);
    rig.knows(4, Some(vec![grant(owner(4), "in/**", writes), grant(owner(4), "out", reads)]));
    write(rig.client(4), "in/a").await.unwrap();
    let forbidden = write(rig.client(4), "other").await.unwrap_err();
    let reading = Client::over(Arc::new(rig.client(4))).pipe("in/a").unwrap().stat().await.unwrap_err();
    let unknown = Client::over(Arc::new(rig.client(4))).pipe("out").unwrap().stat().await.unwrap_err();
    assert_eq!((forbidden.code(), forbidden.text()), (unknown.code(), unknown.text()));
    assert_eq!(reading, unknown);
    // It may read `out`, but not begin it.
    assert_eq!(read(rig.client(4), "out").await.unwrap_err(), unknown);
    assert_eq!(code(rig.client(4).keys().await), Code::Access);
}

#[tokio::test]
async fn a_revoked_key_is_told_and_gone() {
    let rig = Rig::new("revoked");
    rig.knows(2, None);
    let client = Client::over(Arc::new(rig.client(2)));
    let mut reader = client.pipe("logs").unwrap().reader().await.unwrap();
    rig.toy.known.lock().unwrap().clear();
    rig.toy.revoked.send_replace(true);
    assert_eq!(code(reader.next().await), Code::Access);
    assert_eq!(code(client.pipe("logs").unwrap().stat().await), Code::Access);
    rig.relay.idle_for(Duration::from_millis(1)).await;
}

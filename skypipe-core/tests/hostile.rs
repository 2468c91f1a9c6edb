//! What a stranger can make a relay allocate before it has proved a key: hostile first bytes, over links as if from another machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::alloc::System;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use skypipe_core::wire::{Hello, Message, Outbox, Request, SoftwareVersion};
use skypipe_core::{
    Admission, Caller, Code, Env, Error, Features, Gatekeeper, Invite, KeyPair, Link, LinkStream, Listener,
    LocalBroker, Owner, Peer, PublicKey, Relay,
};
use skypipe_test::proof::{Proof, cases, seed};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What a link may have allocated, from its first byte to its last, before it has proved a key.
const STRANGER_BYTES_MAX: usize = 64 * 1024;
/// What lies between the two ends of a link: the test's own, allocated before the count begins.
const PIPE_BYTES: usize = 4 * 1024;

/// Admits nobody.
struct Closed(KeyPair);

#[async_trait]
impl Gatekeeper for Closed {
    fn relay_key(&self) -> &KeyPair {
        &self.0
    }
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
    fn owner(&self, key: PublicKey) -> Owner {
        Owner(Some(key.0))
    }
    async fn admit(&self, _: PublicKey, _: Option<Bytes>) -> Result<Admission, Error> {
        Err(Error::new(Code::Access, "nobody"))
    }
    async fn invite(&self, _: &Caller, _: Invite) -> Result<Bytes, Error> {
        Err(Error::new(Code::Access, "nobody"))
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

struct Links(tokio::sync::Mutex<mpsc::Receiver<Box<dyn Link>>>);

#[async_trait]
impl Listener for Links {
    async fn accept(&self) -> Result<Box<dyn Link>, Error> {
        let link = self.0.lock().await.recv().await;
        link.ok_or_else(|| Error::new(Code::Disconnected, "the test is over"))
    }
    fn url(&self) -> String {
        "test:".to_owned()
    }
}

/// A link whose one stream is there.
struct OneStream(Mutex<Option<DuplexStream>>);

#[async_trait]
impl Link for OneStream {
    async fn open(&self) -> Result<LinkStream, Error> {
        Err(Error::new(Code::Disconnected, "nothing is opened here"))
    }
    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        let stream = self.0.lock().unwrap().take();
        match stream {
            Some(stream) => Ok(Some(LinkStream::bytes(stream))),
            None => std::future::pending().await,
        }
    }
    fn peer(&self) -> Peer {
        Peer::Network("127.0.0.1:1".to_owned())
    }
    fn path(&self) -> String {
        "test".to_owned()
    }
}

/// A few random numbers, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

/// First bytes that are meant to cost: lengths that are not so, frames of every kind, and what is good up to some point.
fn hostile(random: &mut Random) -> Vec<u8> {
    let mut good = Outbox::new();
    good.push(Hello::new(SoftwareVersion::CURRENT, Features::default()).into_frame()).unwrap();
    if random.below(2) == 0 {
        good.push(Request::Ping(Bytes::from(random.bytes(3000))).into_frame()).unwrap();
    }
    let mut bytes = good.to_vec();
    match random.below(6) {
        0 => bytes = random.bytes(20_000),
        1 => drop(bytes.splice(..0, frame(random, u32::MAX))),
        2 => {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        3 => {
            let claims = random.below(u64::from(u32::MAX)) as u32;
            bytes.extend(frame(random, claims));
        }
        4 => {
            let claims = random.below(4096) as u32;
            bytes.splice(..0, frame(random, claims));
        }
        _ => bytes.truncate(random.below(bytes.len() as u64) as usize),
    }
    let more = random.below(100_000);
    bytes.extend(random.bytes(more));
    bytes
}

/// The header of a frame that claims so many bytes.
fn frame(random: &mut Random, claims: u32) -> Vec<u8> {
    let mut header = claims.to_le_bytes().to_vec();
    header.extend([random.below(128) as u8, random.below(2) as u8, 0, 0]);
    header
}

/// Feeds them to a new link until the relay closes it. Gives what was allocated meanwhile, in all.
async fn allocated_for(links: &mpsc::Sender<Box<dyn Link>>, bytes: &[u8]) -> usize {
    let (mut own, relays) = tokio::io::duplex(PIPE_BYTES);
    // Both directions of the test's pipe get their memory before the count begins.
    let relays = filled_once(&mut own, relays).await;
    let mut answer = [0; PIPE_BYTES];
    let region = Region::new(ALLOCATOR);
    links.send(Box::new(OneStream(Mutex::new(Some(relays))))).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(own);
    let feeding = async {
        let _ = writing.write_all(bytes).await;
        let _ = writing.shutdown().await;
    };
    let hearing = async { while reading.read(&mut answer).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(feeding, hearing) }).await.unwrap();
    let change = region.change();
    change.bytes_allocated + usize::try_from(change.bytes_reallocated).unwrap_or(0)
}

async fn filled_once(own: &mut DuplexStream, mut relays: DuplexStream) -> DuplexStream {
    let mut bytes = [0; PIPE_BYTES];
    own.write_all(&bytes).await.unwrap();
    relays.read_exact(&mut bytes).await.unwrap();
    relays.write_all(&bytes).await.unwrap();
    own.read_exact(&mut bytes).await.unwrap();
    relays
}

/// One test, so that nothing else in this process allocates meanwhile.
#[test]
fn proof_p5e_strangers_allocate_little() {
    let cases = cases(300, 20_000, 1_000_000);
    let proof = Proof::begin("P5e", "hostile first bytes");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (mut failures, mut most) = (Vec::new(), 0);
    runtime.block_on(async {
        let (links, accepted) = mpsc::channel(1);
        let relay = Relay::new(LocalBroker::in_memory(Env::system()).unwrap())
            .with_gatekeeper(Arc::new(Closed(KeyPair::from_seed(&[1; 32]))))
            .listen(Box::new(Links(tokio::sync::Mutex::new(accepted))));
        tokio::spawn(async move { relay.serve().await });
        allocated_for(&links, &[]).await;
        for case in 0..cases {
            let bytes = hostile(&mut Random(seed().wrapping_mul(1 << 32) + case));
            let allocated = allocated_for(&links, &bytes).await;
            most = most.max(allocated);
            if allocated > STRANGER_BYTES_MAX {
                failures.push(format!("case {case}: {allocated} bytes for a stranger"));
            }
        }
    });
    println!("P5e: at most {most} bytes allocated for one stranger");
    proof.end(cases, &failures);
}

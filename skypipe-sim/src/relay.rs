//! The relay of a simulation: its lives and deaths.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use skypipe_core::{
    Admission, Caller, Code, Env, Error, Gatekeeper, Invite, KeyPair, LocalBroker, LocalBrokerOptions, Owner,
    ProcessId, PublicKey, Relay,
};
use tokio::task::JoinHandle;

use crate::disk::{Death, SimDisk};
use crate::net::Net;

/// Small, so that segments fill and are given back within a simulation.
const SEGMENT_BYTES: u64 = 64 * 1024;
/// How long a relay that stops in order may take.
const DRAIN: Duration = Duration::from_secs(10);

thread_local! {
    /// The network of the simulation that runs in this thread: whether a process lives is asked of a plain function.
    static NET: RefCell<Option<Net>> = const { RefCell::new(None) };
}

/// One relay, started again and again.
pub struct RelayHost {
    net: Net,
    disk: SimDisk,
    env: Env,
    life: Arc<Mutex<Option<Life>>>,
}

/// One start of it.
struct Life {
    relay: Relay,
    broker: Arc<LocalBroker>,
    serving: JoinHandle<()>,
}

impl RelayHost {
    /// A relay that is not started yet.
    pub fn new(net: Net, disk: SimDisk, env: Env) -> Self {
        NET.set(Some(net.clone()));
        let life = Arc::new(Mutex::new(None));
        let (of_net, of_life) = (net.clone(), life.clone());
        disk.on_death(Arc::new(move |_| {
            of_net.relay_dies();
            bury(&of_life);
        }));
        Self { net, disk, env, life }
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.lock().is_some()
    }

    /// Starts it.
    ///
    /// # Errors
    /// What keeps it from opening its data.
    pub fn start(&self) -> Result<(), Error> {
        let mut options = LocalBrokerOptions::default();
        options.log.segment_bytes = SEGMENT_BYTES;
        options.is_alive = is_alive;
        let broker = LocalBroker::on_disk(self.disk.mount(), self.env.clone(), options)?;
        let relay = Relay::new(broker.clone()).with_env(self.env.clone()).with_gatekeeper(Arc::new(Everybody::new()));
        let relay = relay.listen(self.net.listen());
        let serves = relay.clone();
        let serving = tokio::spawn(async move { drop(serves.serve().await) });
        *self.lock() = Some(Life { relay, broker, serving });
        Ok(())
    }

    /// Its machine dies now. All that it does from here on goes nowhere: its disk and its network are no longer there.
    pub fn die(&self, death: Death) {
        self.disk.die(death);
        self.net.relay_dies();
        bury(&self.life);
    }

    /// Stops it in order.
    pub async fn stop(&self) {
        let life = self.lock().take();
        // Whoever waits for this may stop waiting: then the machine is dead, or two relays had one disk.
        let dies = DiesUnlessDone { disk: self.disk.clone(), net: self.net.clone(), done: false };
        if let Some(Life { relay, broker, serving }) = life {
            relay.drain(DRAIN).await;
            broker.close(DRAIN).await;
            serving.abort();
            self.net.relay_dies();
        }
        dies.done();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills the machine when it is dropped, unless told that all is done.
struct DiesUnlessDone {
    disk: SimDisk,
    net: Net,
    done: bool,
}

impl DiesUnlessDone {
    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for DiesUnlessDone {
    fn drop(&mut self) {
        if !self.done {
            self.disk.die(Death::Kill);
            self.net.relay_dies();
        }
    }
}

fn bury(life: &Mutex<Option<Life>>) {
    let life = life.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(life) = life {
        life.serving.abort();
    }
}

fn is_alive(process: ProcessId) -> bool {
    NET.with_borrow(|net| net.as_ref().is_some_and(|net| net.is_alive(process)))
}

/// Lets everybody in who proves a key, to the same pipes.
struct Everybody {
    key: KeyPair,
}

impl Everybody {
    fn new() -> Self {
        Self { key: KeyPair::from_seed(&[1; 32]) }
    }
}

#[async_trait]
impl Gatekeeper for Everybody {
    fn relay_key(&self) -> &KeyPair {
        &self.key
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn owner(&self, _: PublicKey) -> Owner {
        Owner::SELF
    }

    async fn admit(&self, _: PublicKey, _: Option<Bytes>) -> Result<Admission, Error> {
        let revoked = std::future::pending().boxed();
        Ok(Admission { namespace: Owner::SELF, admin: false, grants: None, revoked })
    }

    async fn invite(&self, _: &Caller, _: Invite) -> Result<Bytes, Error> {
        Err(unused())
    }

    async fn keys(&self) -> Result<Vec<String>, Error> {
        Err(unused())
    }

    async fn add(&self, _: &str) -> Result<(), Error> {
        Err(unused())
    }

    async fn revoke(&self, _: &str) -> Result<u32, Error> {
        Err(unused())
    }
}

fn unused() -> Error {
    Error::new(Code::Unsupported, "nobody looks after this relay")
}

//! Serves any broker over any listener.
//!
//! ```text
//!   listener ─▶ link ─▶ stream ─▶ one task: hello, request, then ┌─ up:   link ─▶ broker
//!               │                                                └─ down: link ◀─ broker
//!               └ link.rs; between machines its first stream proves a key: admit.rs
//! ```

mod admit;
#[cfg(test)]
mod admit_tests;
mod flooders;
mod limits;
mod link;
mod over;
mod paced;
mod passing;
mod penalties;
mod pump;
mod rates;
mod source;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod watched;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::access::Access;
use crate::broker::Broker;
use crate::env::Env;
use crate::error::Error;
use crate::gatekeeper::Gatekeeper;
use crate::memory::Memory;
use crate::transport::{Link, Listener};
use crate::wire::SoftwareVersion;
use futures::future::join_all;

pub use limits::RelayLimits;
use state::{Phase, State};

/// Serves a [`Broker`] to the clients of its listeners. Cheap to clone: every clone is the same relay.
///
/// A client whose link closes is a broken link to the broker; what that means is the broker's to know. Processes of this machine
/// are let in by the operating system; links from elsewhere only with a [`Gatekeeper`].
#[derive(Clone)]
pub struct Relay {
    broker: Arc<dyn Broker>,
    limits: RelayLimits,
    memory: Memory,
    software: SoftwareVersion,
    gatekeeper: Option<Arc<dyn Gatekeeper>>,
    /// What it calls itself in tickets, beside the URLs of its listeners.
    public: Arc<Mutex<Vec<String>>>,
    env: Env,
    listeners: Arc<Mutex<Vec<Box<dyn Listener>>>>,
    state: Arc<State>,
}

impl Relay {
    /// A relay for this broker, without a listener yet.
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        let limits = RelayLimits::default();
        Self {
            broker,
            limits,
            memory: Memory::default(),
            software: SoftwareVersion::CURRENT,
            gatekeeper: None,
            public: Arc::default(),
            env: Env::system(),
            listeners: Arc::default(),
            state: Arc::new(State::new(&limits)),
        }
    }

    /// The same with other limits. Set them before it serves.
    #[must_use]
    pub fn with_limits(mut self, limits: RelayLimits) -> Self {
        self.limits = limits;
        self.state = Arc::new(State::new(&limits));
        self
    }

    /// The same with other clocks and randomness.
    #[must_use]
    pub fn with_env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// The same with these budgets for what peers make it hold: those of its broker, where that is in this process. Set them before it
    /// serves.
    #[must_use]
    pub fn with_memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// The same, calling itself a program of this version.
    #[must_use]
    pub fn with_version(mut self, software: SoftwareVersion) -> Self {
        self.software = software;
        self
    }

    /// The same, letting in over a network whoever proves a key that `gatekeeper` knows, to what that key may do. It checks what all
    /// callers do, so it comes before the first listener.
    #[must_use]
    pub fn with_gatekeeper(mut self, gatekeeper: Arc<dyn Gatekeeper>) -> Self {
        self.broker = Arc::new(Access::new(self.broker, gatekeeper.clone()));
        self.gatekeeper = Some(gatekeeper);
        self
    }

    /// The same, telling who is invited that it is reached at these URLs.
    #[must_use]
    pub fn with_public_urls(self, urls: Vec<String>) -> Self {
        *self.public.lock().unwrap_or_else(PoisonError::into_inner) = urls;
        self
    }

    /// The same with one more listener.
    #[must_use]
    pub fn listen(self, listener: Box<dyn Listener>) -> Self {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
        self
    }

    /// The URLs at which clients reach it, until it serves no more.
    pub fn urls(&self) -> Vec<String> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|l| l.url()).collect()
    }

    /// Serves on all listeners until [`Relay::drain`] begins; then closes them. Call it once.
    ///
    /// # Errors
    /// The first listener's error once none of them accepts any more.
    ///
    /// # Cancel safety
    /// A dropped call closes the listeners; streams that were accepted go on.
    pub async fn serve(&self) -> Result<(), Error> {
        let listeners = std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner));
        let relay = Arc::new(self.clone());
        let serving = join_all(listeners.iter().map(|l| relay.serve_listener(&**l)));
        tokio::select! {
            biased;
            ended = serving => ended.into_iter().next().map_or(Ok(()), Err),
            () = self.state.reached(Phase::Closed) => Ok(()),
        }
    }

    /// Stops: accepts nothing more, lets the broker write down what must be kept, tells every client `E_GOING_AWAY`. Returns when
    /// all streams are closed, at the latest after `limit`; those still open are closed then.
    ///
    /// # Cancel safety
    /// A dropped call leaves the relay closed for new clients; call it again to go on.
    pub async fn drain(&self, limit: Duration) {
        let end = tokio::time::Instant::now() + limit;
        self.state.enter(Phase::Closed);
        let _ = tokio::time::timeout_at(end, self.broker.drain()).await;
        self.state.enter(Phase::GoingAway);
        let _ = tokio::time::timeout_at(end, self.state.no_stream()).await;
        self.state.enter(Phase::Gone);
    }

    /// How many writers and readers are attached now.
    pub fn attached(&self) -> usize {
        self.state.attached()
    }

    /// Resolves when nothing was attached for `quiet` without a break.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind; a new one counts from its start.
    pub async fn idle_for(&self, quiet: Duration) {
        self.state.idle_for(quiet).await;
    }

    /// Resolves when a newer program on this machine asked this relay to step down; the owner drains it then.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind; what was asked stays asked.
    pub async fn step_down_asked(&self) {
        self.state.step_down_asked().await;
    }

    async fn serve_listener(self: &Arc<Self>, listener: &dyn Listener) -> Error {
        loop {
            match listener.accept().await {
                Ok(link) => self.serve_link(link).await,
                Err(error) => return error,
            }
        }
    }

    /// Takes the link's streams in a task of its own, which for a local socket ends with its one stream's start.
    async fn serve_link(self: &Arc<Self>, link: Box<dyn Link>) {
        if self.state.shuts_out(&link.peer(), self.env.now()) {
            return;
        }
        // A source that has its share of half-open links already gets no further one; the link is dropped, which closes it.
        let Some(half_open) = self.state.half_open_link(&link.peer()).await else { return };
        let (state, link) = (self.state.clone(), Arc::from(link));
        let serving = link::serve(self.clone(), Arc::clone(&link), half_open);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = serving => {}
                // The link stays until its streams have had their last words.
                () = state.reached(Phase::Closed) => state.reached(Phase::Gone).await,
            }
            drop(link);
        });
    }
}

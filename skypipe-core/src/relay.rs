//! Serves any broker over any listener.
//!
//! ```text
//!   listener ─▶ link ─▶ stream ─▶ one task: hello, request, then ┌─ up:   link ─▶ broker
//!                                                                └─ down: link ◀─ broker
//! ```

mod limits;
mod paced;
mod pump;
mod state;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::OwnedSemaphorePermit;

use crate::broker::Broker;
use crate::caller::{Caller, Peer};
use crate::error::{Code, Error};
use crate::transport::{Link, Listener};
use crate::wire::SoftwareVersion;

pub use limits::RelayLimits;
use state::{Phase, State};
use stream::Stream;

/// Serves a [`Broker`] to the clients of its listeners. Cheap to clone: every clone is the same relay.
///
/// A client whose link closes is a broken link to the broker; what that means is the broker's to know.
#[derive(Clone)]
pub struct Relay {
    broker: Arc<dyn Broker>,
    limits: RelayLimits,
    software: SoftwareVersion,
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
            software: SoftwareVersion::CURRENT,
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

    /// The same, calling itself a program of this version.
    #[must_use]
    pub fn with_version(mut self, software: SoftwareVersion) -> Self {
        self.software = software;
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
        let serving = join_all(listeners.iter().map(|l| self.serve_listener(&**l)));
        let mut phase = self.state.phase();
        tokio::select! {
            ended = serving => ended.into_iter().next().map_or(Ok(()), Err),
            _ = phase.wait_for(|p| *p >= Phase::Closed) => Ok(()),
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

    async fn serve_listener(&self, listener: &dyn Listener) -> Error {
        loop {
            match listener.accept().await {
                Ok(link) => self.serve_link(link).await,
                Err(error) => return error,
            }
        }
    }

    /// Takes the link's streams in a task of its own, which for a local socket ends with its one stream's start.
    async fn serve_link(&self, link: Box<dyn Link>) {
        let half_open = self.state.half_open().await;
        let relay = self.clone();
        tokio::spawn(async move {
            let mut phase = relay.state.phase();
            tokio::select! {
                () = relay.serve_streams(&*link, half_open) => {}
                _ = phase.wait_for(|p| *p >= Phase::Closed) => {}
            }
        });
    }

    /// A link that opens no stream in time is closed: it is half open as well.
    async fn serve_streams(&self, link: &dyn Link, half_open: Option<OwnedSemaphorePermit>) {
        let caller = caller_at(link).ok();
        let Ok(Ok(Some(first))) = tokio::time::timeout(self.limits.handshake, link.accept()).await else { return };
        tokio::spawn(Stream::new(self, caller.clone(), half_open).serve(first));
        while let Ok(Some(next)) = link.accept().await {
            let half_open = self.state.half_open().await;
            tokio::spawn(Stream::new(self, caller.clone(), half_open).serve(next));
        }
    }
}

/// Who calls over this link. The local socket admits its own user alone, who may do everything; over a network nobody is known
/// until there are keys.
fn caller_at(link: &dyn Link) -> Result<Caller, Error> {
    match link.peer() {
        Peer::Network(_) => Err(Error::new(Code::Access, "this relay serves its own machine only")),
        peer => Ok(Caller::in_process().at(peer)),
    }
}

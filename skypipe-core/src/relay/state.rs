//! What the streams of one relay share: its phase, and counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::flooders::Flooders;
use super::limits::RelayLimits;
use super::penalties::{Offence, Penalties};
use super::rates::Rates;
use super::source::{Counts, Share, Source};
use super::watched::Watched;
use crate::caller::Peer;
use crate::identity::PublicKey;
use crate::time::Time;

/// How far a relay is with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It serves.
    Serving,
    /// Nothing new is accepted; the broker drains.
    Closed,
    /// Clients are told.
    GoingAway,
    /// Time is up.
    Gone,
}

pub(super) struct State {
    phase: Watched<Phase>,
    streams: Watched<usize>,
    attached: Watched<usize>,
    step_down: Watched<bool>,
    half_open: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    sources: Counts,
    streams_max: usize,
    penalties: Mutex<Penalties>,
    flooders: Mutex<Flooders>,
    /// How fast keys write.
    pub(super) rates: Rates,
}

/// A place among what has not asked for anything yet, until it is dropped.
pub(super) struct HalfOpen {
    _place: OwnedSemaphorePermit,
    _share: Option<Share>,
}

impl State {
    pub(super) fn new(limits: &RelayLimits) -> Self {
        Self {
            phase: Watched::new(Phase::Serving),
            streams: Watched::new(0),
            attached: Watched::new(0),
            step_down: Watched::new(false),
            half_open: Arc::new(Semaphore::new(limits.half_open.min(Semaphore::MAX_PERMITS))),
            strangers: Arc::new(Semaphore::new(limits.half_open.min(Semaphore::MAX_PERMITS))),
            sources: Counts::new(limits.half_open_per_source),
            streams_max: limits.streams,
            penalties: Mutex::default(),
            flooders: Mutex::default(),
            rates: Rates::default(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Resolves in this phase or a later one.
    pub(super) async fn reached(&self, phase: Phase) {
        self.phase.wait_for(|now| now >= phase).await;
    }

    /// Goes to a later phase, never back.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.modify(|now| *now = phase.max(*now));
    }

    /// A place among the streams that have not asked for anything yet; waits for one. None when the relay is torn down.
    pub(super) async fn half_open(&self) -> Option<HalfOpen> {
        let place = self.half_open.clone().acquire_owned().await.ok()?;
        Some(HalfOpen { _place: place, _share: None })
    }

    /// The same for a link. Those of strangers have places of their own, so that a flood of them leaves this machine's alone; none
    /// when this peer's source has its share already.
    pub(super) async fn half_open_link(&self, peer: &Peer) -> Option<HalfOpen> {
        let Some(source) = Source::of(peer) else { return self.half_open().await };
        let share = self.sources.take(source)?;
        let place = self.strangers.clone().acquire_owned().await.ok()?;
        Some(HalfOpen { _place: place, _share: Some(share) })
    }

    /// Whether links of this peer's source are closed unseen for now.
    pub(super) fn shuts_out(&self, peer: &Peer, now: Time) -> bool {
        Source::punishable(peer).is_some_and(|source| self.penalties().shut_out(source, now))
    }

    /// The peer's link did that before it proved a key.
    pub(super) fn punish(&self, peer: &Peer, offence: Offence, now: Time) {
        if let Some(source) = Source::punishable(peer) {
            self.penalties().punish(source, offence, now);
        }
    }

    /// A link of this key flooded.
    pub(super) fn flooded(&self, key: PublicKey, now: Time) {
        self.flooders.lock().unwrap_or_else(PoisonError::into_inner).add(key, now);
    }

    /// How long the next link of this key is to wait.
    pub(super) fn waits(&self, key: PublicKey, now: Time) -> Duration {
        self.flooders.lock().unwrap_or_else(PoisonError::into_inner).wait(key, now)
    }

    fn penalties(&self) -> MutexGuard<'_, Penalties> {
        self.penalties.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a stream until the guard is dropped; none when there are too many.
    pub(super) fn stream(self: &Arc<Self>) -> Option<Counted> {
        let counted = Counted::new(self, |state| &state.streams);
        (self.streams.get() <= self.streams_max).then_some(counted)
    }

    /// Counts an attach until the guard is dropped.
    pub(super) fn attach(self: &Arc<Self>) -> Counted {
        Counted::new(self, |state| &state.attached)
    }

    pub(super) fn attached(&self) -> usize {
        self.attached.get()
    }

    pub(super) async fn no_stream(&self) {
        self.streams.wait_for(|count| count == 0).await;
    }

    pub(super) async fn idle_for(&self, quiet: Duration) {
        loop {
            self.attached.wait_for(|count| count == 0).await;
            if tokio::time::timeout(quiet, self.attached.changed_from(|count| count == 0)).await.is_err() {
                return;
            }
        }
    }

    pub(super) fn ask_step_down(&self) {
        self.step_down.modify(|asked| *asked = true);
    }

    pub(super) async fn step_down_asked(&self) {
        self.step_down.wait_for(|asked| asked).await;
    }
}

/// One of a count, until dropped.
pub(super) struct Counted {
    state: Arc<State>,
    which: fn(&State) -> &Watched<usize>,
}

impl Counted {
    fn new(state: &Arc<State>, which: fn(&State) -> &Watched<usize>) -> Self {
        which(state).modify(|count| *count += 1);
        Self { state: state.clone(), which }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.which)(&self.state).modify(|count| *count -= 1);
    }
}

//! One link of a relay: who is at its other end, and its streams.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::Relay;
use super::admit::{self, Guest};
use super::over::{Over, Why};
use super::penalties::Offence;
use super::state::HalfOpen;
use super::stream::Stream;
use crate::budget::Reservation;
use crate::caller::{Caller, Peer};
use crate::transport::{Link, LinkStream};

/// Serves the link until it ends. Each of its two parts lies in a box of its own, which has its very size and is given back when the
/// part is over: an idle link should cost little.
pub(super) fn serve(relay: Arc<Relay>, link: Arc<dyn Link>, half_open: HalfOpen) -> impl Future<Output = ()> + Send {
    let beginning = Box::pin(begin(relay, link, half_open));
    async move {
        if let Some(accepting) = beginning.await {
            accepting.await;
        }
    }
}

/// The first stream. A link that opens none in time is closed: it is half open as well.
async fn begin(relay: Arc<Relay>, link: Arc<dyn Link>, half_open: HalfOpen) -> Option<BoxFuture<'static, ()>> {
    let Ok(Ok(Some(first))) = tokio::time::timeout(relay.limits.handshake, link.accept()).await else {
        relay.state.punish(&link.peer(), Offence::Silence, relay.env.now());
        return None;
    };
    match link.peer() {
        // It proves a key. All streams end with the link, or when the key is revoked.
        Peer::Network(_) => {
            let Guest { caller, revoked, reserved } = admit::admit(&relay, &*link, first).await?;
            let over = Some(Over::new(relay.env.now()));
            let open = Open { relay, link, caller, over, _reserved: Some(reserved) };
            Some(open.until(revoked))
        }
        // The operating system vouches for who is at the other end: this very user, who may do everything.
        peer => {
            let open = Open { relay, link, caller: Caller::in_process().at(peer), over: None, _reserved: None };
            open.spawn(first, half_open);
            Some(open.until(Box::pin(std::future::pending())))
        }
    }
}

/// A link whose other end is known.
struct Open {
    relay: Arc<Relay>,
    link: Arc<dyn Link>,
    caller: Caller,
    /// Tells the streams that the link is over; none on this machine, where it is the stream.
    over: Option<Over>,
    /// What the link takes; none on this machine, where it is the stream.
    _reserved: Option<Reservation>,
}

impl Open {
    /// Takes streams until the link ends, what the caller was admitted to is over, or too many of them come to nothing.
    fn until(self, revoked: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let open = &self;
            tokio::select! {
                // A flood of streams must not keep what ends it from its turn.
                biased;
                () = revoked => open.farewell(open.why().await).await,
                () = open.flooded() => {
                    open.caller.key.into_iter().for_each(|key| open.relay.state.flooded(key, open.relay.env.now()));
                    open.farewell(Why::Floods).await;
                }
                () = open.accept() => {}
            }
        })
    }

    async fn accept(&self) {
        while let Ok(Some(stream)) = self.link.accept().await {
            // Boxed: it takes more than all the rest, and for a moment only.
            let Some(half_open) = Box::pin(self.relay.state.half_open()).await else { return };
            self.spawn(stream, half_open);
        }
    }

    fn spawn(&self, stream: LinkStream, half_open: HalfOpen) {
        let over = self.over.as_ref().map(Over::watch);
        tokio::spawn(Stream::new(&self.relay, self.caller.clone(), half_open, over).serve(stream));
    }

    /// What the key was admitted to is over: was it revoked, or is there only more or less of everything for it now?
    async fn why(&self) -> Why {
        let (Some(key), Some(gatekeeper)) = (self.caller.key, &self.relay.gatekeeper) else { return Why::Revoked };
        let Caller { namespace, grants, admin, .. } = &self.caller;
        match gatekeeper.admit(key, None).await {
            Ok(now) if now.namespace == *namespace && now.grants == *grants && now.admin == *admin => Why::Limited,
            _ => Why::Revoked,
        }
    }

    async fn flooded(&self) {
        match &self.over {
            Some(over) => over.flooded().await,
            None => std::future::pending().await,
        }
    }

    /// The streams say why, and let go of theirs.
    async fn farewell(&self, why: Why) {
        if let Some(over) = &self.over {
            let _ = Box::pin(tokio::time::timeout(self.relay.limits.farewell, over.declare(why))).await;
        }
    }
}

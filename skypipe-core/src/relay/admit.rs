//! Who is at the other end of a link, proved on its first stream.

use std::sync::Arc;

use futures::SinkExt;
use futures::future::BoxFuture;

use super::Relay;
use super::penalties::Offence;
use crate::broker::Features;
use crate::budget::Reservation;
use crate::caller::{Caller, Rights};
use crate::error::{Code, Error};
use crate::gatekeeper::{Admission, Gatekeeper};
use crate::memory::LINK_BYTES;
use crate::proof::{CHALLENGE_BYTES, RelayProof};
use crate::remote::next;
use crate::transport::{Link, LinkStream};
use crate::wire::{Admitted, FrameSink, FrameSource, Hello, Message, Prove, carry, error_frame, next_hello};

/// A caller that was let in, and when that is over.
pub(super) struct Guest {
    pub(super) caller: Caller,
    pub(super) revoked: BoxFuture<'static, ()>,
    /// What the link takes.
    pub(super) reserved: Reservation,
}

/// Asks for proof of a key on the link's first stream and lets the key in, or says why not.
pub(super) async fn admit(relay: &Relay, link: &dyn Link, stream: LinkStream) -> Option<Guest> {
    let (mut sink, mut source) = carry(stream);
    let reserved = relay.memory.sessions.take(LINK_BYTES);
    let admitted = match (&relay.gatekeeper, reserved) {
        (Some(gatekeeper), Some(reserved)) => {
            let proving = prove(relay, gatekeeper, link, &mut sink, &mut source, reserved);
            tokio::time::timeout(relay.limits.handshake, proving).await
        }
        (Some(_), None) => {
            Ok(Err(Error::new(Code::Busy, "the relay has as many links as its memory holds; try later")))
        }
        (None, _) => Ok(Err(Error::new(Code::Access, "this relay serves its own machine only"))),
    };
    let admitted = admitted.unwrap_or_else(|_| Err(Error::new(Code::Timeout, "no proof came in time")));
    match admitted {
        Ok(guest) => {
            let wait = guest.caller.key.map(|key| relay.state.waits(key, relay.env.now())).unwrap_or_default();
            if wait > std::time::Duration::ZERO {
                // Boxed: it is seldom there.
                Box::pin(tokio::time::sleep(wait)).await;
            }
            link.admitted();
            let said =
                Admitted { namespace: guest.caller.namespace, admin: guest.caller.admin, time: relay.env.clock.wall() };
            farewell(relay, &mut sink, said.into_frame()).await;
            Some(guest)
        }
        Err(error) => {
            if let Some(offence) = offence(error.code()) {
                relay.state.punish(&link.peer(), offence, relay.env.now());
            }
            refuse(relay, &mut sink, &error).await;
            None
        }
    }
}

async fn prove(
    relay: &Relay,
    gatekeeper: &Arc<dyn Gatekeeper>,
    link: &dyn Link,
    sink: &mut FrameSink,
    source: &mut FrameSource,
    reserved: Reservation,
) -> Result<Guest, Error> {
    let closed = || Error::new(Code::Disconnected, "the link closed before it proved a key");
    let (payload, hello) = next_hello(source).await?.ok_or_else(closed)?;
    hello.shared_version()?;
    let mut challenge = [0; CHALLENGE_BYTES];
    relay.env.random.fill(&mut challenge);
    // A stranger learns which versions are spoken here, and nothing of what the broker offers.
    let answer = Hello::new(relay.software, Features::default());
    let key = gatekeeper.relay_key();
    let (proof, answer) = RelayProof::answer(payload, &hello, answer, key, challenge, link.exporter())?;
    sink.feed(answer.into_frame()).await?;
    sink.flush().await?;
    let prove = next::<Prove>(source).await?.ok_or_else(closed)?;
    let key = proof.proved(&prove, key.public(), &gatekeeper.names())?;
    let ticket = (!prove.ticket.is_empty()).then_some(prove.ticket);
    let Admission { namespace, grants, admin, revoked } = gatekeeper.admit(key, ticket).await?;
    let caller = Caller { key: Some(key), namespace, rights: Rights::NONE, grants, admin, ..Caller::in_process() };
    Ok(Guest { caller: caller.at(link.peer()), revoked, reserved })
}

/// What a link did that ended like this; none where it is not to blame.
fn offence(code: Code) -> Option<Offence> {
    match code {
        Code::Access | Code::Ticket => Some(Offence::Refused),
        Code::Timeout | Code::Disconnected => Some(Offence::Silence),
        Code::Protocol | Code::FrameSize | Code::Integrity => Some(Offence::Nonsense),
        _ => None,
    }
}

/// Says why not, as an error: it is understood before the relay's hello as well as behind it.
async fn refuse(relay: &Relay, sink: &mut FrameSink, error: &Error) {
    if error.code() != Code::Disconnected {
        farewell(relay, sink, error_frame(error)).await;
    }
}

async fn farewell(relay: &Relay, sink: &mut FrameSink, frame: crate::wire::Frame) {
    super::stream::farewell(sink, frame, relay.limits.farewell).await;
}

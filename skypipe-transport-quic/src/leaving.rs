//! How a client's link ends: what was said last still leaves, and the relay is told.

use std::time::Duration;

use quinn::{Connection, VarInt};
use skypipe_tls::{LiveLink, LiveLinks};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

/// How long a stream's last bytes may take to be acknowledged after it was dropped: a few round trips over a bad path.
const LAST_BYTES_LIMIT: Duration = Duration::from_secs(1);
/// How long the packet that closes a connection may take to leave this machine.
const CLOSING_LIMIT: Duration = Duration::from_millis(100);
/// How often to look whether it has left.
const CLOSING_STEP: Duration = Duration::from_millis(1);
/// The application's code of an ordinary end. Nobody looks at it.
const NO_ERROR: VarInt = VarInt::from_u32(0);

/// Clients' links of this process whose relay was not told yet that they are over.
pub(crate) static LINKS: LiveLinks = LiveLinks::new();

/// Waits until this process has no client's link any more and the relays of all it had have been told, at most `limit`. For programs
/// that are about to end: drop all clients first, and call it within the runtime that they used. Else a relay learns only from
/// [`IDLE_LIMIT`](crate::IDLE_LIMIT) of silence that they went. Takes well under a millisecond where nothing was left to say.
///
/// # Cancel safety
/// A dropped call leaves nothing behind.
pub async fn goodbye(limit: Duration) {
    LINKS.none(limit).await;
}

/// Closes the connection of a link that nobody holds any more. Where no runtime is left, nothing can be said.
pub(crate) fn close(connection: Connection, counted: LiveLink) {
    let Ok(runtime) = Handle::try_current() else { return };
    runtime.spawn(async move {
        let _ = timeout(CLOSING_LIMIT, closed(&connection)).await;
        drop(counted);
    });
}

/// Keeps what `life` holds until `last_bytes` says that they arrived.
pub(crate) fn linger<L: Send + 'static>(life: L, last_bytes: impl Future<Output = ()> + Send + 'static) {
    let Ok(runtime) = Handle::try_current() else { return };
    runtime.spawn(async move {
        let _ = timeout(LAST_BYTES_LIMIT, last_bytes).await;
        drop(life);
    });
}

async fn closed(connection: &Connection) {
    if connection.close_reason().is_some() {
        return;
    }
    connection.close(NO_ERROR, b"");
    let before = connection.stats().udp_tx.datagrams;
    tokio::task::yield_now().await;
    while connection.stats().udp_tx.datagrams == before {
        sleep(CLOSING_STEP).await;
    }
}

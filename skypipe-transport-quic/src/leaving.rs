//! How a client's link ends: what was said last still leaves, and the relay is told.

use std::sync::LazyLock;
use std::time::Duration;

use quinn::{Connection, VarInt};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long a stream's last bytes may take to be acknowledged after it was dropped: a few round trips over a bad path.
const LAST_BYTES_LIMIT: Duration = Duration::from_secs(1);
/// How long the packet that closes a connection may take to leave this machine.
const CLOSING_LIMIT: Duration = Duration::from_millis(100);
/// How often to look whether it has left.
const CLOSING_STEP: Duration = Duration::from_millis(1);
/// The application's code of an ordinary end. Nobody looks at it.
const NO_ERROR: VarInt = VarInt::from_u32(0);

/// Links and streams of this process that are leaving.
static LEAVING: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// Waits until the relays of all links that were dropped have been told, and the last bytes of dropped streams arrived; at most
/// `limit`. For programs that are about to end: drop all clients first. Takes well under a millisecond where nothing is left to say.
///
/// # Cancel safety
/// A dropped call leaves nothing behind.
pub async fn goodbye(limit: Duration) {
    // The sender is static: it never closes.
    let _ = timeout(limit, LEAVING.subscribe().wait_for(|leaving| *leaving == 0)).await;
}

/// Closes the connection of a link that nobody holds any more. Where no runtime is left, nothing can be said.
pub(crate) fn close(connection: Connection) {
    spawn(async move { timeout(CLOSING_LIMIT, closed(&connection)).await });
}

/// Keeps what `life` holds until `last_bytes` says that they arrived.
pub(crate) fn linger<L: Send + 'static>(life: L, last_bytes: impl Future<Output = ()> + Send + 'static) {
    spawn(async move {
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

/// Counts from now on, not from the task's first turn.
fn spawn<T>(work: impl Future<Output = T> + Send + 'static) {
    let Ok(runtime) = Handle::try_current() else { return };
    let counted = Counted::new();
    runtime.spawn(async move {
        work.await;
        drop(counted);
    });
}

struct Counted;

impl Counted {
    fn new() -> Self {
        LEAVING.send_modify(|leaving| *leaving += 1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        LEAVING.send_modify(|leaving| *leaving -= 1);
    }
}

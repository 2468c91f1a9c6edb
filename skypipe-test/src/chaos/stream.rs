//! Connections: TCP and local sockets.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::faults::{Blow, Step, Way};
use super::shared::Shared;
use super::socket::{Gate, Socket};

/// Connections at once; who opens one more waits.
const CONNECTIONS_MAX: usize = 1024;
/// Read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks on their way in one direction: a MiB, which is what latency keeps under way at most.
const CHUNKS_MAX: usize = 16;

/// Takes connections until it is dropped, which ends them all.
pub(super) async fn serve<G: Gate>(gate: G, shared: Arc<Shared>) {
    let room = Semaphore::new(CONNECTIONS_MAX);
    let (gate, room) = (Arc::new(gate), Arc::new(room));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let Ok(client) = gate.accept().await else { continue };
        let (gate, shared) = (gate.clone(), shared.clone());
        shared.connected();
        connections.spawn(async move {
            let _place = place;
            // Nobody there is a closed connection, as behind any proxy.
            let Ok(upstream) = gate.connect().await else { return client.will_reset() };
            carry(client, upstream, &shared).await;
        });
    }
}

/// Carries both ways until both are over, or one is struck.
async fn carry<S: Socket>(client: S, upstream: S, shared: &Shared) {
    let blow = shared.blow();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let both = async {
        tokio::try_join!(
            pump(Way::Up, &mut from_client, &mut to_upstream, shared),
            pump(Way::Down, &mut from_upstream, &mut to_client, shared),
        )
    };
    let ended = tokio::select! {
        ended = both => ended.err().unwrap_or(Blow::Close),
        blow = blow => blow,
    };
    if ended == Blow::Reset {
        from_client.unsplit(to_client).will_reset();
        from_upstream.unsplit(to_upstream).will_reset();
        return;
    }
    // The end goes out by itself, before what was not read here makes a reset of it.
    let _ = to_client.shutdown().await;
    let _ = to_upstream.shutdown().await;
}

/// Carries one way. Its end ends that direction only; an error is how the whole connection goes.
async fn pump<S: Socket>(way: Way, from: &mut ReadHalf<S>, to: &mut WriteHalf<S>, shared: &Shared) -> Result<(), Blow> {
    let (send, receive) = mpsc::channel(CHUNKS_MAX);
    tokio::try_join!(take_in(way, from, send, shared), give_out(way, receive, to, shared)).map(drop)
}

type Chunk = (Instant, Vec<u8>);

async fn take_in<S: Socket>(
    way: Way,
    from: &mut ReadHalf<S>,
    chunks: mpsc::Sender<Chunk>,
    shared: &Shared,
) -> Result<(), Blow> {
    let faults = shared.faults();
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        // Whoever resets one side has reset the other.
        if from.read_buf(&mut chunk).await.map_err(|_| Blow::Reset)? == 0 {
            return Ok(());
        }
        let due = Instant::now() + faults.borrow().of(way).latency;
        if chunks.send((due, chunk)).await.is_err() {
            return Ok(());
        }
    }
}

async fn give_out<S: Socket>(
    way: Way,
    mut chunks: mpsc::Receiver<Chunk>,
    to: &mut WriteHalf<S>,
    shared: &Shared,
) -> Result<(), Blow> {
    let mut giving = Giving { way, carried: 0, to, shared };
    giving.cut()?;
    while let Some((due, chunk)) = chunks.recv().await {
        sleep_until(due).await;
        giving.give(chunk).await?;
    }
    giving.to.shutdown().await.map_err(|_| Blow::Reset)
}

/// One direction of a connection, as its faults let it through.
struct Giving<'a, S> {
    way: Way,
    carried: u64,
    to: &'a mut WriteHalf<S>,
    shared: &'a Shared,
}

impl<S: Socket> Giving<'_, S> {
    async fn give(&mut self, mut chunk: Vec<u8>) -> Result<(), Blow> {
        let mut faults = self.shared.faults();
        let mut rest = &mut chunk[..];
        while !rest.is_empty() {
            let now = *faults.borrow_and_update().of(self.way);
            match now.step(self.carried, rest.len()) {
                Step::Wait => drop(faults.changed().await),
                Step::Pass(count, pause) => {
                    let (bytes, later) = rest.split_at_mut(count);
                    now.spoil(self.carried, bytes);
                    self.write(bytes).await?;
                    rest = later;
                    if !pause.is_zero() {
                        sleep(pause).await;
                    }
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Blow> {
        self.to.write_all(bytes).await.map_err(|_| Blow::Reset)?;
        self.carried += bytes.len() as u64;
        self.shared.count(self.way, bytes.len());
        self.cut()
    }

    fn cut(&self) -> Result<(), Blow> {
        if self.shared.cut(self.way, self.carried) { Err(Blow::Close) } else { Ok(()) }
    }
}

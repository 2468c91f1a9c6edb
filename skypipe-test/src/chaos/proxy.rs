//! The proxy as tests hold it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

use super::faults::{Blow, Times, Way};
use super::shared::Shared;
use super::socket::{TcpGate, UnixGate};
use super::{stream, udp};

/// Stands between clients and a relay. Everything it carries ends when it is dropped.
pub struct Proxy {
    address: Option<SocketAddr>,
    path: Option<PathBuf>,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Carries TCP connections to `upstream`.
    ///
    /// # Errors
    /// When no port is free.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    pub async fn tcp(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(beside(upstream)).await?;
        let (address, shared) = (listener.local_addr()?, Shared::new(0));
        let serving = tokio::spawn(stream::serve(TcpGate(listener, upstream), shared.clone()));
        Ok(Self { address: Some(address), path: None, shared, serving })
    }

    /// Carries datagrams to `upstream`; each client has a port of its own there. The seed of what is lost is drawn anew and printed.
    ///
    /// # Errors
    /// When no port is free.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    pub async fn udp(upstream: SocketAddr) -> io::Result<Self> {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Self::udp_seeded(upstream, seed).await
    }

    /// As [`Proxy::udp`], with the seed of a run that failed.
    ///
    /// # Errors
    /// As [`Proxy::udp`].
    ///
    /// # Cancel safety
    /// As [`Proxy::udp`].
    pub async fn udp_seeded(upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        println!("chaos: seed {seed}");
        let socket = udp::socket(beside(upstream)).await?;
        let (address, shared) = (socket.local_addr()?, Shared::new(seed));
        let serving = tokio::spawn(udp::serve(socket, upstream, shared.clone()));
        Ok(Self { address: Some(address), path: None, shared, serving })
    }

    /// Carries connections of a local socket at `path`, which is made, to the one at `upstream`.
    ///
    /// # Errors
    /// When there is something at `path`.
    pub fn unix(path: &Path, upstream: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let shared = Shared::new(0);
        let serving = tokio::spawn(stream::serve(UnixGate(listener, upstream.to_owned()), shared.clone()));
        Ok(Self { address: None, path: Some(path.to_owned()), shared, serving })
    }

    /// Where clients connect to; of TCP and UDP.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("a proxy of local sockets has no address")
    }

    /// Ends each connection when so many of its bytes went this way; they arrive. Of datagrams: when so many of a client went this
    /// way, nothing of it passes any more, in either direction.
    pub fn cut_at(&self, way: Way, count: u64, times: Times) {
        self.shared.change(|faults| faults.of_mut(way).cut_at = Some((count, times)));
    }

    /// Closes all connections, now.
    pub fn cut_now(&self) {
        self.blow(Blow::Close);
    }

    /// Resets all connections, now.
    pub fn reset_now(&self) {
        self.blow(Blow::Reset);
    }

    /// Lets nothing pass this way, or again. A connection's bytes wait meanwhile, as a sender's kernel would send them again.
    pub fn black_hole(&self, way: Way, on: bool) {
        self.shared.change(|faults| faults.of_mut(way).black_hole = on);
    }

    /// Lets no more than so many bytes of a connection pass in a second; none is no limit.
    pub fn rate(&self, way: Way, bytes_a_second: Option<u64>) {
        self.shared.change(|faults| faults.of_mut(way).rate = bytes_a_second);
    }

    /// Lets what comes from now on arrive so much later, in both directions each.
    pub fn latency(&self, latency: Duration) {
        self.shared.change(|faults| {
            faults.of_mut(Way::Up).latency = latency;
            faults.of_mut(Way::Down).latency = latency;
        });
    }

    /// Flips a bit of this byte of each connection, counted from 0; of datagrams, in this datagram of each client.
    pub fn flip_at(&self, way: Way, number: u64) {
        self.shared.change(|faults| faults.of_mut(way).flip_at = Some(number));
    }

    /// Loses this part of the datagrams.
    pub fn loss(&self, way: Way, part: f64) {
        self.shared.change(|faults| faults.of_mut(way).loss = part);
    }

    /// Doubles this part of the datagrams.
    pub fn doubling(&self, way: Way, part: f64) {
        self.shared.change(|faults| faults.of_mut(way).doubling = part);
    }

    /// Delivers this part of the datagrams behind later ones.
    pub fn reordering(&self, way: Way, part: f64) {
        self.shared.change(|faults| faults.of_mut(way).reordering = part);
    }

    /// Gives every client a new port upstream; what comes to the old one is lost. Of datagrams.
    pub fn rebind(&self) {
        self.shared.change(|faults| faults.rebinds += 1);
    }

    /// Takes all faults off.
    pub fn heal(&self) {
        self.shared.change(|faults| {
            *faults.of_mut(Way::Up) = Default::default();
            *faults.of_mut(Way::Down) = Default::default();
        });
    }

    /// Bytes that went this way so far, of all connections.
    pub fn carried(&self, way: Way) -> u64 {
        self.shared.carried(way).load(Ordering::Relaxed)
    }

    /// Connections, or clients with datagrams, that came so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections()
    }

    fn blow(&self, blow: Blow) {
        self.shared.change(|faults| faults.blows = (faults.blows.0 + 1, Some(blow)));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A free port on the loopback of the same family.
fn beside(upstream: SocketAddr) -> SocketAddr {
    if upstream.is_ipv4() { (Ipv4Addr::LOCALHOST, 0).into() } else { (Ipv6Addr::LOCALHOST, 0).into() }
}

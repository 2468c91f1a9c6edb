//! Datagrams: each client has a socket of its own upstream, as behind a NAT.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::datagrams::Datagrams;
use super::faults::Way;
use super::shared::Shared;

/// Clients at once; datagrams of one more are lost.
const CLIENTS_MAX: usize = 1024;
/// Datagrams of one client that wait for its task; one more is lost.
const QUEUE_MAX: usize = 1024;
/// The longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Asked of the kernel for each socket: a sender's burst fits.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// A socket beside the one at `address`, on the same side of the machine.
pub(super) async fn socket(near: SocketAddr) -> io::Result<UdpSocket> {
    let any = if near.ip().is_loopback() { SocketAddr::new(near.ip(), 0) } else { unspecified(near) };
    let socket = UdpSocket::bind(any).await?;
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES);
    Ok(socket)
}

fn unspecified(near: SocketAddr) -> SocketAddr {
    if near.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 8], 0).into() }
}

/// Carries datagrams until it is dropped.
pub(super) async fn serve(socket: UdpSocket, upstream: SocketAddr, shared: Arc<Shared>) {
    let socket = Arc::new(socket);
    let mut clients = HashMap::<SocketAddr, mpsc::Sender<Vec<u8>>>::new();
    let mut flows = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // An error here is an earlier datagram's, such as a client that is gone.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        if clients.len() >= CLIENTS_MAX && !clients.contains_key(&client) {
            continue;
        }
        let queue = clients.entry(client).or_insert_with(|| {
            let (send, receive) = mpsc::channel(QUEUE_MAX);
            let flow = Flow::new(socket.clone(), client, upstream, shared.clone());
            flows.spawn(flow.run(receive));
            send
        });
        let _ = queue.try_send(buffer[..length].to_vec());
    }
}

/// One client.
struct Flow {
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    upstream: SocketAddr,
    shared: Arc<Shared>,
    up: Datagrams,
    down: Datagrams,
}

impl Flow {
    fn new(socket: Arc<UdpSocket>, client: SocketAddr, upstream: SocketAddr, shared: Arc<Shared>) -> Self {
        // Each direction of each client has its own randomness, so that one does not move the other.
        let seed = shared.seed.wrapping_add(2 * shared.connected());
        let (up, down) = (Datagrams::new(seed), Datagrams::new(seed + 1));
        Self { socket, client, upstream, shared, up, down }
    }

    async fn run(mut self, mut from_client: mpsc::Receiver<Vec<u8>>) {
        let mut faults = self.shared.faults();
        while let Ok(outside) = socket(self.upstream).await {
            let port = faults.borrow_and_update().rebinds;
            let rebound = faults.wait_for(|now| now.rebinds > port);
            tokio::select! {
                () = self.carry(&outside, &mut from_client) => return,
                _ = rebound => {}
            }
        }
    }

    /// Carries both ways over one socket outside, until the proxy is dropped.
    async fn carry(&mut self, outside: &UdpSocket, from_client: &mut mpsc::Receiver<Vec<u8>>) {
        let faults = self.shared.faults();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            self.send_due(outside).await;
            let due = [self.up.delayed.next_due(), self.down.delayed.next_due()].into_iter().flatten().min();
            tokio::select! {
                datagram = from_client.recv() => {
                    let Some(datagram) = datagram else { return };
                    self.cut(Way::Up);
                    self.up.came(datagram, Instant::now(), faults.borrow().of(Way::Up));
                }
                received = outside.recv_from(&mut buffer) => {
                    let Ok((length, from)) = received else { continue };
                    if from == self.upstream {
                        self.cut(Way::Down);
                        self.down.came(buffer[..length].to_vec(), Instant::now(), faults.borrow().of(Way::Down));
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// A client that is cut off is cut off both ways, for good; a cut for one client is used up by it.
    fn cut(&mut self, way: Way) {
        let seen = if way == Way::Up { self.up.seen } else { self.down.seen };
        if !self.up.is_cut && self.shared.cut(way, seen) {
            (self.up.is_cut, self.down.is_cut) = (true, true);
        }
    }

    /// Sends what has arrived. One that cannot be sent is lost.
    async fn send_due(&mut self, outside: &UdpSocket) {
        let now = Instant::now();
        while let Some(datagram) = self.up.delayed.pop(now) {
            self.shared.count(Way::Up, datagram.len());
            let _ = outside.send_to(&datagram, self.upstream).await;
        }
        while let Some(datagram) = self.down.delayed.pop(now) {
            self.shared.count(Way::Down, datagram.len());
            let _ = self.socket.send_to(&datagram, self.client).await;
        }
    }
}

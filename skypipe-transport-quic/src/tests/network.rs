//! Networks that change or fall silent.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use super::*;

/// The number of an outer port that there is not: nothing comes through.
const NO_PORT: u32 = 2;

/// Stands between a client and a relay, as a NAT does.
struct Nat {
    address: SocketAddr,
    /// Which of its outer ports is used now.
    outer: Arc<AtomicU32>,
    tasks: Vec<AbortHandle>,
}

impl Nat {
    async fn before(relay: SocketAddr) -> Self {
        let inner = Arc::new(UdpSocket::bind(any_port()).await.unwrap());
        let outer = [UdpSocket::bind(any_port()).await.unwrap(), UdpSocket::bind(any_port()).await.unwrap()];
        let (address, ports, used) = (inner.local_addr().unwrap(), outer.map(Arc::new), Arc::new(AtomicU32::new(0)));
        let client = Arc::new(std::sync::Mutex::new(None));
        let mut tasks = Vec::new();
        for (number, port) in ports.clone().into_iter().enumerate() {
            let (inner, used, client) = (inner.clone(), used.clone(), client.clone());
            tasks.push(tokio::spawn(async move {
                let mut packet = vec![0; 2048];
                while let Ok((length, _)) = port.recv_from(&mut packet).await {
                    let to = *client.lock().unwrap();
                    if let Some(to) = to.filter(|_| used.load(Ordering::SeqCst) == number as u32) {
                        inner.send_to(&packet[..length], to).await.unwrap();
                    }
                }
            }));
        }
        let choice = used.clone();
        tasks.push(tokio::spawn(async move {
            let mut packet = vec![0; 2048];
            while let Ok((length, from)) = inner.recv_from(&mut packet).await {
                *client.lock().unwrap() = Some(from);
                if let Some(port) = ports.get(choice.load(Ordering::SeqCst) as usize) {
                    port.send_to(&packet[..length], relay).await.unwrap();
                }
            }
        }));
        Self { address, outer: used, tasks: tasks.iter().map(tokio::task::JoinHandle::abort_handle).collect() }
    }

    fn choose(&self, port: u32) {
        self.outer.store(port, Ordering::SeqCst);
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn through_nat(times: Times) -> (Nat, Box<dyn Link>, Box<dyn Link>, QuicListener) {
    let listener = QuicListener::bind_with(any_port(), &relay_key(), times).unwrap();
    let nat = Nat::before(listener.address()).await;
    let url = format!("quic://{}@{}", relay_key().public(), nat.address);
    let (near, far) = meet(&QuicTransport { times }, &listener, &url).await;
    (nat, near, far, listener)
}

#[tokio::test]
async fn a_client_whose_address_changes_keeps_its_link() {
    let (nat, near, far, _listener) = through_nat(Times::default()).await;
    let (mut here, mut there) = stream(&*near, &*far).await;
    let before = far.path();
    nat.choose(1);
    here.write_all(b"from elsewhere").await.unwrap();
    here.flush().await.unwrap();
    let mut read = [0; 14];
    soon(there.read_exact(&mut read)).await.unwrap();
    there.write_all(b"welcome").await.unwrap();
    there.flush().await.unwrap();
    soon(here.read_exact(&mut [0; 7])).await.unwrap();
    assert_ne!(far.path(), before);
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_noticed_at_both_ends() {
    let (nat, near, far, _listener) = through_nat(impatient()).await;
    let (mut here, mut there) = stream(&*near, &*far).await;
    // Longer than it may be silent: a link with nothing to say stands.
    let said = tokio::time::timeout(3 * impatient().idle, here.read_u8()).await;
    assert!(said.is_err(), "{said:?}");
    nat.choose(NO_PORT);
    let (here, there) = soon(async { tokio::join!(here.read_u8(), there.read_u8()) }).await;
    assert_eq!((here.unwrap_err().kind(), there.unwrap_err().kind()), (ErrorKind::TimedOut, ErrorKind::TimedOut));
    assert_eq!(near.accept().await.err().unwrap().code(), skypipe_core::Code::Disconnected);
}

#[test]
fn a_relay_that_was_started_anew_says_so_at_once() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, clients) = (runtime(), runtime());
    let listener = first.block_on(async { listener() });
    let address = listener.address();
    clients.block_on(async move {
        let nat = Nat::before(address).await;
        let url = format!("quic://{}@{}", relay_key().public(), nat.address);
        let transport = QuicTransport::default();
        let serving = std::thread::spawn(move || {
            let far = first.block_on(listener.accept()).unwrap();
            let there = first.block_on(far.accept()).unwrap().unwrap();
            (first, listener, far, there)
        });
        let near = soon(transport.connect(&url)).await.unwrap();
        let mut here = bytes(near.open().await.unwrap());
        here.write_all(b"!").await.unwrap();
        here.flush().await.unwrap();
        let relay = tokio::task::spawn_blocking(|| serving.join().unwrap()).await.unwrap();
        // What it may say when it goes does not come through.
        nat.choose(NO_PORT);
        tokio::task::spawn_blocking(move || drop(relay)).await.unwrap();
        let _again = QuicListener::bind(address, &relay_key()).unwrap();
        nat.choose(0);
        here.write_all(b"anybody?").await.unwrap();
        here.flush().await.unwrap();
        let start = tokio::time::Instant::now();
        let error = soon(here.read_u8()).await.unwrap_err();
        assert!(error.to_string().contains("started anew"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    });
}

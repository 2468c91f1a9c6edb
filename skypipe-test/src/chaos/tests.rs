//! Each fault, seen from both sides of a proxy.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use tokio::time::timeout;

use super::*;

/// So long a test waits for what must come.
const SOON: Duration = Duration::from_secs(10);
/// So long nothing must come.
const A_WHILE: Duration = Duration::from_millis(50);

/// Both ends of connections through a proxy.
struct Tcp {
    relay: TcpListener,
    proxy: Proxy,
}

impl Tcp {
    async fn new() -> Self {
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::tcp(relay.local_addr().unwrap()).await.unwrap();
        Self { relay, proxy }
    }

    /// A client's end and the relay's.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.proxy.address()).await.unwrap();
        (client, self.relay.accept().await.unwrap().0)
    }
}

async fn all_of(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    timeout(SOON, stream.read_to_end(&mut bytes)).await.unwrap().map(|_| bytes)
}

async fn says_nothing(stream: &mut TcpStream) {
    assert!(timeout(A_WHILE, stream.read_u8()).await.is_err());
}

#[tokio::test]
async fn without_faults_all_arrives_and_one_way_may_end_before_the_other() {
    let tcp = Tcp::new().await;
    let (mut client, mut relay) = tcp.connect().await;
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let sending = async {
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
        all_of(&mut client).await.unwrap()
    };
    let answering = async {
        let got = all_of(&mut relay).await.unwrap();
        relay.write_all(b"thanks").await.unwrap();
        drop(relay);
        got
    };
    let (answer, got) = tokio::join!(sending, answering);
    assert!(got == bytes && answer == b"thanks");
    assert_eq!((tcp.proxy.carried(Way::Up), tcp.proxy.carried(Way::Down)), (1_000_000, 6));
}

#[tokio::test]
async fn a_connection_is_cut_behind_a_byte_and_the_next_one_is_free_or_not() {
    let tcp = Tcp::new().await;
    for (way, times, cut) in [
        (Way::Up, Times::Once, [true, false]),
        (Way::Up, Times::Always, [true, true]),
        (Way::Down, Times::Always, [true, true]),
    ] {
        tcp.proxy.heal();
        tcp.proxy.cut_at(way, 5, times);
        for cut in cut {
            let (mut client, mut relay) = tcp.connect().await;
            let (from, to) = if way == Way::Up { (&mut client, &mut relay) } else { (&mut relay, &mut client) };
            from.write_all(b"0123456789").await.unwrap();
            let mut bytes = [0; 10];
            let expected = if cut { 5 } else { 10 };
            to.read_exact(&mut bytes[..expected]).await.unwrap();
            assert_eq!(&bytes[..expected], &b"0123456789"[..expected]);
            if cut {
                assert_eq!(to.read(&mut bytes).await.unwrap(), 0);
                // The other side sees it too: as an end, or as a reset if it had said more.
                assert!(all_of(from).await.unwrap_or_default().is_empty());
            } else {
                says_nothing(to).await;
            }
        }
    }
}

#[tokio::test]
async fn a_cut_behind_no_byte_is_a_connection_that_ends_at_once() {
    let tcp = Tcp::new().await;
    tcp.proxy.cut_at(Way::Down, 0, Times::Once);
    let (mut client, mut relay) = tcp.connect().await;
    assert!(all_of(&mut client).await.unwrap().is_empty() && all_of(&mut relay).await.unwrap().is_empty());
}

#[tokio::test]
async fn connections_are_cut_and_reset_now() {
    let tcp = Tcp::new().await;
    for reset in [false, true] {
        let (mut client, mut relay) = tcp.connect().await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(relay.read_u8().await.unwrap(), b'x');
        if reset {
            tcp.proxy.reset_now()
        } else {
            tcp.proxy.cut_now()
        }
        for end in [&mut client, &mut relay] {
            let ended = all_of(end).await.map_err(|e| e.kind());
            assert_eq!(ended, if reset { Err(io::ErrorKind::ConnectionReset) } else { Ok(vec![]) });
        }
    }
    assert_eq!(tcp.proxy.connections(), 2);
}

#[tokio::test]
async fn whoever_resets_one_side_has_reset_the_other() {
    let tcp = Tcp::new().await;
    let (client, mut relay) = tcp.connect().await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(all_of(&mut relay).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_black_hole_is_one_way_and_gives_back_what_it_held() {
    let tcp = Tcp::new().await;
    let (mut client, mut relay) = tcp.connect().await;
    tcp.proxy.black_hole(Way::Up, true);
    client.write_all(b"x").await.unwrap();
    relay.write_all(b"y").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'y');
    says_nothing(&mut relay).await;
    tcp.proxy.black_hole(Way::Up, false);
    assert_eq!(timeout(SOON, relay.read_u8()).await.unwrap().unwrap(), b'x');
}

#[tokio::test]
async fn who_is_not_read_is_held_up() {
    let tcp = Tcp::new().await;
    let (mut client, relay) = tcp.connect().await;
    tcp.proxy.black_hole(Way::Up, true);
    let mut sent = 0;
    let chunk = vec![0; 1 << 20];
    while let Ok(Ok(count)) = timeout(A_WHILE, client.write(&chunk)).await {
        sent += count;
        assert!(sent < 64 << 20, "it takes without an end");
    }
    drop(relay);
}

#[tokio::test]
async fn a_trickle_is_as_slow_as_it_says() {
    let tcp = Tcp::new().await;
    tcp.proxy.rate(Way::Up, Some(50));
    let (mut client, mut relay) = tcp.connect().await;
    let start = Instant::now();
    client.write_all(&[7; 12]).await.unwrap();
    relay.read_exact(&mut [0; 12]).await.unwrap();
    let took = start.elapsed();
    assert!((Duration::from_millis(190)..Duration::from_secs(2)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn latency_holds_up_each_way_but_not_the_rate() {
    let tcp = Tcp::new().await;
    tcp.proxy.latency(Duration::from_millis(40));
    let (mut client, mut relay) = tcp.connect().await;
    let start = Instant::now();
    client.write_all(b"x").await.unwrap();
    relay.read_u8().await.unwrap();
    relay.write_all(&vec![1; 1 << 20]).await.unwrap();
    client.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
    let took = start.elapsed();
    assert!((Duration::from_millis(80)..Duration::from_secs(1)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_bit_is_flipped() {
    let tcp = Tcp::new().await;
    tcp.proxy.flip_at(Way::Up, 3);
    let (mut client, mut relay) = tcp.connect().await;
    client.write_all(&[0; 6]).await.unwrap();
    let mut got = [9; 6];
    relay.read_exact(&mut got).await.unwrap();
    assert_eq!(got, [0, 0, 0, 1, 0, 0]);
}

#[tokio::test]
async fn local_sockets_are_cut_too() {
    let folder = tempfile::tempdir().unwrap();
    let relay = UnixListener::bind(folder.path().join("relay")).unwrap();
    let proxy = Proxy::unix(&folder.path().join("proxy"), &folder.path().join("relay")).unwrap();
    proxy.cut_at(Way::Up, 2, Times::Once);
    let mut client = UnixStream::connect(folder.path().join("proxy")).await.unwrap();
    let (mut relay, _) = relay.accept().await.unwrap();
    client.write_all(b"abc").await.unwrap();
    let mut got = Vec::new();
    timeout(SOON, relay.read_to_end(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, b"ab");
}

/// A client and a relay with datagrams through a proxy.
struct Udp {
    client: UdpSocket,
    relay: UdpSocket,
    proxy: Proxy,
}

impl Udp {
    async fn new() -> Self {
        let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::udp_seeded(relay.local_addr().unwrap(), 1).await.unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(proxy.address()).await.unwrap();
        Self { client, relay, proxy }
    }

    /// Sends one up; what arrives, and from where.
    async fn up(&self, datagram: &[u8]) -> (Vec<u8>, SocketAddr) {
        self.client.send(datagram).await.unwrap();
        self.arrived().await.expect("a datagram")
    }

    async fn arrived(&self) -> Option<(Vec<u8>, SocketAddr)> {
        let mut got = [0; 100];
        let (length, from) = timeout(A_WHILE * 4, self.relay.recv_from(&mut got)).await.ok()?.unwrap();
        Some((got[..length].to_vec(), from))
    }
}

#[tokio::test]
async fn datagrams_go_both_ways_and_a_nat_gives_new_ports() {
    let udp = Udp::new().await;
    let (datagram, first) = udp.up(b"one").await;
    assert_eq!(datagram, b"one");
    udp.proxy.rebind();
    let (_, second) = udp.up(b"two").await;
    assert_ne!(first, second);
    // The old port is nobody's any more.
    udp.relay.send_to(b"old", first).await.ok();
    udp.relay.send_to(b"new", second).await.unwrap();
    let mut got = [0; 100];
    let length = timeout(SOON, udp.client.recv(&mut got)).await.unwrap().unwrap();
    assert_eq!((&got[..length], udp.proxy.connections()), (&b"new"[..], 1));
}

#[tokio::test]
async fn datagrams_are_lost_doubled_late_and_spoiled() {
    let udp = Udp::new().await;
    udp.proxy.loss(Way::Up, 1.0);
    udp.client.send(b"lost").await.unwrap();
    assert_eq!(udp.arrived().await, None);
    udp.proxy.heal();
    udp.proxy.doubling(Way::Up, 1.0);
    assert_eq!(udp.up(b"double").await.0, b"double");
    assert_eq!(udp.arrived().await.unwrap().0, b"double");
    udp.proxy.heal();
    udp.proxy.flip_at(Way::Up, 2);
    assert_eq!(udp.up(b"spoiled").await.0, b"rpoiled");
    udp.proxy.black_hole(Way::Up, true);
    udp.client.send(b"lost").await.unwrap();
    assert_eq!(udp.arrived().await, None);
    udp.proxy.heal();
    udp.proxy.latency(Duration::from_millis(30));
    let start = Instant::now();
    udp.up(b"late").await;
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn one_client_is_cut_off_and_the_next_one_is_not() {
    let udp = Udp::new().await;
    udp.proxy.cut_at(Way::Up, 1, Times::Once);
    assert_eq!(udp.up(b"one").await.0, b"one");
    udp.client.send(b"two").await.unwrap();
    udp.client.send(b"three").await.unwrap();
    assert_eq!(udp.arrived().await, None);
    let next = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for datagram in [&b"four"[..], b"five"] {
        next.send_to(datagram, udp.proxy.address()).await.unwrap();
        assert_eq!(udp.arrived().await.unwrap().0, datagram);
    }
}

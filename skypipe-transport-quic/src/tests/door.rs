//! Who gets in.

use std::sync::Arc;

use futures::future::join_all;
use quinn_proto::crypto::rustls::QuicClientConfig;
use skypipe_core::{Code, Error};
use skypipe_tls::{Trust, client_config};
use tokio::net::UdpSocket;

use super::*;
use crate::gate::HALF_OPEN_PER_SOURCE_MAX;
use crate::{failure, socket};

/// The type of a long-header packet ([RFC 9000, section 17.2](https://www.rfc-editor.org/rfc/rfc9000#section-17.2)).
const INITIAL: u8 = 0;
const RETRY: u8 = 3;

async fn refused(url: &str) -> Error {
    let transport = QuicTransport { times: Times { connect: Duration::from_millis(300), ..Times::default() } };
    soon(transport.connect(url)).await.err().expect("a link")
}

/// A client that asks for another protocol.
async fn asks_for(alpn: &[u8], listener: &QuicListener) -> Error {
    let tls = client_config(Trust::Pinned(relay_key().public()), &[alpn]).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = socket::calling(listener.address()).unwrap();
    let connecting = endpoint.connect_with(config, listener.address(), "skypipe").unwrap();
    failure::connecting(soon(connecting).await.unwrap_err(), "relay.example:7473")
}

#[tokio::test]
async fn another_key_is_refused_before_any_byte_of_the_application() {
    let listener = listener();
    let other = KeyPair::from_seed(&[8; 32]).public();
    let error = refused(&format!("quic://{other}@{}", listener.address())).await;
    assert_eq!(error.code(), Code::Pin);
    assert!(error.text().contains(&listener.address().to_string()), "{error}");
    assert!(tokio::time::timeout(Duration::from_millis(100), listener.accept()).await.is_err());
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let listener = listener();
    assert_eq!(asks_for(b"skypipe/2", &listener).await.code(), Code::Version);
    assert!(tokio::time::timeout(Duration::from_millis(100), listener.accept()).await.is_err());
}

#[tokio::test]
async fn a_bad_url_says_what_it_should_be() {
    let key = relay_key().public();
    for bad in ["quic://127.0.0.1:1".to_owned(), format!("quic://{key}@h/path"), format!("wss://{key}@h")] {
        let error = refused(&bad).await;
        assert_eq!(error.code(), Code::Usage, "{bad}");
        assert!(error.text().contains("quic://KEY@host"), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let silent = UdpSocket::bind(any_port()).await.unwrap();
    let place = silent.local_addr().unwrap().to_string();
    let error = refused(&format!("quic://{}@{place}", relay_key().public())).await;
    assert_eq!(error.code(), Code::Unreachable);
    assert!(error.text().contains(&place), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_says_so() {
    let listener = listener();
    let error = QuicListener::bind(listener.address(), &relay_key()).unwrap_err();
    assert_eq!(error.code(), Code::Locked, "{error}");
    assert_eq!(listener.url(), format!("quic://{}@{}", relay_key().public(), listener.address()));
}

#[tokio::test]
async fn ipv6_works_as_well_and_means_ipv4_too_where_it_is_unspecified() {
    let listener = QuicListener::bind("[::]:0".parse().unwrap(), &relay_key()).unwrap();
    let (key, port) = (relay_key().public(), listener.address().port());
    for host in ["[::1]", "127.0.0.1", "localhost"] {
        let (near, far) = meet(&QuicTransport::default(), &listener, &format!("quic://{key}@{host}:{port}")).await;
        assert!(!near.path().contains("ffff"), "{}", near.path());
        assert!(!format!("{:?}", far.peer()).contains("ffff"));
    }
}

/// First packets of clients that will never send a second one.
async fn first_packets(count: usize) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for _ in 0..count {
        let recorder = UdpSocket::bind(any_port()).await.unwrap();
        let address = recorder.local_addr().unwrap();
        let config = crate::config::client(relay_key().public(), &Times::default()).unwrap();
        let endpoint = socket::calling(address).unwrap();
        let connecting = endpoint.connect_with(config, address, "skypipe").unwrap();
        let mut packet = vec![0; 2048];
        let (length, _) = soon(recorder.recv_from(&mut packet)).await.unwrap();
        packet.truncate(length);
        packets.push(packet);
        drop(connecting);
    }
    packets
}

/// Sends one packet and gives the type of the first one that comes back, and its length.
async fn answer(socket: &UdpSocket, packet: &[u8], relay: SocketAddr) -> (u8, usize) {
    socket.send_to(packet, relay).await.unwrap();
    let mut back = vec![0; 2048];
    let (length, _) = soon(socket.recv_from(&mut back)).await.unwrap();
    ((back[0] & 0x30) >> 4, length)
}

#[tokio::test]
async fn one_source_with_many_open_handshakes_must_prove_its_address() {
    let times = Times { handshake: Duration::from_secs(2), ..Times::default() };
    let listener = QuicListener::bind_with(any_port(), &relay_key(), times).unwrap();
    let packets = first_packets(HALF_OPEN_PER_SOURCE_MAX + 4).await;
    let mut sockets = Vec::new();
    for (n, packet) in packets.iter().enumerate() {
        let socket = UdpSocket::bind(any_port()).await.unwrap();
        let (kind, length) = answer(&socket, packet, listener.address()).await;
        assert_eq!(kind, if n < HALF_OPEN_PER_SOURCE_MAX { INITIAL } else { RETRY }, "packet {n}");
        assert!(length <= 3 * packet.len());
        sockets.push(socket);
    }
    // A real client is asked too, and waits until one of the others is given up.
    let (near, far) = soon(meet(&QuicTransport::default(), &listener, &listener.url())).await;
    stream(&*near, &*far).await;
}

#[tokio::test]
async fn many_clients_of_one_source_all_get_in() {
    let listener = listener();
    let (transport, url) = (QuicTransport::default(), listener.url());
    let calling = join_all((0..200).map(|_| transport.connect(&url)));
    let answering = async {
        let mut links = Vec::new();
        for _ in 0..200 {
            links.push(listener.accept().await.unwrap());
        }
        links
    };
    let (near, far) = soon(async { tokio::join!(calling, answering) }).await;
    assert!(near.iter().all(Result::is_ok) && far.len() == 200);
}

//! Handshakes over memory.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use skypipe_core::{ALPN, Code, Error, KeyPair, PublicKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{Trust, client_config, is_pin_mismatch, refusal, server_config};

fn relay() -> KeyPair {
    KeyPair::from_seed(&[7; 32])
}

fn client(key: PublicKey) -> Arc<ClientConfig> {
    client_config(Trust::Pinned(key), &[ALPN]).unwrap()
}

fn server() -> Arc<ServerConfig> {
    server_config(&relay(), &[ALPN]).unwrap()
}

/// What the client ends with, and the bytes of the application that the server read.
async fn meet(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> (io::Result<()>, Vec<u8>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("relay.example").unwrap();
    let asking = async {
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.write_all(b"secret").await?;
        stream.shutdown().await
    };
    let serving = async {
        let mut read = Vec::new();
        if let Ok(mut stream) = TlsAcceptor::from(server).accept(far).await {
            let _ = stream.read_to_end(&mut read).await;
        }
        read
    };
    tokio::join!(asking, serving)
}

fn told(ended: io::Result<()>) -> Error {
    let error = ended.unwrap_err().into_inner().and_then(|e| e.downcast::<rustls::Error>().ok()).unwrap();
    refusal(&error, "relay.example")
}

fn only(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(config)
}

#[tokio::test]
async fn the_pinned_key_is_known_whatever_the_name_in_the_certificate() {
    let (ended, read) = meet(client(relay().public()), server()).await;
    ended.unwrap();
    assert_eq!(read, b"secret");
}

#[tokio::test]
async fn another_key_is_refused_before_any_byte_of_the_application() {
    let other = KeyPair::from_seed(&[8; 32]).public();
    let (ended, read) = meet(client(other), server()).await;
    assert_eq!(told(ended).code(), Code::Pin);
    assert!(read.is_empty());
}

#[tokio::test]
async fn a_certificate_without_the_key_behind_it_is_refused() {
    // Shows the relay's certificate and signs with another key.
    let (shown, other) = (server(), KeyPair::from_seed(&[8; 32]));
    let secret = other.to_pkcs8().unwrap();
    let signing = rustls::crypto::ring::sign::any_eddsa_type(&secret[..].into()).unwrap();
    let stolen = rustls::sign::CertifiedKey::new(vec![crate::server::certificate(&relay()).unwrap()], signing);
    let mut thief = (*shown).clone();
    thief.cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen));
    let (ended, read) = meet(client(relay().public()), Arc::new(thief)).await;
    assert_eq!(told(ended).code(), Code::Pin);
    assert!(read.is_empty());
}

#[tokio::test]
async fn another_protocol_is_refused_at_both_ends() {
    let pinned = Trust::Pinned(relay().public());
    let newer = client_config(pinned, &[b"skypipe/2"]).unwrap();
    let (ended, read) = meet(newer, server()).await;
    assert_eq!(told(ended).code(), Code::Version);
    assert!(read.is_empty());
}

#[tokio::test]
async fn tls_1_2_is_refused_by_the_relay() {
    let (ended, read) = meet(only(&TLS12), server()).await;
    assert_eq!(told(ended).code(), Code::Version);
    assert!(read.is_empty());
}

#[tokio::test]
async fn tls_1_2_is_refused_by_the_client() {
    let (shown, provider) = (server(), Arc::new(rustls::crypto::ring::default_provider()));
    let mut old = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(shown.cert_resolver.clone());
    old.alpn_protocols = vec![ALPN.to_vec()];
    let (ended, read) = meet(client(relay().public()), Arc::new(old)).await;
    assert_eq!(told(ended).code(), Code::Version);
    assert!(read.is_empty());
}

#[tokio::test]
async fn the_system_does_not_vouch_for_a_relays_own_certificate() {
    let (ended, read) = meet(client_config(Trust::Authorities, &[ALPN]).unwrap(), server()).await;
    let error = told(ended);
    assert_eq!(error.code(), Code::Pin);
    assert!(read.is_empty() && error.text().contains("relay.example"), "{error}");
    let (ended, _) = meet(only(&TLS13), server()).await;
    assert!(!is_pin_mismatch(&ended.unwrap_err().into_inner().unwrap().downcast::<rustls::Error>().unwrap()));
}

#[tokio::test]
async fn nothing_is_resumed_and_nothing_goes_early() {
    let (config, shown) = (client(relay().public()), server());
    assert_eq!((shown.max_early_data_size, shown.send_tls13_tickets, config.enable_early_data), (0, 0, false));
    for _ in 0..2 {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from("relay.example").unwrap();
        let (connecting, accepting) = (TlsConnector::from(config.clone()), TlsAcceptor::from(shown.clone()));
        let (near, far) = tokio::join!(connecting.connect(name, near), accepting.accept(far));
        assert_eq!(near.unwrap().get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        drop(far.unwrap());
    }
}

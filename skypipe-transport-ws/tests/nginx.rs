//! Behind a reverse proxy that ends TLS: the distribution's nginx, as its own process with its own folder.
//!
//! A certificate of an authority that the test makes is trusted through `SSL_CERT_FILE`. A process reads that where it begins, so
//! the test runs itself once more, as a process of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair as CertificateKey};
use skypipe_core::{ByteStream, Code, Link, LinkStream, Listener, RelayIdentity, Transport};
use skypipe_transport_ws::{WsListener, WsOptions, WsTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes through the proxy in each direction, many times all windows and buffers.
const BYTES: usize = 64 * 1024 * 1024;

/// An nginx that stops with the test.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Certificates in this folder: an authority, and one of its making for `localhost`.
fn certificates(folder: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, CertificateKey::generate().unwrap()).unwrap();
    let key = CertificateKey::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    std::fs::write(folder.join("authority.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("certificate.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

/// `location` is what a relay's owner would write.
fn configuration(folder: &Path, port: u16, relay: &str, nobody: &str) -> String {
    let at = folder.display();
    format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;
        events {{ worker_connections 64; }}
        http {{
            access_log off; client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3;
            uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;
            server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {at}/certificate.pem; ssl_certificate_key {at}/key.pem; ssl_protocols TLSv1.3;
                location /pipes {{
                    proxy_pass http://{relay}; proxy_http_version 1.1;
                    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";
                    proxy_set_header Host $host;
                }}
                location /gone {{ proxy_pass http://{nobody}; }}
                location / {{ return 404; }}
            }}
        }}"
    )
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts nginx and waits until it listens.
async fn start(folder: &Path, port: u16) -> Nginx {
    let program = ["/usr/sbin/nginx", "nginx"].into_iter().find(|p| Command::new(p).arg("-v").output().is_ok());
    let mut command = Command::new(program.expect("nginx is there: install the distribution's package nginx"));
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).stdin(Stdio::null());
    let mut nginx = Nginx(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(
            nginx.0.try_wait().unwrap().is_none(),
            "nginx ended: {:?}",
            std::fs::read_to_string(folder.join("error.log"))
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    nginx
}

fn bytes(stream: LinkStream) -> Box<dyn ByteStream> {
    match stream {
        LinkStream::Bytes(stream) => stream,
        _ => panic!("a stream of bytes"),
    }
}

async fn stream(near: &dyn Link, far: &dyn Link) -> (Box<dyn ByteStream>, Box<dyn ByteStream>) {
    let (opened, accepted) = tokio::join!(near.open(), far.accept());
    (bytes(opened.unwrap()), bytes(accepted.unwrap().unwrap()))
}

/// Sends a pattern to the end, and compares what comes.
async fn send(stream: &mut (impl tokio::io::AsyncWrite + Unpin), chunk: &[u8]) {
    for _ in 0..BYTES / chunk.len() {
        stream.write_all(chunk).await.unwrap();
    }
    stream.shutdown().await.unwrap();
}

async fn receive(stream: &mut (impl tokio::io::AsyncRead + Unpin), chunk: &[u8]) {
    let mut came = vec![0; chunk.len()];
    for _ in 0..BYTES / chunk.len() {
        stream.read_exact(&mut came).await.unwrap();
        assert!(came == chunk);
    }
    assert_eq!(stream.read(&mut came).await.unwrap(), 0);
}

/// Where the test finds its certificates, when it runs as the process that trusts them.
const FOLDER: &str = "SKYPIPE_TEST_FOLDER";

#[test]
fn a_relay_behind_nginx_is_reached_by_its_hosts_name() {
    match std::env::var_os(FOLDER) {
        Some(folder) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(behind_nginx(Path::new(&folder)));
        }
        None => in_a_process_that_trusts_the_authority(),
    }
}

fn in_a_process_that_trusts_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_relay_behind_nginx_is_reached_by_its_hosts_name", "--nocapture"])
        .env("SSL_CERT_FILE", folder.path().join("authority.pem"))
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{told}");
    assert!(String::from_utf8_lossy(&ended.stdout).contains("1 passed"), "{told}");
}

async fn behind_nginx(folder: &Path) {
    let options = WsOptions::default().with_host("localhost");
    let relay = WsListener::bind("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
    let (port, nobody) = (free_port(), format!("127.0.0.1:{}", free_port()));
    let relay_at = relay.url().replace("ws://", "");
    std::fs::write(folder.join("nginx.conf"), configuration(folder, port, &relay_at, &nobody)).unwrap();
    let _nginx = start(folder, port).await;

    let url = format!("wss://localhost:{port}/pipes");
    let (near, far) = tokio::join!(WsTransport.connect(&url), relay.accept());
    let (near, far) = (near.unwrap(), far.unwrap());
    assert_eq!(near.relay(), Some(RelayIdentity::Named("localhost".to_owned())));
    assert_eq!((near.exporter(), far.exporter()), (None, None), "the proxy is in between");
    assert_eq!(near.path(), format!("WebSocket over TLS 127.0.0.1:{port}"));

    big_transfer(&*near, &*far).await;
    many_streams(&*near, &*far).await;
    refusals(port).await;

    drop(near);
    assert!(far.accept().await.unwrap().is_none(), "the close comes through");
}

async fn big_transfer(near: &dyn Link, far: &dyn Link) {
    let (here, there) = stream(near, far).await;
    let (mut here_reads, mut here_writes) = tokio::io::split(here);
    let (mut there_reads, mut there_writes) = tokio::io::split(there);
    let (up, down): (Vec<u8>, Vec<u8>) = (0..128 * 1024).map(|n| ((n % 251) as u8, (n % 241) as u8)).unzip();
    tokio::join!(
        send(&mut here_writes, &up),
        send(&mut there_writes, &down),
        receive(&mut here_reads, &down),
        receive(&mut there_reads, &up),
    );
}

async fn many_streams(near: &dyn Link, far: &dyn Link) {
    far.admitted();
    let mut held = Vec::new();
    for n in 0..100_u32 {
        let (mut here, mut there) = stream(near, far).await;
        here.write_all(&n.to_le_bytes()).await.unwrap();
        assert_eq!(there.read_u32_le().await.unwrap(), n);
        held.push((here, there));
    }
}

/// What the client is told when the proxy is there and the relay is not, or the host is another.
async fn refusals(port: u16) {
    let refused = async |url: String| WsTransport.connect(&url).await.err().unwrap();
    let gone = refused(format!("wss://localhost:{port}/gone")).await;
    assert_eq!(gone.code(), Code::Unreachable);
    assert!(gone.text().contains("502"), "{gone}");
    let missing = refused(format!("wss://localhost:{port}/elsewhere")).await;
    assert!(missing.text().contains("404"), "{missing}");
    let other_name = refused(format!("wss://127.0.0.1:{port}/pipes")).await;
    assert_eq!(other_name.code(), Code::Pin, "{other_name}");
}

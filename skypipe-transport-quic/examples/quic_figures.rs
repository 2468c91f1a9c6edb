//! Figures of QUIC links beside those of quinn alone with the same windows. Build it with `--release`.
//!
//! ```text
//! quic_figures rate                       1 GiB over one stream, relay and client on a thread each
//! quic_figures idle COUNT links|quinn     memory of a relay for each idle link with one stream
//! ```

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::{ClientConfig, Endpoint, ServerConfig, TransportConfig};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use skypipe_core::{ALPN, KeyPair, Link, LinkStream, Listener, Transport};
use skypipe_tls::{Trust, client_config, server_config};
use skypipe_transport_quic::{QuicListener, QuicTransport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

type Any<T> = Result<T, Box<dyn Error + Send + Sync>>;

const BLOCK_BYTES: usize = 256 * 1024;
const BLOCKS: usize = 4096;
const ROUNDS: usize = 3;

fn main() -> Any<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["rate"] => rate(),
        ["idle", count, "links"] => idle(idle_links(count.parse()?)?),
        ["idle", count, _] => idle(idle_quinn(count.parse()?)?),
        ["hold", count, url, who] => hold(count.parse()?, url, who),
        _ => Err("quic_figures rate | idle COUNT links|quinn".into()),
    }
}

fn key() -> KeyPair {
    KeyPair::from_seed(&[7; 32])
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn runtime() -> Any<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn rate() -> Any<()> {
    for round in 1..=ROUNDS {
        println!("round {round}: links {:.0} MB/s, quinn alone {:.0} MB/s", rate_of_links()?, rate_of_quinn()?);
    }
    Ok(())
}

fn rate_of_links() -> Any<f64> {
    let (tell, told) = std::sync::mpsc::channel();
    let relay = std::thread::spawn(move || {
        runtime()?.block_on(async {
            let listener = QuicListener::bind(any_port(), &key())?;
            tell.send(listener.url())?;
            let link = listener.accept().await?;
            link.admitted();
            let stream = link.accept().await?.ok_or("no stream")?;
            drain(bytes(stream)?).await
        })
    });
    let url = told.recv()?;
    runtime()?.block_on(async {
        let link = QuicTransport::default().connect(&url).await?;
        fill(bytes(link.open().await?)?).await
    })?;
    relay.join().map_err(|_| "the relay's thread failed")?
}

fn rate_of_quinn() -> Any<f64> {
    let (tell, told) = std::sync::mpsc::channel();
    let relay = std::thread::spawn(move || {
        runtime()?.block_on(async {
            let endpoint = Endpoint::server(bare_server()?, any_port())?;
            tell.send(endpoint.local_addr()?)?;
            let connection = endpoint.accept().await.ok_or("closed")?.await?;
            drain(connection.accept_bi().await?.1).await
        })
    });
    let address = told.recv()?;
    runtime()?.block_on(async {
        let endpoint = Endpoint::client(any_port())?;
        let connection = endpoint.connect_with(bare_client()?, address, "skypipe")?.await?;
        let (mut sending, _receiving) = connection.open_bi().await?;
        fill(&mut sending).await?;
        sending.stopped().await?;
        Any::Ok(())
    })?;
    relay.join().map_err(|_| "the relay's thread failed")?
}

async fn fill(mut stream: impl AsyncWrite + Unpin) -> Any<()> {
    let block = vec![7; BLOCK_BYTES];
    for _ in 0..BLOCKS {
        stream.write_all(&block).await?;
    }
    Ok(stream.shutdown().await?)
}

/// MB a second, from the first byte on.
async fn drain(mut stream: impl AsyncRead + Unpin) -> Any<f64> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut total = stream.read(&mut block).await?;
    let start = Instant::now();
    loop {
        match stream.read(&mut block).await? {
            0 => return Ok(total as f64 / start.elapsed().as_secs_f64() / 1e6),
            read => total += read,
        }
    }
}

fn bytes(stream: LinkStream) -> Any<Box<dyn skypipe_core::ByteStream>> {
    match stream {
        LinkStream::Bytes(duplex) => Ok(duplex),
        _ => Err("a stream of another kind".into()),
    }
}

fn bare_server() -> Any<ServerConfig> {
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server_config(&key(), &[ALPN])?)?));
    config.transport_config(Arc::new(windows(4, 16)));
    Ok(config)
}

fn bare_client() -> Any<ClientConfig> {
    let tls = client_config(Trust::Pinned(key().public()), &[ALPN])?;
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(windows(8, 64)));
    Ok(config)
}

fn windows(stream_mib: u32, link_mib: u32) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window((stream_mib * 1024 * 1024).into())
        .receive_window((link_mib * 1024 * 1024).into())
        .send_window(8 * 1024 * 1024)
        .keep_alive_interval(Some(Duration::from_secs(5)));
    config
}

fn idle(each: f64) -> Any<()> {
    println!("{each:.1} KB each");
    Ok(())
}

fn idle_links(count: usize) -> Any<f64> {
    runtime()?.block_on(async {
        let listener = QuicListener::bind(any_port(), &key())?;
        let mut holder = holder(count, &listener.url(), "links")?;
        let (before, mut held) = (resident_kb()?, Vec::new());
        for _ in 0..count {
            let link = listener.accept().await?;
            link.admitted();
            let mut stream = bytes(link.accept().await?.ok_or("no stream")?)?;
            stream.read_u8().await?;
            held.push((link, stream));
        }
        tokio::time::sleep(Duration::from_secs(7)).await;
        let each = (resident_kb()? - before) / count as f64;
        holder.kill()?;
        holder.wait()?;
        Any::Ok(each)
    })
}

fn idle_quinn(count: usize) -> Any<f64> {
    runtime()?.block_on(async {
        let endpoint = Endpoint::server(bare_server()?, any_port())?;
        let mut holder = holder(count, &endpoint.local_addr()?.to_string(), "quinn")?;
        let (before, mut held) = (resident_kb()?, Vec::new());
        for _ in 0..count {
            let connection = endpoint.accept().await.ok_or("closed")?.await?;
            let (sending, mut receiving) = connection.accept_bi().await?;
            receiving.read_u8().await?;
            held.push((connection, sending, receiving));
        }
        tokio::time::sleep(Duration::from_secs(7)).await;
        let each = (resident_kb()? - before) / count as f64;
        holder.kill()?;
        holder.wait()?;
        Any::Ok(each)
    })
}

/// The clients, in a process of their own.
fn holder(count: usize, place: &str, who: &str) -> Any<std::process::Child> {
    let program = std::env::current_exe()?;
    Ok(std::process::Command::new(program).args(["hold", &count.to_string(), place, who]).spawn()?)
}

fn hold(count: usize, place: &str, who: &str) -> Any<()> {
    runtime()?.block_on(async {
        let mut links: Vec<Box<dyn Link>> = Vec::new();
        let (mut streams, mut bare) = (Vec::new(), Vec::new());
        let endpoint = Endpoint::client(any_port())?;
        for _ in 0..count {
            if who == "links" {
                let link = QuicTransport::default().connect(place).await?;
                let mut stream = bytes(link.open().await?)?;
                stream.write_u8(1).await?;
                stream.flush().await?;
                links.push(link);
                streams.push(stream);
            } else {
                let connection = endpoint.connect_with(bare_client()?, place.parse()?, "skypipe")?.await?;
                let (mut sending, receiving) = connection.open_bi().await?;
                sending.write_u8(1).await?;
                bare.push((connection, sending, receiving));
            }
        }
        std::future::pending::<Any<()>>().await
    })
}

fn resident_kb() -> Any<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

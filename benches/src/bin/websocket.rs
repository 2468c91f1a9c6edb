//! What a WebSocket link carries, and what idle ones cost.
//!
//! `cargo run --release -p skypipe-benches --bin websocket` sends 1 GiB over one stream, plain and over TLS, beside bare tungstenite with messages
//! of 256 KiB. `… --bin websocket idle [LINKS [KIB]]` holds that many links over TLS with one stream each, over which so many KiB
//! went up and down first, and prints by how much the relay's side, a process of its own, grew for each.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt, TryStreamExt, stream};
use skypipe_core::{ByteStream, KeyPair, Link, LinkStream, Listener, Transport};
use skypipe_transport_ws::{WsListener, WsOptions, WsTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

const BYTES: usize = 1 << 30;
const CHUNK_BYTES: usize = 256 * 1024;
const LINKS: usize = 10_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("idle") => {
            let number = |nth: usize, otherwise| words.get(nth).map_or(Ok(otherwise), |word| word.parse::<usize>());
            idle(number(1, LINKS)?, number(2, 0)? * 1024).await
        }
        Some("hold") => hold().await,
        _ => rates().await,
    }
}

async fn rates() -> Result<(), Failure> {
    println!("| 1 GiB over | time | rate |\n|---|---:|---:|");
    for _ in 0..3 {
        row("bare tungstenite", bare().await?);
        row("ws://, one stream", one_stream(false).await?);
        row("wss://, one stream", one_stream(true).await?);
    }
    Ok(())
}

fn row(what: &str, took: Duration) {
    println!("| {what} | {:.2} s | {:.0} MiB/s |", took.as_secs_f64(), 1024.0 / took.as_secs_f64());
}

fn bytes(stream: LinkStream) -> Result<Box<dyn ByteStream>, Failure> {
    match stream {
        LinkStream::Bytes(stream) => Ok(stream),
        _ => Err("not a stream of bytes".into()),
    }
}

async fn listener(tls: bool) -> Result<WsListener, Failure> {
    let key = KeyPair::from_seed(&[7; 32]);
    let options = if tls { WsOptions::default().with_key(&key) } else { WsOptions::default() };
    Ok(WsListener::bind("127.0.0.1:0".parse()?, options).await?)
}

async fn one_stream(tls: bool) -> Result<Duration, Failure> {
    let listener = listener(tls).await?;
    let url = listener.url();
    let (near, far) = tokio::join!(WsTransport.connect(&url), listener.accept());
    let (near, far) = (near?, far?);
    let start = Instant::now();
    let mut here = bytes(near.open().await?)?;
    let sending = tokio::spawn(async move {
        let chunk = vec![7; CHUNK_BYTES];
        for _ in 0..BYTES / CHUNK_BYTES {
            here.write_all(&chunk).await?;
        }
        here.shutdown().await
    });
    let receiving = tokio::spawn(async move {
        let mut there = bytes(far.accept().await?.ok_or("no stream")?)?;
        let (mut space, mut came) = (vec![0; CHUNK_BYTES], 0);
        while let read @ 1.. = there.read(&mut space).await? {
            came += read;
        }
        Ok::<_, Failure>(came)
    });
    sending.await??;
    if receiving.await?? == BYTES { Ok(start.elapsed()) } else { Err("not all came".into()) }
}

async fn bare() -> Result<Duration, Failure> {
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}", tcp.local_addr()?);
    let to = tcp.local_addr()?;
    let receiving = tokio::spawn(async move {
        let mut socket = tokio_tungstenite::accept_async(tcp.accept().await?.0).await?;
        let mut came = 0;
        while came < BYTES {
            came += socket.next().await.ok_or("it ended")??.len();
        }
        Ok::<_, Failure>(())
    });
    let stream = tokio::net::TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await?;
    let chunk = bytes::Bytes::from(vec![7; CHUNK_BYTES]);
    let start = Instant::now();
    for _ in 0..BYTES / CHUNK_BYTES {
        socket.feed(Message::Binary(chunk.clone())).await?;
    }
    socket.flush().await?;
    receiving.await??;
    Ok(start.elapsed())
}

/// Gives back what comes over the first stream until so much came as it said.
async fn answer(link: &dyn Link) -> Result<Box<dyn ByteStream>, Failure> {
    let mut stream = bytes(link.accept().await?.ok_or("no stream")?)?;
    let (mut left, mut space) = (stream.read_u64().await?, vec![0; CHUNK_BYTES]);
    while left > 0 {
        let read = stream.read(&mut space).await?;
        stream.write_all(&space[..read]).await?;
        left -= read as u64;
    }
    Ok(stream)
}

/// The relay's side: holds every link and its first stream, and answers each line of stdin with its resident memory.
async fn hold() -> Result<(), Failure> {
    let listener = listener(true).await?;
    println!("{}", listener.url());
    tokio::spawn(async move {
        while let Ok(link) = listener.accept().await {
            link.admitted();
            tokio::spawn(async move {
                let first = answer(&*link).await;
                let _ = link.accept().await;
                drop(first);
            });
        }
    });
    tokio::task::spawn_blocking(|| {
        for _ in std::io::stdin().lines() {
            let pages = std::fs::read_to_string("/proc/self/statm")?;
            let resident: u64 = pages.split(' ').nth(1).ok_or("statm")?.parse()?;
            println!("{}", resident * 4096);
        }
        Ok::<_, Failure>(())
    })
    .await?
}

async fn idle(links: usize, bulk: usize) -> Result<(), Failure> {
    let mut process =
        Command::new(std::env::current_exe()?).arg("hold").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut asks, answers) = (process.stdin.take().ok_or("stdin")?, process.stdout.take().ok_or("stdout")?);
    let mut answers = BufReader::new(answers).lines();
    let mut answer = move || -> Result<String, Failure> { Ok(answers.next().ok_or("the holder ended")??) };
    let url = answer()?;
    writeln!(asks)?;
    let before: u64 = answer()?.parse()?;
    let held: Vec<_> =
        stream::iter(0..links).map(|_| connect(&url, bulk)).buffer_unordered(8).try_collect::<Vec<_>>().await?;
    // Every link has said all it has to say at first.
    tokio::time::sleep(Duration::from_secs(8)).await;
    writeln!(asks)?;
    let after: u64 = answer()?.parse()?;
    println!(
        "{} links after {} KiB each way: {:.1} MB, {:.1} KB each",
        held.len(),
        bulk / 1024,
        after as f64 / 1e6,
        (after - before) as f64 / 1e3 / held.len() as f64
    );
    drop(asks);
    process.wait()?;
    Ok(())
}

async fn connect(url: &str, bulk: usize) -> Result<(Box<dyn Link>, Box<dyn ByteStream>), Failure> {
    let link = WsTransport.connect(url).await?;
    let (mut back, mut there) = tokio::io::split(bytes(link.open().await?)?);
    let sending = async {
        there.write_u64(bulk as u64).await?;
        there.write_all(&vec![7; bulk]).await
    };
    let mut came = vec![0; bulk];
    tokio::try_join!(sending, back.read_exact(&mut came))?;
    Ok((link, Box::new(back.unsplit(there))))
}

//! Everything at once that a peer may do to a relay's memory, and a healthy pipe beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::SinkExt;
use skypipe_core::wire::{Hello, Message as _, Outbox, Request, SoftwareVersion};
use skypipe_core::{Env, Epoch, Features, WriterAttach, WriterUp};
use skypipe_test::proof::{Length, Proof, cases};
use tokio::io::AsyncWriteExt;

use super::world::{World, batch, drain, link, pipe, read, runtime, write};
use crate::harness::Memory;

/// What the relay may take in all.
const MEMORY: u64 = 512 << 20;
/// The longest that a line of the healthy pipe may be under way.
const DELAY_MAX: Duration = Duration::from_secs(5);

#[test]
fn proof_p5d_adversaries() {
    let seconds = cases(3, 60, 3600);
    let scale = if Length::asked() == Length::Quick { 1 } else { 10 };
    let proof = Proof::begin("P5d", "seconds of adversaries");
    let mut world = World::new(&["--memory", "512M"]);
    let memory = Memory::watch(world.pid());
    let runtime = runtime();
    let slowest = runtime.block_on(async {
        let adversaries = adversaries(&world, scale).await;
        let slowest = healthy(world.url("unix:"), Duration::from_secs(seconds)).await;
        adversaries.iter().for_each(tokio::task::JoinHandle::abort);
        slowest
    });
    let mut failures = Vec::new();
    if !world.relay.is_running() {
        failures.push(format!("the relay is gone: {}", world.relay.errors()));
    }
    let peak = memory.peak();
    println!("P5d: {seconds} s: {} MB at the peak, the slowest healthy line took {slowest:.1?}", peak / 1_000_000);
    if peak > MEMORY {
        failures.push(format!("the relay took {peak} bytes"));
    }
    if slowest > DELAY_MAX {
        failures.push(format!("a healthy line took {slowest:?}"));
    }
    runtime.shutdown_background();
    proof.end(seconds, &failures);
}

/// One line after the other through a pipe of its own. Gives how long the slowest took.
async fn healthy(url: &str, time: Duration) -> Duration {
    let (start, mut slowest) = (Instant::now(), Duration::ZERO);
    let (reading, writing) = (link(url), link(url));
    let reader = read(&reading, "healthy", 4 << 20).await.unwrap();
    let count = Arc::new(AtomicU64::new(0));
    tokio::spawn(drain(reader, count.clone()));
    let (mut writer, session) = write(&writing, "healthy").await.unwrap();
    let (mut credit, mut sent) = (writer.welcome.credit as i64, 0);
    for number in 0.. {
        if start.elapsed() > time {
            break;
        }
        let batch = batch(session, number, 100);
        sent += batch.encoded().len() as u64;
        credit -= batch.encoded().len() as i64;
        assert!(credit > 0, "its acknowledgements came");
        let sending = Instant::now();
        writer.up.send(WriterUp::Batch(batch)).await.unwrap();
        while count.load(Ordering::Relaxed) < sent {
            assert!(sending.elapsed() < 10 * DELAY_MAX, "the healthy pipe stands still");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        slowest = slowest.max(sending.elapsed());
        while let Some(Some(Ok(message))) = futures::FutureExt::now_or_never(futures::StreamExt::next(&mut writer.down))
        {
            if let skypipe_core::WriterDown::Credit(more) = message {
                credit += more as i64;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    slowest
}

type Tasks = Vec<tokio::task::JoinHandle<()>>;

async fn adversaries(world: &World, scale: usize) -> Tasks {
    let mut tasks = Tasks::new();
    for scheme in ["unix:", "quic:", "wss:"] {
        let url = world.url(scheme).to_owned();
        for number in 0..2 * scale {
            tasks.push(tokio::spawn(again(url.clone(), number, takes_nothing)));
            tasks.push(tokio::spawn(again(url.clone(), number, sends_without_credit)));
            tasks.push(tokio::spawn(again(url.clone(), number, sends_and_is_not_read)));
            tasks.push(tokio::spawn(again(url.clone(), number, comes_and_goes)));
        }
    }
    for _ in 0..4 * scale {
        tasks.push(tokio::spawn(torn_frames(world.url("unix:").to_owned())));
        tasks.push(tokio::spawn(strangers(world.url("wss:").to_owned())));
    }
    tasks
}

/// Does it again whenever the relay puts an end to it.
async fn again<F: Future<Output = Result<(), skypipe_core::Error>>>(
    url: String,
    number: usize,
    what: impl Fn(String, usize) -> F,
) {
    loop {
        let _ = what(url.clone(), number).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Says it would take everything, has much stored for it, and reads nothing.
async fn takes_nothing(url: String, number: usize) -> Result<(), skypipe_core::Error> {
    let name = format!("stored/{}/{number}", &url[..4]);
    let link = link(&url);
    let (mut writer, session) = write(&link, &name).await?;
    for number in 0..8 {
        writer.up.send(WriterUp::Batch(batch(session, number, 250 * 1024))).await?;
    }
    // It is read from the log: its writer is gone.
    writer.up.send(WriterUp::Abort).await?;
    drop(writer);
    let _reader = read(&link, &name, 1 << 40).await?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    Ok(())
}

/// Sends as fast as it can, whatever it is told.
async fn sends_without_credit(url: String, number: usize) -> Result<(), skypipe_core::Error> {
    let link = link(&url);
    let (mut writer, session) = write(&link, &format!("creditless/{}/{number}", &url[..4])).await?;
    for number in 0.. {
        writer.up.send(WriterUp::Batch(batch(session, number, 250 * 1024))).await?;
    }
    Ok(())
}

/// Sends all it may to a reader that takes nothing of it.
async fn sends_and_is_not_read(url: String, number: usize) -> Result<(), skypipe_core::Error> {
    let name = format!("unread/{}/{number}", &url[..4]);
    let (reading, writing) = (link(&url), link(&url));
    let _reader = read(&reading, &name, 1 << 40).await?;
    let (mut writer, session) = write(&writing, &name).await?;
    let mut credit = writer.welcome.credit as i64;
    for number in 0..1000 {
        let batch = batch(session, number, 250 * 1024);
        while credit <= 0 {
            match futures::StreamExt::next(&mut writer.down).await {
                Some(Ok(skypipe_core::WriterDown::Credit(more))) => credit += more as i64,
                Some(Ok(_)) => {}
                _ => return Ok(()),
            }
        }
        credit -= batch.encoded().len() as i64;
        writer.up.send(WriterUp::Batch(batch)).await?;
        // So that the disk holds an hour of this.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Attaches and goes, and begins streams and drops them.
async fn comes_and_goes(url: String, number: usize) -> Result<(), skypipe_core::Error> {
    let link = link(&url);
    for _ in 0..20 {
        drop(read(&link, &format!("brief/{}/{number}", &url[..4]), 1 << 20).await?);
        drop(link.ping(bytes::Bytes::from(vec![0; 30_000])));
    }
    Ok(())
}

/// A batch that was begun and stays without its end.
async fn torn_frames(url: String) {
    let path = url.trim_start_matches("unix:").to_owned();
    loop {
        let attach = WriterAttach {
            session: Env::system().session(),
            epoch: Epoch(1),
            mode: None,
            resume: None,
            settings: Default::default(),
        };
        let mut outbox = Outbox::new();
        outbox.push(Hello::new(SoftwareVersion::CURRENT, Features::default()).into_frame()).unwrap();
        outbox.push(Request::AttachWriter(pipe("torn"), attach).into_frame()).unwrap();
        let mut bytes = outbox.to_vec();
        bytes.extend((512 * 1024_u32).to_le_bytes());
        bytes.extend([0x30, 0, 0, 0]);
        bytes.resize(bytes.len() + 400 * 1024, 0);
        if let Ok(mut stream) = tokio::net::UnixStream::connect(&path).await {
            let _ = tokio::time::timeout(Duration::from_secs(5), stream.write_all(&bytes)).await;
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Connect and say nothing, or nonsense.
async fn strangers(url: String) {
    let address = url.rsplit('@').next().unwrap_or_default().trim_end_matches('/').to_owned();
    loop {
        if let Ok(mut stream) = tokio::net::TcpStream::connect(&address).await {
            let _ = stream.write_all(&[0x16, 3, 1, 0xff, 0xff]).await;
            let _ = tokio::time::timeout(Duration::from_secs(2), stream.write_all(&vec![0xff; 100_000])).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

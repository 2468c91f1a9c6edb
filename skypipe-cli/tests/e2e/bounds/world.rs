//! A relay, and peers that need not be honest: this process speaks to it as any program may.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use skypipe_core::{
    Batch, BatchBuilder, Broker, Caller, Env, Epoch, Error, KeyPair, PipeName, PipeRef, ReaderAttach, ReaderCursor,
    ReaderDown, ReaderHalves, ReaderUp, RemoteBroker, Seq, SessionId, Take, WriterAttach, WriterDown, WriterHalves,
    WriterUp, registry,
};

use crate::harness::{Home, Pid, Running, until};

/// Who the relay belongs to.
const OWNER: [u8; 32] = [7; 32];
/// Bytes of a record that is written at full speed.
const RECORD_BYTES: usize = 256 * 1024;

/// A relay of its own.
pub struct World {
    pub home: Home,
    pub relay: Running,
    urls: Vec<String>,
}

impl World {
    pub fn new(options: &[&str]) -> Self {
        // A session is a descriptor, here and in the relay, which inherits the hard limit.
        let hard = getrlimit(Resource::Nofile).maximum;
        let _ = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
        skypipe_transport_quic::install();
        skypipe_transport_ws::install();
        let home = Home::new();
        let owner = skypipe_keys::public_line(KeyPair::from_seed(&OWNER).public(), "owner");
        let relay =
            home.skypipe([&["relay", "--listen", "127.0.0.1:0", "--owner", owner.as_str()], options].concat()).start();
        relay.until_gave("wss://");
        let urls = until("the URLs are printed", || {
            let output = relay.output();
            output.ends_with('\n').then(|| output.lines().map(str::to_owned).collect())
        });
        Self { home, relay, urls }
    }

    pub fn url(&self, scheme: &str) -> &str {
        self.urls.iter().find(|url| url.starts_with(scheme)).expect("a URL of this scheme")
    }

    pub fn pid(&self) -> Pid {
        self.relay.pid()
    }

    /// Bytes of the relay's memory that are in use, the kernel's files left out.
    pub fn resident(&self) -> u64 {
        resident(self.pid()).expect("the relay lives")
    }
}

pub fn resident(pid: Pid) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

/// A link of its own.
pub fn link(url: &str) -> RemoteBroker {
    RemoteBroker::new(registry::lookup(url).unwrap(), url).with_signer(Arc::new(KeyPair::from_seed(&OWNER)))
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub fn pipe(name: &str) -> PipeRef {
    PipeRef::from(&PipeName::new(name).unwrap())
}

/// A reader that may be sent so many bytes.
pub async fn read(link: &RemoteBroker, name: &str, credit: u64) -> Result<ReaderHalves, Error> {
    let attach = ReaderAttach {
        session: Env::system().session(),
        epoch: Epoch(1),
        mode: None,
        take: Take::Any,
        keep: true,
        no_wait: false,
        credit,
        mid_record: false,
        resume: None,
        tape: Default::default(),
    };
    link.attach_reader(&Caller::in_process(), &pipe(name), attach).await
}

/// A writer, and its session.
pub async fn write(link: &RemoteBroker, name: &str) -> Result<(WriterHalves, SessionId), Error> {
    let session = Env::system().session();
    let attach = WriterAttach { session, epoch: Epoch(1), mode: None, resume: None, settings: Default::default() };
    Ok((link.attach_writer(&Caller::in_process(), &pipe(name), attach).await?, session))
}

pub fn batch(session: SessionId, number: u64, bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new(session, Epoch(1), Seq(number));
    assert!(builder.push(&vec![number as u8; bytes], true, true));
    builder.build(None)
}

/// Writes as fast as the relay lets it, for ever.
pub async fn flood(url: String, name: &'static str) -> Result<(), Error> {
    let link = link(&url);
    let (mut writer, session) = write(&link, name).await?;
    let (mut credit, mut number) = (writer.welcome.credit as i64, 0);
    loop {
        while credit > 0 {
            let batch = batch(session, number, RECORD_BYTES);
            credit -= batch.encoded().len() as i64;
            number += 1;
            writer.up.send(WriterUp::Batch(batch)).await?;
        }
        match writer.down.next().await {
            Some(Ok(WriterDown::Credit(more))) => credit += more as i64,
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Ok(()),
        }
    }
}

/// An honest reader; counts the bytes it gets.
pub async fn drain(mut reader: ReaderHalves, count: Arc<AtomicU64>) -> Result<(), Error> {
    while let Some(message) = reader.down.next().await {
        let ReaderDown::Batch { batch, .. } = message? else { continue };
        let bytes = batch.encoded().len() as u64;
        count.fetch_add(bytes, Ordering::Relaxed);
        reader.up.feed(ReaderUp::Ack(ReaderCursor { writer: batch.session(), next: batch.next() })).await?;
        reader.up.send(ReaderUp::Credit(bytes)).await?;
    }
    Ok(())
}

/// Bytes a second that `count` grows by, over this time.
pub async fn rate(count: &AtomicU64, time: Duration) -> f64 {
    let (before, start) = (count.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(time).await;
    (count.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64()
}

//! What idle sessions cost a relay: so many readers, each on a link of its own, each waiting at a pipe of its own.
//!
//! `cargo run --release -p skypipe-benches --bin idle [SESSIONS]` starts for each transport the relay that was built beside it, `skypipe`, as a process of its own and
//! prints the growth of its resident memory as a Markdown table. It fails where a session costs more than it may.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use skypipe_core::{
    Broker, Caller, Code, Env, Epoch, Error, KeyPair, PipeName, PipeRef, ReaderAttach, ReaderHalves, RemoteBroker,
    Take, registry,
};

/// As many as the promise is about.
const SESSIONS: usize = 10_000;
/// Attaches under way at once, fewer than a relay allows one source.
const AT_ONCE: usize = 8;
/// Descriptors of this process beside one for each session.
const DESCRIPTORS_SPARE: u64 = 100;

/// A way to the relay, and what 10,000 idle sessions over it may cost, in bytes.
const WAYS: [(&str, u64); 3] = [("unix", 120_000_000), ("quic", 350_000_000), ("wss", 280_000_000)];
/// Who the sessions belong to.
const OWNER: [u8; 32] = [7; 32];

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let sessions = std::env::args().nth(1).map_or(Ok(SESSIONS), |count| count.parse())?;
    raise_descriptors(sessions)?;
    skypipe_transport_quic::install();
    skypipe_transport_ws::install();
    println!("| {sessions} idle sessions over | relay before | after | each | may be | attached in |");
    println!("|---|---:|---:|---:|---:|---:|");
    let mut too_dear = Vec::new();
    for (way, bytes_max) in WAYS {
        let grown = measure(way, sessions).await?;
        if grown > bytes_max * sessions as u64 / SESSIONS as u64 {
            too_dear.push(way);
        }
    }
    if too_dear.is_empty() { Ok(()) } else { Err(format!("too dear over {}", too_dear.join(", ")).into()) }
}

/// Attaches the sessions, prints the row, and gives the bytes by which the relay grew.
async fn measure(way: &str, sessions: usize) -> Result<u64, Failure> {
    let folder = tempfile::tempdir()?;
    let relay = Relay::start(way, folder.path())?;
    let before = relay.resident()?;
    let start = Instant::now();
    let attached: Vec<Session> = stream::iter(0..sessions)
        .map(|number| attach(&relay.url, number))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let took = start.elapsed();
    let after = relay.resident()?;
    let grown = after.saturating_sub(before);
    let bytes_max = WAYS.iter().find(|(known, _)| *known == way).map_or(0, |(_, bytes)| bytes / SESSIONS as u64);
    println!(
        "| {way} | {:.1} MB | {:.1} MB | {:.1} KB | {:.1} KB | {:.1} s |",
        before as f64 / 1e6,
        after as f64 / 1e6,
        grown as f64 / 1e3 / attached.len() as f64,
        bytes_max as f64 / 1e3,
        took.as_secs_f64(),
    );
    Ok(after)
}

/// A session and the link it is on, which both end with this value.
struct Session {
    _broker: RemoteBroker,
    _halves: ReaderHalves,
}

async fn attach(url: &str, number: usize) -> Result<Session, Error> {
    let signer = Arc::new(KeyPair::from_seed(&OWNER));
    let broker = RemoteBroker::new(registry::lookup(url)?, url).with_signer(signer);
    let pipe = PipeRef::from(&PipeName::new(&format!("idle/{number}"))?);
    let halves = broker.attach_reader(&Caller::in_process(), &pipe, waiting()).await?;
    Ok(Session { _broker: broker, _halves: halves })
}

fn waiting() -> ReaderAttach {
    ReaderAttach {
        session: Env::system().session(),
        epoch: Epoch(1),
        mode: None,
        take: Take::Any,
        keep: true,
        no_wait: false,
        credit: 1 << 20,
        mid_record: false,
        resume: None,
    }
}

/// A relay process, stopped when this is dropped.
struct Relay {
    process: Child,
    url: String,
}

impl Relay {
    fn start(way: &str, folder: &Path) -> Result<Self, Failure> {
        let program = std::env::current_exe()?.with_file_name("skypipe");
        let listen = match way {
            "unix" => format!("unix:{}", folder.join("relay.sock").display()),
            way => format!("{way}:127.0.0.1:0"),
        };
        let mut process = Command::new(&program)
            .args(["relay", "--listen", &listen, "--data"])
            .arg(folder.join("data"))
            .args((way != "unix").then_some("--owner"))
            .args((way != "unix").then(|| skypipe_keys::public_line(KeyPair::from_seed(&OWNER).public(), "idle")))
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}; build skypipe-cli with the same profile first", program.display()))?;
        let stdout = process.stdout.take().ok_or("no stdout")?;
        let is_wanted = |line: &String| line.starts_with(&format!("{way}:"));
        let url =
            BufReader::new(stdout).lines().map_while(Result::ok).find(is_wanted).ok_or("the relay said no URL")?;
        Ok(Self { process, url })
    }

    /// Bytes of its memory that are in use.
    fn resident(&self) -> Result<u64, Failure> {
        // Its log's thread may still give back what attaching took.
        std::thread::sleep(Duration::from_millis(500));
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn raise_descriptors(sessions: usize) -> Result<(), Error> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = sessions as u64 + DESCRIPTORS_SPARE;
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        let text = format!("{sessions} sessions need {wanted} descriptors here, and {:?} are allowed", limit.maximum);
        return Err(Error::new(Code::Usage, text));
    }
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
    Ok(())
}

//! What idle sessions cost a relay: so many readers, each on a link of its own, each waiting at a pipe of its own.
//!
//! `cargo run --release -p skypipe-benches --bin idle [SESSIONS [SECONDS]]` starts for each transport the relay that was built beside it, `skypipe`, as a process of its own and
//! prints the growth of its resident memory as a Markdown table, measured when the sessions were idle for so many seconds (0). It fails where a session costs more than it may. `bare quinn` is what
//! the library under `quic` takes by itself, for comparison.

mod bare;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use skypipe_core::{
    Broker, Caller, Code, Env, Epoch, Error, KeyPair, OnTape, PipeName, PipeRef, ReaderAttach, ReaderHalves,
    RemoteBroker, Take, registry,
};

/// As many as the promise is about.
const SESSIONS: usize = 10_000;
/// Attaches under way at once, fewer than a relay allows one source.
const AT_ONCE: usize = 8;
/// Descriptors of this process beside one for each session.
const DESCRIPTORS_SPARE: u64 = 100;

/// A way to the relay, and what a relay with 10,000 idle sessions over it may take, in bytes.
const WAYS: [(&str, u64); 3] = [("unix", 120_000_000), ("quic", 350_000_000), ("wss", 280_000_000)];
/// What is only compared.
const BARE: &str = "bare quinn";
/// Who the sessions belong to.
const OWNER: [u8; 32] = [7; 32];

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some(bare::SERVER) {
        return bare::serve().await;
    }
    let sessions = argument.map_or(Ok(SESSIONS), |count| count.parse())?;
    let idle = std::env::args().nth(2).map_or(Ok(0), |seconds| seconds.parse()).map(Duration::from_secs)?;
    raise_descriptors(sessions)?;
    skypipe_transport_quic::install();
    skypipe_transport_ws::install();
    println!("| {sessions} idle sessions over | relay before | after | each | after may be | attached in |");
    println!("|---|---:|---:|---:|---:|---:|");
    let mut too_dear = Vec::new();
    for (way, bytes_max) in WAYS {
        let folder = tempfile::tempdir()?;
        let relay = Relay::start(way, folder.path())?;
        let bytes_max = bytes_max * sessions as u64 / SESSIONS as u64;
        let taken =
            measure(way, &relay, (sessions, idle), Some(bytes_max), |number| attach(&relay.url, number)).await?;
        if taken > bytes_max {
            too_dear.push(way);
        }
    }
    let (server, client) = (Relay::start_bare()?, bare::client()?);
    measure(BARE, &server, (sessions, idle), None, |_| bare::attach(&client, &server.url)).await?;
    if too_dear.is_empty() { Ok(()) } else { Err(format!("too dear over {}", too_dear.join(", ")).into()) }
}

/// Attaches the sessions, prints the row, and gives the bytes that the relay takes with them.
async fn measure<S, E, F>(
    way: &str,
    relay: &Relay,
    (sessions, idle): (usize, Duration),
    bytes_max: Option<u64>,
    attach: impl Fn(usize) -> F,
) -> Result<u64, Failure>
where
    E: Into<Failure>,
    F: Future<Output = Result<S, E>>,
{
    let before = relay.resident()?;
    let start = Instant::now();
    let attached: Result<Vec<S>, E> =
        stream::iter(0..sessions).map(attach).buffer_unordered(AT_ONCE).try_collect().await;
    let attached = attached.map_err(Into::into)?;
    let took = start.elapsed();
    tokio::time::sleep(idle).await;
    let after = relay.resident()?;
    let each = after.saturating_sub(before) as f64 / 1e3 / attached.len() as f64;
    let may_be = bytes_max.map_or("".to_owned(), |bytes| format!("{:.0} MB", bytes as f64 / 1e6));
    println!(
        "| {way} | {:.1} MB | {:.1} MB | {each:.1} KB | {may_be} | {:.1} s |",
        before as f64 / 1e6,
        after as f64 / 1e6,
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
        tape: OnTape::default(),
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
        let url = Self::said(&mut process, way)?;
        Ok(Self { process, url })
    }

    /// The server to compare with.
    fn start_bare() -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let mut process = Command::new(program).arg(bare::SERVER).stdout(Stdio::piped()).spawn()?;
        let url = Self::said(&mut process, "quinn")?;
        Ok(Self { process, url })
    }

    /// The URL of this kind that it prints.
    fn said(process: &mut Child, way: &str) -> Result<String, Failure> {
        let stdout = process.stdout.take().ok_or("no stdout")?;
        let is_wanted = |line: &String| line.starts_with(&format!("{way}:"));
        BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .find(is_wanted)
            .ok_or_else(|| "the relay said no URL".into())
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

//! `skypipe bench`: how fast a relay is, from here.
//!
//! ```text
//!  own.rs: pipes that nobody else knows ─▶ stream.rs  latency.rs  durable.rs  idle.rs ─▶ row.rs: the table, JSON
//!  payload.rs: what is sent, and is it what comes           figures.rs: rates, times ─▶ plot.rs: SVG
//! ```

mod durable;
mod figures;
mod idle;
mod latency;
mod own;
mod payload;
mod plot;
mod row;
mod shown;
mod stream;
mod task;

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use skypipe_core::{Code, Error, Pong, Target};
use tempfile::NamedTempFile;

use self::own::Own;
use self::row::{Figures, HEADING, Row, Unit, time};
use super::{on_threads, print};
use crate::args::{BenchArgs, BenchWhat};
use crate::broker::Relay;
use crate::exit::{Exit, say};
use crate::many_files::allow_many_files;
use crate::signals::{Stop, Watch};

/// Records of `bulk`, unless told otherwise: where more does not go faster any more.
const BULK_RECORD_BYTES: usize = 64 * 1024;
/// Those of all others: a line of a log.
const RECORD_BYTES: usize = 128;
/// How many at a time, unless told otherwise.
const FAN_OUT_READERS: usize = 8;
const DURABLE_WRITERS: usize = 64;
const IDLE_SESSIONS: usize = 100;
/// What everybody may do with a plot that this user may do with files.
const PLOT_MODE: u32 = 0o666;

pub(crate) fn run(relay: Option<&str>, args: BenchArgs) -> Result<Exit, Error> {
    let relay = Relay::find(relay)?;
    let plot = args.svg.as_deref().map(Plot::begin).transpose()?;
    allow_many_files();
    on_threads(bench(relay, &args, plot))
}

async fn bench(relay: Relay, args: &BenchArgs, plot: Option<Plot<'_>>) -> Result<Exit, Error> {
    match measure(&Own::new(relay), args, plot).await {
        Ok(()) => Ok(Exit::Done),
        Err(End::Failed(error)) => Err(error),
        Err(End::Stopped(stop)) => stop.exit("what was measured is printed"),
        Err(End::StdoutClosed) => Ok(Exit::StdoutClosed),
    }
}

/// Why it ends early.
enum End {
    Failed(Error),
    Stopped(Stop),
    StdoutClosed,
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

async fn measure(own: &Own, args: &BenchArgs, plot: Option<Plot<'_>>) -> Result<(), End> {
    let (mut watch, mut rows) = (Watch::new(None)?, Vec::new());
    let probe = own.pipe("probe")?;
    let pong = with_pipe(own, &probe, &mut watch, first_look(own, &probe)).await?;
    let head = head(&pong);
    if !args.json.json {
        show(&format!("{head}\n\n{HEADING}"))?;
    }
    let all = args.what();
    for (number, &what) in all.iter().enumerate() {
        let (plan, pipe) = (Plan::new(what, args, (number + 1, all.len())), own.pipe(what.word())?);
        let measured = with_pipe(own, &pipe, &mut watch, plan.measure(own, &pipe)).await?;
        let line = |row: &Row| if args.json.json { row.json(own.relay().broker.url(), &pong.path) } else { row.text() };
        show(&measured.iter().map(line).collect::<String>())?;
        rows.extend(measured);
    }
    Ok(plot.map_or(Ok(()), |plot| plot.keep(&plot::svg(&rows, &head)))?)
}

fn show(text: &str) -> Result<(), End> {
    if print(text)? == Exit::StdoutClosed { Err(End::StdoutClosed) } else { Ok(()) }
}

/// Does something with a pipe and removes it, whatever comes of it and whatever ends it.
async fn with_pipe<T>(
    own: &Own,
    pipe: &Target,
    watch: &mut Watch,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, End> {
    let done = watch.idle(work).await;
    let removed = watch.finish(own.remove(pipe)).await.unwrap_or_else(|_| Err(own::may_be_left(pipe)));
    let end = match (watch.stopped(), done) {
        (None, Ok(Ok(done))) => return Ok(removed.map(|()| done)?),
        (None, Ok(Err(error))) => End::Failed(error),
        (Some(stop), _) | (None, Err(stop)) => End::Stopped(stop),
    };
    // What went wrong first counts; this is told beside it.
    removed.unwrap_or_else(|left| say(&left.to_string()));
    Err(end)
}

/// Whether the relay is there and lets this user measure it.
async fn first_look(own: &Own, pipe: &Target) -> Result<Pong, Error> {
    own.relay().broker.ping(Bytes::new()).await?;
    own.may(pipe).await?;
    own.relay().broker.ping(Bytes::new()).await
}

fn head(pong: &Pong) -> String {
    let (version, round_trip) = (env!("CARGO_PKG_VERSION"), time(pong.round_trip.as_secs_f64() * 1e6));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("skypipe {version}, relay {}, {}, round trip {round_trip}, {cores} cores here", pong.software, pong.path)
}

/// One measurement as it is to be.
struct Plan {
    what: BenchWhat,
    record_bytes: usize,
    time: Duration,
    clients: Option<usize>,
    /// Which of how many.
    number: (usize, usize),
}

impl Plan {
    fn new(what: BenchWhat, args: &BenchArgs, number: (usize, usize)) -> Self {
        let usual = if what == BenchWhat::Bulk { BULK_RECORD_BYTES } else { RECORD_BYTES };
        let (record_bytes, clients) = (args.size.unwrap_or(usual), args.clients.map(usize::from));
        Self { what, record_bytes, time: args.time, clients, number }
    }

    async fn measure(&self, own: &Own, pipe: &Target) -> Result<Vec<Row>, Error> {
        let clients = |usual| self.clients.unwrap_or(usual);
        match self.what {
            BenchWhat::Bulk => stream::measure(own, pipe, self, 1, Unit::Bytes).await,
            BenchWhat::Messages => stream::measure(own, pipe, self, 1, Unit::Records).await,
            BenchWhat::FanOut => stream::measure(own, pipe, self, clients(FAN_OUT_READERS), Unit::Records).await,
            BenchWhat::Latency => latency::measure(own, pipe, self).await,
            BenchWhat::Durable => durable::measure(own, pipe, self, clients(DURABLE_WRITERS)).await,
            BenchWhat::Idle => idle::measure(own, pipe, self, clients(IDLE_SESSIONS)).await,
        }
    }

    /// What is shown while it runs.
    fn title(&self) -> String {
        let (number, of) = self.number;
        format!("{} ({number} of {of})", self.what.word())
    }

    /// A row of one writer and one reader.
    fn row(&self, figures: Figures) -> Row {
        let (what, record_bytes) = (self.what, self.record_bytes);
        Row { what, of: "", record_bytes, writers: 1, readers: 1, until: None, records: 0, figures }
    }
}

/// # Errors
/// `E_INTEGRITY` when other numbers came than were sent.
fn all_came(sent: u64, came: u64) -> Result<(), Error> {
    if sent == came {
        return Ok(());
    }
    Err(Error::new(Code::Integrity, format!("{sent} records were sent, {came} came")))
}

/// A file that takes its name when it is whole.
struct Plot<'a> {
    file: NamedTempFile,
    path: &'a Path,
}

impl<'a> Plot<'a> {
    /// Found out before anything is measured: whether it can be.
    fn begin(path: &'a Path) -> Result<Self, Error> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        let file =
            builder.prefix(".skypipe-").permissions(std::fs::Permissions::from_mode(PLOT_MODE)).tempfile_in(folder);
        let error = |e| Error::new(Code::Usage, format!("{}: {e}", path.display())).because(e);
        Ok(Self { file: file.map_err(error)?, path })
    }

    fn keep(mut self, svg: &str) -> Result<(), Error> {
        let kept = self.file.write_all(svg.as_bytes()).and_then(|()| Ok(self.file.persist(self.path)?));
        let error = |e: std::io::Error| Error::new(Code::Internal, format!("{}: {e}", self.path.display())).because(e);
        kept.map(drop).map_err(error)
    }
}

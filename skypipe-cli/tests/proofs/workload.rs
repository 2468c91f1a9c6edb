//! Clients that keep a log busy, and know at each moment what they were promised.
//!
//! ```text
//!   kept    one item, nobody reads it               its records must be there at the end
//!   taken   one item after the other, read at once  segments become free, and go
//!   live    a reader that is there first
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use skypipe_core::{BrokerPipe, Code, Error, Pipe as _, Reader, ReaderOptions, Take, Until};
use tokio::time::sleep;

use crate::harness::Home;
use crate::traced::pipe;

/// Bytes of a record: a dozen fill a segment.
const RECORD_BYTES: usize = 2000;
/// Records that a writer sends before it waits for their acknowledgement.
const AT_ONCE: u64 = 3;

/// A record's place: which pipe, which item of it, which record of that.
type Place = (&'static str, u64, u64);

/// What clients know.
#[derive(Clone, Default)]
pub struct Known(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Of each item, how many records were acknowledged to its writer.
    settled: BTreeMap<(&'static str, u64), u64>,
    /// Of each item, how many records its reader has had.
    read: BTreeMap<(&'static str, u64), u64>,
    /// What must not be.
    wrong: Vec<String>,
}

impl Known {
    fn with<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        change(&mut self.0.lock().unwrap())
    }

    fn settled(&self, pipe: &'static str, item: u64, count: u64) {
        self.with(|known| known.settled.insert((pipe, item), count));
    }

    /// Takes down what is wrong.
    pub fn wrong(&self, what: impl Into<String>) {
        self.with(|known| known.wrong.push(what.into()));
    }

    /// All that was wrong.
    pub fn all_wrong(&self) -> Vec<String> {
        self.with(|known| known.wrong.clone())
    }

    /// How many records were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.with(|known| known.settled.values().sum())
    }

    /// A reader got this record of an item.
    fn got(&self, pipe: &'static str, body: &[u8]) {
        let Some((item, index)) = parse(pipe, body) else {
            return self.wrong(format!("{pipe}: wrong bytes: {:?}", &body[..body.len().min(40)]));
        };
        self.with(|known| {
            let next = known.read.entry((pipe, item)).or_default();
            if *next != index {
                known.wrong.push(format!("{pipe}: record {index} of item {item}, not {next}"));
            }
            *next = index + 1;
        });
    }
}

impl Inner {
    /// What was acknowledged, and neither read nor left.
    fn lost(&self, left: &BTreeMap<Place, u64>) -> Vec<String> {
        let lost = self.settled.iter().filter_map(|(&(pipe, item), &settled)| {
            let read = self.read.get(&(pipe, item)).copied().unwrap_or_default();
            let lost = (read..settled).filter(|index| !left.contains_key(&(pipe, item, *index))).count();
            (lost > 0).then(|| format!("{pipe}: {lost} acknowledged records of item {item} are lost"))
        });
        lost.collect()
    }
}

/// What is done with the pipes of `home`, `rounds` times.
pub struct Workload {
    pipes: [BrokerPipe; 3],
    rounds: u64,
    known: Known,
}

impl Workload {
    pub fn new(home: &Home, rounds: u64) -> Self {
        Self { pipes: ["kept", "taken", "live"].map(|name| pipe(home, name)), rounds, known: Known::default() }
    }

    pub fn known(&self) -> Known {
        self.known.clone()
    }

    /// All of it, each of the three for itself; the first error of each.
    pub async fn run(&self) -> Vec<Error> {
        let (kept, taken, live) = tokio::join!(self.keep(), self.take(), self.live());
        [kept, taken, live].into_iter().filter_map(Result::err).collect()
    }

    async fn keep(&self) -> Result<(), Error> {
        self.write("kept", 0, self.rounds * AT_ONCE).await
    }

    async fn take(&self) -> Result<(), Error> {
        for item in 0..self.rounds {
            self.write("taken", item, 2 * AT_ONCE).await?;
            let mut reader = self.pipe("taken").reader().await?;
            self.read_all("taken", &mut reader).await?;
        }
        Ok(())
    }

    async fn live(&self) -> Result<(), Error> {
        for item in 0..self.rounds.div_ceil(4) {
            let mut reader = self.pipe("live").reader().await?;
            let (written, read) = tokio::join!(self.write("live", item, AT_ONCE), self.read_all("live", &mut reader));
            written.and(read)?;
        }
        Ok(())
    }

    /// Reads what was kept, and ends with nothing left anywhere.
    pub async fn read_what_was_kept(&self) -> Result<(), Error> {
        let mut reader = self.pipe("kept").reader().await?;
        self.read_all("kept", &mut reader).await?;
        let read = self.known.with(|known| known.read.get(&("kept", 0)).copied().unwrap_or_default());
        if read != self.rounds * AT_ONCE {
            self.known.wrong(format!("kept: {read} records, not {}", self.rounds * AT_ONCE));
        }
        Ok(())
    }

    /// Looks at all that is left, taking nothing: what was acknowledged and not read must be there. What a reader had begun to take is
    /// seen again when that reader is given up.
    pub async fn look_at_what_is_left(&self) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            let left = self.left().await?;
            let lost = self.known.with(|known| known.lost(&left));
            if lost.is_empty() || start.elapsed() > GIVEN_UP_WITHIN {
                lost.into_iter().for_each(|what| self.known.wrong(what));
                let twice = left.iter().find(|(_, count)| **count > 1);
                twice
                    .into_iter()
                    .for_each(|(place, count)| self.known.wrong(format!("{place:?} is there {count} times")));
                return Ok(());
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Every record that is left, and how often.
    async fn left(&self) -> Result<BTreeMap<Place, u64>, Error> {
        let mut left = BTreeMap::new();
        for name in ["kept", "taken", "live"] {
            let mut options = ReaderOptions::default();
            (options.take, options.no_wait) = (Take::Peek, true);
            let mut reader = match self.pipe(name).reader_with(options).await {
                Err(error) if matches!(error.code(), Code::Empty | Code::Access) => continue,
                other => other?,
            };
            while let Some(record) = reader.next().await? {
                match parse(name, &record.body) {
                    Some((item, index)) => *left.entry((name, item, index)).or_default() += 1,
                    None => self.known.wrong(format!("{name}: wrong bytes are left")),
                }
            }
        }
        Ok(left)
    }

    async fn write(&self, name: &'static str, item: u64, count: u64) -> Result<(), Error> {
        let mut writer = self.pipe(name).writer().await?;
        for index in 0..count {
            let sent = writer.send(&body(name, item, index)).await;
            let settled = match sent {
                Ok(()) if index % AT_ONCE == AT_ONCE - 1 => writer.settled().await,
                other => other,
            };
            // Also upon an error: what was acknowledged before it counts.
            self.known.settled(name, item, writer.progress().settled);
            settled?;
        }
        writer.end(Until::Stored).await?;
        self.known.settled(name, item, count);
        Ok(())
    }

    async fn read_all(&self, name: &'static str, reader: &mut Reader) -> Result<(), Error> {
        while let Some(record) = reader.next().await? {
            self.known.got(name, &record.body);
        }
        Ok(())
    }

    fn pipe(&self, name: &str) -> &BrokerPipe {
        self.pipes.iter().find(|pipe| pipe.name().to_string() == name).unwrap()
    }
}

/// A record that tells its place, filled up with bytes that follow from it.
fn body(pipe: &str, item: u64, index: u64) -> Vec<u8> {
    let mut text = format!("{pipe} {item} {index} ");
    for n in 0.. {
        if text.len() >= RECORD_BYTES {
            break;
        }
        write!(text, "{:x}", (item * 1_000_003 + index * 31 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap();
    }
    text.into_bytes()
}

/// Its place, if these are its bytes.
fn parse(pipe: &str, bytes: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut words = text.split(' ').skip(1);
    let (item, index) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (body(pipe, item, index) == bytes).then_some((item, index))
}

/// A session without a link is given up after a minute.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(75);
/// Longest that anything of a case may take: that, and a busy machine.
const CASE_WITHIN: Duration = Duration::from_secs(90);

/// Runs the clients of one case on this thread.
pub fn clients<R>(work: impl Future<Output = R>) -> Option<R> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(CASE_WITHIN, work).await.ok() })
}

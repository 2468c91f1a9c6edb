//! Very many pipes with one stored record each: what they cost a relay.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{TryStreamExt, stream};
use skypipe_core::{Broker, Client, Pipe, Until};

use crate::Failure;
use crate::ground::Ground;
use crate::peers::Skypipe;
use crate::peers::skypipe::{DATA, Place, program, relay_command};
use crate::process::{Process, role};
use crate::row::{Entry, Outcome, Row, Setting};

const WHOLE: u64 = 1_000_000;
const QUICK: u64 = 2_000;
/// Pipes below one prefix.
const PER_PREFIX: u64 = 1000;
/// Attaches under way at once: a group of them shares a sync.
const AT_ONCE: usize = 64;
/// Filling is not measured.
const LISTED_PREFIX: &str = "p/0/*";

pub(super) fn rows(setting: &Setting) -> Vec<Row> {
    let pipes = setting.size(WHOLE, QUICK);
    let entry = Entry::of(&Skypipe::Local, move |setting| measure(setting, pipes))
        .acknowledged("stored (relay with --memory 16G)");
    vec![Row { family: "pipes", name: format!("{pipes} pipes with one stored record"), entries: vec![entry] }]
}

/// What so many pipes cost.
pub(crate) struct Measured {
    /// Bytes of the relay's memory when they were filled, and when it was started anew.
    pub(crate) memory_filled: u64,
    pub(crate) memory_started: u64,
    /// Seconds of that start, of `ls` of one prefix, and of filling.
    pub(crate) start: f64,
    pub(crate) listing: f64,
    pub(crate) filling: f64,
}

fn measure(setting: &Setting, pipes: u64) -> Result<Outcome, Failure> {
    let measured = measured(setting, pipes)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(Outcome::one("MiB, relay after filling", mib(measured.memory_filled))
        .and("MiB, relay started anew", mib(measured.memory_started))
        .and("s, start until it accepts", measured.start)
        .and("ms, `ls` of one prefix", measured.listing * 1e3)
        .and("k pipes/s, filling", pipes as f64 / 1e3 / measured.filling))
}

/// Fills a relay, and starts it anew.
pub(crate) fn measured(setting: &Setting, pipes: u64) -> Result<Measured, Failure> {
    let ground = Ground::new(setting)?;
    let (relay, at) = relay(&ground)?;
    let begin = Instant::now();
    Process::start("filler", &mut role(&["fill", &at, &pipes.to_string()])?)?.ended_within(FILL_LIMIT)?;
    let (filling, memory_filled) = (begin.elapsed().as_secs_f64(), relay.resident()?);
    drop(relay);
    let begin = Instant::now();
    let (relay, at) = self::relay(&ground)?;
    let start = begin.elapsed().as_secs_f64();
    let mut listings = Vec::new();
    for _ in 0..LISTINGS {
        let listing = Instant::now();
        list(&at, PER_PREFIX.min(pipes))?;
        listings.push(listing.elapsed().as_secs_f64());
    }
    listings.sort_by(f64::total_cmp);
    let listing = crate::table::median(&listings);
    Ok(Measured { memory_filled, memory_started: relay.resident()?, start, listing, filling })
}

/// A relay that may take as much memory as it wants: the row says how much that is.
fn relay(ground: &Ground) -> Result<(Process, String), Failure> {
    let mut relay = relay_command(&ground.data().join(DATA))?;
    relay.args(["--memory", MEMORY, "--listen", &format!("unix:{}", ground.socket("relay").display())]);
    let (process, url) = Process::start_and_hear("skypipe relay", &mut relay, |line| line.starts_with("unix:"))?;
    Ok((process, Place::at(ground, url)?.text()))
}

/// More than the default, which refuses the last of a million pipes.
const MEMORY: &str = "16G";
const LISTINGS: usize = 5;
const FILL_LIMIT: Duration = Duration::from_secs(1800);

fn list(at: &str, expected: u64) -> Result<(), Failure> {
    let mut ls = Command::new(program()?);
    Place::parse(at)?.tell(ls.args(["ls", LISTED_PREFIX, "--json"]));
    let output = ls.output()?;
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count() as u64;
    if output.status.success() && lines >= expected {
        return Ok(());
    }
    Err(format!("`ls` gave {lines} lines: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// The role that fills: one record in each of so many pipes.
pub(crate) async fn fill(at: &str, pipes: u64) -> Result<(), Failure> {
    let broker: Arc<dyn Broker> = Arc::new(Place::parse(at)?.broker()?);
    let client = Client::over(broker);
    stream::iter((0..pipes).map(Ok)).try_for_each_concurrent(AT_ONCE, |number| one(&client, number)).await
}

async fn one(client: &Client, number: u64) -> Result<(), Failure> {
    let pipe = client.pipe(&format!("p/{}/{}", number / PER_PREFIX, number % PER_PREFIX))?;
    let mut writer = pipe.writer().await?;
    writer.send(&number.to_le_bytes()).await?;
    Ok(writer.end(Until::Stored).await.map(drop)?)
}

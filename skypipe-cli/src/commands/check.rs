//! `skypipe check`: is the relay there, over which path, how fast; and if not, what is wrong and what to do.

mod diagnosis;
mod ways;

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use skypipe_core::wire::constants::PING_BYTES_MAX;
use skypipe_core::{Broker as _, Env, Error, RemoteBroker};

use self::diagnosis::advice;
use self::ways::{Way, WayLine};
use super::keys::own_line;
use super::{on_this_thread, print};
use crate::args::JsonArgs;
use crate::broker::Relay;
use crate::exit::{Exit, say};
use crate::pipe_line::json_line;
use crate::progress::size;

/// Round trips of which the shortest is told: the first ones warm things up.
const ROUND_TRIPS: u32 = 5;
/// How long the rate is measured: long enough for the clock, short enough to wait for.
const RATE_WITHIN: Duration = Duration::from_millis(200);
/// Clocks this far apart make tickets and expiring keys end at another time than people think.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(300);

/// The answer for programs. The names of the fields are a promise.
#[derive(Serialize)]
struct Checked {
    /// Whether the relay can be used.
    ok: bool,
    /// The relay's URL.
    relay: String,
    /// What there is to know of one that answers.
    #[serde(flatten)]
    answer: Option<Answered>,
    /// What is wrong.
    #[serde(flatten)]
    failure: Option<Failed>,
    /// The version of this program.
    version: &'static str,
    /// This user's key, where the relay asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Each way to a relay on another machine, tried alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ways: Vec<WayLine>,
}

/// A relay that answers.
#[derive(Serialize)]
struct Answered {
    /// How the link runs.
    path: String,
    /// Shortest round trip, in microseconds.
    round_trip_us: u64,
    /// Bytes a second, there and back each.
    bytes_per_second: u64,
    /// The version of the relay.
    relay_version: String,
    /// Seconds by which the relay's clock is ahead of this machine's; a minus is behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_ahead_s: Option<i64>,
    /// Nothing can be stored or taken until the relay starts again: its disk failed.
    read_only: bool,
}

/// A relay that cannot be used.
#[derive(Serialize)]
struct Failed {
    /// The code of the error.
    code: &'static str,
    /// The error in one line.
    error: String,
    /// What to do about it.
    advice: String,
}

pub(crate) fn run(relay: Option<&str>, args: JsonArgs) -> Result<Exit, Error> {
    let relay = Relay::find(relay)?;
    on_this_thread(async move {
        // Together, since what is blocked takes its time to show; what is measured comes alone.
        let (ahead, ways) = tokio::join!(clock_ahead(&relay.broker), ways::try_each(&relay));
        let answer = match ahead {
            Ok(ahead) => measure(&relay.broker, ahead).await,
            Err(error) => Err(error),
        };
        let own = relay.key.map(own_line);
        let (checked, error) = match answer {
            Ok(answer) => (report(&relay, Some(answer), None, &ways), None),
            Err(error) => {
                let advice = advice(&error, &ways, own.as_deref()).unwrap_or_default();
                let failed = Failed { code: error.code().name(), error: error.text().to_owned(), advice };
                (report(&relay, None, Some(failed), &ways), Some(error))
            }
        };
        let printed = show(&checked, args.json, &ways)?;
        error.map_or(Ok(printed), Err)
    })
}

fn report(relay: &Relay, answer: Option<Answered>, failure: Option<Failed>, ways: &[Way]) -> Checked {
    Checked {
        ok: answer.is_some(),
        relay: relay.broker.url().to_owned(),
        answer,
        failure,
        version: env!("CARGO_PKG_VERSION"),
        key: relay.key.map(|key| key.to_string()),
        ways: ways.iter().map(WayLine::from).collect(),
    }
}

fn show(checked: &Checked, json: bool, ways: &[Way]) -> Result<Exit, Error> {
    if json {
        return print(&json_line(checked));
    }
    if let Some(failed) = checked.failure.as_ref().filter(|f| !f.advice.is_empty()) {
        say(&failed.advice);
    }
    let Some(answer) = &checked.answer else { return Ok(Exit::Done) };
    let printed = print(&text(checked, answer))?;
    if answer.read_only {
        say("the relay's disk failed: what it has can be read, nothing can be stored or taken until it starts again");
    }
    diagnosis::worth_saying(&answer.path, ways).iter().for_each(|line| say(line));
    if let Some(ahead) = answer.clock_ahead_s.filter(|s| s.unsigned_abs() > CLOCKS_APART_MAX.as_secs()) {
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        let by = humantime::format_duration(Duration::from_secs(ahead.unsigned_abs()));
        say(&format!(
            "the relay's clock is {by} {way} this one: set the wrong one right, or tickets expire at odd times"
        ));
    }
    Ok(printed)
}

/// Connects; gives the seconds by which the relay's clock is ahead, where it tells its time.
async fn clock_ahead(relay: &RemoteBroker) -> Result<Option<i64>, Error> {
    let admitted = relay.admitted().await?;
    let here = Env::system().clock.wall();
    Ok(admitted.map(|a| (a.time.0 as i64).saturating_sub(here.0 as i64) / 1000))
}

async fn measure(relay: &RemoteBroker, clock_ahead_s: Option<i64>) -> Result<Answered, Error> {
    let mut pong = relay.ping(Bytes::new()).await?;
    for _ in 1..ROUND_TRIPS {
        let next = relay.ping(Bytes::new()).await?;
        pong.round_trip = pong.round_trip.min(next.round_trip);
    }
    Ok(Answered {
        path: pong.path,
        round_trip_us: u64::try_from(pong.round_trip.as_micros()).unwrap_or(u64::MAX),
        bytes_per_second: rate(relay).await?,
        relay_version: pong.software.to_string(),
        clock_ahead_s,
        read_only: relay.features().read_only,
    })
}

async fn rate(relay: &RemoteBroker) -> Result<u64, Error> {
    let payload = Bytes::from(vec![0x5a; PING_BYTES_MAX]);
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < RATE_WITHIN {
        relay.ping(payload.clone()).await?;
        bytes += payload.len();
    }
    Ok((bytes as f64 / start.elapsed().as_secs_f64()) as u64)
}

fn text(checked: &Checked, answer: &Answered) -> String {
    let Checked { relay, version, .. } = checked;
    let Answered { path, round_trip_us, relay_version, .. } = answer;
    let rate = size(answer.bytes_per_second as f64);
    format!(
        "relay       {relay}\npath        {path}\nround trip  {round_trip_us} µs\nrate        {rate}/s\nversion     {version}, relay {relay_version}\n"
    )
}

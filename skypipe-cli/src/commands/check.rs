//! `skypipe check`

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use skypipe_core::wire::constants::PING_BYTES_MAX;
use skypipe_core::{Error, RemoteBroker};

use super::stat::json_line;
use super::{on_this_thread, print};
use crate::args::JsonArgs;
use crate::broker::Relay;
use crate::exit::Exit;
use crate::progress::size;

/// Round trips of which the shortest is told: the first ones warm things up.
const ROUND_TRIPS: u32 = 5;
/// How long the rate is measured: long enough for the clock, short enough to wait for.
const RATE_WITHIN: Duration = Duration::from_millis(200);

/// The answer for programs. The names of the fields are a promise.
#[derive(Serialize)]
struct Checked {
    /// The relay's URL.
    relay: String,
    /// How the link runs.
    path: String,
    /// Shortest round trip, in microseconds.
    round_trip_us: u64,
    /// Bytes a second, there and back each.
    bytes_per_second: u64,
    /// The version of this program.
    version: &'static str,
    /// The version of the relay.
    relay_version: String,
}

pub(crate) fn run(relay: Option<&str>, args: JsonArgs) -> Result<Exit, Error> {
    let relay = Relay::find(relay)?;
    on_this_thread(async move {
        let checked = check(&relay.broker).await?;
        print(&if args.json { json_line(&checked) } else { text(&checked) })
    })
}

async fn check(relay: &RemoteBroker) -> Result<Checked, Error> {
    let mut pong = relay.ping(Bytes::new()).await?;
    for _ in 1..ROUND_TRIPS {
        let next = relay.ping(Bytes::new()).await?;
        pong.round_trip = pong.round_trip.min(next.round_trip);
    }
    Ok(Checked {
        relay: relay.url().to_owned(),
        path: pong.path,
        round_trip_us: u64::try_from(pong.round_trip.as_micros()).unwrap_or(u64::MAX),
        bytes_per_second: rate(relay).await?,
        version: env!("CARGO_PKG_VERSION"),
        relay_version: pong.software.to_string(),
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

fn text(checked: &Checked) -> String {
    let Checked { relay, path, round_trip_us, version, relay_version, .. } = checked;
    let rate = size(checked.bytes_per_second as f64);
    format!(
        "relay       {relay}\npath        {path}\nround trip  {round_trip_us} µs\nrate        {rate}/s\nversion     {version}, relay {relay_version}\n"
    )
}

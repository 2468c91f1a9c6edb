//! `latency`: how long a record is under way when there is time for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use skypipe_core::{Code, Error, Reader, Target, Until, Writer};
use tokio::sync::mpsc;
use tokio::time::interval;

use super::figures::{Times, Window};
use super::own::Own;
use super::payload::{Check, Payload, Records};
use super::row::{Figures, Row, Unit};
use super::shown::Shown;
use super::task::Task;
use super::{Plan, all_came};

/// 1,000 records a second: far from what a relay can do, so none waits for another.
const SEND_EVERY: Duration = Duration::from_millis(1);
/// Records under way: a minute of them. The writer waits when there are more, and what waited counts.
const UNDER_WAY_MAX: usize = 60_000;

pub(super) async fn measure(own: &Own, pipe: &Target, plan: &Plan) -> Result<Vec<Row>, Error> {
    let payload = Payload::new(plan.record_bytes);
    let (reader, writer) = (own.reader(pipe).await?, own.writer(pipe).await?);
    let (departures, departed) = mpsc::channel(UNDER_WAY_MAX);
    let window = Window::open(plan.time);
    let shown = Shown::begin(plan.title(), Unit::Records);
    let arrivals = Arrivals { departed, window, times: Times::new()?, count: shown.count() };
    let read = Task::spawn(read(reader, payload.check(), arrivals)).done();
    let written = Task::spawn(write(writer, payload.records(), window.end(), departures)).done();
    let (sent, (came, times)) = tokio::try_join!(written, read)?;
    all_came(sent, came)?;
    let figures = Figures::Times(times);
    Ok(vec![Row { of: "send to receipt", until: Some(Until::Delivered), records: sent, ..plan.row(figures) }])
}

async fn write(
    mut writer: Writer,
    mut records: Records,
    end: Instant,
    departures: mpsc::Sender<Instant>,
) -> Result<u64, Error> {
    let mut ticks = interval(SEND_EVERY);
    while ticks.tick().await.into_std() < end {
        if departures.send(Instant::now()).await.is_err() {
            // The reader has failed, and its error is the one to tell.
            break;
        }
        writer.send(records.next()).await?;
    }
    writer.end(Until::Delivered).await?;
    Ok(records.count())
}

/// What the reader knows of each record.
struct Arrivals {
    /// When each left, in their order.
    departed: mpsc::Receiver<Instant>,
    window: Window,
    times: Times,
    count: Arc<AtomicU64>,
}

impl Arrivals {
    /// So many came, now.
    fn came(&mut self, records: u64) -> Result<(), Error> {
        let now = Instant::now();
        for _ in 0..records {
            let unsent = |_| Error::new(Code::Integrity, "a record came that nobody sent");
            let sent = self.departed.try_recv().map_err(unsent)?;
            if self.window.holds(sent) {
                self.times.add(now.duration_since(sent));
            }
        }
        self.count.fetch_add(records, Ordering::Relaxed);
        Ok(())
    }
}

async fn read(mut reader: Reader, mut check: Check, mut arrivals: Arrivals) -> Result<(u64, Times), Error> {
    while let Some(chunk) = reader.next_chunk().await? {
        arrivals.came(check.take(&chunk)?)?;
    }
    Ok((check.finish()?, arrivals.times))
}

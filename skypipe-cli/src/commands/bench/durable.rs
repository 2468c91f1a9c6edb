//! `durable`: writers that wait for each record until it is stored, and what is stored read back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::future::try_join_all;
use skypipe_core::{Error, ReaderOptions, SessionId, Target, Until, Writer};

use super::figures::{Slices, Times, Window};
use super::own::Own;
use super::payload::{Check, Payload, Records};
use super::row::{Figures, Row, Unit};
use super::shown::Shown;
use super::task::Task;
use super::{Plan, all_came};

/// One writer's time, and many writers' rate.
pub(super) async fn measure(own: &Own, pipe: &Target, plan: &Plan, writers: usize) -> Result<Vec<Row>, Error> {
    let (sent, times, _) = store(own, pipe, plan, 1).await?;
    let figures = Figures::Times(times);
    let one = Row { of: "send to stored", readers: 0, until: Some(Until::Stored), records: sent, ..plan.row(figures) };
    if writers == 1 {
        return Ok(vec![one]);
    }
    let (sent, _, slices) = store(own, pipe, plan, writers).await?;
    let (of, figures) = ("records stored, one at a time each", Figures::Rate(Unit::Records, slices.rate()));
    let many = Row { of, writers, readers: 0, until: Some(Until::Stored), records: sent, ..plan.row(figures) };
    Ok(vec![one, many])
}

async fn store(own: &Own, pipe: &Target, plan: &Plan, writers: usize) -> Result<(u64, Times, Slices), Error> {
    let payload = Payload::new(plan.record_bytes);
    let writing = own.writers(pipe, writers).await?;
    let measured = Arc::new(Measured { window: Window::open(plan.time), times: Mutex::new(Times::new()?) });
    let shown = Shown::begin(plan.title(), Unit::Records);
    let write = |writer| Task::spawn(write(writer, payload.records(), measured.clone(), shown.count())).done();
    let written = try_join_all(writing.into_iter().map(write)).await?;

    let (mut sent, mut slices) = (0, Slices::new(measured.window));
    for (records, part) in &written {
        sent += records;
        slices.join(part);
    }
    all_came(sent, read_back(own, pipe, &payload).await?)?;
    let times = measured.times.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((sent, times, slices))
}

/// What all writers measure in.
struct Measured {
    window: Window,
    /// One for all: it is larger than all else that a writer has.
    times: Mutex<Times>,
}

/// Gives how many records it sent, and when they were stored.
async fn write(
    mut writer: Writer,
    mut records: Records,
    measured: Arc<Measured>,
    count: Arc<AtomicU64>,
) -> Result<(u64, Slices), Error> {
    let window = measured.window;
    let mut slices = Slices::new(window);
    loop {
        let start = Instant::now();
        if start >= window.end() {
            break;
        }
        writer.send(records.next()).await?;
        writer.settled().await?;
        slices.add(1);
        count.fetch_add(1, Ordering::Relaxed);
        if window.holds(start) {
            measured.times.lock().unwrap_or_else(PoisonError::into_inner).add(start.elapsed());
        }
    }
    writer.end(Until::Stored).await?;
    Ok((records.count(), slices))
}

/// Takes all that is stored; gives how many records.
async fn read_back(own: &Own, pipe: &Target, payload: &Payload) -> Result<u64, Error> {
    let mut options = ReaderOptions::default();
    (options.keep, options.no_wait) = (true, true);
    let mut reader = own.reader_with(pipe, options).await?;
    let mut checks: HashMap<SessionId, Check> = HashMap::new();
    while let Some(chunk) = reader.next_chunk().await? {
        checks.entry(chunk.writer).or_insert_with(|| payload.check()).take(&chunk)?;
    }
    checks.into_values().map(Check::finish).sum()
}

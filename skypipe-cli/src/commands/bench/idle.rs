//! `idle`: sessions that wait, each over a link of its own.

use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::future::try_join_all;
use skypipe_core::{Code, Error, Pipe as _, Reader, Target, Until};
use tokio::time::sleep;

use super::figures::Times;
use super::own::Own;
use super::payload::{Check, Payload};
use super::row::{Figures, Row, Unit};
use super::shown::Shown;
use super::task::Task;
use super::{Plan, all_came};

pub(super) async fn measure(own: &Own, pipe: &Target, plan: &Plan, sessions: usize) -> Result<Vec<Row>, Error> {
    let shown = Shown::begin(plan.title(), Unit::Records);
    let (mut waiting, mut attaching) = (Vec::new(), Times::new()?);
    for _ in 0..sessions {
        let start = Instant::now();
        waiting.push(own.reader(pipe).await?);
        attaching.add(start.elapsed());
        shown.count().fetch_add(1, Ordering::Relaxed);
    }
    sleep(plan.time).await;
    let there = own.relay().pipe(pipe).stat().await?.readers as usize;
    if there != sessions {
        return Err(Error::new(Code::Disconnected, format!("of {sessions} sessions that waited, {there} are there")));
    }
    let receiving = wake(own, pipe, plan, waiting).await?;
    drop(shown);

    let figures = Figures::Times(attaching);
    let attached =
        Row { of: "connect and attach", record_bytes: 0, writers: 0, readers: sessions, ..plan.row(figures) };
    let (of, until) = ("send to receipt, after waiting", Some(Until::Delivered));
    let woken = Row { of, readers: sessions, until, records: 1, ..plan.row(Figures::Times(receiving)) };
    Ok(vec![attached, woken])
}

/// One record for all of them: how long each waits for it.
async fn wake(own: &Own, pipe: &Target, plan: &Plan, waiting: Vec<Reader>) -> Result<Times, Error> {
    let payload = Payload::new(plan.record_bytes);
    let mut writer = own.writer(pipe).await?;
    let read = |reader| Task::spawn(read(reader, payload.check())).done();
    let read = try_join_all(waiting.into_iter().map(read));
    let start = Instant::now();
    let written = async {
        writer.send(payload.records().next()).await?;
        writer.end(Until::Delivered).await
    };
    let (_, came) = tokio::try_join!(written, read)?;
    let mut times = Times::new()?;
    for (records, received) in came {
        all_came(1, records)?;
        received.into_iter().for_each(|received| times.add(received.duration_since(start)));
    }
    Ok(times)
}

/// Gives how many records came, and when the last one did.
async fn read(mut reader: Reader, mut check: Check) -> Result<(u64, Option<Instant>), Error> {
    let mut received = None;
    while let Some(chunk) = reader.next_chunk().await? {
        let now = Instant::now();
        if check.take(&chunk)? > 0 {
            received = Some(now);
        }
    }
    Ok((check.finish()?, received))
}

//! `bulk`, `messages` and `fan-out`: one writer that sends all it can, live readers that get all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::future::try_join_all;
use skypipe_core::{Error, Reader, Target, Until, Writer};

use super::figures::{Slices, Window};
use super::own::Own;
use super::payload::{Check, Payload, Records};
use super::row::{Figures, Row, Unit};
use super::shown::Shown;
use super::task::Task;
use super::{Plan, all_came};

/// The writer looks at its clock once for so many bytes: it costs more than a small record does.
const LOOK_BYTES: usize = 16 * 1024;

pub(super) async fn measure(
    own: &Own,
    pipe: &Target,
    plan: &Plan,
    readers: usize,
    unit: Unit,
) -> Result<Vec<Row>, Error> {
    let payload = Payload::new(plan.record_bytes);
    // They are there before the writer is, so all of them are live.
    let mut reading = Vec::new();
    for _ in 0..readers {
        reading.push(own.reader(pipe).await?);
    }
    let writer = own.writer(pipe).await?;

    let window = Window::open(plan.time);
    let shown = Shown::begin(plan.title(), unit);
    let read = |reader| {
        let counted = Counted { slices: Slices::new(window), unit, count: shown.count() };
        Task::spawn(read(reader, payload.check(), counted)).done()
    };
    let read = try_join_all(reading.into_iter().map(read));
    let written = Task::spawn(write(writer, payload.records(), window.end())).done();
    let (sent, came) = tokio::try_join!(written, read)?;

    let mut slices = Slices::new(window);
    for (records, part) in &came {
        all_came(sent, *records)?;
        slices.join(part);
    }
    let of = match unit {
        Unit::Bytes => "bytes read",
        Unit::Records if readers == 1 => "records read",
        Unit::Records => "records read, all readers together",
    };
    let figures = Figures::Rate(unit, slices.rate());
    Ok(vec![Row { of, readers, until: Some(Until::Delivered), records: sent, ..plan.row(figures) }])
}

/// Sends until `end`, and waits until all is delivered; gives how many records.
async fn write(mut writer: Writer, mut records: Records, end: Instant) -> Result<u64, Error> {
    loop {
        let mut bytes = 0;
        while bytes < LOOK_BYTES {
            let record = records.next();
            bytes += record.len();
            writer.send(record).await?;
        }
        if Instant::now() >= end {
            break;
        }
    }
    writer.end(Until::Delivered).await?;
    Ok(records.count())
}

/// Where what comes is counted.
struct Counted {
    slices: Slices,
    unit: Unit,
    count: Arc<AtomicU64>,
}

impl Counted {
    fn add(&mut self, bytes: u64, records: u64) {
        let amount = if self.unit == Unit::Bytes { bytes } else { records };
        self.slices.add(amount);
        self.count.fetch_add(amount, Ordering::Relaxed);
    }
}

/// Reads to the end; gives how many records.
async fn read(mut reader: Reader, mut check: Check, mut counted: Counted) -> Result<(u64, Slices), Error> {
    while let Some(chunk) = reader.next_chunk().await? {
        let records = check.take(&chunk)?;
        counted.add(chunk.bodies().len() as u64, records);
    }
    Ok((check.finish()?, counted.slices))
}

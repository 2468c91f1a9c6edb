//! Writers and readers over a real broker.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use skypipe_core::{
    BrokerPipe, Client, Code, Env, LocalBroker, Mode, Pipe, Reader, ReaderOptions, Start, Until, Writer, WriterOptions,
};

use super::{Ends, Rig};

/// Of one record in the cases with much data: not a power of two, so that no buffer's end is a record's.
const RECORD_BYTES: usize = 100_003;

impl Rig<LocalBroker> {
    /// A real broker, in memory.
    pub async fn real(make: &impl AsyncFn(&Path) -> Ends) -> Self {
        // Cases with many links at once come from one address.
        Self::serving(LocalBroker::in_memory(Env::system()).unwrap(), make, |limits| {
            limits.half_open_per_source = limits.half_open;
        })
        .await
    }

    /// A pipe of that broker, seen from a client of its own.
    pub fn pipe(&self, name: &str) -> BrokerPipe {
        Client::over(Arc::new(self.another())).pipe(name).unwrap()
    }
}

/// The record of this number.
pub(super) fn record(number: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|at| (at ^ number).wrapping_mul(0x9e37_79b9) as u8).collect()
}

/// Sends so many records and ends.
pub(super) async fn write(mut writer: Writer, records: u64, bytes: usize) {
    for number in 0..records {
        writer.send(&record(number, bytes)).await.unwrap();
    }
    writer.end(Until::Stored).await.unwrap();
}

/// Reads so many records, no more and no less, in order.
pub(super) async fn read(mut reader: Reader, records: u64, bytes: usize) {
    for number in 0..records {
        let got = reader.next().await.unwrap().unwrap_or_else(|| panic!("the end came before record {number}"));
        assert!(got.body == record(number, bytes), "another record came instead of {number}");
    }
    assert_eq!(reader.next().await.unwrap(), None);
}

/// Eight MiB, live.
pub async fn eight_mebibytes_from_a_writer_to_a_reader(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::real(&make).await;
    let reader = rig.pipe("much").reader().await.unwrap();
    let writer = rig.pipe("much").writer().await.unwrap();
    futures::join!(write(writer, 84, RECORD_BYTES), read(reader, 84, RECORD_BYTES));
    assert_eq!(rig.pipe("much").stat().await.unwrap_err().code(), Code::Access, "the pipe is gone");
}

/// What was stored before its reader came.
pub async fn what_is_stored_waits_for_its_reader(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::real(&make).await;
    write(rig.pipe("stored").writer().await.unwrap(), 10, RECORD_BYTES).await;
    assert_eq!(rig.pipe("stored").stat().await.unwrap().ended, 1);
    read(rig.pipe("stored").reader().await.unwrap(), 10, RECORD_BYTES).await;
    rig.relay.idle_for(Duration::from_millis(1)).await;
}

/// Many pipes over the one link of one client.
pub async fn sixteen_writers_and_readers_at_once(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::real(&make).await;
    let client = Client::over(Arc::new(rig.another()));
    let pairs = (0..16).map(|number| {
        let pipe = client.pipe(&format!("many/{number}")).unwrap();
        async move {
            let (reader, writer) = (pipe.reader().await.unwrap(), pipe.writer().await.unwrap());
            futures::join!(write(writer, 50, 10_007), read(reader, 50, 10_007));
        }
    });
    join_all(pairs).await;
}

/// Many broadcasts, some of which begin later, over one stream; each record tells where it was.
pub async fn one_reader_of_many_pipes(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::real(&make).await;
    let news = |number: u64| {
        let pipe = rig.pipe(&format!("news/{number}"));
        async move {
            let writer = pipe.writer_with(WriterOptions::default().with_mode(Mode::Broadcast)).await.unwrap();
            write(writer, 20, 1000).await;
        }
    };
    join_all((0..8).map(news)).await;
    let mut options = ReaderOptions::default();
    options.start = Start::Beginning;
    let client = Client::over(Arc::new(rig.another()));
    let mut reader = client.pattern("news/*").unwrap().reader_with(options).await.unwrap();
    let reading = async {
        let mut next = BTreeMap::new();
        for _ in 0..16 * 20 {
            let got = reader.next().await.unwrap().expect("it stays");
            let number = next.entry(got.pipe.display()).or_insert(0);
            assert!(got.body == record(*number, 1000), "another record came instead of {number}");
            *number += 1;
        }
        assert!(next.len() == 16 && next.values().all(|number| *number == 20), "{next:?}");
    };
    futures::join!(reading, join_all((8..16).map(news)));
}

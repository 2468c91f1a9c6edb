//! Links that break. Of transports between machines only: within one machine, a closed connection is a dead process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use skypipe_core::session::Patience;
use skypipe_core::{
    BrokerPipe, Client, Code, Error, LocalBroker, Mode, Pipe, ReaderOptions, Start, Until, WriterOptions,
};
use tokio::time::timeout;

use super::ends::Between;
use super::rig::remote;
use super::sessions::{read, record};
use super::{Ends, Rig};
use crate::chaos::{Proxy, Times, Way};
use crate::proof::Proof;

/// Of one record.
const RECORD_BYTES: usize = 64 * 1024 - 7;
/// Records of the case with much data: 8 MiB.
const RECORDS: u64 = 128;
/// The link of one side breaks after each but the last of so many parts of them, in turns.
const STEPS: u64 = 16;
/// So many connections of each role are cut at once: together fewer than one address may have half open at a relay, which is 16.
const AT_ONCE: usize = 6;
/// So many paths fall silent at once: all, since each takes as long as it takes to be found out.
const SILENT_AT_ONCE: usize = 4 * DATAGRAMS as usize;
/// Datagrams in one direction: more than a handshake and a record need.
const DATAGRAMS: u64 = 24;
/// How long a session under test tries to connect, and to come back.
const PATIENCE: Duration = Duration::from_secs(3);
/// A link that fell silent is found out so soon: 15 s after the first ping that was not answered, and one is sent after 5 s of quiet.
const FOUND_OUT_WITHIN: Duration = Duration::from_secs(25);
/// How much later than its patience a session may end at most.
const LATER_AT_MOST: Duration = Duration::from_secs(3);

/// A case that fails ends the test there and then.
const NO_FAILURES: &[&str] = &[];

/// A pipe of the rig's broker through a proxy, from a client of its own.
struct Through {
    proxy: Proxy,
    client: Client,
    pipe: BrokerPipe,
    patience: Duration,
}

impl Through {
    async fn new(rig: &Rig<LocalBroker>, name: &str) -> Option<Self> {
        let (proxy, url) = rig.between().proxy(&rig.url).await?;
        let client = Client::over(Arc::new(remote(&rig.transport, &url)));
        let pipe = client.pipe(name).unwrap();
        Some(Self { proxy, client, pipe, patience: PATIENCE })
    }

    /// Writes one record and ends, with little patience.
    async fn write_one(&self) -> Result<(), Error> {
        let mut options = WriterOptions::default();
        options.patience = Patience { connect_timeout: self.patience, give_up: self.patience };
        let mut writer = self.pipe.writer_with(options).await?;
        writer.send(&record(1, 300)).await?;
        writer.end(Until::Stored).await.map(drop)
    }

    /// Reads that record, with little patience.
    async fn read_one(&self) -> Result<Option<Vec<u8>>, Error> {
        let mut options = ReaderOptions::default();
        options.patience = Patience { connect_timeout: self.patience, give_up: self.patience };
        let mut reader = self.pipe.reader_with(options).await?;
        let got = reader.next().await?.map(|record| record.body.to_vec());
        assert_eq!(reader.next().await?, None, "a second record");
        Ok(got)
    }

    /// Reads what there is below `name`, with little patience, and tells of each record where it was.
    async fn read_below(&self, name: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let mut options = ReaderOptions::default();
        options.patience = Patience { connect_timeout: self.patience, give_up: self.patience };
        (options.start, options.no_wait) = (Start::Beginning, true);
        let mut reader = self.client.pattern(&format!("{name}/*"))?.reader_with(options).await?;
        let mut got = Vec::new();
        while let Some(record) = reader.next().await? {
            got.push((record.pipe.display(), record.body.to_vec()));
        }
        got.sort();
        Ok(got)
    }
}

/// Eight MiB whose links break again and again, of the writer and of the reader: nothing is lost, nothing comes twice.
pub async fn sessions_go_on_when_links_break(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::real(&make).await;
    let (Some(up), Some(down)) = (Through::new(&rig, "cut").await, Through::new(&rig, "cut").await) else { return };
    let reader = down.pipe.reader().await.unwrap();
    let mut writer = up.pipe.writer().await.unwrap();
    let (sent, broken) = (AtomicU64::new(0), AtomicU64::new(0));
    let writing = async {
        for number in 0..RECORDS {
            // Never further ahead than one break: else all of it may be under way before the first.
            until(|| number < (broken.load(Ordering::Relaxed) + 2) * RECORDS / STEPS).await;
            writer.send(&record(number, RECORD_BYTES)).await.unwrap();
            sent.store(number + 1, Ordering::Relaxed);
        }
        until(|| broken.load(Ordering::Relaxed) == STEPS - 1).await;
        writer.end(Until::Stored).await.unwrap();
    };
    let breaking = async {
        for step in 1..STEPS {
            until(|| sent.load(Ordering::Relaxed) >= step * RECORDS / STEPS).await;
            let proxy = if step.is_multiple_of(2) { &up.proxy } else { &down.proxy };
            let connections = proxy.connections();
            break_link(rig.between(), proxy, step);
            // Only a session that came back can be broken again.
            until(|| rig.between() == Between::Udp || proxy.connections() > connections).await;
            broken.store(step, Ordering::Relaxed);
        }
    };
    futures::join!(writing, read(reader, RECORDS, RECORD_BYTES), breaking);
}

/// TCP: closed or reset. UDP: the NAT gives a new port, and from now on some are lost, doubled and late.
fn break_link(between: Between, proxy: &Proxy, step: u64) {
    match between {
        Between::Udp => {
            proxy.rebind();
            for way in [Way::Up, Way::Down] {
                proxy.loss(way, 0.01);
                proxy.doubling(way, 0.01);
                proxy.reordering(way, 0.01);
            }
        }
        _ if step.is_multiple_of(3) => proxy.reset_now(),
        _ => proxy.cut_now(),
    }
}

async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A connection that is cut once, behind each byte of the handshake, the proof, the attach, the first record and what follows it,
/// in each direction: the session goes on with the next connection, and the record is there, once. Over UDP: a path that falls silent
/// behind each datagram; the client finds out, and the next path is a good one.
pub async fn a_cut_anywhere_in_the_first_record(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::real(&make).await;
    let proof = Proof::begin("P2b", format!("links cut anywhere, {}", rig.scheme()));
    let (writers, readers) = futures::join!(Role::Writer.cut_everywhere(&rig), Role::Reader.cut_everywhere(&rig));
    let all = writers + readers + Role::OfMany.cut_everywhere(&rig).await;
    if all > 0 {
        proof.end(all, NO_FAILURES);
    }
}

impl Role {
    /// Returns how many cuts there were; none where nothing can be cut.
    async fn cut_everywhere(self, rig: &Rig<LocalBroker>) -> u64 {
        let Some([up, down]) = self.whole(rig).await else { return 0 };
        let is_bytes = rig.between() != Between::Udp;
        // Two pipes say more than one: every third byte is still within each frame.
        let step = if is_bytes && matches!(self, Self::OfMany) { 3 } else { 1 };
        let places = |to: u64| (0..=to).step_by(step);
        let cuts = places(up).map(|at| (Way::Up, at)).chain(places(down).map(|at| (Way::Down, at)));
        let at_once = if is_bytes { AT_ONCE } else { SILENT_AT_ONCE };
        stream::iter(cuts).for_each_concurrent(at_once, |(way, at)| self.cut(rig, way, at)).await;
        (places(up).count() + places(down).count()) as u64
    }
}

/// A network that falls silent behind each datagram of the handshake, the proof, the attach and the first record, in each direction:
/// the session ends with a clear error, not long after the link was found out and its patience was over.
pub async fn silence_anywhere_in_the_first_record(make: impl AsyncFn(&Path) -> Ends) {
    let rig = Rig::real(&make).await;
    if rig.between() != Between::Udp {
        return;
    }
    let proof = Proof::begin("P2b", format!("paths that fall silent, {}", rig.scheme()));
    let cuts = [Way::Up, Way::Down].into_iter().flat_map(|way| (0..DATAGRAMS).map(move |at| (way, at)));
    stream::iter(cuts).for_each_concurrent(None, |(way, at)| fall_silent(&rig, way, at)).await;
    proof.end(2 * DATAGRAMS, NO_FAILURES);
}

async fn fall_silent(rig: &Rig<LocalBroker>, way: Way, at: u64) {
    let through = Through::new(rig, &format!("silence/{way:?}/{at}")).await.unwrap();
    through.proxy.cut_at(way, at, Times::Always);
    let within = FOUND_OUT_WITHIN + PATIENCE + LATER_AT_MOST;
    let wrote = timeout(within, through.write_one()).await;
    let wrote = wrote.unwrap_or_else(|_| panic!("silence {way:?} behind datagram {at}: it hangs"));
    if let Err(error) = wrote {
        // Behind the record nobody can tell any more whether it was stored: that is said, not guessed.
        let is_clear = error.is_disconnected() || error.code() == Code::Unknown;
        assert!(is_clear, "silence {way:?} behind datagram {at}: {error}");
    }
}

/// Who is cut off.
#[derive(Clone, Copy, Debug)]
enum Role {
    Writer,
    Reader,
    /// A reader of a broadcast and a queue at once.
    OfMany,
}

impl Role {
    /// Where a whole session up and down may be cut: behind how many bytes, or datagrams; none where nothing can be cut.
    async fn whole(self, rig: &Rig<LocalBroker>) -> Option<[u64; 2]> {
        if rig.between() == Between::Udp {
            return Some([DATAGRAMS; 2]);
        }
        let name = format!("whole/{self:?}");
        let through = Through::new(rig, &name).await?;
        self.run(rig, &through, &name).await.unwrap();
        Some([through.proxy.carried(Way::Up), through.proxy.carried(Way::Down)])
    }

    async fn cut(self, rig: &Rig<LocalBroker>, way: Way, at: u64) {
        let name = format!("cut/{self:?}/{way:?}/{at}");
        let mut through = Through::new(rig, &name).await.unwrap();
        if rig.between() == Between::Udp {
            through.patience = FOUND_OUT_WITHIN + PATIENCE;
        }
        through.proxy.cut_at(way, at, Times::Once);
        // First it is found out, then it is mended.
        let within = FOUND_OUT_WITHIN + through.patience + LATER_AT_MOST;
        let run = timeout(within, self.run(rig, &through, &name)).await;
        let run = run.unwrap_or_else(|_| panic!("{self:?} cut {way:?} behind byte {at}: it hangs"));
        run.unwrap_or_else(|error| panic!("{self:?} cut {way:?} behind byte {at}: {error}"));
    }

    /// One record through the pipe: this role through the proxy, the other one without.
    async fn run(self, rig: &Rig<LocalBroker>, through: &Through, name: &str) -> Result<(), Error> {
        let client = Client::over(rig.broker.clone());
        let direct = client.pipe(name)?;
        let got = match self {
            Self::OfMany => return read_both(&client, through, name).await,
            Self::Writer => {
                through.write_one().await?;
                let mut reader = direct.reader().await?;
                let got = reader.next().await?.map(|record| record.body.to_vec());
                assert_eq!(reader.next().await?, None, "{name}: a second record");
                got
            }
            Self::Reader => {
                let mut writer = direct.writer().await?;
                writer.send(&record(1, 300)).await?;
                writer.end(Until::Stored).await?;
                through.read_one().await?
            }
        };
        assert_eq!(got, Some(record(1, 300)), "{name}");
        Ok(())
    }
}

/// A record of a broadcast and one of a queue, by one reader: each once, whatever is cut.
async fn read_both(direct: &Client, through: &Through, name: &str) -> Result<(), Error> {
    let mut wanted = Vec::new();
    for (number, mode) in [(1, Mode::Broadcast), (2, Mode::Queue)] {
        let pipe = format!("{name}/{}", mode.word());
        let mut writer = direct.pipe(&pipe)?.writer_with(WriterOptions::default().with_mode(mode)).await?;
        writer.send(&record(number, 300)).await?;
        writer.end(Until::Stored).await?;
        wanted.push((pipe, record(number, 300)));
    }
    assert!(through.read_below(name).await? == wanted, "{name}");
    Ok(())
}

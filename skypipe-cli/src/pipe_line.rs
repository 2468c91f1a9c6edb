//! A pipe as `ls`, `stat` and their readers see it.

use serde::Serialize;
use skypipe_core::{Lag, Owner, OwnerPrefix, PipeStat, ReaderStat};

use crate::escape;
use crate::progress::size;
use crate::rates::{self, Rates};

/// A pipe as programs see it. The names of the fields are a promise.
#[derive(Debug, Serialize)]
pub(crate) struct PipeLine {
    /// Its name, with its owner where that is another.
    pub(crate) name: String,
    /// `default`, `queue` or `broadcast`.
    pub(crate) mode: &'static str,
    /// Items that are not wholly taken; of a queue or broadcast, records.
    pub(crate) items: u64,
    /// Those of them that have ended.
    pub(crate) ended: u64,
    /// Bytes that wait.
    pub(crate) bytes: u64,
    /// Writers attached or away.
    pub(crate) writers: u32,
    /// Readers attached or away.
    pub(crate) readers: u32,
    /// Records of a queue in readers' hands.
    pub(crate) leased: u64,
    /// Records of a queue that the next readers get.
    pub(crate) ready: u64,
    /// Records of a queue that wait for their time.
    pub(crate) delayed: u64,
    /// Records of a queue that lost readers had in their hands, since `counted_since_ms`.
    pub(crate) released: u64,
    /// Something of it could not be read back from the relay's disk.
    pub(crate) damaged: bool,
    /// Nothing can be stored in it or taken from it: the relay's disk failed.
    pub(crate) read_only: bool,
    /// Records that the reader furthest behind has not acknowledged.
    pub(crate) lag: u64,
    /// Their bytes; `null` in default pipes.
    pub(crate) lag_bytes: Option<u64>,
    /// Since when the next four are counted, in milliseconds since 1970: the pipe began then, or its relay started.
    pub(crate) counted_since_ms: u64,
    /// How long that was, by the relay's clock: two looks give a rate.
    pub(crate) counted_ms: u64,
    /// Records that writers sent.
    pub(crate) records_in: u64,
    /// Their bytes.
    pub(crate) bytes_in: u64,
    /// Records that were sent to readers, to each of them.
    pub(crate) records_out: u64,
    /// Their bytes.
    pub(crate) bytes_out: u64,
    /// With `--watch`, from the second look on.
    #[serde(flatten)]
    pub(crate) rates: Option<Rates>,
    /// With `--watch`, when this look was, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at_ms: Option<u64>,
    /// `stat` alone: its readers and durable cursors, the furthest behind first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reader_list: Option<Vec<ReaderLine>>,
    /// `stat` alone: so many more there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) readers_more: Option<u32>,
}

/// A reader, or a durable cursor.
#[derive(Debug, Serialize)]
pub(crate) struct ReaderLine {
    /// Tells readers apart; none of a cursor that nobody reads with.
    pub(crate) id: Option<String>,
    /// The name of its durable cursor.
    pub(crate) cursor: Option<String>,
    /// `attached`, `away`, or `nobody` of a cursor that nobody reads with.
    pub(crate) presence: &'static str,
    /// Records that it has not acknowledged.
    pub(crate) lag: u64,
    /// Their bytes; `null` in default pipes.
    pub(crate) lag_bytes: Option<u64>,
    /// Records of a queue in its hands.
    pub(crate) holds: u64,
}

impl ReaderLine {
    pub(crate) fn new(reader: &ReaderStat) -> Self {
        Self {
            id: reader.id.map(|id| format!("{id:08x}")),
            cursor: reader.cursor.clone(),
            presence: reader.presence.word(),
            lag: reader.lag.records,
            lag_bytes: reader.lag.bytes,
            holds: reader.holds,
        }
    }

    /// How it is called on a terminal.
    pub(crate) fn shown_name(&self) -> String {
        match (&self.cursor, &self.id) {
            (Some(cursor), _) => format!("--as {}", escape::line(cursor)),
            (None, Some(id)) => id.clone(),
            (None, None) => String::new(),
        }
    }

    /// What it is at, in a pipe of this mode.
    pub(crate) fn shown_state(&self, mode: &str) -> String {
        match mode {
            "queue" => format!("{} in its hands", self.holds),
            _ => format!("{} behind", lag_text(self.lag, self.lag_bytes)),
        }
    }
}

impl PipeLine {
    /// A pipe of `owner`, as in a list.
    pub(crate) fn new(owner: &Owner, stat: &PipeStat) -> Self {
        let Lag { records: lag, bytes: lag_bytes } = stat.lag;
        let traffic = &stat.traffic;
        Self {
            name: format!("{}{}", OwnerPrefix(owner), stat.path.display()),
            mode: stat.mode.word(),
            items: stat.items,
            ended: stat.ended,
            bytes: stat.bytes,
            writers: stat.writers,
            readers: stat.readers,
            leased: stat.leased,
            ready: stat.ready,
            delayed: stat.delayed,
            released: stat.released,
            damaged: stat.damaged,
            read_only: stat.read_only,
            lag,
            lag_bytes,
            counted_since_ms: traffic.since.0,
            counted_ms: u64::try_from(traffic.counted.as_millis()).unwrap_or(u64::MAX),
            records_in: traffic.written.records,
            bytes_in: traffic.written.bytes,
            records_out: traffic.read.records,
            bytes_out: traffic.read.bytes,
            rates: None,
            at_ms: None,
            reader_list: None,
            readers_more: None,
        }
    }

    /// The same with its readers.
    pub(crate) fn with_readers(owner: &Owner, stat: &PipeStat) -> Self {
        let readers = stat.reader_list.iter().map(ReaderLine::new).collect();
        Self { reader_list: Some(readers), readers_more: Some(stat.readers_more), ..Self::new(owner, stat) }
    }

    /// One JSON object on a line.
    pub(crate) fn json(&self) -> String {
        json_line(self)
    }

    /// A block of lines for people.
    pub(crate) fn text(&self) -> String {
        let Self { mode, items, ended, bytes, writers, readers, leased, ready, delayed, released, .. } = self;
        let name = escape::line(&self.name);
        let mut text = format!("name     {name}\nmode     {mode}\n");
        text += &match *mode {
            "default" => format!("items    {items}, {ended} of them ended\n"),
            "queue" => {
                format!("records  {items}: {ready} ready, {leased} in readers' hands, {delayed} wait for their time\n")
            }
            _ => format!("records  {items}\n"),
        };
        if *released > 0 {
            text += &format!("released {released} that lost readers had in their hands\n");
        }
        text += &format!("bytes    {bytes}\nwriters  {writers}\nreaders  {readers}\n");
        for reader in self.reader_list.iter().flatten() {
            let presence = if reader.presence == "attached" { "" } else { reader.presence };
            let line = format!("  {:<24} {:<32} {presence}", reader.shown_name(), reader.shown_state(mode));
            text += &format!("{}\n", line.trim_end());
        }
        if let Some(more) = self.readers_more.filter(|more| *more > 0) {
            text += &format!("  and {more} more\n");
        }
        text += &self.traffic_text();
        text + if self.damaged { "damaged  a part cannot be read back, its readers are told which\n" } else { "" }
            + if self.read_only { "log      read-only: the relay's disk failed\n" } else { "" }
    }

    /// Totals, and rates where there were two looks.
    fn traffic_text(&self) -> String {
        // A relay of an older version does not count.
        if self.counted_since_ms == 0 {
            return String::new();
        }
        let rate = |records: f64, bytes: f64| format!("; {} records/s, {}/s", rates::shown(records), size(bytes));
        let (rate_in, rate_out) = match &self.rates {
            Some(rates) => (rate(rates.records_in, rates.bytes_in), rate(rates.records_out, rates.bytes_out)),
            None => Default::default(),
        };
        let line = |word, records, bytes, rate| format!("{word:<8} {records} records, {}{rate}\n", size(bytes as f64));
        let since = humantime::format_duration(std::time::Duration::from_secs(self.counted_ms / 1000));
        line("in", self.records_in, self.bytes_in, rate_in)
            + &line("out", self.records_out, self.bytes_out, rate_out)
            + &format!("counted  for {since}\n")
    }
}

/// How far somebody is behind.
fn lag_text(records: u64, bytes: Option<u64>) -> String {
    let bytes = bytes.filter(|_| records > 0).map(|bytes| format!(" ({})", size(bytes as f64)));
    format!("{records} records{}", bytes.unwrap_or_default())
}

/// One JSON object on a line.
pub(crate) fn json_line(object: &impl Serialize) -> String {
    // Structs of text and numbers have no way to fail.
    let json = serde_json::to_string(object).unwrap_or_default();
    escape::json(&json) + "\n"
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use skypipe_core::{Amount, Mode, PipeName, Presence, Traffic, WallTime};

    use super::*;

    fn stat(mode: Mode) -> PipeStat {
        let mut stat = PipeStat::empty(PipeName::new("a/b").unwrap().path(), mode);
        stat.traffic = Traffic {
            since: WallTime(1),
            counted: Duration::from_secs(60),
            written: Amount { records: 5, bytes: 2048 },
            read: Amount::default(),
        };
        stat
    }

    #[test]
    fn a_queue_tells_what_waits_and_who_has_it() {
        let mut stat = stat(Mode::Queue);
        (stat.items, stat.ready, stat.leased, stat.delayed, stat.released) = (6, 3, 2, 1, 4);
        let mut worker = ReaderStat::new(Some(0xab), Presence::Attached);
        worker.holds = 2;
        (stat.readers, stat.reader_list, stat.readers_more) = (2, vec![worker], 1);
        let mut line = PipeLine::with_readers(&Owner::SELF, &stat);
        line.rates = Some(Rates { records_in: 2.5, ..Rates::default() });
        let text = line.text();
        for part in [
            "records  6: 3 ready, 2 in readers' hands, 1 wait for their time\n",
            "released 4 that lost readers had in their hands\n",
            "  000000ab                 2 in its hands\n",
            "  and 1 more\n",
            "in       5 records, 2.0 KiB; 2.5 records/s, 0 B/s\n",
            "counted  for 1m\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }

    #[test]
    fn a_broadcast_tells_who_is_behind() {
        let mut stat = stat(Mode::Broadcast);
        let mut cursor = ReaderStat::new(None, Presence::Nobody);
        cursor.cursor = Some("night\u{1b}ly".into());
        cursor.lag = Lag { records: 7, bytes: Some(1024) };
        stat.reader_list = vec![cursor, ReaderStat::new(Some(1), Presence::Away)];
        let line = PipeLine::with_readers(&Owner::SELF, &stat);
        let text = line.text();
        assert!(text.contains("  --as night\\u{1b}ly       7 records (1.0 KiB) behind       nobody\n"), "{text}");
        assert!(text.contains("  00000001                 0 records behind                 away\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&line.json()).unwrap();
        assert_eq!(json["reader_list"][0]["cursor"], "night\u{1b}ly");
        assert_eq!(json["reader_list"][0]["lag_bytes"], 1024);
        assert!(json.get("records_in_per_s").is_none(), "one look has no rates");
    }
}

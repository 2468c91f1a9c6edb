//! One line of the table.

use serde::Serialize;
use skypipe_core::Until;

use super::figures::{Rate, SLICES, Times};
use crate::args::BenchWhat;
use crate::pipe_line::json_line;
use crate::progress::size;
use crate::rates;

/// The titles of the columns.
pub(super) const HEADING: &str = "BENCH     RECORD     WRITERS READERS UNTIL         CHECKED  RESULT\n";

/// What was measured once.
pub(super) struct Row {
    /// Of which measurement.
    pub(super) what: BenchWhat,
    /// What the figures are of, in words.
    pub(super) of: &'static str,
    /// Bytes of a record; 0 where none is sent.
    pub(super) record_bytes: usize,
    /// Writers at a time.
    pub(super) writers: usize,
    /// Readers at a time.
    pub(super) readers: usize,
    /// The acknowledgement that writers waited for.
    pub(super) until: Option<Until>,
    /// Records that came, at each reader, all with the bytes that were sent.
    pub(super) records: u64,
    /// What came out.
    pub(super) figures: Figures,
}

/// What came out.
pub(super) enum Figures {
    /// So much a second.
    Rate(Unit, Rate),
    /// So long.
    Times(Times),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Records,
}

impl Unit {
    /// So much a second, as people read it.
    pub(super) fn rate(self, rate: f64) -> String {
        match self {
            Self::Bytes => format!("{}/s", size(rate)),
            Self::Records => format!("{}/s", rates::shown(rate)),
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Bytes => "bytes/s",
            Self::Records => "records/s",
        }
    }
}

impl Row {
    /// A line for people.
    pub(super) fn text(&self) -> String {
        let Self { record_bytes, writers, readers, records, .. } = self;
        let record = if *record_bytes == 0 { "-".to_owned() } else { size(*record_bytes as f64) };
        let (what, until) = (self.what.word(), self.until().unwrap_or("-"));
        let result = format!("{}: {}", self.of, self.result());
        format!("{what:<9} {record:<10} {writers:>7} {readers:>7} {until:<9} {records:>11}  {result}\n")
    }

    /// The figures in a line.
    pub(super) fn result(&self) -> String {
        match &self.figures {
            Figures::Rate(unit, rate) => {
                let [median, min, max] = [rate.median(), rate.min(), rate.max()].map(|rate| unit.rate(rate));
                format!("median {median}, min {min}, max {max}")
            }
            Figures::Times(times) => {
                let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| time(times.quantile(part)));
                format!("p50 {p50}, p99 {p99}, p99.9 {p999}")
            }
        }
    }

    /// A line for programs.
    pub(super) fn json(&self, relay: &str, path: &str) -> String {
        let (record_bytes, writers, readers, records) = (self.record_bytes, self.writers, self.readers, self.records);
        let (bench, of, until) = (self.what.word(), self.of, self.until());
        let version = env!("CARGO_PKG_VERSION");
        let figures = FigureFields::from(&self.figures);
        json_line(&Fields { bench, of, record_bytes, writers, readers, until, records, figures, relay, path, version })
    }

    fn until(&self) -> Option<&'static str> {
        match self.until? {
            Until::Stored => Some("stored"),
            Until::Delivered => Some("delivered"),
            _ => Some("received"),
        }
    }
}

/// A row for programs. The names of the fields are a promise.
#[derive(Serialize)]
struct Fields<'a> {
    /// The word on the command line.
    bench: &'a str,
    /// What the figures are of, in words.
    of: &'a str,
    record_bytes: usize,
    writers: usize,
    readers: usize,
    /// `stored` or `delivered`, whichever writers waited for; `null` where nobody did.
    until: Option<&'a str>,
    /// Records whose bytes were compared with what was sent.
    records: u64,
    #[serde(flatten)]
    figures: FigureFields,
    /// The relay's URL.
    relay: &'a str,
    /// How the link runs.
    path: &'a str,
    /// The version of this program.
    version: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum FigureFields {
    Rate {
        unit: &'static str,
        median: f64,
        min: f64,
        max: f64,
        /// The rate in each tenth of the time.
        slices: [f64; SLICES],
    },
    Times {
        unit: &'static str,
        /// How often it was timed.
        count: u64,
        p50: f64,
        p99: f64,
        p999: f64,
        min: f64,
        max: f64,
    },
}

impl From<&Figures> for FigureFields {
    fn from(figures: &Figures) -> Self {
        match figures {
            Figures::Rate(unit, rate) => {
                let (median, min, max) = (rate.median(), rate.min(), rate.max());
                Self::Rate { unit: unit.word(), median, min, max, slices: rate.slices }
            }
            Figures::Times(times) => {
                let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| times.quantile(part));
                Self::Times { unit: "us", count: times.count(), p50, p99, p999, min: times.min(), max: times.max() }
            }
        }
    }
}

/// Microseconds as people read them: three digits matter.
pub(super) fn time(microseconds: f64) -> String {
    let mut value = microseconds;
    for unit in ["µs", "ms"] {
        if value < 999.5 {
            return format!("{} {unit}", digits(value));
        }
        value /= 1000.0;
    }
    format!("{} s", digits(value))
}

fn digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    pub(in super::super) fn rows() -> [Row; 2] {
        let mut times = Times::new().unwrap();
        [40, 50, 1200].map(Duration::from_micros).into_iter().for_each(|time| times.add(time));
        let row = |what, figures| Row {
            what,
            of: "this & <that>",
            record_bytes: 128,
            writers: 1,
            readers: 8,
            until: Some(Until::Delivered),
            records: 3,
            figures,
        };
        let rate = Rate { slices: [1e6; SLICES] };
        [row(BenchWhat::FanOut, Figures::Rate(Unit::Records, rate)), row(BenchWhat::Latency, Figures::Times(times))]
    }

    #[test]
    fn a_line_says_what_was_measured_and_which_acknowledgement_was_waited_for() {
        let [rate, times] = rows().map(|row| row.text());
        assert!(rate.contains("median 1.0M/s, min 1.0M/s, max 1.0M/s"), "{rate}");
        assert!(times.contains("p50 50.0 µs, p99 1.20 ms") && times.contains(" delivered "), "{times}");
        let column = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
        assert_eq!(column(HEADING, "READERS"), column(&rate, " 8"), "{HEADING}{rate}");
        assert_eq!(column(HEADING, "CHECKED"), column(&rate, " 3"), "{HEADING}{rate}");
    }

    #[test]
    fn programs_get_numbers() {
        let [rate, times] =
            rows().map(|row| serde_json::from_str::<serde_json::Value>(&row.json("unix:/x", "here")).unwrap());
        assert_eq!(
            (&rate["bench"], &rate["unit"], &rate["median"]),
            (&"fan-out".into(), &"records/s".into(), &1e6.into())
        );
        assert_eq!(
            (&rate["until"], &rate["slices"][9], &rate["relay"]),
            (&"delivered".into(), &1e6.into(), &"unix:/x".into())
        );
        assert!(
            times["unit"] == "us" && times["count"] == 3 && times["p50"].as_f64().unwrap().floor() == 50.0,
            "{times}"
        );
    }

    #[test]
    fn times_read_well() {
        let shown = [0.0, 0.512, 9.999, 41.26, 999.4, 999.6, 12_345.0, 2_500_000.0].map(time);
        assert_eq!(shown, ["0.00 µs", "0.51 µs", "10.0 µs", "41.3 µs", "999 µs", "1.00 ms", "12.3 ms", "2.50 s"]);
    }
}

//! How fast pipes are, from two looks at what went through them.

use std::collections::BTreeMap;

use serde::Serialize;
use skypipe_core::{Amount, PipePath, PipeStat, Traffic};

/// Most pipes whose last look is kept: some 300 bytes each, and more than anybody watches. The others have no rates.
const REMEMBERED_MAX: usize = 10_000;

/// What goes through a pipe in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Rates {
    /// Records that writers send.
    #[serde(rename = "records_in_per_s")]
    pub(crate) records_in: f64,
    /// Their bytes.
    #[serde(rename = "bytes_in_per_s")]
    pub(crate) bytes_in: f64,
    /// Records that are sent to readers, to each of them.
    #[serde(rename = "records_out_per_s")]
    pub(crate) records_out: f64,
    /// Their bytes.
    #[serde(rename = "bytes_out_per_s")]
    pub(crate) bytes_out: f64,
}

impl Rates {
    /// Between two looks at a pipe, by the relay's own clock: how long an answer was under way does not matter. None where the pipe or the
    /// relay began anew in between, or where no time went by.
    pub(crate) fn between(before: &Traffic, now: &Traffic) -> Option<Self> {
        if before.since != now.since {
            return None;
        }
        let seconds = now.counted.checked_sub(before.counted).filter(|time| !time.is_zero())?.as_secs_f64();
        let rate = |before: u64, now: u64| Some(now.checked_sub(before)? as f64 / seconds);
        let both =
            |before: Amount, now: Amount| Some((rate(before.records, now.records)?, rate(before.bytes, now.bytes)?));
        let (records_in, bytes_in) = both(before.written, now.written)?;
        let (records_out, bytes_out) = both(before.read, now.read)?;
        Some(Self { records_in, bytes_in, records_out, bytes_out })
    }

    /// Both directions together.
    pub(crate) fn records(&self) -> f64 {
        self.records_in + self.records_out
    }
}

/// The last look at each of some pipes.
#[derive(Debug, Default)]
pub(crate) struct LastLooks {
    before: BTreeMap<PipePath, Traffic>,
    now: BTreeMap<PipePath, Traffic>,
}

impl LastLooks {
    /// A round of looks begins: pipes that the last one did not meet are forgotten.
    pub(crate) fn begin(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// How fast a pipe was since the round before.
    pub(crate) fn look(&mut self, stat: &PipeStat) -> Option<Rates> {
        if self.now.len() < REMEMBERED_MAX {
            self.now.insert(stat.path.clone(), stat.traffic);
        }
        Rates::between(self.before.get(&stat.path)?, &stat.traffic)
    }
}

/// A rate as people read it: three digits matter.
pub(crate) fn shown(rate: f64) -> String {
    let mut value = rate;
    for unit in ["", "k", "M"] {
        if value < 999.5 {
            let is_whole = value >= 99.95 || (unit.is_empty() && value.fract() == 0.0);
            return if is_whole { format!("{value:.0}{unit}") } else { format!("{value:.1}{unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1}G")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use skypipe_core::{Mode, PipeName, WallTime};

    use super::*;

    fn traffic(since: u64, seconds: u64, records: u64) -> Traffic {
        let written = Amount { records, bytes: records * 10 };
        let read = Amount { records: records * 2, bytes: records * 20 };
        Traffic { since: WallTime(since), counted: Duration::from_secs(seconds), written, read }
    }

    #[test]
    fn a_rate_is_what_came_between_two_looks() {
        let rates = Rates::between(&traffic(1, 10, 100), &traffic(1, 14, 300)).unwrap();
        let expected = Rates { records_in: 50.0, bytes_in: 500.0, records_out: 100.0, bytes_out: 1000.0 };
        assert_eq!(rates, expected);
        assert_eq!(rates.records(), 150.0);
    }

    #[test]
    fn what_began_anew_has_no_rate_yet() {
        let before = traffic(1, 10, 100);
        assert_eq!(Rates::between(&before, &traffic(2, 12, 300)), None, "the relay began anew");
        assert_eq!(Rates::between(&before, &before), None, "no time went by");
        assert_eq!(Rates::between(&before, &traffic(1, 11, 99)), None, "nothing is taken back");
        assert_eq!(Rates::between(&before, &traffic(1, 9, 300)), None, "no clock goes back");
    }

    #[test]
    fn only_the_round_before_counts() {
        let mut stat = PipeStat::empty(PipeName::new("x").unwrap().path(), Mode::Default);
        let mut looks = LastLooks::default();
        let mut round = |there: Option<Traffic>| {
            looks.begin();
            stat.traffic = there?;
            looks.look(&stat)
        };
        assert_eq!(round(Some(traffic(1, 1, 1))), None);
        assert_eq!(round(Some(traffic(1, 2, 3))).unwrap().records_in, 2.0);
        assert_eq!(round(None), None);
        assert_eq!(round(Some(traffic(1, 4, 5))), None);
    }

    #[test]
    fn rates_read_well() {
        let shown = [0.0, 0.25, 5.0, 99.96, 999.0, 999.6, 12_345.0, 5e6, 7.5e9].map(shown);
        assert_eq!(shown, ["0", "0.2", "5", "100", "999", "1.0k", "12.3k", "5.0M", "7.5G"]);
    }
}

//! The time in `expiry-time=`, as OpenSSH writes it: `YYYYMMDDHHMM[SS][Z]`, or `YYYYMMDD`. With `Z` it is UTC, else the machine's own time zone.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, fmt::strtime};
use skypipe_core::{Code, Error, WallTime};

/// Reads a time.
///
/// # Errors
/// `E_KEY` when it is none.
pub(crate) fn parse(text: &str) -> Result<WallTime, Error> {
    let (digits, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    let time = civil(digits).and_then(|civil| civil.to_zoned(zone).ok());
    let millis = time.map(|t| u64::try_from(t.timestamp().as_millisecond()).unwrap_or(0));
    millis.map(WallTime).ok_or_else(|| Error::new(Code::Key, "not a time: expiry-time is YYYYMMDDHHMM[SS][Z]"))
}

/// The time in UTC: `20300131235959Z`.
pub(crate) fn to_text(time: WallTime) -> String {
    strtime::format("%Y%m%d%H%M%SZ", stamp(time)).unwrap_or_default()
}

/// The time in UTC for people: `2030-01-31T23:59:59Z`.
pub(crate) fn to_words(time: WallTime) -> String {
    strtime::format("%Y-%m-%dT%H:%M:%SZ", stamp(time)).unwrap_or_default()
}

fn stamp(time: WallTime) -> Timestamp {
    Timestamp::from_millisecond(i64::try_from(time.0).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX)
}

fn civil(digits: &str) -> Option<DateTime> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return None;
    }
    let number = |at: usize, length: usize| digits.get(at..at + length).map_or(Some(0), |d| d.parse::<i16>().ok());
    let small = |at: usize| number(at, 2).and_then(|n| i8::try_from(n).ok());
    DateTime::new(number(0, 4)?, small(4)?, small(6)?, small(8)?, small(10)?, small(12)?, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_its_text() {
        for text in ["20300131235959Z", "19700101000000Z"] {
            assert_eq!(to_text(parse(text).unwrap()), text);
        }
        assert_eq!(parse("203001312359z").unwrap(), parse("20300131235900Z").unwrap());
        assert_eq!(parse("20300131Z").unwrap(), parse("203001310000Z").unwrap());
        assert_eq!(to_words(WallTime(0)), "1970-01-01T00:00:00Z");
        // Some zone of the world: at most a day away.
        assert!(parse("203001310000").unwrap().0.abs_diff(parse("203001310000Z").unwrap().0) <= 86_400_000);
        assert!(to_text(WallTime(u64::MAX)).starts_with("9999"));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in
            ["", "Z", "2030", "20301301", "20300132", "203001312460", "2030-01-31", "tomorrow", "+2030131", "２０３０"]
        {
            assert_eq!(parse(bad).unwrap_err().code(), Code::Key, "{bad}");
        }
    }
}

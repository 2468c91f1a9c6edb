//! Where a reader of a broadcast begins, and what a broadcast keeps, as people write them.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use skypipe_core::{Mark, Position, Retain, Start, WallTime};

use crate::args::duration;

/// In front of a position: nothing else begins with it.
const POSITION: char = '@';

/// `now`, `start`, `-5`, `10m`, a time of RFC 3339, or a position that was printed.
pub(crate) fn parse(text: &str) -> Result<Start, String> {
    let wrong =
        || "now, start, -N, a duration such as 10m, a time such as 2026-01-31T08:00:00Z, or a position".to_owned();
    if let Some(position) = text.strip_prefix(POSITION) {
        return position_of(position).map(Start::At).ok_or_else(wrong);
    }
    if let Some(records) = text.strip_prefix('-') {
        return records.parse().map(Start::Last).map_err(|_| wrong());
    }
    match text {
        "now" => Ok(Start::Now),
        "start" => Ok(Start::Beginning),
        text if text.contains('T') => {
            let time = humantime::parse_rfc3339(text).map_err(|_| wrong())?;
            let since = time.duration_since(UNIX_EPOCH).map_err(|_| wrong())?;
            Ok(Start::Since(WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))))
        }
        text => duration(text).map(Start::Ago).map_err(|_| wrong()),
    }
}

/// A position as [`parse`] takes it.
pub(crate) fn shown(mark: &Mark) -> String {
    let mut text = String::from(POSITION);
    for byte in &mark.position.0 {
        let _ = write!(text, "{byte:02x}");
    }
    if mark.records > 0 {
        let _ = write!(text, "+{}", mark.records);
    }
    text
}

fn position_of(text: &str) -> Option<Mark> {
    let (position, records) = text.split_once('+').unwrap_or((text, "0"));
    let digits = position.len().is_multiple_of(2) && position.bytes().all(|digit| digit.is_ascii_hexdigit());
    let byte = |at: usize| u8::from_str_radix(position.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..position.len()).step_by(2).map(byte).collect();
    let bytes = bytes.filter(|bytes| digits && !bytes.is_empty())?;
    Some(Mark { position: Position(bytes.into()), records: records.parse().ok()? })
}

/// `7d`, `10G`, `1000`, or several of them joined by commas: age, bytes, records.
pub(crate) fn retain(text: &str) -> Result<Retain, String> {
    let mut retain = Retain::default();
    for part in text.split(',') {
        let wrong = || format!("{part:?} is no limit: 7d, 10G or 1000 records, joined by commas");
        // A month is not asked for: M is a mebibyte.
        let is_size = part.ends_with(|c: char| c.is_ascii_uppercase());
        if let Ok(records) = part.parse::<u64>() {
            retain.records = Some(records);
        } else if is_size {
            retain.bytes = Some(skypipe_keys::parse_size(part).map_err(|_| wrong())?);
        } else {
            retain.age = Some(duration(part).ok().filter(|age| *age > Duration::ZERO).ok_or_else(wrong)?);
        }
    }
    Ok(retain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_as_people_write_them() {
        assert_eq!(parse("now"), Ok(Start::Now));
        assert_eq!(parse("start"), Ok(Start::Beginning));
        assert_eq!(parse("-12"), Ok(Start::Last(12)));
        assert_eq!(parse("10m"), Ok(Start::Ago(Duration::from_secs(600))));
        assert_eq!(parse("1970-01-01T00:00:01Z"), Ok(Start::Since(WallTime(1000))));
        for wrong in ["", "-", "-x", "tomorrow", "2026-13-01T00:00:00Z", "@", "@0", "@xy", "@00+", "@ü0"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_position_comes_back() {
        for records in [0, 7] {
            let mark = Mark { position: Position(vec![0, 255, 16].into()), records };
            assert_eq!(parse(&shown(&mark)), Ok(Start::At(mark)));
        }
    }

    #[test]
    fn limits_are_age_size_and_count() {
        let retain = retain("7d,10G,1000").unwrap();
        let age = Some(Duration::from_secs(7 * 86_400));
        assert_eq!(retain, Retain { age, bytes: Some(10 << 30), records: Some(1000) });
        for wrong in ["", "7x", "0s", "1Z", "7d,,", "-1"] {
            assert!(super::retain(wrong).is_err(), "{wrong}");
        }
    }
}

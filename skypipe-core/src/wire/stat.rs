//! A pipe's figures as fields.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::constants::{
    CURSOR_NAME_BYTES_MAX, LAG_BYTES_UNKNOWN, STAT_DAMAGED, STAT_LAG, STAT_QUEUE, STAT_READ_ONLY, STAT_READERS,
    STAT_TRAFFIC,
};
use super::fields::known_mode;
use crate::codec::{Fields, put_short};
use crate::error::{Code, Error};
use crate::name::PipePath;
use crate::stat::{Amount, Lag, PipeStat, Presence, READERS_TOLD_MAX, ReaderStat, Traffic};
use crate::time::WallTime;

/// A pipe's figures behind their length: first those of the first version, then numbered ones, so that later ones can be added.
pub(super) fn put_stat(out: &mut BytesMut, stat: &PipeStat) {
    let mut fields = BytesMut::with_capacity(192 + stat.path.encoded().len());
    put_short(&mut fields, stat.path.encoded());
    fields.put_u8(stat.mode as u8);
    fields.put_u64_le(stat.items);
    fields.put_u64_le(stat.ended);
    fields.put_u64_le(stat.bytes);
    fields.put_u32_le(stat.writers);
    fields.put_u32_le(stat.readers);
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    fields.put_u8(flag(stat.damaged, STAT_DAMAGED) | flag(stat.read_only, STAT_READ_ONLY));
    let more = numbered(stat);
    if stat.leased > 0 || !more.is_empty() {
        fields.put_u64_le(stat.leased);
    }
    fields.put_slice(&more);
    put_short(out, &fields);
}

/// Takes them.
pub(super) fn stat(fields: &mut Fields) -> Result<PipeStat, Error> {
    let mut fields = Fields(fields.short()?);
    let mut stat = PipeStat::empty(PipePath::decode(&fields.short()?, false)?, known_mode(fields.u8()?)?);
    (stat.items, stat.ended, stat.bytes) = (fields.u64()?, fields.u64()?, fields.u64()?);
    (stat.writers, stat.readers) = (fields.u32()?, fields.u32()?);
    // An older relay ends here.
    let flags = fields.u8().unwrap_or(0);
    (stat.damaged, stat.read_only) = (flags & STAT_DAMAGED != 0, flags & STAT_READ_ONLY != 0);
    stat.leased = fields.u64().unwrap_or(0);
    while !fields.0.is_empty() {
        let (number, mut value) = (fields.u16()?, Fields(fields.short()?));
        match number {
            STAT_QUEUE => (stat.ready, stat.delayed, stat.released) = (value.u64()?, value.u64()?, value.u64()?),
            STAT_LAG => stat.lag = lag(&mut value)?,
            STAT_TRAFFIC => stat.traffic = traffic(&mut value)?,
            STAT_READERS => (stat.readers_more, stat.reader_list) = readers(&mut value)?,
            // From a newer relay.
            _ => {}
        }
    }
    Ok(stat)
}

/// The numbered figures of which there is something to say.
fn numbered(stat: &PipeStat) -> BytesMut {
    let mut out = BytesMut::new();
    if [stat.ready, stat.delayed, stat.released] != [0; 3] {
        put_numbered(&mut out, STAT_QUEUE, |value| {
            [stat.ready, stat.delayed, stat.released].into_iter().for_each(|figure| value.put_u64_le(figure));
        });
    }
    if stat.lag != Lag::default() {
        put_numbered(&mut out, STAT_LAG, |value| put_lag(value, stat.lag));
    }
    if stat.traffic != Traffic::default() {
        put_numbered(&mut out, STAT_TRAFFIC, |value| put_traffic(value, &stat.traffic));
    }
    if !stat.reader_list.is_empty() || stat.readers_more > 0 {
        put_numbered(&mut out, STAT_READERS, |value| put_readers(value, stat));
    }
    out
}

fn put_numbered(out: &mut BytesMut, number: u16, put: impl FnOnce(&mut BytesMut)) {
    let mut value = BytesMut::with_capacity(64);
    put(&mut value);
    out.put_u16_le(number);
    put_short(out, &value);
}

fn put_lag(out: &mut BytesMut, lag: Lag) {
    out.put_u64_le(lag.records);
    out.put_u64_le(lag.bytes.unwrap_or(LAG_BYTES_UNKNOWN));
}

fn lag(fields: &mut Fields) -> Result<Lag, Error> {
    let (records, bytes) = (fields.u64()?, fields.u64()?);
    Ok(Lag { records, bytes: (bytes != LAG_BYTES_UNKNOWN).then_some(bytes) })
}

fn put_traffic(out: &mut BytesMut, traffic: &Traffic) {
    out.put_u64_le(traffic.since.0);
    out.put_u64_le(u64::try_from(traffic.counted.as_millis()).unwrap_or(u64::MAX));
    for amount in [traffic.written, traffic.read] {
        out.put_u64_le(amount.records);
        out.put_u64_le(amount.bytes);
    }
}

fn traffic(fields: &mut Fields) -> Result<Traffic, Error> {
    let (since, counted) = (WallTime(fields.u64()?), Duration::from_millis(fields.u64()?));
    let written = Amount { records: fields.u64()?, bytes: fields.u64()? };
    let read = Amount { records: fields.u64()?, bytes: fields.u64()? };
    Ok(Traffic { since, counted, written, read })
}

fn put_readers(out: &mut BytesMut, stat: &PipeStat) {
    let told = &stat.reader_list[..stat.reader_list.len().min(READERS_TOLD_MAX)];
    out.put_u32_le(stat.readers_more);
    out.put_u16_le(told.len() as u16);
    for reader in told {
        let mut fields = BytesMut::with_capacity(64);
        fields.put_u8(reader.presence as u8);
        fields.put_u8(u8::from(reader.id.is_some()));
        fields.put_u32_le(reader.id.unwrap_or(0));
        put_short(&mut fields, reader.cursor.as_deref().unwrap_or("").as_bytes());
        put_lag(&mut fields, reader.lag);
        fields.put_u64_le(reader.holds);
        put_short(out, &fields);
    }
}

fn readers(fields: &mut Fields) -> Result<(u32, Vec<ReaderStat>), Error> {
    let (more, count) = (fields.u32()?, usize::from(fields.u16()?));
    if count > READERS_TOLD_MAX {
        return Err(Error::new(Code::Protocol, format!("a list of {count} readers is over {READERS_TOLD_MAX}")));
    }
    let list = (0..count).map(|_| reader(&mut Fields(fields.short()?))).collect::<Result<_, _>>()?;
    Ok((more, list))
}

fn reader(fields: &mut Fields) -> Result<ReaderStat, Error> {
    let presence = Presence::from_number(fields.u8()?);
    let (has_id, id) = (fields.u8()? != 0, fields.u32()?);
    let mut reader = ReaderStat::new(has_id.then_some(id), presence);
    let cursor = fields.text()?;
    if cursor.len() > CURSOR_NAME_BYTES_MAX {
        return Err(Error::new(Code::Protocol, "the name of a cursor is longer than such names are"));
    }
    reader.cursor = (!cursor.is_empty()).then_some(cursor);
    reader.lag = lag(fields)?;
    reader.holds = fields.u64()?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Mode;
    use crate::name::PipeName;

    fn full() -> PipeStat {
        let mut named = ReaderStat::new(None, Presence::Nobody);
        named.cursor = Some("c".repeat(CURSOR_NAME_BYTES_MAX));
        named.lag = Lag { records: 7, bytes: Some(8) };
        let mut worker = ReaderStat::new(Some(0xdead_beef), Presence::Away);
        worker.holds = 9;
        PipeStat {
            leased: 1,
            ready: 2,
            delayed: 3,
            released: 4,
            lag: Lag { records: 5, bytes: None },
            traffic: Traffic {
                since: WallTime(6),
                counted: Duration::from_millis(7),
                written: Amount { records: 8, bytes: 9 },
                read: Amount { records: 10, bytes: 11 },
            },
            reader_list: [vec![named; READERS_TOLD_MAX - 1], vec![worker]].concat(),
            readers_more: 12,
            ..PipeStat::empty(PipeName::new("x").unwrap().path(), Mode::Queue)
        }
    }

    #[test]
    fn all_figures_come_back_and_those_of_a_newer_relay_are_passed_over() {
        let mut out = BytesMut::new();
        put_stat(&mut out, &full());
        assert_eq!(stat(&mut Fields(out.clone().freeze())).unwrap(), full());
        let mut newer = BytesMut::from(&out[2..]);
        put_numbered(&mut newer, 999, |value| value.put_u8(1));
        let mut framed = BytesMut::new();
        put_short(&mut framed, &newer);
        assert_eq!(stat(&mut Fields(framed.freeze())).unwrap(), full());
    }

    #[test]
    fn a_list_longer_than_lists_are_is_refused() {
        let mut value = BytesMut::new();
        value.put_u32_le(0);
        value.put_u16_le(READERS_TOLD_MAX as u16 + 1);
        assert_eq!(readers(&mut Fields(value.freeze())).unwrap_err().code(), Code::Protocol);
    }
}

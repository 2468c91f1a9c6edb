//! What there is to know of a pipe, for people and for programs that watch it.

use std::cmp::Reverse;
use std::time::Duration;

use crate::broker::Mode;
use crate::name::PipePath;
use crate::time::WallTime;

/// Most readers that one stat names, the furthest behind first: what fills a screen. How many more there are it says as well.
pub const READERS_TOLD_MAX: usize = 64;

/// What there is to know of a pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipeStat {
    /// Which pipe.
    pub path: PipePath,
    /// Its mode.
    pub mode: Mode,
    /// Items that are not wholly taken, in order. Of a queue records that are not done with, of a broadcast records that are kept.
    pub items: u64,
    /// Those of them that have ended.
    pub ended: u64,
    /// Encoded bytes waiting, on disk or in memory.
    pub bytes: u64,
    /// Writers attached or away.
    pub writers: u32,
    /// Readers attached or away.
    pub readers: u32,
    /// Records of a queue in readers' hands.
    pub leased: u64,
    /// Records of a queue that the next readers with room get.
    pub ready: u64,
    /// Records of a queue that wait for their time. Of those that nobody was handed yet the broker looks at the time only when a reader
    /// comes to them: until then they count as ready.
    pub delayed: u64,
    /// Records of a queue that readers had in their hands when they were lost, in all since [`Traffic::since`].
    pub released: u64,
    /// Something of it could not be read back: its readers are told a gap.
    pub damaged: bool,
    /// Nothing can be stored in it or taken from it any more: the broker's disk failed.
    pub read_only: bool,
    /// What the reader furthest behind has not acknowledged.
    pub lag: Lag,
    /// What went through it.
    pub traffic: Traffic,
    /// Its readers, the furthest behind first, and at most [`READERS_TOLD_MAX`] of them. A list of pipes tells none.
    pub reader_list: Vec<ReaderStat>,
    /// So many more readers and durable cursors there are than `reader_list` has. 0 in a list of pipes.
    pub readers_more: u32,
}

impl PipeStat {
    /// The state of a pipe that holds nothing.
    pub fn empty(path: PipePath, mode: Mode) -> Self {
        Self {
            path,
            mode,
            items: 0,
            ended: 0,
            bytes: 0,
            writers: 0,
            readers: 0,
            leased: 0,
            ready: 0,
            delayed: 0,
            released: 0,
            damaged: false,
            read_only: false,
            lag: Lag::default(),
            traffic: Traffic::default(),
            reader_list: Vec::new(),
            readers_more: 0,
        }
    }

    /// Takes in what its readers are at: the worst lag, and with `list` who they are.
    #[cfg_attr(not(feature = "host"), expect(dead_code, reason = "for the drivers"))]
    pub(crate) fn tell_readers(&mut self, mut readers: Vec<ReaderStat>, list: bool) {
        self.lag = readers.iter().map(|reader| reader.lag).max().unwrap_or_default();
        if list {
            readers.sort_by_key(|reader| Reverse((reader.lag, reader.holds)));
            self.readers_more = u32::try_from(readers.len().saturating_sub(READERS_TOLD_MAX)).unwrap_or(u32::MAX);
            readers.truncate(READERS_TOLD_MAX);
            self.reader_list = readers;
        }
    }
}

/// How far behind a reader is. The one with more records is further behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lag {
    /// Records that are owed to it and not acknowledged; those on their way to it count. A piece of a long record counts as one.
    pub records: u64,
    /// Encoded bytes of them, and up to a second's writing more; none where they are not known, as in a default pipe.
    pub bytes: Option<u64>,
}

/// What went through a pipe, so that two looks at it give its rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Since when it is counted: the pipe began then, or its broker started.
    pub since: WallTime,
    /// How long it was counted, by the broker's own clock.
    pub counted: Duration,
    /// What writers sent. What they sent once more behind a broken link counts once more, and so does a piece of a long record.
    pub written: Amount,
    /// What was sent to readers, to each of them, looks included.
    pub read: Amount,
}

/// Records and their encoded bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many records.
    pub records: u64,
    /// Their bytes, headers of batches included.
    pub bytes: u64,
}

/// What there is to know of one reader, or of a durable cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaderStat {
    /// Tells readers of a pipe apart: the first bytes of the session. None of a cursor that nobody reads with.
    pub id: Option<u32>,
    /// Its durable cursor.
    pub cursor: Option<String>,
    /// How it is reached.
    pub presence: Presence,
    /// How far behind it is. Of a queue nobody is: it is the pipe's records that wait.
    pub lag: Lag,
    /// Records of a queue in its hands.
    pub holds: u64,
}

impl ReaderStat {
    /// A reader that has everything.
    pub fn new(id: Option<u32>, presence: Presence) -> Self {
        Self { id, cursor: None, presence, lag: Lag::default(), holds: 0 }
    }
}

/// How a reader is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Presence {
    /// Over a link.
    #[default]
    Attached = 0,
    /// Its link broke; it may return.
    Away = 1,
    /// Nobody reads with the durable cursor now.
    Nobody = 2,
}

impl Presence {
    /// The one of this stable number; one that is not known here is called away.
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Attached,
            2 => Self::Nobody,
            _ => Self::Away,
        }
    }

    /// The word people use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Away => "away",
            Self::Nobody => "nobody",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::PipeName;

    #[test]
    fn the_furthest_behind_come_first_and_the_rest_is_counted() {
        let reader = |n: u64| {
            let mut reader = ReaderStat::new(Some(n as u32), Presence::Attached);
            reader.lag = Lag { records: n, bytes: Some(n * 10) };
            reader
        };
        let mut stat = PipeStat::empty(PipeName::new("x").unwrap().path(), Mode::Broadcast);
        stat.tell_readers((0..100).map(reader).collect(), true);
        assert_eq!(stat.lag, Lag { records: 99, bytes: Some(990) });
        assert_eq!((stat.reader_list.len(), stat.readers_more), (READERS_TOLD_MAX, 36));
        assert!(stat.reader_list.iter().map(|reader| reader.lag.records).eq((36..100).rev()));
        stat.tell_readers(Vec::new(), false);
        assert_eq!(stat.lag, Lag::default());
    }
}

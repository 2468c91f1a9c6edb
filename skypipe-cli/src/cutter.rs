//! Cuts input into records, whatever the reads looked like.

use skypipe_core::PIECE_BYTES_MAX;

/// Longest record made of a line, in bytes: one piece, so that it is never torn.
pub(crate) const RECORD_BYTES_MAX: usize = PIECE_BYTES_MAX;

/// Cuts bytes behind each delimiter, and behind each [`RECORD_BYTES_MAX`] bytes without one. What has no end yet is kept.
#[derive(Debug)]
pub(crate) struct Cutter {
    delimiter: u8,
    open: Vec<u8>,
}

impl Cutter {
    /// Cuts behind each `delimiter`.
    pub(crate) fn new(delimiter: u8) -> Self {
        Self { delimiter, open: Vec::new() }
    }

    /// What it cuts behind.
    pub(crate) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Whether bytes wait for their end.
    pub(crate) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Takes the next record off the front of `input`, or keeps what is left of it and returns none. Records are handed out as
    /// they lie in `input`, without a copy, except one that began in an earlier input.
    ///
    /// Returns the record and how much of `input` is used up.
    pub(crate) fn next<'a>(&'a mut self, input: &'a [u8]) -> (Option<Record<'a>>, usize) {
        let room = RECORD_BYTES_MAX - self.open.len();
        let within = &input[..input.len().min(room)];
        let end = match memchr::memchr(self.delimiter, within) {
            Some(at) => at + 1,
            None if within.len() == room => room,
            None => {
                self.open.extend_from_slice(within);
                return (None, within.len());
            }
        };
        if self.open.is_empty() {
            return (Some(Record::Lying(&input[..end])), end);
        }
        self.open.extend_from_slice(&input[..end]);
        (Some(Record::Joined(&mut self.open)), end)
    }

    /// What waits for its end, to be sent as it is.
    pub(crate) fn take_open(&mut self) -> Option<Record<'_>> {
        (!self.open.is_empty()).then_some(Record::Joined(&mut self.open))
    }
}

/// One record. Dropping it uses it up.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    /// Whole in the input.
    Lying(&'a [u8]),
    /// Joined from several inputs.
    Joined(&'a mut Vec<u8>),
}

impl Record<'_> {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Lying(bytes) => bytes,
            Self::Joined(bytes) => bytes,
        }
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if let Self::Joined(bytes) = self {
            bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(inputs: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut cutter = Cutter::new(b'\n');
        let mut records = Vec::new();
        for input in inputs {
            let mut rest = *input;
            while !rest.is_empty() {
                let (record, used) = cutter.next(rest);
                records.extend(record.map(|r| r.bytes().to_vec()));
                rest = &rest[used..];
            }
        }
        records.extend(cutter.take_open().map(|r| r.bytes().to_vec()));
        assert!(!cutter.has_open());
        records
    }

    #[test]
    fn lines_keep_their_newline_and_the_last_may_lack_it() {
        assert_eq!(cut(&[b"a\n\nb", b"c\nd"]), [&b"a\n"[..], b"\n", b"bc\n", b"d"]);
        assert_eq!(cut(&[b""]), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_run_without_end_is_cut_at_the_limit() {
        let long = vec![b'x'; 2 * RECORD_BYTES_MAX + 1];
        let lengths = |inputs: &[&[u8]]| cut(inputs).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[&long]), [RECORD_BYTES_MAX, RECORD_BYTES_MAX, 1]);
        assert_eq!(lengths(&[&long[..100], &long[100..]]), [RECORD_BYTES_MAX, RECORD_BYTES_MAX, 1]);
        let mut line = vec![b'x'; RECORD_BYTES_MAX - 1];
        line.push(b'\n');
        assert_eq!(lengths(&[&line]), [RECORD_BYTES_MAX]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_cuts_are_where_they_belong(
            inputs in prop::collection::vec(prop::collection::vec(prop_oneof![3 => Just(b'x'), 1 => Just(b'\n')], 0..40), 0..8)
        ) {
            let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
            let records = cut(&slices);
            prop_assert_eq!(records.concat(), inputs.concat());
            let last = records.len().saturating_sub(1);
            for (index, record) in records.iter().enumerate() {
                let newline = memchr::memchr(b'\n', record);
                prop_assert!(newline == Some(record.len() - 1) || (index == last && newline.is_none()));
            }
        }
    }
}

//! What the relay notes of tickets that were used: which keys came with which. A ticket nobody used needs no note: all else stands in it.

use std::collections::BTreeMap;
use std::fmt;

use skypipe_core::{Code, Error, PublicKey, WallTime};

/// Most tickets that are noted at once: they are forgotten when they expire.
pub(crate) const TICKETS_MAX: usize = 1024;
/// How many keys may come with one ticket.
pub(crate) const USES_MAX: u32 = 1000;
/// Longest file that is read, in bytes: of the most tickets some hundred keys each.
pub(crate) const BOOK_BYTES_MAX: usize = 16 * 1024 * 1024;

const HEAD: &str =
    "# Tickets that were used: their id, when they expire (milliseconds since 1970), the keys that came with them.";

/// The notes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TicketBook {
    /// The latest time at which something was noted: the clock is not believed to be before it, or a ticket that was forgotten could be good again.
    pub(crate) seen: WallTime,
    used: BTreeMap<String, Used>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Used {
    expires: WallTime,
    keys: Vec<PublicKey>,
}

impl TicketBook {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// `E_KEY` with the number of the line that is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut book = Self::default();
        for (at, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
            let read = book.read_line(line);
            read.ok_or_else(|| {
                let text = format!(
                    "the file tickets, line {}, is damaged: remove the line, and used tickets are good again",
                    at + 1
                );
                Error::new(Code::Key, text)
            })?;
        }
        Ok(book)
    }

    /// The keys that came with a ticket.
    pub(crate) fn keys(&self, id: &str) -> &[PublicKey] {
        self.used.get(id).map_or(&[], |used| &used.keys)
    }

    /// Notes at `now` that a key came with a ticket.
    ///
    /// # Errors
    /// `E_BUSY` when too many tickets are in use.
    pub(crate) fn note(&mut self, id: &str, expires: WallTime, key: PublicKey, now: WallTime) -> Result<(), Error> {
        self.seen = self.seen.max(now);
        self.used.retain(|_, used| used.expires > now);
        if !self.used.contains_key(id) && self.used.len() >= TICKETS_MAX {
            return Err(Error::new(Code::Busy, "too many tickets are in use at this relay: wait until some expire"));
        }
        let used = self.used.entry(id.to_owned()).or_insert_with(|| Used { expires, keys: Vec::new() });
        if !used.keys.contains(&key) {
            used.keys.push(key);
        }
        Ok(())
    }

    fn read_line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_whitespace();
        let id = words.next()?;
        let time = WallTime(words.next()?.parse().ok()?);
        if id == "seen" {
            self.seen = time;
            return words.next().is_none().then_some(());
        }
        let keys: Vec<PublicKey> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
        let fits = self.used.len() < TICKETS_MAX && keys.len() <= USES_MAX as usize;
        let before = self.used.insert(id.to_owned(), Used { expires: time, keys });
        (fits && before.is_none()).then_some(())
    }
}

impl fmt::Display for TicketBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}\nseen {}", self.seen.0)?;
        for (id, used) in &self.used {
            write!(f, "{id} {}", used.expires.0)?;
            used.keys.iter().try_for_each(|key| write!(f, " {key}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skypipe_core::KeyPair;

    use super::*;

    fn key(seed: u8) -> PublicKey {
        KeyPair::from_seed(&[seed; 32]).public()
    }

    #[test]
    fn notes_survive_their_text_and_go_when_the_ticket_expires() {
        let mut book = TicketBook::default();
        book.note("aa", WallTime(10), key(1), WallTime(1)).unwrap();
        book.note("aa", WallTime(10), key(2), WallTime(2)).unwrap();
        book.note("aa", WallTime(10), key(2), WallTime(2)).unwrap();
        book.note("bb", WallTime(20), key(1), WallTime(3)).unwrap();
        assert_eq!(TicketBook::parse(&book.to_string()).unwrap(), book);
        assert_eq!((book.keys("aa"), book.keys("cc")), (&[key(1), key(2)][..], &[][..]));
        book.note("cc", WallTime(30), key(1), WallTime(10)).unwrap();
        assert!(book.keys("aa").is_empty() && !book.keys("bb").is_empty() && book.seen == WallTime(10));
    }

    #[test]
    fn there_are_never_too_many() {
        let mut book = TicketBook::default();
        for n in 0..TICKETS_MAX {
            book.note(&n.to_string(), WallTime(10), key(1), WallTime(1)).unwrap();
        }
        assert_eq!(book.note("more", WallTime(10), key(1), WallTime(1)).unwrap_err().code(), Code::Busy);
        assert!(book.note("0", WallTime(10), key(2), WallTime(1)).is_ok());
        assert!(book.note("more", WallTime(20), key(1), WallTime(10)).is_ok());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "((seen|[a-f0-9]{0,4}) [0-9]{0,22} ?[a-z2-7 ]{0,60}\n){0,4}|\\PC*") {
            let _ = TicketBook::parse(&text);
        }
    }
}

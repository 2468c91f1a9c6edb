//! What a ticket changes: a key that was not known becomes known, one that was known may become able to do more, and never less.

use skypipe_core::{Code, Error, PublicKey, WallTime};

use crate::allow_list::AllowList;
use crate::entry::{ActsFor, Entry, KeyLimits, PATTERNS_MAX, PipesOf};
use crate::expiry;
use crate::ticket_book::TicketBook;
use crate::token::Terms;

/// Whether a key came with this ticket before.
pub(crate) fn came_with(list: &AllowList, book: &TicketBook, key: PublicKey, id: &str) -> bool {
    // The line is written before the note: after a crash between the two, the line says it.
    book.keys(id).contains(&key) || list.get(key).is_some_and(|e| says(e, id))
}

/// Lets a key come with a ticket that is good at `now`; notes and line are changed where the ticket is used up by it.
///
/// # Errors
/// `E_ACCESS` when the ticket is used up, somebody who came with it was revoked, or its rights and those of the key's line cannot stand in one line; `E_BUSY`.
pub(crate) fn join(
    list: &mut AllowList,
    book: &mut TicketBook,
    key: PublicKey,
    terms: &Terms,
    now: WallTime,
) -> Result<(), Error> {
    if came_with(list, book, key, &terms.id) && list.get(key).is_some() {
        return Ok(());
    }
    let comment = format!("joined {} {}", expiry::to_words(now), ticket_words(&terms.id));
    let granted = granted(key, terms, comment);
    let entry = match list.get(key) {
        None => granted,
        Some(line) if line.is_expired(now) => {
            Entry { limits: kept(line, &granted), comment: line.comment.clone(), ..granted }
        }
        Some(line) => match widen(list, line, granted)? {
            None => return Ok(()),
            Some(wider) => wider,
        },
    };
    let came = came(list, book, &terms.id);
    if came.iter().any(|&k| list.get(k).is_none()) {
        return Err(access(
            "a key that came with this ticket was revoked, so it lets nobody in any more: ask for a new one",
        ));
    }
    if came.len() >= terms.uses as usize {
        return Err(access("the ticket is used up: ask for a new one"));
    }
    list.put(entry)?;
    book.note(&terms.id, terms.expires, key, now)
}

/// The line that a ticket gives to a key nobody knows.
fn granted(key: PublicKey, terms: &Terms, comment: String) -> Entry {
    let pipes = terms.patterns.iter().map(|p| PipesOf { owner: None, pattern: p.clone() }).collect();
    let acts = if terms.acts == ActsFor::Key(key) { ActsFor::Itself } else { terms.acts };
    Entry { acts, pipes, read: terms.read, write: terms.write, ..Entry::new(key, comment) }
}

/// The line that has what `line` has and what `granted` has; none when `line` has all of it. Administration and comment stay, and so
/// does an end in time, unless all that the line gave is in the ticket.
fn widen(list: &AllowList, line: &Entry, granted: Entry) -> Result<Option<Entry>, Error> {
    if namespace(list, line) != namespace(list, &granted) {
        return Err(not_together());
    }
    let has_all = covers(&granted, line);
    if covers(line, &granted) && !(has_all && line.expires.is_some()) {
        return Ok(None);
    }
    if has_all {
        let (acts, limits, comment) = (line.acts, line.limits, line.comment.clone());
        return Ok(Some(Entry { admin: line.admin, acts, limits, comment, ..granted }));
    }
    let mut wider = line.clone();
    if (line.read, line.write) == (granted.read, granted.write) {
        let more = granted.pipes.iter().filter(|p| !line.pipes.iter().any(|q| q.covers(p)));
        wider.pipes.extend(more.cloned());
    } else if covers_pipes(line, &granted) && covers_pipes(&granted, line) {
        (wider.read, wider.write) = (line.read || granted.read, line.write || granted.write);
    } else {
        return Err(not_together());
    }
    if wider.pipes.len() > PATTERNS_MAX {
        return Err(not_together());
    }
    Ok((wider != *line).then_some(wider))
}

/// The limits of a line that is replaced. How much a namespace holds stands in no other line than its own.
fn kept(line: &Entry, granted: &Entry) -> KeyLimits {
    match granted.acts {
        ActsFor::Itself => line.limits,
        _ => KeyLimits { rate: line.limits.rate, ..KeyLimits::default() },
    }
}

fn covers(wide: &Entry, narrow: &Entry) -> bool {
    covers_pipes(wide, narrow) && (wide.read || !narrow.read) && (wide.write || !narrow.write)
}

fn covers_pipes(wide: &Entry, narrow: &Entry) -> bool {
    let has = |p: &PipesOf| wide.pipes.iter().any(|q| q.covers(p));
    wide.pipes.is_empty() || (!narrow.pipes.is_empty() && narrow.pipes.iter().all(has))
}

fn namespace(list: &AllowList, entry: &Entry) -> skypipe_core::Owner {
    match entry.acts {
        ActsFor::Relay => skypipe_core::Owner::SELF,
        ActsFor::Key(key) => list.owner(key),
        ActsFor::Itself => skypipe_core::Owner(Some(entry.key.0)),
    }
}

/// All keys that came with a ticket, by notes and lines.
fn came(list: &AllowList, book: &TicketBook, id: &str) -> Vec<PublicKey> {
    let mut keys = book.keys(id).to_vec();
    let told = list.entries().filter(|e| says(e, id) && !book.keys(id).contains(&e.key)).map(|e| e.key);
    keys.extend(told.collect::<Vec<_>>());
    keys
}

fn says(entry: &Entry, id: &str) -> bool {
    entry.comment.starts_with("joined ") && entry.comment.ends_with(&ticket_words(id))
}

fn ticket_words(id: &str) -> String {
    format!("with ticket {id}")
}

fn not_together() -> Error {
    access(
        "the relay knows your key for something else, and one line cannot say both: ask its owner to change your line (skypipe keys)",
    )
}

fn access(why: &str) -> Error {
    Error::new(Code::Access, why)
}

#[cfg(test)]
mod tests {
    use skypipe_core::KeyPair;

    use super::*;
    use crate::pattern;

    const NOW: WallTime = WallTime(1_700_000_000_000);

    fn key(seed: u8) -> PublicKey {
        KeyPair::from_seed(&[seed; 32]).public()
    }

    fn terms(id: &str, pipes: &[&str], rights: &str) -> Terms {
        Terms {
            id: id.to_owned(),
            acts: ActsFor::Relay,
            patterns: pipes.iter().map(|p| pattern::parse(p).unwrap()).collect(),
            read: rights.contains('r'),
            write: rights.contains('w'),
            uses: 2,
            expires: WallTime(NOW.0 + 1000),
        }
    }

    /// The options of the line that a key has after it came with each of these tickets.
    fn line_after(before: Option<&str>, tickets: &[(&[&str], &str)]) -> Result<String, Error> {
        let (mut list, mut book) = (AllowList::default(), TicketBook::default());
        if let Some(options) = before {
            list = AllowList::parse(&format!("{options} {}", crate::public_line(key(1), "me"))).unwrap();
        }
        for (at, (pipes, rights)) in tickets.iter().enumerate() {
            join(&mut list, &mut book, key(1), &terms(&at.to_string(), pipes, rights), NOW)?;
        }
        let line = list.key_lines().next().unwrap_or_default().to_owned();
        Ok(line.split("ssh-ed25519").next().unwrap_or_default().trim().to_owned())
    }

    #[test]
    fn an_unknown_key_gets_what_the_ticket_says() {
        assert_eq!(line_after(None, &[(&[], "rw")]).unwrap(), "owner=\"relay\"");
        assert_eq!(
            line_after(None, &[(&["logs/**", "a b"], "r")]).unwrap(),
            "owner=\"relay\",pipes=\"logs/**,a b\",read"
        );
    }

    #[test]
    fn a_known_key_may_get_more_and_never_less() {
        for (before, pipes, rights, after) in [
            ("admin,owner=\"relay\"", &["logs/**"][..], "r", "admin,owner=\"relay\""),
            ("admin,owner=\"relay\",read", &[], "rw", "admin,owner=\"relay\""),
            ("owner=\"relay\",pipes=\"a\",read", &["b"], "r", "owner=\"relay\",pipes=\"a,b\",read"),
            ("owner=\"relay\",pipes=\"a\",read", &["a"], "w", "owner=\"relay\",pipes=\"a\""),
            ("owner=\"relay\",pipes=\"a/*\",write", &["a/**"], "rw", "owner=\"relay\",pipes=\"a/**\""),
            (
                "owner=\"relay\",expiry-time=\"20330101000000Z\"",
                &["a"],
                "r",
                "owner=\"relay\",expiry-time=\"20330101000000Z\"",
            ),
            ("owner=\"relay\",expiry-time=\"20330101000000Z\"", &[], "rw", "owner=\"relay\""),
            ("owner=\"relay\",read,rate=\"1M\"", &[], "rw", "owner=\"relay\",rate=\"1M\""),
            ("quota=\"1G\",rate=\"1M\",expiry-time=\"20200101000000Z\"", &[], "rw", "owner=\"relay\",rate=\"1M\""),
            ("admin,owner=\"relay\",expiry-time=\"20200101000000Z\"", &["a"], "r", "owner=\"relay\",pipes=\"a\",read"),
        ] {
            assert_eq!(line_after(Some(before), &[(pipes, rights)]).unwrap(), after, "{before}");
        }
    }

    #[test]
    fn what_no_line_can_say_is_refused_and_changes_nothing() {
        for (before, pipes, rights) in
            [("", &[][..], "rw"), ("owner=\"relay\",pipes=\"a\",read", &["b"], "w"), ("admin", &["x"], "r")]
        {
            let error = line_after(Some(before), &[(pipes, rights)]).unwrap_err();
            assert!(error.code() == Code::Access && error.text().contains("one line"), "{before}: {error}");
        }
    }

    #[test]
    fn a_ticket_is_used_once_by_a_key_and_by_no_more_keys_than_it_says() {
        let (mut list, mut book) = (AllowList::default(), TicketBook::default());
        let terms = terms("aa", &[], "rw");
        for seed in [1, 1, 2, 1] {
            join(&mut list, &mut book, key(seed), &terms, NOW).unwrap();
        }
        assert_eq!(book.keys("aa"), [key(1), key(2)]);
        let error = join(&mut list, &mut book, key(3), &terms, NOW).unwrap_err();
        assert!(error.code() == Code::Access && error.text().contains("used up"), "{error}");
        assert!(list.get(key(3)).is_none());
        assert!(join(&mut list, &mut book, key(1), &terms, NOW).is_ok());
    }

    #[test]
    fn who_was_revoked_does_not_come_back_nor_does_a_friend() {
        let (mut list, mut book) = (AllowList::default(), TicketBook::default());
        let terms = terms("aa", &[], "rw");
        join(&mut list, &mut book, key(1), &terms, NOW).unwrap();
        list.remove(&key(1).to_string());
        for seed in [1, 2] {
            let error = join(&mut list, &mut book, key(seed), &terms, NOW).unwrap_err();
            assert!(error.code() == Code::Access && error.text().contains("revoked"), "{error}");
        }
    }

    #[test]
    fn a_crash_between_line_and_note_loses_no_use() {
        let (mut list, mut book) = (AllowList::default(), TicketBook::default());
        let terms = Terms { uses: 1, ..terms("aa", &[], "rw") };
        join(&mut list, &mut book, key(1), &terms, NOW).unwrap();
        let mut book = TicketBook::default();
        assert!(join(&mut list, &mut book, key(1), &terms, NOW).is_ok());
        assert!(join(&mut list, &mut book, key(2), &terms, NOW).unwrap_err().text().contains("used up"));
    }
}

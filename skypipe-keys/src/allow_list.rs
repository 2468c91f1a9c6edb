//! `authorized_keys`: who may come in, and what for. Text in, entries out, and back; what is not an entry stays as it is.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use skypipe_core::delivery::limits::OWNER_BYTES_MAX;
use skypipe_core::wire::constants::{KEY_LINE_PREFIX_BYTES, KEYS_BYTES_MAX, KEYS_MAX};
use skypipe_core::{Code, Error, Grant, Owner, OwnerLimits, Pattern, PublicKey, Rights, WallTime};

use crate::entry::{ActsFor, Entry};
use crate::openssh::fingerprint;

/// Longest `authorized_keys` that is read, in bytes.
pub const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How far `owner=` is followed from key to key.
const CHAIN_MAX: usize = 8;

/// The lines of an `authorized_keys`. A key stands in it once.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    lines: Vec<Line>,
    by_key: HashMap<PublicKey, usize>,
    /// Bytes of the keys' lines in a list of them on the wire.
    key_bytes: usize,
}

#[derive(Clone, Debug)]
enum Line {
    /// A key; its text as it was found.
    Key(Box<Entry>, String),
    /// A comment or an empty line.
    Other(String),
}

/// What a key is admitted to at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Whose pipes it means by a name without owner.
    pub namespace: Owner,
    /// What it may do with which pipes; none means everything with every pipe of its namespace.
    pub grants: Option<Arc<[Grant]>>,
    /// Whether it may invite, and list, add and revoke keys.
    pub admin: bool,
    /// What the pipes of its namespace may take together.
    pub limits: OwnerLimits,
    /// Bytes a second that it may write.
    pub rate: Option<u64>,
}

impl AllowList {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// `E_KEY` with the number of the first line that is wrong: one with an unknown option, an unreadable key, or a key that had a line before. A
    /// later line neither replaces nor adds to an earlier one: whoever narrows one of them would overlook the other.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > LIST_BYTES_MAX {
            return Err(Error::new(Code::Key, "authorized_keys is longer than 4 MiB"));
        }
        let mut list = Self::default();
        for (at, line) in text.lines().enumerate() {
            list.read_line(line).map_err(|e| {
                let text = format!("authorized_keys line {}: {}", at + 1, e.text());
                Error::new(Code::Key, text)
            })?;
        }
        Ok(list)
    }

    /// The entries in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.lines.iter().filter_map(Line::entry)
    }

    /// The lines of keys, as they stand in the file.
    pub fn key_lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter(|l| l.entry().is_some()).map(Line::text)
    }

    /// What is said of a key.
    pub fn get(&self, key: PublicKey) -> Option<&Entry> {
        self.by_key.get(&key).and_then(|&at| self.lines[at].entry())
    }

    /// Makes a key known, in place of what was said of it before.
    ///
    /// # Errors
    /// `E_NAME` for a pattern that cannot stand in a line, `E_BUSY` when there are too many keys, or their lines are too long together.
    pub fn put(&mut self, entry: Entry) -> Result<(), Error> {
        let text = entry.to_line()?;
        self.put_line(entry, text)
    }

    /// Forgets the keys of this text (52 letters and digits, or a line of OpenSSH), fingerprint or comment; gives them.
    pub fn remove(&mut self, who: &str) -> Vec<PublicKey> {
        let who = who.trim();
        let key = crate::openssh::parse_public(who).ok();
        let means =
            |e: &Entry| key == Some(e.key) || who == fingerprint(e.key) || (!who.is_empty() && who == e.comment);
        let gone: Vec<PublicKey> = self.entries().filter(|e| means(e)).map(|e| e.key).collect();
        self.lines.retain(|l| l.entry().is_none_or(|e| !gone.contains(&e.key)));
        self.index();
        gone
    }

    /// Whose pipes a key means: its own, or those of whom it acts for.
    pub fn owner(&self, key: PublicKey) -> Owner {
        let mut key = key;
        for _ in 0..CHAIN_MAX {
            match self.get(key).map(|e| e.acts) {
                Some(ActsFor::Relay) => return Owner::SELF,
                Some(ActsFor::Key(next)) if next != key => key = next,
                _ => break,
            }
        }
        Owner(Some(key.0))
    }

    /// What a key is admitted to at `now`.
    ///
    /// # Errors
    /// `E_ACCESS` when it is not known, or its time is over.
    pub fn admitted(&self, key: PublicKey, now: WallTime) -> Result<Admitted, Error> {
        let entry = self.get(key).ok_or_else(|| {
            Error::new(Code::Access, "this relay does not know your key: ask its owner for a ticket (skypipe invite)")
        })?;
        if entry.is_expired(now) {
            return Err(Error::new(
                Code::Access,
                "the time for which this relay admits your key is over: ask its owner",
            ));
        }
        let (namespace, grants) = (self.owner(key), self.grants(entry));
        let (limits, rate) = (self.limits(namespace), entry.limits.rate);
        Ok(Admitted { namespace, grants, admin: entry.admin, limits, rate })
    }

    /// What the pipes of this owner may take together. The relay's owner has the whole disk.
    pub fn limits(&self, owner: Owner) -> OwnerLimits {
        let mut limits = OwnerLimits::NONE;
        if let Owner(Some(key)) = owner {
            let own = self.get(PublicKey(key)).map(|entry| entry.limits).unwrap_or_default();
            limits.bytes_max = own.quota.unwrap_or(OWNER_BYTES_MAX);
            limits.pipes_max = own.max_pipes.unwrap_or(limits.pipes_max);
        }
        limits
    }

    /// Whether somebody is left at `now` who may administer the relay.
    pub fn has_admin(&self, now: WallTime) -> bool {
        self.entries().any(|e| e.admin && !e.is_expired(now))
    }

    /// Whether the time of some key ended behind `from` and not behind `to`.
    pub fn expires_between(&self, from: WallTime, to: WallTime) -> bool {
        self.entries().any(|e| e.is_expired(to) && !e.is_expired(from))
    }

    fn grants(&self, entry: &Entry) -> Option<Arc<[Grant]>> {
        let namespace = self.owner(entry.key);
        let whole = entry.read && entry.write;
        if entry.pipes.is_empty() {
            let rights = rights(entry, true, whole);
            let grant = Grant { owner: namespace, pattern: Pattern::all(), rights };
            return (!whole).then(|| Arc::from([grant]));
        }
        let grant = |pipes: &crate::entry::PipesOf| {
            let owner = pipes.owner.map_or(namespace, |key| self.owner(key));
            let own = owner == namespace;
            Grant { owner, pattern: pipes.pattern.clone(), rights: rights(entry, own, false) }
        };
        Some(entry.pipes.iter().map(grant).collect())
    }

    fn read_line(&mut self, text: &str) -> Result<(), Error> {
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            self.lines.push(Line::Other(text.to_owned()));
            return Ok(());
        }
        let entry = Entry::parse(trimmed)?;
        if let Some(&first) = self.by_key.get(&entry.key) {
            let text = format!("the same key as in line {}: a key has one line", first + 1);
            return Err(Error::new(Code::Key, text));
        }
        self.put_line(entry, text.to_owned())
    }

    fn put_line(&mut self, entry: Entry, text: String) -> Result<(), Error> {
        let key = entry.key;
        let before = self.by_key.get(&key).map_or(0, |&at| wire_bytes(self.lines[at].text()));
        let bytes = self.key_bytes - before + wire_bytes(&text);
        if bytes > KEYS_BYTES_MAX {
            let text = "the lines of the keys are longer than 512 KiB together: more than the relay can list";
            return Err(Error::new(Code::Busy, text));
        }
        let line = Line::Key(Box::new(entry), text);
        if let Some(&at) = self.by_key.get(&key) {
            self.lines[at] = line;
            self.key_bytes = bytes;
            return Ok(());
        }
        if self.by_key.len() >= KEYS_MAX {
            return Err(Error::new(Code::Busy, format!("the relay knows {KEYS_MAX} keys, which is all it can")));
        }
        self.by_key.insert(key, self.lines.len());
        self.lines.push(line);
        self.key_bytes = bytes;
        Ok(())
    }

    fn index(&mut self) {
        let keys = self.lines.iter().enumerate();
        self.by_key = keys.filter_map(|(at, line)| line.entry().map(|e| (e.key, at))).collect();
        self.key_bytes = self.key_lines().map(wire_bytes).sum();
    }
}

fn wire_bytes(line: &str) -> usize {
    KEY_LINE_PREFIX_BYTES + line.len()
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{}", line.text()))
    }
}

impl Line {
    fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Key(entry, _) => Some(entry),
            Self::Other(_) => None,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Key(_, text) | Self::Other(text) => text,
        }
    }
}

/// In its own namespace a key begins pipes, a reader too: it waits for a writer. Removing them is for who has all rights to all of them.
fn rights(entry: &Entry, own: bool, manage: bool) -> Rights {
    Rights { read: entry.read, write: entry.write, manage, create: own }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skypipe_core::{KeyPair, PipeName, PipeRef};

    use super::*;
    use crate::openssh::public_line;

    const NOW: WallTime = WallTime(1_700_000_000_000);

    fn key(seed: u8) -> PublicKey {
        KeyPair::from_seed(&[seed; 32]).public()
    }

    fn line(options: &str, seed: u8) -> String {
        format!("{options} {}\n", public_line(key(seed), &format!("key {seed}")))
    }

    fn list(lines: &[(&str, u8)]) -> AllowList {
        AllowList::parse(&lines.iter().map(|(o, s)| line(o, *s)).collect::<String>()).unwrap()
    }

    fn rights_to(list: &AllowList, seed: u8, owner: Owner, name: &str) -> Rights {
        let admitted = list.admitted(key(seed), NOW).unwrap();
        let mut caller = skypipe_core::Caller::in_process();
        (caller.namespace, caller.grants) = (admitted.namespace, admitted.grants);
        caller.rights_to(&PipeRef { owner, path: PipeName::new(name).unwrap().path() })
    }

    fn own(seed: u8) -> Owner {
        Owner(Some(key(seed).0))
    }

    #[test]
    fn no_more_keys_than_one_answer_can_list() {
        let long = |seed: u8| format!("{} {}", public_line(key(seed), ""), "c".repeat(4000));
        let mut list = AllowList::default();
        let added =
            (0..=u8::MAX).take_while(|seed| list.put_line(Entry::parse(&long(*seed)).unwrap(), long(*seed)).is_ok());
        let added = added.count() as u8;
        assert!(added > 100 && list.key_lines().map(|line| line.len() + 2).sum::<usize>() <= KEYS_BYTES_MAX);
        let too_many = list.put_line(Entry::parse(&long(added)).unwrap(), long(added)).unwrap_err();
        assert_eq!(too_many.code(), Code::Busy);
        // A line in place of another needs only the room it has more, and one that goes leaves its own.
        list.put_line(Entry::parse(&long(1)).unwrap(), long(1)).unwrap();
        assert_eq!(list.remove(&fingerprint(key(1))), [key(1)]);
        list.put_line(Entry::parse(&long(added)).unwrap(), long(added)).unwrap();
    }

    #[test]
    fn a_bare_key_has_all_rights_to_its_own_pipes_and_none_to_others() {
        let list = list(&[("", 1)]);
        assert_eq!(rights_to(&list, 1, own(1), "a"), Rights::ALL);
        assert_eq!(rights_to(&list, 1, own(2), "a"), Rights::NONE);
        assert_eq!(rights_to(&list, 1, Owner::SELF, "a"), Rights::NONE);
        assert_eq!(list.admitted(key(2), NOW).unwrap_err().code(), Code::Access);
    }

    #[test]
    fn the_relays_owner_is_everybody_who_acts_for_it() {
        let list = list(&[
            ("admin,owner=\"relay\"", 1),
            (&format!("owner=\"{}\"", key(1)), 2),
            (&format!("owner=\"{}\"", key(4)), 3),
            (&format!("owner=\"{}\"", key(3)), 4),
        ]);
        assert!(list.admitted(key(1), NOW).unwrap().admin && !list.admitted(key(2), NOW).unwrap().admin);
        assert_eq!((list.owner(key(1)), list.owner(key(2))), (Owner::SELF, Owner::SELF));
        assert_eq!(rights_to(&list, 2, Owner::SELF, "a"), Rights::ALL);
        // Two that act for each other act for one of them, and nobody waits for ever.
        assert!(list.owner(key(3)).0.is_some());
        assert_eq!(list.owner(key(9)), own(9));
    }

    #[test]
    fn patterns_read_and_write_bound_what_a_key_may_do() {
        let another = format!("pipes=\"mine,@{}/logs/**\",write", key(2));
        let list = list(&[
            ("owner=\"relay\",pipes=\"logs/*\",read", 1),
            ("admin,owner=\"relay\"", 2),
            (&another, 3),
            ("read", 4),
        ]);
        let reads = Rights { read: true, create: true, ..Rights::NONE };
        assert_eq!(rights_to(&list, 1, Owner::SELF, "logs/web"), reads);
        assert_eq!(rights_to(&list, 1, Owner::SELF, "jobs"), Rights::NONE);
        assert_eq!(rights_to(&list, 3, Owner::SELF, "logs/web"), Rights { write: true, ..Rights::NONE });
        assert_eq!(rights_to(&list, 3, own(3), "mine"), Rights { write: true, create: true, ..Rights::NONE });
        assert_eq!(rights_to(&list, 3, own(3), "other"), Rights::NONE);
        assert_eq!(rights_to(&list, 4, own(4), "any"), reads);
    }

    #[test]
    fn a_time_that_is_over_is_told_apart_from_an_unknown_key() {
        let list = list(&[("expiry-time=\"20231114221319Z\"", 1), ("expiry-time=\"20231114221321Z\"", 2)]);
        assert!(list.admitted(key(1), NOW).unwrap_err().text().contains("over"));
        assert!(list.admitted(key(2), NOW).is_ok() && !list.has_admin(NOW));
        assert!(list.expires_between(WallTime(NOW.0 - 1001), NOW) && !list.expires_between(NOW, WallTime(NOW.0 + 999)));
    }

    #[test]
    fn the_line_of_a_namespace_says_what_it_may_have_whoever_acts_for_it() {
        let acts = format!("owner=\"{}\",rate=\"1K\"", key(1));
        let list = list(&[("quota=\"1M\",max-pipes=\"3\"", 1), (&acts, 2), ("", 3), ("owner=\"relay\"", 4)]);
        let limits = |seed| list.admitted(key(seed), NOW).unwrap().limits;
        assert_eq!((limits(1).bytes_max, limits(1).pipes_max), (1 << 20, 3));
        assert_eq!(limits(2), limits(1));
        assert_eq!((limits(3).bytes_max, limits(3).pipes_max), (OWNER_BYTES_MAX, u64::MAX));
        assert_eq!(limits(4), OwnerLimits::NONE);
        assert_eq!(list.limits(own(9)), limits(3), "of who has no line the same");
        let rate = |seed| list.admitted(key(seed), NOW).unwrap().rate;
        assert_eq!((rate(1), rate(2)), (None, Some(1024)));
    }

    #[test]
    fn comments_and_untouched_lines_stay_as_they_are() {
        let text = format!("# mine\n\n  {}{}# end\n", line("read,write", 1), line("", 2));
        let mut list = AllowList::parse(&text).unwrap();
        assert_eq!(list.to_string(), text);
        list.put(Entry { admin: true, ..Entry::new(key(2), "new") }).unwrap();
        list.put(Entry::new(key(3), "third")).unwrap();
        let changed = format!(
            "# mine\n\n  {}admin {}\n# end\n{}\n",
            line("read,write", 1),
            public_line(key(2), "new"),
            public_line(key(3), "third")
        );
        assert_eq!(list.to_string(), changed);
        assert_eq!(list.key_lines().count(), 3);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        for (bad, says) in [
            ("nonsense\n".to_owned(), "line 3"),
            (line("no-pty", 2), "line 3: unknown option `no-pty`"),
            (line("read", 1), "line 3: the same key as in line 2"),
        ] {
            let error = AllowList::parse(&format!("# head\n{}{bad}", line("", 1))).unwrap_err();
            assert!(error.code() == Code::Key && error.text().contains(says), "{error}");
        }
    }

    #[test]
    fn keys_go_by_text_fingerprint_or_comment() {
        let all = || list(&[("", 1), ("", 2), ("", 3)]);
        for who in [key(2).to_string(), fingerprint(key(2)), "key 2".to_owned(), public_line(key(2), "other")] {
            let mut list = all();
            assert_eq!(list.remove(&who), [key(2)], "{who}");
            assert!(list.get(key(2)).is_none() && list.get(key(3)).is_some());
        }
        assert!(all().remove("").is_empty() && all().remove("key").is_empty());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "(\\PC|\n){0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = AllowList::parse(&text);
            let _ = AllowList::parse(&String::from_utf8_lossy(&bytes));
        }
    }
}

//! What one line of `authorized_keys` says.

use std::fmt::Write as _;

use skypipe_core::wire::constants::INVITE_PATTERNS_MAX;
use skypipe_core::{Code, Error, Pattern, PublicKey, WallTime};

use crate::options::{self, Opt};
use crate::{expiry, openssh, pattern};

/// What one line says: a key, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: PublicKey,
    /// Whether it may invite, and list, add and revoke keys.
    pub admin: bool,
    /// For whom it acts: whose pipes it means by a name without owner.
    pub acts: ActsFor,
    /// Which pipes it may use; none means all of its namespace.
    pub pipes: Vec<PipesOf>,
    /// Whether it may read them.
    pub read: bool,
    /// Whether it may write to them.
    pub write: bool,
    /// From when on it is not admitted any more.
    pub expires: Option<WallTime>,
    /// What stands behind the key.
    pub comment: String,
}

/// For whom a key acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActsFor {
    /// For itself: it has pipes of its own. No `owner=`.
    Itself,
    /// For the relay's owner: `owner="relay"`.
    Relay,
    /// For another key: `owner="KEY"`.
    Key(PublicKey),
}

/// Some pipes of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipesOf {
    /// Whose pipes; none means those that the key has itself.
    pub owner: Option<PublicKey>,
    /// Which of them.
    pub pattern: Pattern,
}

/// Most patterns of a line: as many as an invitation may name.
pub const PATTERNS_MAX: usize = INVITE_PATTERNS_MAX;

impl Entry {
    /// A key that acts for itself, with all rights to its own pipes.
    pub fn new(key: PublicKey, comment: impl Into<String>) -> Self {
        let (acts, pipes, comment) = (ActsFor::Itself, Vec::new(), comment.into());
        Self { key, admin: false, acts, pipes, read: true, write: true, expires: None, comment }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// `E_KEY` with what is wrong.
    pub fn parse(line: &str) -> Result<Self, Error> {
        let (options, rest) = options::split(line)?;
        let (key, comment) = openssh::parse_line(rest)?;
        let mut entry = Self { read: false, write: false, ..Self::new(key, comment) };
        let mut seen: Vec<&str> = Vec::new();
        for option in &options {
            if seen.contains(&option.name.as_str()) {
                return Err(bad(format!("the option `{}` stands there twice", option.name)));
            }
            entry.set(option)?;
            seen.push(&option.name);
        }
        if !entry.read && !entry.write {
            (entry.read, entry.write) = (true, true);
        }
        Ok(entry)
    }

    /// The line, without line end.
    ///
    /// # Errors
    /// `E_NAME` when a pattern cannot stand in a line.
    pub fn to_line(&self) -> Result<String, Error> {
        let options = self.options()?.join(",");
        let blank = if options.is_empty() { "" } else { " " };
        Ok(format!("{options}{blank}{}", openssh::public_line(self.key, &self.comment)))
    }

    /// Whether the key is admitted no more at `now`.
    pub fn is_expired(&self, now: WallTime) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    fn set(&mut self, option: &Opt) -> Result<(), Error> {
        match (option.name.as_str(), option.value.as_deref()) {
            ("admin", None) => self.admin = true,
            ("read", None) => self.read = true,
            ("write", None) => self.write = true,
            ("owner", Some("relay")) => self.acts = ActsFor::Relay,
            ("owner", Some(key)) => self.acts = ActsFor::Key(key_of(key)?),
            ("pipes", Some(list)) => self.pipes = pipes(list)?,
            ("expiry-time", Some(time)) => self.expires = Some(expiry::parse(time)?),
            ("admin" | "read" | "write", Some(_)) => return Err(bad(format!("`{}` takes no value", option.name))),
            ("owner" | "pipes" | "expiry-time", None) => {
                return Err(bad(format!("`{}` needs a value: {}=\"…\"", option.name, option.name)));
            }
            _ => return Err(bad(format!("unknown option `{}`", shown(&option.name)))),
        }
        Ok(())
    }

    fn options(&self) -> Result<Vec<String>, Error> {
        let mut options = Vec::new();
        if self.admin {
            options.push("admin".to_owned());
        }
        match self.acts {
            ActsFor::Itself => {}
            ActsFor::Relay => options.push("owner=\"relay\"".to_owned()),
            ActsFor::Key(key) => options.push(format!("owner=\"{key}\"")),
        }
        if !self.pipes.is_empty() {
            let pipes: Result<Vec<String>, Error> = self.pipes.iter().map(PipesOf::to_text).collect();
            options.push(format!("pipes=\"{}\"", pipes?.join(",")));
        }
        if self.read != self.write {
            options.push(if self.read { "read" } else { "write" }.to_owned());
        }
        options.extend(self.expires.map(|at| format!("expiry-time=\"{}\"", expiry::to_text(at))));
        Ok(options)
    }
}

impl PipesOf {
    /// Whether these surely include `other`.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.owner == other.owner && pattern::covers(&self.pattern, &other.pattern)
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let Some(of) = text.strip_prefix('@') else {
            return Ok(Self { owner: None, pattern: pattern::parse(text)? });
        };
        let (key, pattern) = of.split_once('/').ok_or_else(|| bad("another's pipes are @KEY/PATTERN"))?;
        Ok(Self { owner: Some(key_of(key)?), pattern: pattern::parse(pattern)? })
    }

    /// The pattern as it stands in a line, with its owner where that is another.
    ///
    /// # Errors
    /// `E_NAME` when it cannot stand in a line.
    pub fn to_text(&self) -> Result<String, Error> {
        let mut text = String::new();
        if let Some(owner) = self.owner {
            let _ = write!(text, "@{owner}/");
        }
        Ok(text + &pattern::to_text(&self.pattern)?)
    }
}

fn pipes(list: &str) -> Result<Vec<PipesOf>, Error> {
    let pipes: Vec<PipesOf> = list.split(',').map(PipesOf::parse).collect::<Result<_, _>>().map_err(as_key)?;
    if pipes.len() > PATTERNS_MAX {
        return Err(bad(format!("more than {PATTERNS_MAX} patterns")));
    }
    Ok(pipes)
}

fn key_of(text: &str) -> Result<PublicKey, Error> {
    text.parse().map_err(|_| bad(format!("`{}` is not a key: 52 letters and digits", shown(text))))
}

fn as_key(error: Error) -> Error {
    bad(error.text())
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect::<String>().escape_debug().to_string()
}

fn bad(why: impl Into<String>) -> Error {
    Error::new(Code::Key, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skypipe_core::KeyPair;

    use super::*;

    fn key(seed: u8) -> PublicKey {
        KeyPair::from_seed(&[seed; 32]).public()
    }

    fn parse(options: &str) -> Result<Entry, Error> {
        Entry::parse(&format!("{options} {}", openssh::public_line(key(1), "me@here")))
    }

    #[test]
    fn a_bare_key_acts_for_itself_with_all_rights() {
        assert_eq!(parse("").unwrap(), Entry::new(key(1), "me@here"));
    }

    #[test]
    fn each_option_means_what_it_says() {
        let entry = parse(&format!("admin,owner=\"relay\",pipes=\"logs/**,@{}/a b\",read", key(2))).unwrap();
        assert!(entry.admin && entry.read && !entry.write && entry.acts == ActsFor::Relay);
        assert_eq!(entry.pipes[1].owner, Some(key(2)));
        assert_eq!(parse(&format!("owner=\"{}\"", key(3))).unwrap().acts, ActsFor::Key(key(3)));
        assert!(parse("WRITE").unwrap().write && !parse("write").unwrap().read);
        let both = parse("read,write").unwrap();
        assert!(both.read && both.write);
        let entry = parse("expiry-time=\"202001010000Z\"").unwrap();
        assert_eq!(entry.expires, Some(WallTime(1_577_836_800_000)));
        assert!(entry.is_expired(WallTime(1_577_836_800_000)) && !entry.is_expired(WallTime(1_577_836_799_999)));
    }

    #[test]
    fn what_is_wrong_is_told_in_one_short_line() {
        for (options, says) in [
            ("no-pty", "unknown option `no-pty`"),
            ("command=\"x\"", "unknown option `command`"),
            ("read,read", "twice"),
            ("read=\"yes\"", "takes no value"),
            ("pipes", "needs a value"),
            ("pipes=\"\"", "empty"),
            ("pipes=\"a,,b\"", "empty"),
            ("pipes=\"@x/y\"", "not a key"),
            ("pipes=\"@x\"", "@KEY/PATTERN"),
            ("owner=\"me\"", "not a key"),
            ("expiry-time=\"tomorrow\"", "YYYYMMDD"),
            ("pipes=\"a", "quote"),
            (&format!("{}=\"a\"", "x".repeat(900)), "unknown option"),
            (&format!("pipes=\"{}\"", vec!["a"; 65].join(",")), "more than 64"),
        ] {
            let error = parse(options).unwrap_err();
            assert!(error.code() == Code::Key && error.text().contains(says), "{options}: {error}");
            assert!(error.text().len() < 200 && !error.text().contains('\n'), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(line in "\\PC*|[a-z,=\" \\\\@/*-]{0,60} ssh-ed25519 [A-Za-z0-9]{0,70}") {
            let _ = Entry::parse(&line);
        }

        #[test]
        fn a_line_survives_its_text(
            admin: bool, acts in 0u8..3, patterns in prop::collection::vec(("(a|b c|\\*|\\*\\*)(/(ü|\\*\\*))?", any::<bool>()), 0..4),
            rights in 0u8..3, expires in prop::option::of(0u64..4_000_000_000), comment in "[a-z@ ]{0,12}",
        ) {
            let acts = [ActsFor::Itself, ActsFor::Relay, ActsFor::Key(key(2))][acts as usize];
            let pipes = patterns.iter().map(|(p, other)| PipesOf {
                owner: other.then(|| key(3)), pattern: pattern::parse(p).unwrap(),
            }).collect();
            let entry = Entry {
                key: key(1), admin, acts, pipes, read: rights != 1, write: rights != 2,
                expires: expires.map(|s| WallTime(s * 1000)), comment: comment.trim().to_owned(),
            };
            prop_assert_eq!(Entry::parse(&entry.to_line().unwrap()).unwrap(), entry);
        }
    }
}

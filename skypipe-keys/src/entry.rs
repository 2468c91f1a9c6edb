//! What one line of `authorized_keys` says.

use std::fmt::Write as _;

use skypipe_core::wire::constants::INVITE_PATTERNS_MAX;
use skypipe_core::{Code, Error, Pattern, PublicKey, WallTime};

use crate::options::{self, Opt};
use crate::size::{parse_size, size_text};
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
    /// How much of everything it may have.
    pub limits: KeyLimits,
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

/// How much a key may have; none of them means what the relay gives by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// Bytes that its pipes may have on disk together: `quota="10G"`.
    pub quota: Option<u64>,
    /// Pipes that it may have: `max-pipes="1000"`.
    pub max_pipes: Option<u64>,
    /// Bytes a second that it may write, to whatever pipes: `rate="10M"`.
    pub rate: Option<u64>,
}

/// Most patterns of a line: as many as an invitation may name.
pub const PATTERNS_MAX: usize = INVITE_PATTERNS_MAX;

impl Entry {
    /// A key that acts for itself, with all rights to its own pipes.
    pub fn new(key: PublicKey, comment: impl Into<String>) -> Self {
        let (acts, pipes, limits, comment) = (ActsFor::Itself, Vec::new(), KeyLimits::default(), comment.into());
        Self { key, admin: false, acts, pipes, read: true, write: true, expires: None, limits, comment }
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
        let KeyLimits { quota, max_pipes, .. } = entry.limits;
        if entry.acts != ActsFor::Itself && (quota.is_some() || max_pipes.is_some()) {
            return Err(bad(
                "`quota` and `max-pipes` stand in the line of the key whose pipes they are, without `owner`",
            ));
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
            ("quota", Some(size)) => self.limits.quota = Some(bytes(option, size)?),
            ("rate", Some(size)) => self.limits.rate = Some(bytes(option, size)?),
            ("max-pipes", Some(count)) => self.limits.max_pipes = Some(pipes_max(count)?),
            ("admin" | "read" | "write", Some(_)) => return Err(bad(format!("`{}` takes no value", option.name))),
            ("owner" | "pipes" | "expiry-time" | "quota" | "max-pipes" | "rate", None) => {
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
        let KeyLimits { quota, max_pipes, rate } = self.limits;
        options.extend(quota.map(|bytes| format!("quota=\"{}\"", size_text(bytes))));
        options.extend(max_pipes.map(|count| format!("max-pipes=\"{count}\"")));
        options.extend(rate.map(|bytes| format!("rate=\"{}\"", size_text(bytes))));
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

fn bytes(option: &Opt, size: &str) -> Result<u64, Error> {
    match parse_size(size) {
        Ok(0) => Err(bad(format!("`{}` is at least 1", option.name))),
        Ok(bytes) => Ok(bytes),
        Err(why) => Err(bad(format!("`{}`: {why}", option.name))),
    }
}

fn pipes_max(count: &str) -> Result<u64, Error> {
    let count = count.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| bad("`max-pipes` is a number from 1 on, such as 1000"))
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
        let limited = parse("quota=\"10G\",max-pipes=\"1000\",rate=\"512K\"").unwrap().limits;
        assert_eq!(limited, KeyLimits { quota: Some(10 << 30), max_pipes: Some(1000), rate: Some(512 << 10) });
        assert_eq!(parse("owner=\"relay\",rate=\"1M\"").unwrap().limits.rate, Some(1 << 20));
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
            ("quota", "needs a value"),
            ("quota=\"much\"", "`quota`: a size is"),
            ("quota=\"0\"", "at least 1"),
            ("rate=\"-1\"", "`rate`: a size is"),
            ("rate=\"99999999T\"", "more than there is"),
            ("max-pipes=\"0\"", "from 1 on"),
            ("max-pipes=\"10K\"", "from 1 on"),
            ("rate=\"1M\",rate=\"2M\"", "twice"),
            ("owner=\"relay\",quota=\"1G\"", "without `owner`"),
            ("max-pipes=\"1\",owner=\"relay\"", "without `owner`"),
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
            (quota, max_pipes, rate) in any::<(Option<std::num::NonZeroU64>, Option<std::num::NonZeroU64>, Option<std::num::NonZeroU64>)>(),
        ) {
            let acts = [ActsFor::Itself, ActsFor::Relay, ActsFor::Key(key(2))][acts as usize];
            let pipes = patterns.iter().map(|(p, other)| PipesOf {
                owner: other.then(|| key(3)), pattern: pattern::parse(p).unwrap(),
            }).collect();
            let own = acts == ActsFor::Itself;
            let limits = KeyLimits {
                quota: quota.filter(|_| own).map(Into::into),
                max_pipes: max_pipes.filter(|_| own).map(Into::into),
                rate: rate.map(Into::into),
            };
            let entry = Entry {
                limits,
                key: key(1), admin, acts, pipes, read: rights != 1, write: rights != 2,
                expires: expires.map(|s| WallTime(s * 1000)), comment: comment.trim().to_owned(),
            };
            prop_assert_eq!(Entry::parse(&entry.to_line().unwrap()).unwrap(), entry);
        }
    }
}

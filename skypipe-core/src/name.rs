//! The names of pipes, parsed once at the edge and trusted ever after.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::error::{Code, Error};

/// Longest name in bytes after normalisation: one length byte per segment suffices on the wire, and a
/// name with its owner still fits a file name on every common file system.
pub const NAME_BYTES_MAX: usize = 240;

/// The name of one pipe as a person types it: 1 to 240 bytes of UTF-8 in normalisation form C, `/` making a
/// hierarchy. No segment is empty, `.` or `..`; there is no control character, no `*` and no leading `@`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipeName(Arc<str>);

impl PipeName {
    /// The pipe that is meant when no name is given at all.
    pub const DEFAULT: &'static str = "default";

    /// Parses `text` as a name to write to.
    ///
    /// # Errors
    /// `E_NAME` with the reason and the name escaped. A last segment `dead` is refused: such pipes are filled by
    /// the broker and only read; see [`PipeName::for_readers`].
    pub fn new(text: &str) -> Result<Self, Error> {
        let name = Self::for_readers(text)?;
        if name.0.rsplit('/').next().map(str::as_bytes) == Some(DEAD_LETTERS) {
            return Err(bad(text, "the last segment `dead` is for readers only"));
        }
        Ok(name)
    }

    /// Parses `text` as a name to read from: as [`PipeName::new`], and a last segment `dead` is welcome.
    ///
    /// # Errors
    /// `E_NAME` with the reason and the name escaped.
    pub fn for_readers(text: &str) -> Result<Self, Error> {
        let normal: String = if is_nfc(text) { text.to_owned() } else { text.nfc().collect() };
        match fault(&normal) {
            Some(reason) => Err(bad(text, reason)),
            None => Ok(Self(normal.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as opaque segments, as brokers see it.
    pub fn path(&self) -> PipePath {
        PipePath::from_segments(self.0.split('/').map(str::as_bytes))
    }
}

impl Default for PipeName {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl FromStr for PipeName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl fmt::Display for PipeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PipeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Why `name` is none, if it is none.
fn fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Some("it is longer than 240 bytes");
    }
    if name.starts_with('@') {
        return Some("a leading `@` names an owner, `@owner/name`");
    }
    if name.chars().any(char::is_control) {
        return Some("it has a control character");
    }
    if name.contains('*') {
        return Some("`*` is for patterns of readers");
    }
    if name.split('/').any(|s| matches!(s, "" | "." | "..")) {
        return Some("a segment is empty, `.` or `..`");
    }
    None
}

fn bad(text: &str, reason: &str) -> Error {
    // A hostile name may be megabytes long: the line that complains of it stays a line.
    let shown: String = text.chars().take(80).collect();
    let dots = if shown.len() < text.len() { "…" } else { "" };
    Error::new(Code::Name, format!("not a pipe name: {}{dots}: {reason}", shown.escape_debug()))
}

/// Whose pipes are meant: the raw public key of the owner, or nobody in particular, which is the caller's own
/// namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub Option<[u8; 32]>);

impl Owner {
    /// The caller's own namespace.
    pub const SELF: Self = Self(None);
}

/// The path of a pipe as brokers see it: segments of 1 to 255 opaque bytes. A broker never looks inside a segment, so
/// that a sealed name (a keyed hash per segment) keeps hierarchy, patterns and access rules.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PipePath(Arc<[u8]>);

/// Longest encoded path in bytes: the longest name of one-byte segments, each with its length byte and without slash.
pub const PATH_BYTES_MAX: usize = 512;

/// The last segment of the pipes that dead letters go to.
pub const DEAD_LETTERS: &[u8] = b"dead";

impl PipePath {
    /// Joins segments; each must have 1 to 255 bytes, a longer one is cut (names are checked before).
    pub fn from_segments<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut encoded = Vec::new();
        for segment in segments {
            let length = segment.len().min(255);
            encoded.push(length as u8);
            encoded.extend_from_slice(&segment[..length]);
        }
        Self(encoded.into())
    }

    /// Takes an encoded path from the wire or the log: each segment behind its length byte.
    ///
    /// # Errors
    /// `E_PROTOCOL` when it is empty where `allow_empty` is false, too long, or its lengths do not add up.
    pub fn decode(encoded: &[u8], allow_empty: bool) -> Result<Self, Error> {
        let well_formed = encoded.len() <= PATH_BYTES_MAX && lengths_add_up(encoded);
        if !well_formed || (encoded.is_empty() && !allow_empty) {
            return Err(Error::new(Code::Protocol, "malformed pipe path"));
        }
        Ok(Self(encoded.into()))
    }

    /// The encoded form.
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }

    /// The segments in order.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (&length, tail) = rest.split_first()?;
            let (segment, tail) = tail.split_at_checked(length as usize)?;
            rest = tail;
            Some(segment)
        })
    }

    /// The path with one segment more.
    #[must_use]
    pub fn join(&self, segment: &[u8]) -> Self {
        Self::from_segments(self.segments().chain([segment]))
    }

    /// Whether the path begins with all segments of `prefix`.
    pub fn starts_with(&self, prefix: &PipePath) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// The path as the name a person typed, where its segments are text; else each byte escaped.
    pub fn display(&self) -> String {
        let segments: Vec<String> = self
            .segments()
            .map(|s| match std::str::from_utf8(s) {
                Ok(text) => text.to_owned(),
                Err(_) => s.escape_ascii().to_string(),
            })
            .collect();
        segments.join("/")
    }
}

/// Whether these are segments, each behind its length byte.
fn lengths_add_up(mut rest: &[u8]) -> bool {
    while let Some((&length, tail)) = rest.split_first() {
        match tail.split_at_checked(length as usize) {
            Some((segment, tail)) if !segment.is_empty() => rest = tail,
            _ => return false,
        }
    }
    true
}

impl fmt::Debug for PipePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.display())
    }
}

/// One pipe, as every broker call names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipeRef {
    /// Whose pipe.
    pub owner: Owner,
    /// Which of the owner's.
    pub path: PipePath,
}

impl From<&PipeName> for PipeRef {
    fn from(name: &PipeName) -> Self {
        Self { owner: Owner::SELF, path: name.path() }
    }
}

/// A pattern over paths: literal segments, `*` for one segment, `**` for any number of them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Pattern(pub Vec<PatternSegment>);

/// The pipes of one owner that a reader of many reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternRef {
    /// Whose pipes.
    pub owner: Owner,
    /// Which of them.
    pub pattern: Pattern,
    /// And of those only what each of these lists has a match for: what the access checks on the way allow.
    pub within: Vec<Vec<Pattern>>,
}

impl PatternRef {
    /// Whether the pipe is one of them.
    pub fn covers(&self, pipe: &PipeRef) -> bool {
        let allows = |allowed: &Vec<Pattern>| allowed.iter().any(|pattern| pattern.matches(&pipe.path));
        self.owner == pipe.owner && self.pattern.reads(&pipe.path) && self.within.iter().all(allows)
    }
}

/// One segment of a [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternSegment {
    /// Exactly these bytes.
    Literal(Bytes),
    /// Any one segment: `*`.
    One,
    /// Any number of segments, also none: `**`.
    Any,
}

/// Most segments of a pattern: as many as a path can have.
pub const PATTERN_SEGMENTS_MAX: usize = NAME_BYTES_MAX / 2 + 1;

impl Pattern {
    /// The pattern that matches every path.
    pub fn all() -> Self {
        Self(vec![PatternSegment::Any])
    }

    /// Parses text such as `logs/*` or `**`.
    ///
    /// # Errors
    /// `E_NAME` when a literal segment could not be part of a name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        // Only the stars are a pattern's own: all the rest obeys the rules of names.
        let literal: String =
            text.split('/').map(|s| if matches!(s, "*" | "**") { "x" } else { s }).collect::<Vec<_>>().join("/");
        PipeName::for_readers(&literal)
            .map_err(|_| PipeName::for_readers(text).err().unwrap_or_else(|| bad(text, "not a pattern")))?;
        let normal: String = text.nfc().collect();
        Ok(Self(normal.split('/').map(PatternSegment::parse).collect()))
    }

    /// Whether text that names a pipe is a pattern: one of its segments is a star, or two.
    pub fn is_meant(text: &str) -> bool {
        text.split('/').any(|segment| matches!(segment, "*" | "**"))
    }

    /// Whether a reader of this pattern reads `path`: if it matches, and is no pipe of dead letters, or one that is asked for by name. Who
    /// reads `jobs/**` would else take back what was put aside.
    pub fn reads(&self, path: &PipePath) -> bool {
        let asks = matches!(self.0.last(), Some(PatternSegment::Literal(last)) if &last[..] == DEAD_LETTERS);
        (asks || path.segments().last() != Some(DEAD_LETTERS)) && self.matches(path)
    }

    /// The segments before the first star: what matches lies below them.
    pub fn literal_prefix(&self) -> PipePath {
        let literals = self.0.iter().map_while(|segment| match segment {
            PatternSegment::Literal(bytes) => Some(&bytes[..]),
            _ => None,
        });
        PipePath::from_segments(literals)
    }

    /// Whether `path` matches.
    pub fn matches(&self, path: &PipePath) -> bool {
        let segments: Vec<&[u8]> = path.segments().collect();
        // Two rows of the usual table: cost is pattern times path, whatever the stars.
        let mut reachable = vec![false; segments.len() + 1];
        reachable[0] = true;
        for part in &self.0 {
            let mut next = vec![false; segments.len() + 1];
            for at in 0..=segments.len() {
                match part {
                    PatternSegment::Any => next[at] = reachable[at] || (at > 0 && next[at - 1]),
                    PatternSegment::One => next[at] = at > 0 && reachable[at - 1],
                    PatternSegment::Literal(l) => {
                        next[at] = at > 0 && reachable[at - 1] && segments[at - 1] == &l[..];
                    }
                }
            }
            reachable = next;
        }
        reachable[segments.len()]
    }
}

impl PatternSegment {
    fn parse(text: &str) -> Self {
        match text {
            "*" => Self::One,
            "**" => Self::Any,
            literal => Self::Literal(Bytes::copy_from_slice(literal.as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        for good in ["a", "logs/web", "dead/letters", "ünï", &"x".repeat(240)] {
            assert_eq!(PipeName::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "a//b",
            "/a",
            "a/",
            "..",
            "a/../b",
            "a\nb",
            "a\u{85}b",
            "l*gs",
            "@me",
            "jobs/dead",
            &"x".repeat(241),
        ] {
            assert_eq!(PipeName::new(bad).unwrap_err().code(), Code::Name, "{bad:?}");
        }
        assert!(PipeName::for_readers("jobs/dead").is_ok());
    }

    #[test]
    fn two_spellings_are_one_name() {
        assert_eq!(PipeName::new("u\u{308}").unwrap(), PipeName::new("\u{fc}").unwrap());
    }

    #[test]
    fn errors_show_the_name_escaped_and_short() {
        let error = PipeName::new(&format!("\u{1b}]52;{}", "x".repeat(5000))).unwrap_err().to_string();
        assert!(error.contains("\\u{1b}") && error.len() < 300, "{error}");
    }

    #[test]
    fn paths_survive_the_wire() {
        let path = PipeName::new("a/bc/d").unwrap().path();
        assert_eq!(PipePath::decode(path.encoded(), false).unwrap(), path);
        assert_eq!(path.display(), "a/bc/d");
        for bad in [&b"\x02a"[..], b"\x00", b"\x01a\x00", b""] {
            assert!(PipePath::decode(bad, false).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn patterns_match_by_segment() {
        let matches =
            |pattern: &str, name: &str| Pattern::parse(pattern).unwrap().matches(&PipeName::new(name).unwrap().path());
        assert!(matches("a/*", "a/b") && !matches("a/*", "a/b/c") && !matches("a/*", "a"));
        assert!(matches("a/**", "a") && matches("a/**", "a/b/c") && matches("**/c", "a/b/c") && matches("**", "x"));
        assert!(!matches("a/**/d", "a/b/c") && matches("a/**/c", "a/c"));
        assert!(Pattern::parse("a**").is_err() && Pattern::parse("").is_err());
    }

    #[test]
    fn dead_letters_are_read_only_by_who_names_them() {
        let reads = |pattern: &str, name: &str| {
            Pattern::parse(pattern).unwrap().reads(&PipeName::for_readers(name).unwrap().path())
        };
        assert!(reads("jobs/**", "jobs/a") && reads("jobs/**", "jobs/dead/a"));
        assert!(!reads("jobs/**", "jobs/a/dead") && !reads("jobs/*", "jobs/dead") && !reads("**", "dead"));
        assert!(reads("jobs/**/dead", "jobs/a/dead") && reads("*/dead", "jobs/dead"));
    }

    #[test]
    fn a_pattern_within_others_reads_what_both_match() {
        let pattern = |text| Pattern::parse(text).unwrap();
        let pipe = |name: &str| PipeRef::from(&PipeName::new(name).unwrap());
        let mut wanted = PatternRef { owner: Owner::SELF, pattern: pattern("logs/**"), within: Vec::new() };
        assert!(wanted.covers(&pipe("logs/a")) && !wanted.covers(&pipe("a")));
        wanted.within = vec![vec![pattern("*/web"), pattern("x")]];
        assert!(wanted.covers(&pipe("logs/web")) && !wanted.covers(&pipe("logs/a")) && !wanted.covers(&pipe("x")));
        wanted.within.push(Vec::new());
        assert!(!wanted.covers(&pipe("logs/web")));
        let theirs = PipeRef { owner: Owner(Some([1; 32])), ..pipe("logs/web") };
        assert!(!PatternRef { within: Vec::new(), ..wanted }.covers(&theirs));
    }
}

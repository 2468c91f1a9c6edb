//! What people type: names, patterns, targets, URLs, keys.

use std::fmt::{Debug, Display};

use skypipe_core::{Error, Pattern, PipeName, PipePath, PublicKey, Target, TargetPattern};
use skypipe_tls::RelayUrl;

/// Longest line that complains of something typed, in bytes.
const COMPLAINT_BYTES_MAX: usize = 2048;

pub(crate) fn run(bytes: &[u8]) {
    paths(bytes);
    let text = String::from_utf8_lossy(bytes);
    let name = checked(PipeName::new(&text));
    let for_readers = checked(PipeName::for_readers(&text));
    assert!(name.is_none() || name == for_readers, "who may write may read");
    if let Some(name) = for_readers {
        survives(&name, PipeName::for_readers);
        assert!(name.as_str().len() <= 240 && !name.as_str().contains(char::is_control));
        let path = PipePath::decode(name.path().encoded(), false);
        assert_eq!(path.map(|path| path.display()).as_deref(), Ok(name.as_str()));
    }
    if let Some(target) = checked(Target::for_readers(&text)) {
        survives(&target, Target::for_readers);
        assert!(
            Target::for_writers(&text).is_ok_and(|writers| writers == target) || target.name.as_str().ends_with("dead")
        );
    }
    if let Some(pattern) = checked(Pattern::parse(&text)) {
        assert!(Pattern::all().matches(&PipeName::default().path()));
        let literal = checked(PipeName::for_readers(&text));
        assert!(literal.is_none_or(|name| pattern.matches(&name.path())), "a name matches itself");
    }
    checked(text.parse::<TargetPattern>());
    if let Some(url) = checked(text.parse::<RelayUrl>()) {
        survives(&url, |text| text.parse::<RelayUrl>());
    }
    if let Ok(key) = text.parse::<PublicKey>() {
        survives(&key, |text| text.parse::<PublicKey>());
    }
}

/// A path from the wire, and a pattern made of it.
fn paths(bytes: &[u8]) {
    let Ok(path) = PipePath::decode(bytes, true) else { return };
    assert!(PipePath::from_segments(path.segments()) == path, "a path is its segments");
    assert!(path.starts_with(&path) && Pattern::all().matches(&path));
    let _ = format!("{path:?}");
}

fn checked<T>(parsed: Result<T, Error>) -> Option<T> {
    parsed.map_err(|error| assert_is_a_line(&error)).ok()
}

/// What complains is one short line without anything that moves a terminal's cursor.
pub(crate) fn assert_is_a_line(error: &Error) {
    let text = error.to_string();
    assert!(text.len() <= COMPLAINT_BYTES_MAX && !text.contains(char::is_control), "{text:?}");
}

fn survives<T: Display + PartialEq + Debug, E: Debug + PartialEq>(value: &T, parse: impl Fn(&str) -> Result<T, E>) {
    assert_eq!(parse(&value.to_string()).as_ref(), Ok(value), "it survives its text");
}

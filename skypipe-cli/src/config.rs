//! The config file: `skypipe/config.toml` in the platform's config folder.

mod edit;

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use skypipe_core::{Code, Error};

pub(crate) use edit::{set_relay, set_up};

/// What may stand in it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The URL of the relay to use; several of one relay are joined by commas.
    #[serde(default, deserialize_with = "urls")]
    pub(crate) relay: Option<String>,
    /// Who this user is: a path, `agent`, or `agent:WHICH`.
    pub(crate) key: Option<String>,
    /// The machine on which `skypipe up` put a relay last, as ssh knows it.
    pub(crate) up: Option<String>,
}

/// skypipe's folder for what belongs to this user alone: the config file, and the key beside it. None for a user without home.
pub(crate) fn folder() -> Option<PathBuf> {
    etcetera::choose_base_strategy().ok().map(|folders| folders.config_dir().join("skypipe"))
}

fn file(folder: &Path) -> PathBuf {
    folder.join("config.toml")
}

impl Config {
    /// Reads the user's; one that is missing is an empty one.
    pub(crate) fn load() -> Result<Self, Error> {
        folder().map_or_else(|| Ok(Self::default()), |folder| Self::load_from(&file(&folder)))
    }

    fn load_from(path: &Path) -> Result<Self, Error> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(e) if is_missing(&e) => Ok(Self::default()),
            Err(e) => Err(Error::new(Code::Config, format!("{} cannot be read: {e}", path.display())).because(e)),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        toml::from_str(text).map_err(|e| explain(text, path.to_owned(), &e))
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// Line and key of what is wrong.
fn explain(text: &str, path: PathBuf, error: &toml::de::Error) -> Error {
    let at = error.span().map_or(0, |s| s.start).min(text.len());
    let number = text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() + 1;
    let key = text.lines().nth(number - 1).and_then(|l| l.split('=').next()).unwrap_or_default().trim();
    let reason = error.message().lines().next().unwrap_or_default();
    let text = format!("{} line {number}, at `{key}`: {reason}", path.display());
    Error::new(Code::Config, text)
}

/// `relay = "URL"` or `relay = ["URL", "URL"]`.
fn urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    deserializer.deserialize_any(Urls).map(Some)
}

struct Urls;

impl<'de> Visitor<'de> for Urls {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a URL or a list of URLs")
    }

    fn visit_str<E: de::Error>(self, url: &str) -> Result<String, E> {
        Ok(url.to_owned())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<String, A::Error> {
        let mut urls: Vec<String> = Vec::new();
        while let Some(url) = list.next_element()? {
            urls.push(url);
        }
        if urls.is_empty() { Err(de::Error::invalid_length(0, &self)) } else { Ok(urls.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        let error = Config::parse(text, Path::new("c.toml")).unwrap_err();
        assert_eq!(error.code(), Code::Config);
        error.text().to_owned()
    }

    #[test]
    fn a_good_one_is_read() {
        let config = Config::parse("# mine\nrelay = \"unix:/run/x\"\nkey = \"agent\"\n", Path::new("c")).unwrap();
        assert_eq!((config.relay.as_deref(), config.key.as_deref()), (Some("unix:/run/x"), Some("agent")));
        assert_eq!(Config::load_from(Path::new("/nowhere/at/all")).unwrap(), Config::default());
    }

    #[test]
    fn several_urls_are_one_relay() {
        let config = Config::parse("relay = [\"quic://k@h:1\", \"wss://k@h:1\"]\n", Path::new("c")).unwrap();
        assert_eq!(config.relay.as_deref(), Some("quic://k@h:1,wss://k@h:1"));
    }

    #[test]
    fn an_unknown_key_a_wrong_type_and_bad_syntax_name_line_and_key() {
        for (text, line, key) in [
            ("\nrely = \"x\"\n", "line 2", "rely"),
            ("relay = 5\n", "line 1", "relay"),
            ("relay = []\n", "line 1", "relay"),
            ("relay = [5]\n", "line 1", "relay"),
            ("key = 5\n", "line 1", "key"),
            ("\n\nrelay = \"\n", "line 3", "relay"),
        ] {
            let fault = fault(text);
            assert!(fault.contains(line) && fault.contains(key) && !fault.contains('\n'), "{fault}");
        }
        assert!(fault("relay = 5\n").contains("a URL or a list of URLs"));
    }

    #[test]
    fn a_folder_in_its_place_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Config::load_from(dir.path()).unwrap_err().code(), Code::Config);
        std::fs::write(dir.path().join("c"), b"relay = \"\xff\"").unwrap();
        assert_eq!(Config::load_from(&dir.path().join("c")).unwrap_err().code(), Code::Config);
    }
}

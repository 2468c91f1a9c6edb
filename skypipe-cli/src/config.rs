//! The config file: `skypipe/config.toml` in the platform's config folder.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use serde::Deserialize;
use skypipe_core::{Code, Error};

/// What may stand in it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The URL of the relay to use.
    pub(crate) relay: Option<String>,
}

impl Config {
    /// Reads the user's; one that is missing is an empty one.
    pub(crate) fn load() -> Result<Self, Error> {
        match etcetera::choose_base_strategy() {
            Ok(folders) => Self::load_from(&folders.config_dir().join("skypipe").join("config.toml")),
            // A user without home has no config.
            Err(_) => Ok(Self::default()),
        }
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
        let config = Config::parse("# mine\nrelay = \"unix:/run/x\"\n", Path::new("c")).unwrap();
        assert_eq!(config.relay.as_deref(), Some("unix:/run/x"));
        assert_eq!(Config::load_from(Path::new("/nowhere/at/all")).unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_key_a_wrong_type_and_bad_syntax_name_line_and_key() {
        for (text, line, key) in [
            ("\nrely = \"x\"\n", "line 2", "rely"),
            ("relay = 5\n", "line 1", "relay"),
            ("\n\nrelay = \"\n", "line 3", "relay"),
        ] {
            let fault = fault(text);
            assert!(fault.contains(line) && fault.contains(key) && !fault.contains('\n'), "{fault}");
        }
    }

    #[test]
    fn a_folder_in_its_place_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Config::load_from(dir.path()).unwrap_err().code(), Code::Config);
        std::fs::write(dir.path().join("c"), b"relay = \"\xff\"").unwrap();
        assert_eq!(Config::load_from(&dir.path().join("c")).unwrap_err().code(), Code::Config);
    }
}

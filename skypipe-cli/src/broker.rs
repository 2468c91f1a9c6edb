//! Which relay, and the way to it.

use std::ffi::OsStr;
use std::sync::Arc;

use skypipe_core::host::{LOCAL_URL, LocalFolder, LocalTransport};
use skypipe_core::{BrokerPipe, Caller, Code, Error, RELAY_VARIABLE, RemoteBroker, Target, registry};

use crate::config::Config;
use crate::starter::Detached;

/// The relay of this command.
#[derive(Clone)]
pub(crate) struct Relay {
    /// The relay itself. Nothing is connected until it is asked something.
    pub(crate) broker: Arc<RemoteBroker>,
}

impl Relay {
    /// The first that is set: `--relay`, the environment, the config file; else the user's local relay.
    pub(crate) fn find(option: Option<&str>) -> Result<Self, Error> {
        // Read in any case: a config file that is wrong is said to be, not passed over.
        let config = Config::load()?;
        let variable = std::env::var_os(RELAY_VARIABLE);
        let url = choose(option, variable.as_deref(), config.relay.as_deref())?;
        Self::at(&url)
    }

    /// stub
    pub(crate) fn at(url: &str) -> Result<Self, Error> {
        let transport = if url == LOCAL_URL {
            Arc::new(LocalTransport::new(LocalFolder::find()?, Arc::new(Detached::default())))
        } else {
            registry::lookup(url).map_err(|e| explain(url, e))?
        };
        Ok(Self { broker: Arc::new(RemoteBroker::new(transport, url)) })
    }

    /// A pipe there.
    pub(crate) fn pipe(&self, target: &Target) -> BrokerPipe {
        BrokerPipe::new(self.broker.clone(), Caller::in_process(), target.name.clone()).owned_by(target.owner.clone())
    }
}

/// stub
pub(crate) fn identity() -> Result<Arc<dyn skypipe_core::Signer>, Error> { Err(Error::new(Code::Key, "stub")) }

/// A library's error tells programmers which line to add; who types a command is told what there is.
fn explain(url: &str, error: Error) -> Error {
    match url.split_once(':') {
        Some((scheme @ ("quic" | "ws" | "wss"), _)) => {
            Error::new(Code::Scheme, format!("{scheme}: relays are not in this version yet; use unix:PATH"))
        }
        _ => error,
    }
}

fn choose(option: Option<&str>, variable: Option<&OsStr>, config: Option<&str>) -> Result<String, Error> {
    if let Some(url) = option {
        return Ok(url.to_owned());
    }
    if let Some(variable) = variable.filter(|v| !v.is_empty()) {
        let url = variable.to_str().map(str::to_owned);
        return url.ok_or_else(|| Error::new(Code::Config, format!("{RELAY_VARIABLE} is not UTF-8")));
    }
    Ok(config.unwrap_or(LOCAL_URL).to_owned())
}

/// A pipe to write to.
pub(crate) fn to_write(text: &OsStr) -> Result<Target, Error> {
    Target::for_writers(utf8(text)?)
}

/// A pipe to read from.
pub(crate) fn to_read(text: &OsStr) -> Result<Target, Error> {
    Target::for_readers(utf8(text)?)
}

/// A word of the command line as text.
pub(crate) fn utf8(text: &OsStr) -> Result<&str, Error> {
    let shown = || text.as_encoded_bytes().iter().take(80).copied().collect::<Vec<u8>>().escape_ascii().to_string();
    text.to_str().ok_or_else(|| Error::new(Code::Name, format!("not a pipe name: {}: it is not UTF-8", shown())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn the_first_that_is_set_counts() {
        let variable = OsStr::new("unix:/v");
        assert_eq!(choose(Some("unix:/o"), Some(variable), Some("unix:/c")).unwrap(), "unix:/o");
        assert_eq!(choose(None, Some(variable), Some("unix:/c")).unwrap(), "unix:/v");
        assert_eq!(choose(None, Some(OsStr::new("")), Some("unix:/c")).unwrap(), "unix:/c");
        assert_eq!(choose(None, None, None).unwrap(), LOCAL_URL);
        assert_eq!(choose(None, Some(OsStr::from_bytes(b"\xff")), None).unwrap_err().code(), Code::Config);
    }

    #[test]
    fn a_name_must_be_text() {
        let error = to_write(OsStr::from_bytes(b"a\xff\x1b")).unwrap_err();
        assert!(error.code() == Code::Name && error.text().contains("a\\xff\\x1b"), "{error}");
        assert_eq!(to_write(OsStr::new("jobs/dead")).unwrap_err().code(), Code::Name);
        assert!(to_read(OsStr::new("jobs/dead")).is_ok());
    }
}

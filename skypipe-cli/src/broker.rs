//! Which relay, and the way to it.

use std::env::VarError;
use std::ffi::OsStr;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use skypipe_core::host::{LOCAL_URL, LocalFolder, LocalTransport};
use skypipe_core::{
    BrokerPipe, Caller, Code, Error, Owner, OwnerPrefix, Pattern, Pipe as _, PipePath, PipePattern, PublicKey,
    RACE_SEPARATOR, RELAY_VARIABLE, Reader, ReaderOptions, RemoteBroker, Signer, Target, TargetPattern, Transport,
    registry,
};

use crate::config::{self, Config};
use crate::escape;
use crate::exit::say;
use crate::starter::Detached;
use crate::ticket_source;

/// The variable that names this user's key, before the config file does.
const KEY_VARIABLE: &str = "SKYPIPE_KEY";

/// The relay of this command.
#[derive(Clone)]
pub(crate) struct Relay {
    /// The relay itself. Nothing is connected until it is asked something.
    pub(crate) broker: Arc<RemoteBroker>,
    /// This user's key. None towards a relay of this machine, where the operating system says who asks.
    pub(crate) key: Option<PublicKey>,
}

impl Relay {
    /// The first that is set: `--relay`, the environment, the config file; else the user's local relay.
    pub(crate) fn find(option: Option<&str>) -> Result<Self, Error> {
        // Read in any case: a config file that is wrong is said to be, not passed over.
        let config = Config::load()?;
        let variable = std::env::var_os(RELAY_VARIABLE);
        Self::at(&choose(option, variable.as_deref(), config.relay.as_deref())?)
    }

    /// The relay of this URL, or of these joined by commas.
    pub(crate) fn at(url: &str) -> Result<Self, Error> {
        Self::with(url, Bytes::new())
    }

    /// The relay of these URLs, to which `token` of a ticket opens the way.
    pub(crate) fn with_ticket(urls: &[String], token: Bytes) -> Result<Self, Error> {
        Self::with(&urls.join(RACE_SEPARATOR.encode_utf8(&mut [0; 4])), token)
    }

    /// The same relay over a link of its own, as another program would have it.
    pub(crate) fn over_another_link(&self) -> Result<Self, Error> {
        Self::at(self.broker.url())
    }

    fn with(url: &str, token: Bytes) -> Result<Self, Error> {
        install_transports();
        let relay = RemoteBroker::new(transport(url)?, url);
        if !is_network(url) {
            return Ok(Self { broker: Arc::new(relay), key: None });
        }
        let identity = identity()?;
        let key = Some(identity.key());
        Ok(Self { broker: Arc::new(relay.with_signer(identity).with_ticket(token)), key })
    }

    /// A reader there.
    pub(crate) async fn reader(&self, source: &Source, options: ReaderOptions) -> Result<Reader, Error> {
        match source {
            Source::Pipe(target) => self.pipe(target).reader_with(options).await,
            Source::Pattern(wanted, _) => {
                let pattern = PipePattern::new(self.broker.clone(), Caller::in_process(), wanted.clone());
                pattern.reader_with(options).await
            }
        }
    }

    /// A pipe there.
    pub(crate) fn pipe(&self, target: &Target) -> BrokerPipe {
        BrokerPipe::new(self.broker.clone(), Caller::in_process(), target.name.clone()).owned_by(target.owner)
    }
}

/// Who this user is to relays on other machines. A key is made on first use.
pub(crate) fn identity() -> Result<Arc<dyn Signer>, Error> {
    let config = Config::load()?;
    let variable = match std::env::var(KEY_VARIABLE) {
        Ok(setting) => Some(setting).filter(|s| !s.is_empty()),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => return Err(Error::new(Code::Config, format!("{KEY_VARIABLE} is not UTF-8"))),
    };
    let folder = match config::folder() {
        Some(folder) => folder,
        None => skypipe_keys::identity::folder()?,
    };
    skypipe_keys::identity::load(variable.or(config.key).as_deref(), &folder)
}

fn transport(url: &str) -> Result<Arc<dyn Transport>, Error> {
    if url.split(RACE_SEPARATOR).any(ticket_source::is_ticket) {
        return Err(Error::new(Code::Usage, "a ticket is no relay's URL: `skypipe join` takes it, on stdin"));
    }
    if url == LOCAL_URL {
        return Ok(Arc::new(LocalTransport::new(LocalFolder::find()?, Arc::new(Detached::default()))));
    }
    registry::lookup(url)
}

/// Whether this leads to other machines, or at least may.
pub(crate) fn is_network(url: &str) -> bool {
    let is_here = |url: &str| ["local:", "unix:", "mem:"].iter().any(|scheme| url.trim().starts_with(scheme));
    !url.split(RACE_SEPARATOR).all(is_here)
}

fn install_transports() {
    skypipe_transport_quic::install();
    skypipe_transport_ws::install();
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
    Target::for_writers(utf8(text)?).inspect(tell_what_does_not_show)
}

/// A pipe to read from.
pub(crate) fn to_read(text: &OsStr) -> Result<Target, Error> {
    Target::for_readers(utf8(text)?).inspect(tell_what_does_not_show)
}

/// What is read.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// One pipe.
    Pipe(Target),
    /// All queues and broadcasts that match, as they were named.
    Pattern(TargetPattern, String),
}

impl Source {
    /// Whose pipes.
    pub(crate) fn owner(&self) -> Owner {
        match self {
            Self::Pipe(target) => target.owner,
            Self::Pattern(wanted, _) => wanted.owner,
        }
    }

    /// A pipe of it as a person names it.
    pub(crate) fn name_of(&self, pipe: &PipePath) -> String {
        format!("{}{}", OwnerPrefix(&self.owner()), pipe.display())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pipe(target) => target.fmt(f),
            // A shell would look for files of that name.
            Self::Pattern(_, text) => write!(f, "'{text}'"),
        }
    }
}

/// What to read: a pipe, or a pattern.
pub(crate) fn to_read_many(text: &OsStr) -> Result<Source, Error> {
    let name = utf8(text)?;
    if Pattern::is_meant(name) {
        return Ok(Source::Pattern(name.parse()?, name.to_owned()));
    }
    to_read(text).map(Source::Pipe)
}

/// A name that looks like another one is still a name; but who copied it should know.
fn tell_what_does_not_show(target: &Target) {
    let name = target.name.as_str();
    if escape::has_hidden(name) {
        say(&format!("the name of the pipe has characters that do not show: {}", escape::all_hidden(name)));
    }
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
    fn a_relay_of_this_machine_needs_no_key() {
        for here in [LOCAL_URL, "unix:/x", "unix:/x,unix:/y"] {
            assert!(!is_network(here), "{here}");
        }
        for afar in ["quic://k@h", "ws://127.0.0.1:80", "unix:/x,wss://h"] {
            assert!(is_network(afar), "{afar}");
        }
    }

    #[test]
    fn a_name_must_be_text() {
        let error = to_write(OsStr::from_bytes(b"a\xff\x1b")).unwrap_err();
        assert!(error.code() == Code::Name && error.text().contains("a\\xff\\x1b"), "{error}");
        assert_eq!(to_write(OsStr::new("jobs/dead")).unwrap_err().code(), Code::Name);
        assert!(to_read(OsStr::new("jobs/dead")).is_ok());
    }
}

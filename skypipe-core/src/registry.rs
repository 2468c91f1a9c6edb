//! Which transport speaks which URL scheme, and as whom this program speaks.
//!
//! A crate that brings a transport or a key installs it here; `mem:` and `unix:` are built in. Core cannot know the others: they
//! depend on it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::error::{Code, Error};
use crate::identity::Signer;
use crate::race::{RACE_SEPARATOR, Race};
use crate::transport::Transport;
use crate::{local_socket, mem};

type Schemes = BTreeMap<String, Arc<dyn Transport>>;

/// Makes `transport` speak all URLs that begin with `scheme:`. A later one replaces an earlier one.
pub fn install(scheme: &str, transport: Arc<dyn Transport>) {
    schemes().write().unwrap_or_else(PoisonError::into_inner).insert(scheme.to_owned(), transport);
}

/// Makes this program prove `signer`'s key to relays on other machines, unless a client is given one of its own.
pub fn install_signer(signer: Arc<dyn Signer>) {
    *installed_signer().write().unwrap_or_else(PoisonError::into_inner) = Some(signer);
}

/// The one that was installed last.
pub fn signer() -> Option<Arc<dyn Signer>> {
    installed_signer().read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn installed_signer() -> &'static RwLock<Option<Arc<dyn Signer>>> {
    static SIGNER: RwLock<Option<Arc<dyn Signer>>> = RwLock::new(None);
    &SIGNER
}

/// The transport for `url`. Several URLs joined by commas are ways to one relay: all are tried at once, see [`Race`].
///
/// # Errors
/// `E_SCHEME` when none is installed; the text names the line to add. `E_USAGE` when it is no URL.
pub fn lookup(url: &str) -> Result<Arc<dyn Transport>, Error> {
    if url.contains(RACE_SEPARATOR) {
        return Ok(Arc::new(Race::new(url)?));
    }
    let Some((scheme, _)) = url.split_once(':') else {
        return Err(Error::new(Code::Usage, format!("not a relay's URL: {}", url.escape_debug())));
    };
    let schemes = schemes().read().unwrap_or_else(PoisonError::into_inner);
    schemes.get(scheme).cloned().ok_or_else(|| unknown(scheme))
}

fn schemes() -> &'static RwLock<Schemes> {
    static SCHEMES: OnceLock<RwLock<Schemes>> = OnceLock::new();
    SCHEMES.get_or_init(|| RwLock::new(built_in()))
}

/// The transports of this crate.
fn built_in() -> Schemes {
    let mem: Arc<dyn Transport> = Arc::new(mem::MemTransport);
    let local_socket: Arc<dyn Transport> = Arc::new(local_socket::LocalSocketTransport);
    Schemes::from([(mem::SCHEME.to_owned(), mem), (local_socket::SCHEME.to_owned(), local_socket)])
}

fn unknown(scheme: &str) -> Error {
    let hint = match scheme {
        "quic" => "skypipe_transport_quic::install() adds it",
        "ws" | "wss" => "skypipe_transport_ws::install() adds it",
        _ => "known are mem, unix, quic, ws and wss",
    };
    Error::new(Code::Scheme, format!("no transport for {}: {hint}", scheme.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_scheme_names_the_line_to_add() {
        let error = lookup("quic://example.org:7473").err().expect("not installed");
        assert_eq!(error.code(), Code::Scheme);
        assert!(error.text().contains("skypipe_transport_quic::install()"), "{error}");
        assert_eq!(lookup("nonsense").err().map(|e| e.code()), Some(Code::Usage));
        assert!(lookup("mem:here").is_ok() && lookup("unix:/run/relay.sock").is_ok());
    }
}

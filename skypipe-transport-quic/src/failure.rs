//! What the ends of QUIC connections mean to a user.

use std::io;

use quinn::{ConnectionError, TransportErrorCode};
use skypipe_core::{Code, Error};

/// Alerts of TLS ([RFC 8446, section 6](https://www.rfc-editor.org/rfc/rfc8446#section-6)) that a client itself raises when the relay
/// has not shown that it is the pinned one: bad, unsupported and unknown certificate, and a signature that does not fit.
const NOT_THE_PINNED: [u8; 4] = [42, 43, 46, 51];
/// Alerts that say that the two sides share no protocol: no TLS version, no application protocol.
const NOTHING_IN_COMMON: [u8; 2] = [70, 120];

/// Why the relay at `place` (host and port) could not be reached.
pub(crate) fn connecting(error: ConnectionError, place: &str) -> Error {
    let (code, text) = match &error {
        ConnectionError::TransportError(own) if is_one_of(own.code, &NOT_THE_PINNED) => {
            (Code::Pin, format!("{place} is not the relay you know: its key is not the pinned one"))
        }
        ConnectionError::TransportError(own) if is_one_of(own.code, &NOTHING_IN_COMMON) => no_version(place),
        ConnectionError::ConnectionClosed(theirs) if is_one_of(theirs.error_code, &NOTHING_IN_COMMON) => {
            no_version(place)
        }
        ConnectionError::VersionMismatch => no_version(place),
        ConnectionError::ConnectionClosed(theirs) if theirs.error_code == TransportErrorCode::CONNECTION_REFUSED => {
            (Code::Unreachable, format!("the relay at {place} takes no more connections now"))
        }
        ConnectionError::TimedOut => return silent(place),
        _ => (Code::Unreachable, format!("no relay can be reached at {place}: {}", reason(&error))),
    };
    Error::new(code, text).because(error)
}

/// Nobody answered in time.
pub(crate) fn silent(place: &str) -> Error {
    Error::new(Code::Unreachable, format!("no relay answers at {place} (UDP)"))
}

/// This machine cannot even ask.
pub(crate) fn unsent(error: impl Into<Box<dyn std::error::Error + Send + Sync>>, place: &str) -> Error {
    let error = error.into();
    Error::new(Code::Unreachable, format!("nothing can be sent to {place}: {error}")).because(error)
}

/// Why a link that stood is no more.
pub(crate) fn broken(error: ConnectionError) -> Error {
    Error::new(Code::Disconnected, format!("the link broke: {}", reason(&error))).because(error)
}

/// The same for a stream of it.
pub(crate) fn lost(error: &ConnectionError) -> io::Error {
    let kind = match error {
        ConnectionError::TimedOut => io::ErrorKind::TimedOut,
        ConnectionError::LocallyClosed => io::ErrorKind::NotConnected,
        _ => io::ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, reason(error))
}

/// In words; what the other side gave as reason is shown escaped.
fn reason(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TimedOut => "the other side is silent".to_owned(),
        ConnectionError::Reset => "the other side was started anew".to_owned(),
        ConnectionError::ApplicationClosed(_) => "the other side closed it".to_owned(),
        ConnectionError::LocallyClosed => "it was closed here".to_owned(),
        other => other.to_string().escape_debug().to_string(),
    }
}

fn no_version(place: &str) -> (Code, String) {
    (Code::Version, format!("{place} does not speak this version of skypipe"))
}

fn is_one_of(code: TransportErrorCode, alerts: &[u8]) -> bool {
    alerts.iter().any(|&alert| code == TransportErrorCode::crypto(alert))
}

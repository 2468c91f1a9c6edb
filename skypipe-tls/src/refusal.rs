//! What a failed TLS handshake means to a user.

use rustls::{AlertDescription, CertificateError, OtherError};
use skypipe_core::{Code, Error};

use crate::pinned::PinMismatch;

/// Whether the handshake failed because the relay's key is not the pinned one.
pub fn is_pin_mismatch(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error else { return false };
    inner.is::<PinMismatch>()
}

/// The error of a client whose handshake with the relay at `host` failed: `E_PIN` when it is not the one that was meant, which is
/// final, `E_VERSION` when it does not speak what this client speaks, else `E_UNREACHABLE`.
pub fn refusal(error: &rustls::Error, host: &str) -> Error {
    let (code, text) = match error {
        pin if is_pin_mismatch(pin) => {
            (Code::Pin, format!("{host} is not the relay you know: its key is not the pinned one"))
        }
        rustls::Error::InvalidCertificate(_) => (Code::Pin, format!("{host} has not shown that it is {host}: {error}")),
        rustls::Error::NoCertificatesPresented => (Code::Pin, format!("{host} has not shown who it is")),
        rustls::Error::NoApplicationProtocol
        | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            (Code::Version, format!("{host} does not speak this version of skypipe"))
        }
        rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            (Code::Version, format!("{host} does not speak TLS 1.3 as skypipe does"))
        }
        _ => (Code::Unreachable, format!("no relay answers at {host}: {error}")),
    };
    Error::new(code, text).because(error.clone())
}

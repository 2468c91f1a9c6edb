//! TLS of a client.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use skypipe_core::{Code, Error, PublicKey};

use crate::pinned::PinnedKey;
use crate::provider::provider;

/// Which relay a client trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The one with this key. Names and dates in its certificate do not matter.
    Pinned(PublicKey),
    /// One with a certificate for its host name from an authority that this system trusts: the file `SSL_CERT_FILE` and the folder
    /// `SSL_CERT_DIR` where they are set, else the system's own, else, where a system has none, those that Mozilla trusts.
    Authorities,
}

/// TLS of a client that trusts `trust` and asks for the protocols `alpn`. Reads the system's certificates each time.
///
/// # Errors
/// `E_CONFIG` when the system's certificates cannot be read.
pub fn client_config(trust: Trust, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| Error::new(Code::Internal, "TLS 1.3 is missing").because(e))?;
    let mut config = match trust {
        Trust::Pinned(key) => {
            let verifier = Arc::new(PinnedKey::new(key, &provider));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        Trust::Authorities => builder.with_root_certificates(authorities()?).with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn authorities() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (_, unreadable) = roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    if let Some(error) = found.errors.into_iter().next() {
        return Err(
            Error::new(Code::Config, format!("the system's certificates cannot be read: {error}")).because(error)
        );
    }
    if unreadable > 0 || names_certificates() {
        return Err(Error::new(Code::Config, "there is no usable certificate where the system keeps those it trusts"));
    }
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    Ok(roots)
}

/// Whether the user said where the certificates are; no others are trusted then.
fn names_certificates() -> bool {
    ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some())
}

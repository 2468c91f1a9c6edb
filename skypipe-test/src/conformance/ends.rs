//! A transport under test: both its ends, and a proxy between them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use skypipe_core::{KeyPair, Listener, Transport};

use crate::chaos::Proxy;

/// The key of all relays under test: listeners that end TLS themselves are made with it.
pub fn relay_key() -> KeyPair {
    KeyPair::from_seed(&[0x5e; 32])
}

/// The one key that relays under test know.
pub fn client_key() -> KeyPair {
    KeyPair::from_seed(&[0xc1; 32])
}

/// A listener and the transport that reaches it.
pub struct Ends {
    /// Where the relay waits.
    pub listener: Box<dyn Listener>,
    /// How clients come.
    pub transport: Arc<dyn Transport>,
}

impl Ends {
    /// These two.
    pub fn new(listener: impl Listener + 'static, transport: impl Transport + 'static) -> Self {
        Self { listener: Box::new(listener), transport: Arc::new(transport) }
    }
}

/// What kind of proxy stands before a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between {
    /// None: what links are made of cannot be cut, or a cut is the end of a process.
    Nothing,
    /// One for TCP.
    Tcp,
    /// One for UDP.
    Udp,
}

impl Between {
    /// What fits this URL.
    pub(super) fn of(url: &str) -> Self {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("quic") => Self::Udp,
            Some("ws" | "wss") => Self::Tcp,
            _ => Self::Nothing,
        }
    }

    /// A proxy before the listener at `url`, and the URL that leads through it.
    pub(super) async fn proxy(self, url: &str) -> Option<(Proxy, String)> {
        let proxy = match self {
            Self::Nothing => return None,
            Self::Tcp => Proxy::tcp(address_in(url)).await.unwrap(),
            Self::Udp => Proxy::udp(address_in(url)).await.unwrap(),
        };
        let through = url.replacen(&address_in(url).to_string(), &proxy.address().to_string(), 1);
        Some((proxy, through))
    }
}

/// The address in `SCHEME://[KEY@]IP:PORT[/PATH]`.
fn address_in(url: &str) -> SocketAddr {
    let host = url.split_once("//").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    host.parse().unwrap_or_else(|e| panic!("a listener under test names its address and port: {url}: {e}"))
}

/// A folder for the maker, and what it makes there.
pub(super) async fn made(make: &impl AsyncFn(&Path) -> Ends) -> (tempfile::TempDir, Ends) {
    let folder = tempfile::tempdir().unwrap();
    let ends = make(folder.path()).await;
    (folder, ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_each_form_of_url() {
        let key = relay_key().public();
        for url in ["ws://127.0.0.1:80", "wss://127.0.0.1:80/path", &format!("quic://{key}@127.0.0.1:80")] {
            assert_eq!(address_in(url), "127.0.0.1:80".parse().unwrap());
        }
        assert_eq!(address_in(&format!("ws://{key}@[::1]:80/p")), "[::1]:80".parse().unwrap());
    }
}

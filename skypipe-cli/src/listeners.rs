//! Opening the places where a relay listens.

use std::net::SocketAddr;

use skypipe_core::local_socket::LocalSocketListener;
use skypipe_core::{Code, Error, KeyPair, Listener, PublicKey};
use skypipe_tls::RelayUrl;
use skypipe_transport_quic::QuicListener;
use skypipe_transport_ws::{WsListener, WsOptions};

use crate::listen::{Listen, Public, reachable};

/// How often a port that is free for TCP is looked for that is free for UDP too: with a thousand sockets open on the machine,
/// two in a row that are taken are a rare day.
const PORT_TRIES_MAX: u32 = 16;

/// What listens, and what it is called.
#[derive(Default)]
pub(crate) struct Open {
    /// The listeners.
    pub(crate) listeners: Vec<Box<dyn Listener>>,
    /// Where each of those that reach other machines listens, by scheme; the better ones first.
    bound: Vec<(&'static str, SocketAddr)>,
}

impl Open {
    /// Listens at a place. `key` is the relay's, `origins` those of web pages that may connect.
    ///
    /// # Errors
    /// `E_LOCKED` when another process listens there, `E_USAGE` when the address is none of this machine, `E_SOCKET_PATH`.
    pub(crate) async fn add(
        &mut self,
        listen: &Listen,
        key: Option<&KeyPair>,
        origins: &[String],
    ) -> Result<(), Error> {
        if let Listen::Local(path) = listen {
            let why = |e: std::io::Error| Error::new(Code::SocketPath, format!("{}: {e}", path.display()));
            let path = std::path::absolute(path).map_err(why)?;
            self.listeners.push(Box::new(LocalSocketListener::bind(path)?));
            return Ok(());
        }
        let key =
            key.ok_or_else(|| Error::new(Code::Internal, "a relay without key listens to its own machine alone"))?;
        match *listen {
            Listen::Both(address) => self.both(address, key, origins).await,
            Listen::Quic(address) => self.quic(address, key),
            Listen::Wss(address) => self.web("wss", address, web_options(Some(key), origins)).await,
            Listen::Ws(address) => self.web("ws", address, web_options(None, origins)).await,
            Listen::Local(_) => Ok(()),
        }
    }

    /// QUIC and WebSocket on one port number, both or neither.
    async fn both(&mut self, address: SocketAddr, key: &KeyPair, origins: &[String]) -> Result<(), Error> {
        let mut tries = if address.port() == 0 { PORT_TRIES_MAX } else { 1 };
        loop {
            let web = web_listener(address, web_options(Some(key), origins)).await?;
            let there = SocketAddr::new(address.ip(), port(&web)?);
            match QuicListener::bind(there, key) {
                Ok(quic) => {
                    self.bound.extend([("quic", there), ("wss", there)]);
                    self.listeners.extend([Box::new(quic) as Box<dyn Listener>, Box::new(web)]);
                    return Ok(());
                }
                Err(error) if error.code() == Code::Locked && tries > 1 => tries -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn quic(&mut self, address: SocketAddr, key: &KeyPair) -> Result<(), Error> {
        let listener = QuicListener::bind(address, key)?;
        self.bound.push(("quic", listener.address()));
        self.listeners.push(Box::new(listener));
        Ok(())
    }

    async fn web(&mut self, scheme: &'static str, address: SocketAddr, options: WsOptions) -> Result<(), Error> {
        let listener = web_listener(address, options).await?;
        self.bound.push((scheme, SocketAddr::new(address.ip(), port(&listener)?)));
        self.listeners.push(Box::new(listener));
        Ok(())
    }

    /// Whether links without TLS may come from other machines.
    pub(crate) fn is_plain_afar(&self) -> bool {
        self.bound.iter().any(|(scheme, at)| *scheme == "ws" && !at.ip().is_loopback())
    }

    /// The URLs at which others find it: what `public` says, else the addresses themselves.
    pub(crate) fn urls(&self, key: PublicKey, public: &[Public]) -> Vec<String> {
        let mut urls: Vec<String> = Vec::new();
        for &(scheme, at) in &self.bound {
            let found: Vec<String> = if public.is_empty() {
                reachable(at).into_iter().map(|at| format!("{scheme}://{key}@{at}")).collect()
            } else {
                public.iter().map(|public| public.url(scheme, key, at.port())).collect()
            };
            found.into_iter().for_each(|url| {
                if !urls.contains(&url) {
                    urls.push(url);
                }
            });
        }
        urls
    }
}

/// What cannot be listened at was typed here: no config file names it.
async fn web_listener(address: SocketAddr, options: WsOptions) -> Result<WsListener, Error> {
    let bound = WsListener::bind(address, options).await;
    bound.map_err(|e| if e.code() == Code::Config { Error::new(Code::Usage, e.text()) } else { e })
}

fn web_options(key: Option<&KeyPair>, origins: &[String]) -> WsOptions {
    let options = key.map_or_else(WsOptions::default, |key| WsOptions::default().with_key(key));
    origins.iter().fold(options, |options, origin| options.with_origin(origin))
}

fn port(listener: &WsListener) -> Result<u16, Error> {
    Ok(listener.url().parse::<RelayUrl>()?.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> KeyPair {
        KeyPair::from_seed(&[1; 32])
    }

    #[tokio::test]
    async fn one_port_number_for_both() {
        let mut open = Open::default();
        open.add(&"127.0.0.1:0".parse().unwrap(), Some(&key()), &[]).await.unwrap();
        let urls = open.urls(key().public(), &[]);
        let ports: Vec<u16> = urls.iter().map(|url| url.parse::<RelayUrl>().unwrap().port).collect();
        assert!(urls[0].starts_with("quic://") && urls[1].starts_with("wss://"), "{urls:?}");
        assert!(ports[0] == ports[1] && ports[0] != 0, "{urls:?}");
        let public = open.urls(key().public(), &["example.org".parse().unwrap(), "wss://proxy/x".parse().unwrap()]);
        assert_eq!(public[0], format!("quic://{}@example.org:{}", key().public(), ports[0]));
        assert_eq!(public.len(), 3, "the URL of a proxy stands there once: {public:?}");
    }

    #[tokio::test]
    async fn both_or_neither() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = udp.local_addr().unwrap();
        let mut open = Open::default();
        let error = open.add(&Listen::Both(taken), Some(&key()), &[]).await.unwrap_err();
        assert_eq!(error.code(), Code::Locked, "{error}");
        assert!(open.listeners.is_empty() && open.urls(key().public(), &[]).is_empty());
        // The listener's task goes when it is next looked at.
        let let_go = async {
            while std::net::TcpListener::bind(taken).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), let_go).await.expect("TCP is let go");
    }

    #[tokio::test]
    async fn without_tls_is_noticed() {
        let mut open = Open::default();
        open.add(&"ws:127.0.0.1:0".parse().unwrap(), Some(&key()), &[]).await.unwrap();
        assert!(!open.is_plain_afar());
        open.add(&"ws:0.0.0.0:0".parse().unwrap(), Some(&key()), &[]).await.unwrap();
        assert!(open.is_plain_afar());
    }
}

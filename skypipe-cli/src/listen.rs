//! Where a relay listens, and where others find it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use skypipe_core::{PORT, PublicKey};

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// QUIC and WebSocket over TLS, on one port number.
    Both(SocketAddr),
    /// QUIC alone.
    Quic(SocketAddr),
    /// WebSocket over TLS alone.
    Wss(SocketAddr),
    /// WebSocket without TLS: for this machine, or behind a proxy that ends TLS.
    Ws(SocketAddr),
    /// A local socket.
    Local(PathBuf),
}

impl Listen {
    /// Whether other machines could reach it, so that keys are needed.
    pub(crate) fn is_network(&self) -> bool {
        !matches!(self, Self::Local(_))
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Local(path.into()));
        }
        for (scheme, kind) in [("quic:", Self::Quic as fn(_) -> _), ("wss:", Self::Wss), ("ws:", Self::Ws)] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return address(rest.strip_prefix("//").unwrap_or(rest)).map(kind);
            }
        }
        address(text).map(Self::Both)
    }
}

/// An IP address, with a port or without.
fn address(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let with_usual_port = || bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    text.parse().or_else(|_| with_usual_port()).map_err(|_| {
        "not an address to listen at; such as 0.0.0.0:7473 or [::]:7473 (a host name goes to --public)".to_owned()
    })
}

/// How others find a relay: what stands in tickets and URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Public {
    /// A host name or IP address, and the port if it is another than the relay's own.
    Host(String, Option<u16>),
    /// A URL as it is, such as that of a proxy.
    Url(String),
}

impl FromStr for Public {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if ["quic://", "wss://", "ws://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Ok(Self::Url(text.to_owned()));
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Self::Host(ip.to_string(), None));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Host(address.ip().to_string(), Some(address.port())));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| not_public())?)),
            None => (text, None),
        };
        if is_host_name(host) { Ok(Self::Host(host.to_owned(), port)) } else { Err(not_public()) }
    }
}

impl Public {
    /// The host that clients check, where a proxy has the certificate: a URL without a key.
    pub(crate) fn proxy_name(&self) -> Option<&str> {
        let Self::Url(url) = self else { return None };
        let authority = url.strip_prefix("wss://")?.split('/').next()?;
        if authority.contains('@') {
            return None;
        }
        Some(authority.rsplit_once(':').map_or(authority, |(host, _)| host))
    }

    /// The URL at which a relay with this key, listening at `port` for `scheme`, is found here.
    pub(crate) fn url(&self, scheme: &str, key: PublicKey, port: u16) -> String {
        match self {
            Self::Url(url) => url.clone(),
            Self::Host(host, own) => format!("{scheme}://{key}@{}:{}", Bracketed(host), own.unwrap_or(port)),
        }
    }
}

/// A host as URLs have it: an IPv6 address in brackets.
struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

fn is_host_name(text: &str) -> bool {
    let fits = |label: &str| {
        (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    text.len() <= 253 && text.split('.').all(fits)
}

fn not_public() -> String {
    "not a host; such as example.org, example.org:7473, 192.0.2.1 or wss://example.org/path".to_owned()
}

/// The addresses at which others reach what listens at `bound`: itself, or, where it is every address of the machine, those from which
/// the machine speaks to the world.
pub(crate) fn reachable(bound: SocketAddr) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    let all = outward(bound.ip().is_ipv6());
    let found: Vec<_> = all.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect();
    if found.is_empty() { vec![SocketAddr::new(loopback(bound.ip()), bound.port())] } else { found }
}

fn loopback(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    }
}

/// From which addresses the machine would send to the world. Nothing is sent: connecting a UDP socket only picks a route.
fn outward(with_ipv6: bool) -> Vec<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849): nobody's.
    let v4 = route("0.0.0.0:0", "192.0.2.1:9");
    let v6 = if with_ipv6 { route("[::]:0", "[2001:db8::1]:9") } else { None };
    v4.into_iter().chain(v6).collect()
}

fn route(from: &str, to: &str) -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_listen() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (text, listen) in [
            ("0.0.0.0:7473", Listen::Both(at("0.0.0.0:7473"))),
            ("[::]:0", Listen::Both(at("[::]:0"))),
            ("192.0.2.1", Listen::Both(at("192.0.2.1:7473"))),
            ("::1", Listen::Both(at("[::1]:7473"))),
            ("[::1]", Listen::Both(at("[::1]:7473"))),
            ("quic:127.0.0.1:1", Listen::Quic(at("127.0.0.1:1"))),
            ("wss://127.0.0.1:1", Listen::Wss(at("127.0.0.1:1"))),
            ("ws:127.0.0.1:1", Listen::Ws(at("127.0.0.1:1"))),
            ("unix:/run/x", Listen::Local("/run/x".into())),
        ] {
            assert_eq!(text.parse::<Listen>().unwrap(), listen, "{text}");
            assert_eq!(listen.is_network(), !text.starts_with("unix:"));
        }
        for bad in ["", "example.org:7473", "1.2.3.4:99999", "tcp:1.2.3.4:5", "7473", "1.2.3", "quic:", "[::1"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_others_are_told() {
        let key = PublicKey([1; 32]);
        let url = |text: &str| text.parse::<Public>().unwrap().url("quic", key, 5);
        assert_eq!(url("example.org"), format!("quic://{key}@example.org:5"));
        assert_eq!(url("example.org:80"), format!("quic://{key}@example.org:80"));
        assert_eq!(url("2001:db8::1"), format!("quic://{key}@[2001:db8::1]:5"));
        assert_eq!(url("[2001:db8::1]:80"), format!("quic://{key}@[2001:db8::1]:80"));
        assert_eq!(url("wss://example.org/sky"), "wss://example.org/sky");
        for bad in ["", "a b", "x:y", "http://example.org", "host/path", "a..b", "k@host"] {
            assert!(bad.parse::<Public>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proxys_name_is_what_its_certificate_says() {
        let name = |text: &str| text.parse::<Public>().unwrap().proxy_name().map(str::to_owned);
        assert_eq!(name("wss://example.org:8443/sky").as_deref(), Some("example.org"));
        assert_eq!(name("wss://example.org").as_deref(), Some("example.org"));
        assert_eq!((name("wss://key@example.org"), name("example.org"), name("ws://x")), (None, None, None));
    }

    #[test]
    fn every_address_is_some_address() {
        let port = |a: &SocketAddr| a.port() == 5 && !a.ip().is_unspecified();
        for bound in ["0.0.0.0:5", "[::]:5"] {
            let found = reachable(bound.parse().unwrap());
            assert!(!found.is_empty() && found.iter().all(port), "{found:?}");
        }
        let one: SocketAddr = "127.0.0.1:5".parse().unwrap();
        assert_eq!(reachable(one), [one]);
    }
}

//! The URL of a relay across a network.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use skypipe_core::{Code, Error, PORT, PublicKey};

/// Longest name of a host ([RFC 1035, section 2.3.4](https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4)), as text without its last dot.
const HOST_BYTES_MAX: usize = 253;
/// Longest URL. It stands in tickets and command lines.
const URL_BYTES_MAX: usize = 2048;
/// How much of a bad URL an error shows.
const SHOWN_CHARS_MAX: usize = 80;
/// The port of `wss` without a key: somebody else's proxy ends TLS there.
const HTTPS_PORT: u16 = 443;
/// The port of `ws` without a key: as above, without TLS.
const HTTP_PORT: u16 = 80;

/// `scheme://[KEY@]host[:port][/path]`.
///
/// ```
/// let url: skypipe_tls::RelayUrl = "wss://relay.example/pipes".parse()?;
/// assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("relay.example", 443, "/pipes"));
/// # Ok::<(), skypipe_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayUrl {
    /// `quic`, `ws`, `wss`.
    pub scheme: String,
    /// The relay's key, where the URL pins it.
    pub key: Option<PublicKey>,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// Where none is named: 7473, but 443 for `wss` and 80 for `ws` without a key.
    pub port: u16,
    /// With its slash and what follows; `/` where none is named.
    pub path: String,
}

impl RelayUrl {
    /// `host:port`, an IPv6 address in brackets: for people and for HTTP's `Host`.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        if let Some(key) = &self.key {
            write!(f, "{key}@")?;
        }
        f.write_str(&self.authority())?;
        if self.path == "/" { Ok(()) } else { f.write_str(&self.path) }
    }
}

impl FromStr for RelayUrl {
    type Err = Error;

    /// # Errors
    /// `E_USAGE`, in one line that shows at most 80 characters of the URL and nothing of what stands before its `@`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| bad(text, why);
        if text.len() > URL_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("it should be scheme://[KEY@]host[:port]"))?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (key, place) = match authority.rsplit_once('@') {
            Some((key, place)) => (Some(key.parse().map_err(|_| bad("what stands before the @ is no key"))?), place),
            None => (None, authority),
        };
        let (host, port) = split_port(place).ok_or_else(|| bad("an IPv6 address stands in brackets"))?;
        let port = match port {
            Some(digits) => port_number(digits).ok_or_else(|| bad("the port is no number from 1 to 65535"))?,
            None => default_port(scheme, key.is_some()),
        };
        if !is_path(path) {
            return Err(bad("its path is none"));
        }
        let host = host_name(host).ok_or_else(|| bad("its host is neither a name nor an address"))?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { scheme: scheme.to_ascii_lowercase(), key, host, port, path: path.to_owned() })
    }
}

/// Host and port; an address in brackets keeps them. None when the brackets are wrong.
fn split_port(place: &str) -> Option<(&str, Option<&str>)> {
    if place.starts_with('[') {
        let (host, rest) = place.split_at(place.find(']')? + 1);
        return if rest.is_empty() { Some((host, None)) } else { Some((host, Some(rest.strip_prefix(':')?))) };
    }
    match place.split_once(':') {
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
        None => Some((place, None)),
    }
}

fn port_number(digits: &str) -> Option<u16> {
    let digits = digits.bytes().all(|b| b.is_ascii_digit()).then_some(digits)?;
    digits.parse().ok().filter(|&port| port != 0)
}

fn default_port(scheme: &str, has_key: bool) -> u16 {
    match scheme {
        "wss" if !has_key => HTTPS_PORT,
        "ws" if !has_key => HTTP_PORT,
        _ => PORT,
    }
}

/// The host without brackets. Letters beyond ASCII must be written as `xn--…`: what a user sees is what is looked up.
fn host_name(host: &str) -> Option<String> {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']')?;
        return address.parse::<Ipv6Addr>().ok().map(|address| address.to_string());
    }
    let fits = !host.is_empty() && host.len() <= HOST_BYTES_MAX && !host.starts_with(['.', '-']);
    let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    (fits && plain).then(|| host.to_ascii_lowercase())
}

fn is_path(path: &str) -> bool {
    path.is_empty() || path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

/// What stands before the `@` is not shown: who mistakes the form may have put a secret there.
fn bad(text: &str, why: &str) -> Error {
    let shown = text.rsplit_once('@').map_or(text, |(_, place)| place);
    let shown: String = shown.escape_debug().take(SHOWN_CHARS_MAX).collect();
    Error::new(Code::Usage, format!("not a relay's URL, {why}: {shown}"))
}

#[cfg(test)]
mod tests {
    use skypipe_core::KeyPair;

    use super::*;

    fn url(text: &str) -> RelayUrl {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn a_url_survives_its_text() {
        let key = KeyPair::from_seed(&[7; 32]).public();
        for text in [
            format!("quic://{key}@192.0.2.1:7473"),
            format!("wss://{key}@[2001:db8::1]:7474"),
            "ws://relay.example:8080/a/b?c=d".to_owned(),
        ] {
            assert_eq!(url(&text).to_string(), text);
        }
        assert_eq!(url(&format!("quic://{key}@h:1")).key, Some(key));
        assert_eq!(url("ws://[::1]").authority(), "[::1]:80");
    }

    #[test]
    fn a_port_that_is_not_named_depends_on_who_ends_tls() {
        let key = KeyPair::from_seed(&[7; 32]).public();
        let port = |text: &str| url(text).port;
        assert_eq!((port("wss://h/p"), port("ws://h"), port("quic://h")), (443, 80, 7473));
        assert_eq!((port(&format!("wss://{key}@h")), port(&format!("ws://{key}@h/"))), (7473, 7473));
    }

    #[test]
    fn bad_ones_are_refused_in_one_short_line() {
        let long = format!("ws://{}", "h".repeat(3000));
        for bad in [
            "",
            "quic:",
            "quic://",
            "quic:///p",
            "quic://h:0",
            "quic://h:65536",
            "quic://h:+1",
            "quic://h:",
            "quic://::1",
            "quic://[::1",
            "quic://[::1]x",
            "quic://[h]",
            "quic://h h",
            "quic://hé",
            "quic://h\n",
            "quic://-h",
            "ws://h?x",
            "ws://h/\u{1b}[31m",
            "ws://h/a#b",
            "quic://user:password@h",
            &long,
        ] {
            let error = bad.parse::<RelayUrl>().unwrap_err();
            assert_eq!(error.code(), Code::Usage, "{bad}");
            assert!(error.text().len() < 200 && !error.text().contains("password"), "{error}");
            assert!(!error.text().contains(char::is_control), "{error}");
        }
    }
}

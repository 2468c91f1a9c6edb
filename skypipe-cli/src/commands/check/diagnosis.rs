//! From what was found to what to do.

use skypipe_core::{Code, Error};
use skypipe_tls::RelayUrl;

use super::ways::{Host, Way};
use crate::shell::quoted;

/// What to do about a relay that cannot be used, in one line; none where the error says all there is to say.
pub(super) fn advice(error: &Error, ways: &[Way], own_line: Option<&str>) -> Option<String> {
    match error.code() {
        Code::Access => own_line.map(|line| {
            let add = format!("skypipe keys add {}", quoted(line));
            format!("the relay does not admit your key; its administrator runs `{add}`, or `skypipe invite` and sends you the line")
        }),
        Code::Pin => {
            Some("another relay answers there: its key changed, or somebody stands between; ask for a new ticket by a safe way".into())
        }
        Code::Version => Some("update the older of the two; `skypipe up USER@HOST` updates a relay in place".into()),
        Code::Unreachable | Code::Disconnected | Code::Timeout => {
            ways.iter().find_map(|way| way.host.as_ref()).map(|(url, host)| unreachable(url, host))
        }
        _ => None,
    }
}

fn unreachable(url: &RelayUrl, host: &Host) -> String {
    let RelayUrl { host: name, port, .. } = url;
    match host {
        Host::NoName => {
            format!("the name {name} means no address: is it right, and does this machine have a name server?")
        }
        Host::Refused => {
            format!("{name} answers, and nothing listens at its TCP port {port}: does the relay run, and at this port?")
        }
        Host::Silent => {
            format!(
                "nothing comes back from {name} port {port}: the host is down, or a firewall drops what goes to this port"
            )
        }
        Host::Open if url.scheme == "quic" => {
            format!(
                "TCP port {port} of {name} is open and UDP is not: use the relay's wss:// URL, or have UDP let through"
            )
        }
        Host::Open => format!(
            "something else than this relay listens at {name} port {port}, or a proxy that does not let it through"
        ),
    }
}

/// What is worth saying of a relay that works: ways that do not.
pub(super) fn worth_saying(path: &str, ways: &[Way]) -> Vec<String> {
    let broken = ways.iter().filter_map(|way| Some((way, way.outcome.as_ref().err()?)));
    broken
        .map(|(way, error)| match &way.host {
            Some((url, Host::Open)) if url.scheme == "quic" => {
                format!("UDP port {} of {} is blocked or closed: {path} is used instead", url.port, url.host)
            }
            _ => format!("{} does not work: {error}", way.url),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(url: &str, code: Code, host: Host) -> Way {
        let parsed = url.parse().unwrap();
        Way { url: url.into(), outcome: Err(Error::new(code, "no")), host: Some((parsed, host)) }
    }

    fn advised(code: Code, host: Host) -> String {
        let ways = [way("wss://example.org:7473", code, host)];
        advice(&Error::new(code, "no"), &ways, Some("ssh-ed25519 AAAA me@here")).unwrap()
    }

    #[test]
    fn each_cause_has_its_advice() {
        assert!(advised(Code::Unreachable, Host::NoName).contains("name server"));
        assert!(advised(Code::Unreachable, Host::Refused).contains("nothing listens at its TCP port 7473"));
        assert!(advised(Code::Unreachable, Host::Silent).contains("firewall"));
        assert!(advised(Code::Unreachable, Host::Open).contains("something else"));
        assert!(advised(Code::Access, Host::Open).contains("skypipe keys add 'ssh-ed25519 AAAA me@here'"));
        assert!(
            advised(Code::Pin, Host::Open).contains("ticket") && advised(Code::Version, Host::Open).contains("update")
        );
        assert!(advice(&Error::new(Code::Config, "no"), &[], None).is_none());
    }

    #[test]
    fn a_blocked_udp_is_said_and_what_is_used_instead() {
        let key = skypipe_core::KeyPair::from_seed(&[1; 32]).public();
        let ways = [way(&format!("quic://{key}@h:7473"), Code::Unreachable, Host::Open)];
        let said = worth_saying("WebSocket over TLS 192.0.2.1:7473", &ways);
        assert_eq!(
            said,
            ["UDP port 7473 of h is blocked or closed: WebSocket over TLS 192.0.2.1:7473 is used instead"]
        );
    }
}

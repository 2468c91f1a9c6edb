//! Which URLs stand in a ticket.

use std::net::IpAddr;

use skypipe_core::{Error, RACE_SEPARATOR};
use skypipe_keys::URLS_MAX;
use skypipe_tls::RelayUrl;

use crate::broker::is_network;
use crate::listen::Public;

/// The URLs for a ticket: those of the addresses that were asked for; else those by which the inviter reaches the relay, then those that
/// the relay knows of itself.
///
/// An address that means something else in another network is told only by who stands beside the relay: the joiner might meet
/// a stranger there.
pub(crate) fn for_ticket(reached_at: &str, relay_says: &[String], asked: &[Public]) -> Result<Vec<String>, Error> {
    let own: Vec<&str> = reached_at.split(RACE_SEPARATOR).map(str::trim).filter(|url| is_network(url)).collect();
    let from_afar = !own.is_empty();
    let elsewhere = relay_says.iter().map(String::as_str).filter(|url| !from_afar || !is_private(url));
    let mut urls: Vec<&str> = Vec::new();
    own.into_iter().chain(elsewhere).for_each(|url| {
        if !urls.contains(&url) {
            urls.push(url);
        }
    });
    if asked.is_empty() {
        return Ok(without_plain(urls));
    }
    at(&urls, asked)
}

/// The same relay at other addresses.
fn at(urls: &[&str], asked: &[Public]) -> Result<Vec<String>, Error> {
    let mut moved: Vec<String> = Vec::new();
    for public in asked {
        for url in urls {
            let url: RelayUrl = url.parse()?;
            let Some(key) = url.key else { continue };
            let there = public.url(&url.scheme, key, url.port);
            if !moved.contains(&there) {
                moved.push(there);
            }
        }
        if let Public::Url(url) = public
            && !moved.contains(url)
        {
            moved.push(url.clone());
        }
    }
    Ok(without_plain(moved.iter().map(String::as_str).collect()))
}

/// Leaves out links without TLS where there are others: a race must not end at one because the others are blocked.
fn without_plain(urls: Vec<&str>) -> Vec<String> {
    let is_plain = |url: &&str| url.starts_with("ws:");
    let has_better = !urls.iter().all(is_plain);
    let kept = urls.into_iter().filter(|url| !(has_better && is_plain(url)));
    // A ticket has no room for more; the better ones come first.
    kept.take(URLS_MAX).map(str::to_owned).collect()
}

/// Whether no URL of these can be reached from outside its network.
pub(crate) fn are_private(urls: &[String]) -> bool {
    urls.iter().all(|url| is_private(url))
}

fn is_private(url: &str) -> bool {
    let host = url.parse::<RelayUrl>().ok().and_then(|url| url.host.parse::<IpAddr>().ok());
    host.is_some_and(|ip| match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local() || ip.is_unspecified(),
    })
}

#[cfg(test)]
mod tests {
    use skypipe_core::PublicKey;

    use super::*;

    fn urls(at: &str, says: &[&str], asked: &[&str]) -> Vec<String> {
        let fill = |text: &str| text.replace("K@", &format!("{}@", key()));
        let says: Vec<String> = says.iter().map(|s| fill(s)).collect();
        let asked: Vec<Public> = asked.iter().map(|a| a.parse().unwrap()).collect();
        let found = for_ticket(&fill(at), &says, &asked).unwrap();
        found.iter().map(|url| url.replace(&format!("{}@", key()), "K@")).collect()
    }

    fn key() -> PublicKey {
        skypipe_core::KeyPair::from_seed(&[1; 32]).public()
    }

    #[test]
    fn beside_the_relay_its_own_word_counts() {
        let says = ["quic://K@10.0.0.1:7473", "wss://K@10.0.0.1:7473"];
        assert_eq!(urls("local:", &says, &[]), says);
        assert_eq!(urls("unix:/x", &[], &[]), Vec::<String>::new());
    }

    #[test]
    fn from_afar_the_inviters_way_comes_first_and_private_addresses_are_not_passed_on() {
        let found =
            urls("quic://K@h:1,wss://K@h:1", &["quic://K@10.0.0.1:1", "quic://K@example.org:1", "wss://K@h:1"], &[]);
        assert_eq!(found, ["quic://K@h:1", "wss://K@h:1", "quic://K@example.org:1"]);
        assert_eq!(urls("quic://K@127.0.0.1:1", &[], &[]), ["quic://K@127.0.0.1:1"]);
    }

    #[test]
    fn another_address_is_the_same_relay_there() {
        let found = urls("local:", &["quic://K@10.0.0.1:1", "wss://K@10.0.0.1:2"], &["example.org", "h:9"]);
        let wanted = ["quic://K@example.org:1", "wss://K@example.org:2", "quic://K@h:9", "wss://K@h:9"];
        assert_eq!(found, wanted);
        assert_eq!(urls("local:", &["ws://K@127.0.0.1:1"], &["wss://example.org/sky"]), ["wss://example.org/sky"]);
    }

    #[test]
    fn without_tls_only_where_there_is_nothing_else() {
        assert_eq!(urls("local:", &["ws://K@10.0.0.1:1"], &[]), ["ws://K@10.0.0.1:1"]);
        assert_eq!(urls("local:", &["ws://K@10.0.0.1:1", "wss://K@10.0.0.1:2"], &[]), ["wss://K@10.0.0.1:2"]);
    }

    #[test]
    fn private_is_what_only_a_network_knows() {
        let private = |hosts: &[&str]| are_private(&hosts.iter().map(|h| format!("wss://{h}:1")).collect::<Vec<_>>());
        assert!(private(&["10.1.2.3", "[fd00::1]", "127.0.0.1", "[fe80::1]", "[::ffff:192.168.1.1]"]));
        assert!(!private(&["10.1.2.3", "198.51.100.1"]) && !private(&["example.org"]));
    }
}

//! Who has which address. All of them are from the ranges that are kept for documentation, or private.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::network::{Client, Host};

/// Which addresses there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 and IPv6.
    Both,
    /// IPv6 alone: nobody has an IPv4 address but that of the loopback.
    Ipv6Only,
}

/// The relay's addresses.
pub(super) const RELAY: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 2, 10), Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0x10));
/// The internet's on the relay's line.
pub(super) const BESIDE_RELAY: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1));

/// The addresses of one client's line, which change when it goes somewhere else.
pub(super) struct Line {
    /// The client's own.
    pub(super) client: [IpAddr; 2],
    /// The NAT's on the client's side.
    pub(super) inside: [IpAddr; 2],
    /// The NAT's on the internet's side.
    pub(super) outside: [IpAddr; 2],
    /// The internet's on the NAT's side.
    pub(super) internet: [IpAddr; 2],
}

impl Line {
    /// The line of this client at its `place`, counted from 0.
    pub(super) fn of(client: Client, place: u8) -> Self {
        let place16 = u16::from(place);
        let (site, [first, second, third]) = match client {
            Client::A => (0xa, [198, 51, 100]),
            Client::B => (0xb, [203, 0, 113]),
        };
        let private = |host| IpAddr::from(Ipv4Addr::new(192, 168, 1 + place, host));
        let public = |host| IpAddr::from(Ipv4Addr::new(first, second, third, host));
        let site_ip = |host| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, site, place16, 0, 0, 0, host));
        let line_ip = |host| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0xff, site, 0, 0, 0, host));
        Self {
            client: [private(2), site_ip(2)],
            inside: [private(1), site_ip(1)],
            outside: [public(2 + place), line_ip(2)],
            internet: [public(1), line_ip(1)],
        }
    }

    /// All IPv6 addresses that this client may ever have, as the internet routes them.
    pub(super) fn site(client: Client) -> &'static str {
        match client {
            Client::A => "2001:db8:a::/48",
            Client::B => "2001:db8:b::/48",
        }
    }
}

impl Families {
    /// Those of `addresses` that there are.
    pub(super) fn of(self, addresses: [IpAddr; 2]) -> impl Iterator<Item = IpAddr> {
        addresses.into_iter().filter(move |address| self == Self::Both || address.is_ipv6())
    }
}

impl Host {
    /// The device that leads to everybody else.
    pub(super) const DEVICE: &str = "eth0";
}

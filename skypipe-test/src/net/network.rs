//! The network as tests hold it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::address::{BESIDE_RELAY, Families, Line, RELAY};
use super::namespaces::Namespaces;

/// A client's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// One.
    A,
    /// The other.
    B,
}

/// A machine that runs programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A client.
    Client(Client),
    /// The relay.
    Relay,
}

impl Client {
    /// Its namespace, its NAT's, and the device that leads to the NAT from the internet.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::A => ("a", "nat-a", "to-a"),
            Self::B => ("b", "nat-b", "to-b"),
        }
    }
}

impl Host {
    fn name(self) -> &'static str {
        match self {
            Self::Client(client) => client.names().0,
            Self::Relay => "relay",
        }
    }
}

const INTERNET: &str = "internet";
const ALL: [&str; 6] = ["a", "nat-a", "b", "nat-b", INTERNET, "relay"];
/// Nobody else has the addresses: they are used at once, without a second of asking around.
const BEFORE_DEVICES: &str = "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
echo 0 >/proc/sys/net/ipv6/conf/default/dad_transmits";
const FORWARD: &str = "echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding";
const CLIENTS: [Client; 2] = [Client::A, Client::B];
/// What every real path lets through at least, and most networks at most.
const MTU: u32 = 1500;

/// The ports that a NAT gives, first and then after each rebinding in turn.
const PORTS: [&str; 2] = ["20000-29999", "40000-49999"];

/// Where a client is: changed by [`Net::roam`] and [`Net::rebind`].
#[derive(Clone, Copy, Default)]
struct Whereabouts {
    place: u8,
    ports: usize,
}

/// Three hosts, two NATs and the internet between them.
pub struct Net {
    namespaces: Namespaces,
    families: Families,
    clients: Mutex<[Whereabouts; 2]>,
}

impl Net {
    /// A network with IPv4 and IPv6.
    ///
    /// # Panics
    /// Without root or a user namespace, and without the programs it needs.
    pub fn new() -> Self {
        Self::with(Families::Both)
    }

    /// A network with these addresses.
    ///
    /// # Panics
    /// As [`Net::new`].
    pub fn with(families: Families) -> Self {
        let namespaces = Namespaces::new(&ALL);
        let net = Self { namespaces, families, clients: Mutex::default() };
        ALL.into_iter().for_each(|host| net.namespaces.sh(host, BEFORE_DEVICES));
        net.connect_relay();
        CLIENTS.into_iter().for_each(|client| net.connect_client(client));
        [INTERNET, "nat-a", "nat-b"].into_iter().for_each(|host| net.namespaces.sh(host, FORWARD));
        net
    }

    /// The relay's IPv4 address, or its IPv6 address where there is no other.
    pub fn relay(&self) -> IpAddr {
        if self.families == Families::Both { RELAY.0.into() } else { RELAY.1.into() }
    }

    /// The relay's IPv6 address.
    pub fn relay_v6(&self) -> IpAddr {
        RELAY.1.into()
    }

    /// An address of the relay as URLs have it.
    pub fn relay_at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.relay(), port)
    }

    /// A command that runs `program` on this host. Its process id is that of the program.
    pub fn command(&self, host: Host, program: &str) -> Command {
        self.namespaces.command(host.name(), program)
    }

    /// What to put before a command to run it on this host.
    pub fn prefix(&self, host: Host) -> Vec<String> {
        ["ip", "netns", "exec"].into_iter().map(str::to_owned).chain([self.namespaces.name(host.name())]).collect()
    }

    /// Drops all UDP on the internet, or no more.
    pub fn drop_udp(&self, on: bool) {
        let rule = if on { "add rule inet weather forward meta l4proto udp drop\n" } else { "" };
        self.namespaces.nft(INTERNET, &format!("{WEATHER}{rule}"));
    }

    /// The client's NAT forgets what it knew, and gives other ports from now on.
    pub fn rebind(&self, client: Client) {
        self.change(client, |now| now.ports = (now.ports + 1) % PORTS.len());
        self.set_nat(client);
        self.forget_connections(client);
    }

    /// The client goes to another network: another address of its own, and another one in public.
    pub fn roam(&self, client: Client) {
        let before = self.line(client);
        self.change(client, |now| now.place += 1);
        let (host, nat, _) = client.names();
        self.namespaces.sh(nat, "ip addr flush dev in scope global\nip addr flush dev out scope global");
        self.namespaces.sh(host, "ip addr flush dev eth0 scope global");
        debug_assert_ne!(before.client, self.line(client).client);
        self.address_client(client);
        self.forget_connections(client);
    }

    /// Pulls the client's cable, or puts it back.
    pub fn unplug(&self, client: Client, out: bool) {
        let (host, ..) = client.names();
        let state = if out { "down" } else { "up" };
        self.namespaces.ip(host, &format!("link set {} {state}\n", Host::DEVICE));
        if !out {
            // The kernel forgot the routes with the device, and IPv6 addresses.
            self.namespaces.sh(host, "ip addr flush dev eth0 scope global");
            self.address_client(client);
        }
    }

    fn connect_relay(&self) {
        let far = self.namespaces.name("relay");
        let device = Host::DEVICE;
        let [near, far_end] = [BESIDE_RELAY, RELAY].map(|(v4, v6)| [IpAddr::from(v4), IpAddr::from(v6)]);
        let mut internet = format!(
            "link set lo up\nlink add relay mtu {MTU} type veth peer name {device} mtu {MTU} netns {far}\nlink set relay up\n"
        );
        self.add_addresses(&mut internet, "relay", near);
        self.namespaces.ip(INTERNET, &internet);
        let mut relay = format!("link set lo up\nlink set {device} up\n");
        self.add_addresses(&mut relay, device, far_end);
        self.add_default(&mut relay, near);
        self.namespaces.ip("relay", &relay);
        self.namespaces.nft(INTERNET, WEATHER);
    }

    fn connect_client(&self, client: Client) {
        let (host, nat, to_nat) = client.names();
        let (host_name, nat_name) = (self.namespaces.name(host), self.namespaces.name(nat));
        let line = self.line(client);
        let mut internet = format!(
            "link add {to_nat} mtu {MTU} type veth peer name out mtu {MTU} netns {nat_name}\nlink set {to_nat} up\n"
        );
        self.add_addresses(&mut internet, to_nat, line.internet);
        self.namespaces.ip(INTERNET, &internet);
        let device = Host::DEVICE;
        self.namespaces.ip(
            nat,
            &format!("link set lo up\nlink set out up\nlink add in mtu {MTU} type veth peer name {device} mtu {MTU} netns {host_name}\nlink set in up\n"),
        );
        self.namespaces.ip(host, &format!("link set lo up\nlink set {device} up\n"));
        self.address_client(client);
        self.namespaces.ip(INTERNET, &format!("route add {} via {}\n", Line::site(client), line.outside[1]));
        self.set_nat(client);
    }

    /// Gives client and NAT their addresses and routes.
    fn address_client(&self, client: Client) {
        let (host, nat, _) = client.names();
        let line = self.line(client);
        let (mut at_nat, mut at_host) = (String::new(), String::new());
        self.add_addresses(&mut at_nat, "in", line.inside);
        self.add_addresses(&mut at_nat, "out", line.outside);
        self.add_default(&mut at_nat, line.internet);
        self.add_addresses(&mut at_host, Host::DEVICE, line.client);
        self.add_default(&mut at_host, line.inside);
        self.namespaces.ip(nat, &at_nat);
        self.namespaces.ip(host, &at_host);
    }

    /// What the client's NAT translates and lets in.
    fn set_nat(&self, client: Client) {
        let ports = PORTS[self.whereabouts(client).ports];
        let rules = format!(
            "table ip nat {{ chain out {{ type nat hook postrouting priority 100; }}; }}
             flush chain ip nat out
             add rule ip nat out oifname out meta l4proto {{ tcp, udp }} masquerade to :{ports}
             add rule ip nat out oifname out masquerade
             table inet wall {{ chain forward {{ type filter hook forward priority 0; policy drop; }}; }}
             flush chain inet wall forward
             add rule inet wall forward ct state established,related accept
             add rule inet wall forward iifname in accept
             add rule inet wall forward meta l4proto icmpv6 accept\n"
        );
        self.namespaces.nft(client.names().1, &rules);
    }

    fn forget_connections(&self, client: Client) {
        self.namespaces.sh(client.names().1, "conntrack -F 2>/dev/null");
    }

    fn line(&self, client: Client) -> Line {
        Line::of(client, self.whereabouts(client).place)
    }

    fn whereabouts(&self, client: Client) -> Whereabouts {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)[client as usize]
    }

    fn change(&self, client: Client, change: impl FnOnce(&mut Whereabouts)) {
        change(&mut self.clients.lock().unwrap_or_else(PoisonError::into_inner)[client as usize]);
    }

    /// Lines of `ip` that give `device` those of the addresses that there are. Nobody waits for duplicates of them to be found.
    fn add_addresses(&self, script: &mut String, device: &str, addresses: [IpAddr; 2]) {
        for address in self.families.of(addresses) {
            let (bits, at_once) = if address.is_ipv4() { (24, "") } else { (64, " nodad") };
            let _ = writeln!(script, "addr replace {address}/{bits} dev {device}{at_once}");
        }
    }

    /// Lines of `ip` that lead to everybody else by `via`.
    fn add_default(&self, script: &mut String, via: [IpAddr; 2]) {
        for address in self.families.of(via) {
            let _ = writeln!(script, "route replace default via {address}");
        }
    }
}

impl Default for Net {
    fn default() -> Self {
        Self::new()
    }
}

/// What the internet does to what it carries: nothing yet.
const WEATHER: &str = "table inet weather { chain forward { type filter hook forward priority 0; }; }\nflush chain inet weather forward\n";

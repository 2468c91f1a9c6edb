//! The networks are what they say.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// So long a test waits for what must come.
const SOON: Duration = Duration::from_secs(10);
const A: Host = Host::Client(Client::A);

fn succeeds(mut command: Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

/// Whether a TCP packet gets there and back: a refusal is an answer too.
fn reaches(net: &Net, from: Host, to: &str) -> bool {
    let script = "use Errno; exit 0 if IO::Socket::IP->new(PeerHost => $ARGV[0], PeerPort => 9, Timeout => 1); exit !$!{ECONNREFUSED}";
    let mut perl = net.command(from, "perl");
    perl.args(["-MIO::Socket::IP", "-e", script, to]);
    succeeds(perl)
}

/// A server at the relay that says to everybody who they are, as it sees them.
struct Server(Child);

impl Server {
    fn new(net: &Net, kind: &str) -> Self {
        let script = format!(
            r#"use IO::Socket::IP; $| = 1;
            my $tcp = '{kind}' eq 'tcp';
            my $s = IO::Socket::IP->new(LocalHost => '::', LocalPort => 7000, Proto => '{kind}', Type => $tcp ? SOCK_STREAM : SOCK_DGRAM,
                $tcp ? (Listen => 9) : (), V6Only => 0) or die $!;
            print "ready\n";
            while (1) {{
                if ($tcp) {{ my $c = $s->accept; print $c $c->peerhost, ' ', $c->peerport, "\n"; close $c }}
                else {{ $s->recv(my $b, 99); $s->send($s->peerhost . ' ' . $s->peerport . "\n") }}
            }}"#
        );
        let mut child = net.command(Host::Relay, "perl").args(["-e", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A client with one UDP socket, which asks whenever it is told to.
struct Asking(Child);

impl Asking {
    fn new(net: &Net, to: std::net::IpAddr) -> Self {
        let script = format!(
            r#"use IO::Socket::IP; $| = 1;
            my $s = IO::Socket::IP->new(PeerHost => '{to}', PeerPort => 7000, Proto => 'udp', Type => SOCK_DGRAM) or die $!;
            while (<STDIN>) {{
                $s->send('who am I');
                my $answer = '';
                eval {{ local $SIG{{ALRM}} = sub {{ die }}; alarm 1; $s->recv($answer, 99); alarm 0; }};
                print $answer ? $answer : "nothing\n";
            }}"#
        );
        let mut command = net.command(A, "perl");
        command.args(["-e", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn ask(&mut self) -> String {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let (mut line, mut byte) = (Vec::new(), [0]);
        while byte != *b"\n" {
            self.0.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        String::from_utf8(line).unwrap().trim().to_owned()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn clients_reach_the_relay_and_nobody_reaches_clients() {
    let net = Net::new();
    for client in [A, Host::Client(Client::B)] {
        assert!(reaches(&net, client, "192.0.2.10") && reaches(&net, client, "2001:db8:c::10"));
    }
    assert!(!reaches(&net, Host::Relay, "192.168.1.2"));
    let _server = Server::new(&net, "udp");
    let seen = Asking::new(&net, net.relay()).ask();
    assert!(seen.contains("198.51.100.2 2"), "seen as {seen}");
}

#[test]
fn a_rebound_nat_gives_another_port_and_roaming_another_address() {
    let net = Net::new();
    let _server = Server::new(&net, "udp");
    let mut asking = Asking::new(&net, net.relay());
    let first = asking.ask();
    assert_eq!(first, asking.ask());
    net.rebind(Client::A);
    let second = asking.ask();
    assert!(second.contains("198.51.100.2 4"), "{first}, then {second}");
    net.roam(Client::A);
    // A socket that is connected keeps its old address; a new one has the new one.
    let third = Asking::new(&net, net.relay()).ask();
    assert!(third.contains("198.51.100.3 4"), "{second}, then {third}");
}

#[test]
fn udp_can_be_dropped_and_a_cable_pulled() {
    let net = Net::new();
    let _server = Server::new(&net, "udp");
    let mut asking = Asking::new(&net, net.relay());
    net.drop_udp(true);
    assert!(asking.ask() == "nothing" && reaches(&net, A, "192.0.2.10"));
    net.drop_udp(false);
    assert!(asking.ask().contains("198.51.100.2"));
    net.unplug(Client::A, true);
    assert!(!reaches(&net, A, "192.0.2.10"));
    net.unplug(Client::A, false);
    let start = Instant::now();
    while !(reaches(&net, A, "192.0.2.10") && reaches(&net, A, "2001:db8:c::10")) {
        assert!(start.elapsed() < SOON);
    }
}

#[test]
fn without_ipv4_there_is_ipv6() {
    let net = Net::with(Families::Ipv6Only);
    assert!(reaches(&net, A, "2001:db8:c::10") && !reaches(&net, A, "192.0.2.10"));
    let _server = Server::new(&net, "tcp");
    let mut asking = net.command(A, "perl");
    asking.args([
        "-MIO::Socket::IP",
        "-e",
        "print IO::Socket::IP->new(PeerHost => '2001:db8:c::10', PeerPort => 7000)->getline",
    ]);
    let seen = String::from_utf8(asking.output().unwrap().stdout).unwrap();
    assert!(seen.contains("2001:db8:a::2 "), "seen as {seen}");
}

#[test]
fn nothing_is_left_behind() {
    let names = |net: &Net| net.prefix(Host::Relay).pop().unwrap();
    let net = Net::new();
    let name = names(&net);
    assert!(std::fs::exists(format!("/run/netns/{name}")).unwrap());
    drop(net);
    assert!(!std::fs::exists(format!("/run/netns/{name}")).unwrap());
    // A process that is gone: its number was reused by none that lives.
    let mut child = Command::new("true").spawn().unwrap();
    let gone = format!("sky{}-0-relay", child.id());
    child.wait().unwrap();
    assert!(succeeds({
        let mut add = Command::new("ip");
        add.args(["netns", "add", &gone]);
        add
    }));
    drop(Net::new());
    assert!(!std::fs::exists(format!("/run/netns/{gone}")).unwrap());
}

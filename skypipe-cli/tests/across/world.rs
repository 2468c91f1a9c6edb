//! A relay and its clients: on three hosts, or on one.

use skypipe_test::net::{Client, Families, Host, Net};

use crate::harness::{Home, Running};

/// A way to a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Quic,
    Wss,
    Ws,
    /// All that the relay offers: the client finds out which is the best.
    Any,
}

impl Way {
    fn takes(self, url: &str) -> bool {
        match self {
            Self::Quic => url.starts_with("quic:"),
            Self::Wss => url.starts_with("wss:"),
            Self::Ws => url.starts_with("ws:"),
            Self::Any => !url.starts_with("unix:"),
        }
    }

    /// The word by which `skypipe check` calls it.
    pub fn word(self) -> &'static str {
        if self == Self::Quic { "QUIC" } else { "WebSocket" }
    }
}

/// A relay that listens for other machines, in a home of its own.
pub struct Relay {
    pub home: Home,
    urls: Vec<String>,
    // Dropped before its home, which expects nobody else's processes.
    running: Option<Running>,
}

impl Relay {
    /// Starts one in `home`, with these listeners.
    pub fn start(home: Home, listen: &[&str]) -> Self {
        let listen = listen.iter().flat_map(|at| ["--listen", at]);
        let running = home.skypipe(["relay"]).args(listen).start();
        running.until_gave("unix:").until_gave("://");
        // It prints all of them at once.
        let urls = running.output().lines().map(str::to_owned).collect();
        Self { home, urls, running: Some(running) }
    }

    /// One on this machine's loopback, for each way.
    pub fn on_loopback() -> Self {
        Self::start(Home::new(), &["127.0.0.1:0", "ws:127.0.0.1:0"])
    }

    /// Its URLs for this way, joined by commas.
    #[track_caller]
    pub fn url(&self, way: Way) -> String {
        let urls: Vec<&str> = self.urls.iter().map(String::as_str).filter(|url| way.takes(url)).collect();
        assert!(!urls.is_empty(), "the relay has no URL for {way:?}: {:?}", self.urls);
        urls.join(",")
    }

    /// The line that `skypipe invite` prints for another machine.
    #[track_caller]
    pub fn invite(&self) -> String {
        self.home.skypipe(["invite"]).ok().text().trim().to_owned()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("relay: {}", self.running.as_ref().map(Running::errors).unwrap_or_default());
        }
        self.running = None;
    }
}

/// Two clients behind different NATs that have joined a relay on a third host. Fields are dropped in this order.
pub struct World {
    pub a: Home,
    pub b: Home,
    pub relay: Relay,
    pub net: Net,
}

impl World {
    /// Whose clients take this way.
    pub fn new(way: Way) -> Self {
        Self::with(Families::Both, way)
    }

    /// With these addresses.
    pub fn with(families: Families, way: Way) -> Self {
        let net = Net::with(families);
        let relay = Relay::start(Home::on(net.prefix(Host::Relay)), &[&net.relay_at(7473).to_string()]);
        let [a, b] = [Client::A, Client::B].map(|client| {
            let mut home = Home::on(net.prefix(Host::Client(client)));
            home.sh(&relay.invite()).ok();
            home.uses(relay.url(way));
            home
        });
        Self { a, b, relay, net }
    }

    /// The path that `skypipe check` of `a` names.
    #[track_caller]
    pub fn path(&self) -> String {
        let checked = self.a.skypipe(["check", "--json"]).ok().json();
        checked["path"].as_str().unwrap_or_else(|| panic!("no path in {checked}")).to_owned()
    }
}

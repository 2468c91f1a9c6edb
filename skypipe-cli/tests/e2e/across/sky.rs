//! A relay on loopback, and users who join it.

use crate::harness::{Command, Home, In, Running, Signal};

/// A user's relay that listens for other machines. Its owner's own commands reach it over the local socket.
pub struct Sky {
    pub owner: Home,
    pub relay: Running,
    pub urls: Vec<String>,
}

impl Sky {
    /// Over QUIC and WebSocket.
    #[track_caller]
    pub fn new() -> Self {
        Self::listening("127.0.0.1:0")
    }

    #[track_caller]
    pub fn listening(at: &str) -> Self {
        Self::of(Home::new(), at)
    }

    /// The relay of this home.
    #[track_caller]
    pub fn of(owner: Home, at: &str) -> Self {
        let relay = owner.skypipe(["relay", "--listen", at]).start();
        // The last URL is whole when its line is.
        relay.until_gave("://");
        let urls = crate::harness::until("the URLs are printed", || whole_urls(&relay));
        Self { owner, relay, urls }
    }

    /// All ways to it, as one URL.
    pub fn url(&self) -> String {
        self.urls.join(",")
    }

    /// The relay's key.
    pub fn key(&self) -> String {
        let url = &self.urls[0];
        url[url.find("://").unwrap() + 3..url.find('@').unwrap()].to_owned()
    }

    /// The line that `invite` prints with these options.
    #[track_caller]
    pub fn invite(&self, options: &[&str]) -> String {
        let line = self.owner.skypipe([&["invite"], options].concat()).ok().text();
        assert!(line.starts_with("skypipe join sky1") && line.ends_with('\n') && line.lines().count() == 1, "{line:?}");
        line
    }

    /// A new machine that joined with a ticket of these options.
    #[track_caller]
    pub fn joined(&self, options: &[&str]) -> Home {
        let home = Home::new();
        join(&home, &self.invite(options)).ok().gave("");
        home
    }

    /// A new machine whose key the relay knows, acting for itself.
    #[track_caller]
    pub fn stranger_with_key(&self) -> Home {
        let home = Home::new();
        self.owner.skypipe(["keys", "add", own_line(&home).trim()]).ok();
        home
    }

    /// A command of `home` that uses this relay.
    pub fn skypipe<'a>(&self, home: &Home, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        home.skypipe(arguments).env("SKYPIPE_RELAY", self.url())
    }

    /// Ends the relay as a service manager does.
    #[track_caller]
    pub fn end(self) -> (Home, String) {
        self.relay.send(Signal::TERM);
        let done = self.relay.wait().exits(0);
        (self.owner, done.stderr)
    }
}

/// `skypipe join`, with the line on stdin.
pub fn join(home: &Home, line: &str) -> Command {
    home.skypipe(["join"]).stdin(In::Pipe(line.as_bytes().to_vec()))
}

/// The line by which others know this home's key.
#[track_caller]
pub fn own_line(home: &Home) -> String {
    home.skypipe(["keys", "own"]).ok().quietly().text()
}

/// The URLs for other machines, when all lines are there.
fn whole_urls(relay: &Running) -> Option<Vec<String>> {
    let output = relay.output();
    let urls: Vec<String> = output.lines().filter(|line| line.contains("://")).map(str::to_owned).collect();
    (output.ends_with('\n') && !urls.is_empty()).then_some(urls)
}

//! One user's machine, in a folder.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::command::{Command, In};
use super::process::{self, Pid, Signal};
use super::until;

/// A folder with its own `HOME`, `SKYPIPE_HOME` and configuration, so that the tests neither see each other nor the user's
/// own relay. Commands run in its `work` folder.
pub struct Home {
    folder: TempDir,
    prefix: Vec<String>,
    /// The URL of the relay that its commands use; none is what they find by themselves.
    relay: Option<String>,
}

impl Home {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("sky").tempdir().unwrap();
        for name in ["home", "config", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, prefix: Vec::new(), relay: None }
    }

    /// A home on another host: all its commands run behind this one.
    pub fn on(prefix: Vec<String>) -> Self {
        let mut home = Self::new();
        home.prefix = prefix;
        home
    }

    /// From now on its commands use the relay at `url`.
    pub fn uses(&mut self, url: impl Into<String>) {
        self.relay = Some(url.into());
    }

    /// `skypipe` with these arguments.
    pub fn skypipe<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        Command::new(BINARY, self.work(), self.environment()).args(arguments).within(&self.prefix)
    }

    /// A line for the shell, in which `skypipe` is this binary.
    pub fn sh(&self, script: &str) -> Command {
        Command::new("/bin/sh", self.work(), self.environment()).args(["-c", script]).within(&self.prefix)
    }

    /// Writes one item and waits until it is stored.
    #[track_caller]
    pub fn store(&self, pipe: &str, bytes: impl AsRef<[u8]>) {
        self.skypipe(["write", pipe]).stdin(In::Pipe(bytes.as_ref().to_vec())).ok().gave("");
    }

    /// A reader that is attached and gets everything from now on.
    #[track_caller]
    pub fn live_reader(&self, pipe: &str) -> super::Running {
        let before = self.stat(pipe).readers;
        let reader = self.skypipe(["read", pipe]).start();
        self.until_stat(pipe, |s| s.readers > before);
        reader
    }

    /// A writer whose stdin is kept open and of which the relay knows.
    #[track_caller]
    pub fn open_writer(&self, pipe: &str) -> super::Running {
        let before = self.stat(pipe).writers;
        let writer = self.skypipe(["write", pipe]).stdin(In::Open).start();
        self.until_stat(pipe, |s| s.writers > before);
        writer
    }

    /// What the relay says of a pipe; all zero when there is none.
    #[track_caller]
    pub fn stat(&self, pipe: &str) -> Stat {
        let done = self.skypipe(["stat", "--json", pipe]).run().exits_one_of(&[0, 3]);
        if done.code == Some(3) { Stat::default() } else { Stat::of(&done.json()) }
    }

    /// Waits until the relay says so of a pipe.
    #[track_caller]
    pub fn until_stat(&self, pipe: &str, wanted: impl Fn(&Stat) -> bool) -> Stat {
        let start = std::time::Instant::now();
        loop {
            let last = self.stat(pipe);
            if wanted(&last) {
                return last;
            }
            assert!(start.elapsed() < super::PATIENCE, "{pipe} stays at {last:?}");
            // Each look is a process: the longer it takes, the fewer.
            std::thread::sleep((start.elapsed() / 10).min(Duration::from_millis(50)));
        }
    }

    /// The folder in which commands run.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// A path in the folder in which commands run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.work().join(name)
    }

    /// Makes a file in the folder in which commands run.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// `SKYPIPE_HOME`.
    pub fn skypipe_home(&self) -> PathBuf {
        self.folder.path().join("sky")
    }

    /// The folder of the configuration, `$XDG_CONFIG_HOME`.
    pub fn config_home(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// Everything: what another user would have to get into.
    pub fn whole(&self) -> &Path {
        self.folder.path()
    }

    /// The relay's process, once there is one.
    #[track_caller]
    pub fn relay(&self) -> Pid {
        until("a relay runs", || self.relay_now())
    }

    /// The relay's process if one lives: the one that the lock file names.
    pub fn relay_now(&self) -> Option<Pid> {
        let lock = fs::read_to_string(self.skypipe_home().join("relay.lock")).ok()?;
        let number = lock.split(|c: char| !c.is_ascii_digit()).find(|n| !n.is_empty())?;
        Pid::from_raw(number.parse().ok()?).filter(|&pid| process::is_alive(pid))
    }

    /// `kill -9` of the relay; waits until it is gone.
    #[track_caller]
    pub fn kill_relay(&self) -> Pid {
        self.end_relay(Signal::KILL)
    }

    /// Ends the relay by `signal` and waits until it is gone.
    #[track_caller]
    pub fn end_relay(&self, signal: Signal) -> Pid {
        let pid = self.relay();
        process::send(pid, signal);
        until("the relay is gone", || (!process::is_alive(pid)).then_some(pid))
    }

    /// Every process of this home that lives.
    pub fn processes(&self) -> Vec<Pid> {
        process::in_home(&self.skypipe_home())
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        let beside_binary = Path::new(BINARY).parent().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(beside_binary.to_path_buf()).chain(std::env::split_paths(&path));
        let mut environment = vec![
            ("HOME".into(), self.folder.path().join("home").into()),
            ("XDG_CONFIG_HOME".into(), self.config_home().into()),
            ("SKYPIPE_HOME".into(), self.skypipe_home().into()),
            ("PATH".into(), std::env::join_paths(folders).unwrap()),
            ("LC_ALL".into(), "C.UTF-8".into()),
            // What others have on this disk is not what most tests are about; those of a full one have a disk of their own.
            ("SKYPIPE_KEEP_FREE".into(), "0".into()),
        ];
        environment.extend(self.relay.iter().map(|url| ("SKYPIPE_RELAY".into(), url.into())));
        environment
    }
}

impl Drop for Home {
    /// Ends what was left in this home. A relay is expected; anything else is a command that did not end.
    fn drop(&mut self) {
        let left = self.processes();
        let strays: Vec<String> =
            left.iter().map(|&p| process::command_line(p)).filter(|line| !line.contains(" relay")).collect();
        left.iter().for_each(|&pid| process::kill(pid));
        if std::thread::panicking() {
            self.show_relay_log();
            return;
        }
        until("the home is empty", || {
            let now = self.processes();
            now.iter().for_each(|&pid| process::kill(pid));
            now.is_empty().then_some(())
        });
        assert!(strays.is_empty(), "left behind: {strays:?}");
    }
}

impl Home {
    /// The relay's own words, for the one who looks into a failed test.
    fn show_relay_log(&self) {
        let log = fs::read_to_string(self.skypipe_home().join("relay.log")).unwrap_or_default();
        let start = log.len().saturating_sub(4000);
        println!("relay.log:\n{}", log.get(start..).unwrap_or(&log));
    }
}

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_skypipe");

/// The fields of `skypipe stat --json` that tests wait for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Stat {
    pub items: u64,
    pub ended: u64,
    pub bytes: u64,
    pub writers: u64,
    pub readers: u64,
}

impl Stat {
    fn of(json: &serde_json::Value) -> Self {
        let number = |field: &str| json[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {json}"));
        Self {
            items: number("items"),
            ended: number("ended"),
            bytes: number("bytes"),
            writers: number("writers"),
            readers: number("readers"),
        }
    }
}

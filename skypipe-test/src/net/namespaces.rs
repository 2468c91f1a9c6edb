//! Network namespaces with names of their own, made and removed with the system's `ip`.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs tests that need networks as a user without root.
pub const WITHOUT_ROOT: &str =
    "unshare -Urnm sh -c 'mount -t tmpfs none /run && exec cargo test -p skypipe-cli --test across'";

/// Before the number of the process that made a namespace.
const PREFIX: &str = "sky";
/// Where `ip` keeps names.
const FOLDER: &str = "/run/netns";

/// Some namespaces; they go when this is dropped, with all devices in them.
pub(super) struct Namespaces {
    number: u32,
    names: Vec<&'static str>,
}

impl Namespaces {
    /// Makes namespaces of these names, which are this network's own.
    ///
    /// # Panics
    /// Without root, without a user namespace of one's own, or without the programs.
    pub(super) fn new(names: &[&'static str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        needs();
        // `ip` makes its folder a mount of its own the first time, which two of them at once fail at.
        let lock = File::create(std::env::temp_dir().join("skypipe-test-net.lock")).unwrap();
        lock.lock().unwrap();
        remove_leftovers();
        let made = Self { number, names: names.to_vec() };
        let script: String = names.iter().map(|name| format!("netns add {}\n", made.name(name))).collect();
        feed("ip", &["-batch", "-"], &script);
        made
    }

    /// The whole name of the namespace `name`.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{PREFIX}{}-{}-{name}", std::process::id(), self.number)
    }

    /// A command that runs `program` in the namespace, and is that program: its process id is the program's.
    pub(super) fn command(&self, name: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(name), program]);
        command
    }

    /// Runs lines of `ip` in the namespace.
    pub(super) fn ip(&self, name: &str, script: &str) {
        feed("ip", &["-netns", &self.name(name), "-batch", "-"], script);
    }

    /// Runs lines of `nft` in the namespace.
    pub(super) fn nft(&self, name: &str, script: &str) {
        feed("ip", &["netns", "exec", &self.name(name), "nft", "-f", "-"], script);
    }

    /// Runs lines for the shell in the namespace.
    pub(super) fn sh(&self, name: &str, script: &str) {
        feed("ip", &["netns", "exec", &self.name(name), "sh", "-e"], script);
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.names.iter().for_each(|name| remove(&self.name(name)));
    }
}

/// Says what is missing.
fn needs() {
    let is_root = rustix::process::geteuid().is_root();
    assert!(is_root, "this test makes networks: run it as root, or in a user namespace: {WITHOUT_ROOT}");
    for (program, package) in [("ip", "iproute2"), ("nft", "nftables"), ("conntrack", "conntrack")] {
        let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(found.is_ok(), "this test makes networks and needs `{program}`: apt install {package}");
    }
}

/// Removes what tests left that are gone.
fn remove_leftovers() {
    let names = fs::read_dir(FOLDER).into_iter().flatten().filter_map(|e| e.ok()?.file_name().into_string().ok());
    for name in names {
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if maker.is_some_and(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true)) {
            remove(&name);
        }
    }
}

fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
}

/// Runs a program with `input` as its stdin.
fn feed(program: &str, arguments: &[&str], input: &str) {
    let piped = Command::new(program).args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = piped.unwrap_or_else(|e| panic!("{program}: {e}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?}: {said}; it was told:\n{input}");
}

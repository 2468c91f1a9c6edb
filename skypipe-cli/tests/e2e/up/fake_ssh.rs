//! ssh that leads nowhere: it runs here what it is told to run there, and may be cut off.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::host::free_port;
use crate::harness::{self, Command, Home, Pid, Signal, is_alive, send, until};

/// A machine that is another home folder.
pub struct Fake {
    pub home: Home,
    pub port: u16,
}

/// The last of ssh's arguments is the command. `cut` holds the number of the call that breaks, behind some bytes of its input.
const SCRIPT: &str = r#"#!/bin/sh
for command; do :; done
case " $* " in
    *" -G "*) echo "hostname 127.0.0.1"; exit ;;
    *" -O "*) exit ;;
esac
calls=$(($(cat "$FAKE/calls" 2>/dev/null || echo 0) + 1))
echo "$calls" >"$FAKE/calls"
cut=$(cat "$FAKE/cut" 2>/dev/null)
unset SKYPIPE_HOME XDG_CONFIG_HOME SKYPIPE_RELAY
HOME=$FAKE/there
export HOME
cd "$HOME" || exit 255
[ "$calls" = "$cut" ] || exec sh -c "$command"
head -c 6000 | sh -c "$command"
exit 255
"#;

impl Fake {
    pub fn new() -> Self {
        let home = Home::new();
        let script = home.file("ssh", SCRIPT);
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(home.path("there")).unwrap();
        Self { home, port: free_port() }
    }

    /// A command that uses it.
    pub fn skypipe<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let ssh = self.home.path("ssh").display().to_string();
        self.home.skypipe(arguments).env("SKYPIPE_SSH", ssh).env("FAKE", self.home.work())
    }

    /// `skypipe up`, on loopback.
    pub fn up(&self, more: &[&str]) -> Command {
        let port = self.port.to_string();
        self.skypipe([&["up", "fake", "--bind", "127.0.0.1", "--port", &port], more].concat())
    }

    /// Lets the call of this number break, counted from now.
    pub fn cut_at(&self, call: u32) {
        self.home.file("calls", "0");
        self.home.file("cut", call.to_string());
    }

    /// How many calls there were since.
    pub fn calls(&self) -> u32 {
        fs::read_to_string(self.home.path("calls")).unwrap_or_default().trim().parse().unwrap_or(0)
    }

    /// A path of the machine.
    pub fn there(&self, path: &str) -> PathBuf {
        self.home.path("there").join(path)
    }

    /// Every file there, for tests that nothing was changed.
    pub fn is_bare(&self) -> bool {
        fs::read_dir(self.there("")).unwrap().next().is_none()
    }

    fn processes(&self) -> Vec<Pid> {
        let mark = self.there(".local/lib/skypipe/").display().to_string();
        let numbers = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
        numbers.filter_map(Pid::from_raw).filter(|&p| harness::command_line(p).contains(&mark) && is_alive(p)).collect()
    }
}

impl Drop for Fake {
    /// Ends the supervisor before the relay, which it would start again.
    fn drop(&mut self) {
        until("nothing of the machine runs", || {
            let left = self.processes();
            left.iter().for_each(|&pid| send(pid, Signal::KILL));
            left.is_empty().then_some(())
        });
    }
}

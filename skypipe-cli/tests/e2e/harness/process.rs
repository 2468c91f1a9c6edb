//! Processes by their id: never by name, since other tests run beside this one.

use std::fs;
use std::path::Path;

pub use rustix::process::{Pid, Signal};

/// Sends a signal; a process that is gone already is no error.
pub fn send(pid: Pid, signal: Signal) {
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("signal {signal:?} to {pid:?}: {error}"),
    }
}

/// `kill -9`.
pub fn kill(pid: Pid) {
    send(pid, Signal::KILL);
}

/// Stops it as Ctrl-Z does, and waits until it stands: on a busy machine some of its threads serve on for a while.
pub fn stop(pid: Pid) {
    send(pid, Signal::STOP);
    let stands = |threads: Vec<_>| !threads.is_empty() && threads.iter().all(|state| *state == Some('T'));
    super::until("the process stands still", || stands(threads(pid).collect()).then_some(()));
}

/// Whether any thread of the process runs; a zombie does not. The first thread of one that was killed may be a zombie while
/// others still hold its sockets, and a connection to those is taken, then reset.
pub fn is_alive(pid: Pid) -> bool {
    threads(pid).any(|state| !matches!(state, None | Some('Z' | 'X')))
}

/// The letter of each thread's state in `/proc`: none of a thread that ended meanwhile, nothing where there is no such process.
fn threads(pid: Pid) -> impl Iterator<Item = Option<char>> {
    let folder = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
    folder.into_iter().flatten().filter_map(Result::ok).map(|thread| state_in(&thread.path()))
}

fn state_in(folder: &Path) -> Option<char> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The command's name, in parentheses, may hold anything.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Every living process whose environment has `SKYPIPE_HOME` set to `folder`.
pub fn in_home(folder: &Path) -> Vec<Pid> {
    let wanted = format!("SKYPIPE_HOME={}", folder.display()).into_bytes();
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    numbers
        .filter_map(Pid::from_raw)
        .filter(|&pid| {
            let environ = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
            environ.split(|&b| b == 0).any(|entry| entry == wanted) && is_alive(pid)
        })
        .collect()
}

/// What the process was called with, for people.
pub fn command_line(pid: Pid) -> String {
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// How many bytes the process has read and written so far, to anything.
pub fn bytes_moved(pid: Pid) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", pid.as_raw_nonzero())).unwrap_or_default();
    io.lines()
        .filter(|l| l.starts_with("rchar") || l.starts_with("wchar"))
        .filter_map(|l| l.split(' ').nth(1)?.parse::<u64>().ok())
        .sum()
}

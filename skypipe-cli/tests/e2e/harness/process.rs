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
    let threads = || fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).ok();
    let all_stand = || threads()?.all(|thread| state_in(&thread.unwrap().path()) == Some('T')).then_some(());
    super::until("the process stands still", all_stand);
}

/// Whether the process runs; a zombie does not.
pub fn is_alive(pid: Pid) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// The letter of the process's state in `/proc`, if there is such a process.
fn state(pid: Pid) -> Option<char> {
    state_in(Path::new(&format!("/proc/{}", pid.as_raw_nonzero())))
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

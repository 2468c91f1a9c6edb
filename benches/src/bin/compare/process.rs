//! Processes that end with this one, and the time that they take of a CPU.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;

/// How long a process may take to end by itself.
const END_LIMIT: Duration = Duration::from_secs(20);
/// How often somebody looks whether something is so.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Of the kernel's figures in `/proc/PID/stat` on all of Linux' platforms.
const TICKS_PER_SECOND: f64 = 100.0;

/// A child, killed when this is dropped, and by the kernel when this process dies.
pub(crate) struct Process {
    name: String,
    child: Child,
}

/// A command whose process the kernel kills when this process dies, even by a signal.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// This program in another role.
pub(crate) fn role(words: &[&str]) -> Result<Command, Failure> {
    let mut command = command(std::env::current_exe()?);
    command.args(words);
    Ok(command)
}

impl Process {
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Self, Failure> {
        let child = command.spawn().map_err(|e| format!("{name} does not start: {e}"))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// Starts it and waits until it printed a line that `is_wanted`, which is returned.
    pub(crate) fn start_and_hear(
        name: &str,
        command: &mut Command,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<(Self, String), Failure> {
        let mut process = Self::start(name, command.stdout(Stdio::piped()))?;
        let stdout = process.child.stdout.take().ok_or("no stdout")?;
        let line = BufReader::new(stdout).lines().map_while(Result::ok).find(|line| is_wanted(line));
        Ok((process, line.ok_or_else(|| format!("{name} did not say where it is"))?))
    }

    /// Fails when it is over.
    pub(crate) fn is_running(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("{} ended: {status}", self.name).into()),
        }
    }

    /// Fails when it is over and did not end well.
    pub(crate) fn is_well(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            Some(status) if !status.success() => Err(format!("{} ended: {status}", self.name).into()),
            _ => Ok(()),
        }
    }

    /// Waits until it has ended by itself, and well.
    pub(crate) fn ended(&mut self) -> Result<(), Failure> {
        self.ended_within(END_LIMIT)
    }

    pub(crate) fn ended_within(&mut self, limit: Duration) -> Result<(), Failure> {
        until(limit, &format!("{} ends", self.name), || Ok(self.child.try_wait()?.is_some()))?;
        self.is_well()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of its memory that are resident.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Seconds of CPU of it and all that came from it.
    pub(crate) fn cpu(&self) -> f64 {
        cpu_of_tree(self.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until it is so.
pub(crate) fn until(
    limit: Duration,
    what: &str,
    mut is_so: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() > limit {
            return Err(format!("waited {limit:?} in vain: {what}").into());
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Seconds of CPU of all children of this process that it has waited for.
pub(crate) fn cpu_of_ended() -> f64 {
    stat("self").map_or(0.0, |stat| stat.ended)
}

struct Stat {
    parent: u32,
    own: f64,
    ended: f64,
}

fn cpu_of_tree(id: u32) -> f64 {
    let Some(stat) = stat(&id.to_string()) else { return 0.0 };
    let below: f64 = children(id).into_iter().map(cpu_of_tree).sum();
    stat.own + stat.ended + below
}

fn children(id: u32) -> Vec<u32> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|child| stat(&child.to_string()).is_some_and(|stat| stat.parent == id)).collect()
}

/// The fields behind the name, which may have spaces in it: state, parent, and from the twelfth on the times.
fn stat(id: &str) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let seconds = |nth: usize| Some(fields.get(nth)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: seconds(11)? + seconds(12)?,
        ended: seconds(13)? + seconds(14)?,
    })
}

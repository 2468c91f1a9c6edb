//! `skypipe read -q NAME --exec CMD`: one run of a command for each record.

use std::ffi::OsStr;
use std::future::pending;
use std::os::unix::process::CommandExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use skypipe_core::{Code, Error, Lease, Mark, Reader};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::broker::Source;
use crate::exit::{Exit, say};
use crate::signals::{Stop, Watch};
use crate::start;

/// A record whose command failed is tried again after this time at first, and after twice as long each time.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// No later than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// A lease is extended so many times before it lapses: two answers may be lost.
const EXTENDS: u32 = 3;
/// A command whose record is torn has so long to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(5);
/// Parts of a long record that wait for their command: one while it reads another.
const PARTS: usize = 1;

/// What to run, and how.
pub(crate) struct Runs<'a> {
    pub(crate) command: &'a OsStr,
    pub(crate) source: &'a Source,
    /// So many at a time.
    pub(crate) jobs: usize,
    /// So many in all.
    pub(crate) count: Option<u64>,
}

/// Why it takes no more records.
enum End {
    /// There are no more, or as many as wanted were taken.
    Enough,
    Stopped(Stop),
    Failed(Error),
}

/// Runs the command for each record until something ends it; then waits for those that run.
pub(crate) async fn run(mut reader: Reader, runs: &Runs<'_>, watch: &mut Watch) -> Result<Exit, Error> {
    let mut running = JoinSet::new();
    let end = take(&mut reader, runs, &mut running, watch).await;
    let ended = finish(&mut running, &end, watch).await;
    // What is in hand and was not begun goes back at once.
    let left = match ended {
        Ok(()) => watch.finish(async { reader.settled().await.and(reader.leave(false).await.map(drop)) }).await,
        Err(stop) => Err(stop),
    };
    match (end, left) {
        (End::Failed(error), _) => Err(error),
        (End::Stopped(stop), _) | (_, Err(stop)) => stop.exit("records that were not done are handed out again"),
        (End::Enough, Ok(left)) => left.map(|()| Exit::Done),
    }
}

/// Takes records and runs the command for them.
async fn take(reader: &mut Reader, runs: &Runs<'_>, running: &mut JoinSet<()>, watch: &mut Watch) -> End {
    let mut left = runs.count.unwrap_or(u64::MAX);
    while left > 0 {
        while running.len() >= runs.jobs {
            match watch.idle(running.join_next()).await {
                Ok(_) => {}
                Err(stop) => return End::Stopped(stop),
            }
        }
        match watch.idle(reader.begin_lease()).await {
            Ok(Ok(Some(lease))) => {
                let is_whole = lease.is_whole();
                let (feed, rest) = mpsc::channel(PARTS);
                match start(runs, lease, rest) {
                    Ok(job) => drop(running.spawn(job)),
                    Err(error) => return End::Failed(error),
                }
                if !is_whole {
                    match watch.idle(pass_on(reader, feed)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return End::Failed(error),
                        Err(stop) => return End::Stopped(stop),
                    }
                }
            }
            Ok(Ok(None)) => return End::Enough,
            Ok(Err(error)) => return End::Failed(error),
            Err(stop) => return End::Stopped(stop),
        }
        left -= 1;
    }
    End::Enough
}

/// Gives the rest of a long record to its command, as fast as that takes it.
async fn pass_on(reader: &mut Reader, feed: mpsc::Sender<Rest>) -> Result<(), Error> {
    loop {
        let rest = match reader.more().await {
            Ok(Some(part)) => Rest::Part(part),
            Ok(None) => Rest::End,
            Err(error) if error.code() == Code::LeaseLost => return Ok(()),
            Err(error) => return Err(error),
        };
        let is_end = matches!(rest, Rest::End);
        // A command may end before it has read all of its record.
        if feed.send(rest).await.is_err() || is_end {
            return Ok(());
        }
    }
}

/// What follows on the first part of a long record. Where the end does not come, the record is not whole.
enum Rest {
    Part(Bytes),
    End,
}

/// Waits for the commands that run. A signal is passed on to them; a second one stops the waiting.
async fn finish(running: &mut JoinSet<()>, end: &End, watch: &mut Watch) -> Result<(), Stop> {
    if let End::Stopped(stop) = end {
        groups::signal_all(signal_of(*stop));
    }
    while !running.is_empty() {
        if let Err(stop) = watch.finish(running.join_next()).await {
            groups::signal_all(Signal::KILL);
            return Err(stop);
        }
        if let (End::Enough, Some(stop)) = (end, watch.stopped()) {
            groups::signal_all(signal_of(stop));
        }
    }
    Ok(())
}

fn signal_of(stop: Stop) -> Signal {
    match stop {
        Stop::Interrupt => Signal::INT,
        Stop::Terminate | Stop::Timeout => Signal::TERM,
    }
}

/// Starts the command for a record. Gives what waits for its end, and tells the relay.
fn start(runs: &Runs<'_>, lease: Lease, rest: mpsc::Receiver<Rest>) -> Result<impl Future<Output = ()> + use<>, Error> {
    let record = Mark { position: lease.id().position.clone(), records: 0 };
    let mut command = std::process::Command::new("/bin/sh");
    command.arg("-c").arg(runs.command);
    command.env("SKYPIPE_PIPE", runs.source.name_of(lease.pipe()));
    command.env("SKYPIPE_ATTEMPT", lease.attempt().to_string()).env("SKYPIPE_RECORD", start::shown(&record));
    command.envs(lease.headers().iter().map(|(key, value)| (variable(key), value)));
    // A group of its own: a terminal's Ctrl-C reaches it through us alone, and what it starts with it.
    command.stdin(Stdio::piped()).process_group(0);
    let child = Command::from(command).spawn();
    let child = child.map_err(|e| Error::new(Code::Internal, "no command can be run: /bin/sh").because(e))?;
    Ok(attend(child, lease, rest))
}

/// The variable that carries a header.
fn variable(key: &str) -> String {
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("SKYPIPE_HEADER_{}", key.chars().map(upper).collect::<String>())
}

async fn attend(mut child: Child, lease: Lease, rest: mpsc::Receiver<Rest>) {
    let group = groups::Group::of(&child);
    let status = work(&mut child, &lease, rest, &group).await;
    drop(group);
    match status {
        Ok(status) if status.success() => lease.done(),
        Ok(status) => {
            say(&format!("attempt {} of a record failed: {status}", lease.attempt()));
            let delay = retry_after(lease.attempt());
            lease.refuse(delay);
        }
        Err(error) => {
            say(&format!("a command was lost: {error}"));
            lease.refuse(RETRY_AFTER);
        }
    }
}

/// Feeds the command and keeps the record its own until it ends.
async fn work(
    child: &mut Child,
    lease: &Lease,
    rest: mpsc::Receiver<Rest>,
    group: &groups::Group,
) -> std::io::Result<ExitStatus> {
    let feeding = feed(child.stdin.take(), lease, rest, group);
    tokio::pin!(feeding);
    let (mut is_fed, mut extending) = (false, tokio::time::interval(lease.time() / EXTENDS));
    extending.tick().await;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            () = &mut feeding, if !is_fed => is_fed = true,
            _ = extending.tick() => lease.extend(),
        }
    }
}

/// Writes the record to the command. Of one whose rest does not come the command must not think that it is whole: it is told to stop, and sees
/// no end before it did.
async fn feed(stdin: Option<ChildStdin>, lease: &Lease, mut rest: mpsc::Receiver<Rest>, group: &groups::Group) {
    let Some(mut stdin) = stdin else { return };
    // A command that does not read its record is none that failed.
    if stdin.write_all(lease.body()).await.is_err() || lease.is_whole() {
        return;
    }
    loop {
        match rest.recv().await {
            Some(Rest::Part(part)) if stdin.write_all(&part).await.is_err() => return,
            Some(Rest::Part(_)) => {}
            Some(Rest::End) => return,
            None => break,
        }
    }
    group.signal(Signal::TERM);
    tokio::time::sleep(STOPS_WITHIN).await;
    group.signal(Signal::KILL);
    pending::<()>().await;
}

/// How long a record waits after so many attempts.
fn retry_after(attempt: u32) -> Duration {
    RETRY_AFTER.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(RETRY_AFTER_MAX)
}

/// The process groups of the commands that run.
mod groups {
    use super::{Child, Pid, Signal, kill_process_group};
    use std::sync::{Mutex, MutexGuard, PoisonError};

    static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

    /// One of them, until it is dropped.
    pub(super) struct Group(Option<Pid>);

    impl Group {
        /// Sends a signal to it.
        pub(super) fn signal(&self, signal: Signal) {
            let _ = self.0.map(|pid| kill_process_group(pid, signal));
        }

        pub(super) fn of(child: &Child) -> Self {
            let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
            lock().extend(pid);
            Self(pid)
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            lock().retain(|pid| Some(*pid) != self.0);
        }
    }

    /// Sends a signal to all of them. One that has just ended is not there any more: that is no fault.
    pub(super) fn signal_all(signal: Signal) {
        for pid in lock().iter() {
            let _ = kill_process_group(*pid, signal);
        }
    }

    fn lock() -> MutexGuard<'static, Vec<Pid>> {
        GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_waits_longer_each_time_and_not_for_ever() {
        let waits: Vec<u64> = [1, 2, 3, 9, 10, 1000].map(|attempt| retry_after(attempt).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 256, 300, 300]);
    }
}

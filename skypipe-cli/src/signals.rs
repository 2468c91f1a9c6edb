//! Signals that end a command, and time that does.

use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use skypipe_core::{Code, Error};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Instant, sleep_until};

use crate::exit::Exit;

/// After the first signal a writer has so long to send what it has read.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Why a command stops before its work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// SIGINT.
    Interrupt,
    /// SIGTERM or SIGHUP.
    Terminate,
    /// `--timeout`.
    Timeout,
}

impl Stop {
    /// The exit code of a process that did not wait for anything.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Interrupt => Exit::Interrupted.number(),
            Self::Terminate => Exit::Terminated.number(),
            Self::Timeout => Code::Timeout.exit(),
        }
    }

    /// What the command ends with; `count` tells what is known of its work.
    pub(crate) fn exit(self, count: &str) -> Result<Exit, Error> {
        match self {
            Self::Interrupt => Ok(Exit::Interrupted),
            Self::Terminate => Ok(Exit::Terminated),
            Self::Timeout => Err(Error::new(Code::Timeout, format!("time ran out; {count}"))),
        }
    }
}

/// Longer than what the kernel says of most processes in `/proc/PID/status`, so that it is read in one go and not in seven.
const STATUS_BYTES: usize = 4096;

/// Watches for the end of a command while it works.
pub(crate) struct Watch {
    interrupt: Option<unix::Signal>,
    terminate: Option<unix::Signal>,
    hangup: Option<unix::Signal>,
    deadline: Option<Instant>,
    stopped: Option<(Stop, Instant)>,
}

impl Watch {
    /// From now on signals are caught, except those that were ignored when the process started: `nohup` means it.
    pub(crate) fn new(timeout: Option<Duration>) -> Result<Self, Error> {
        let ignored = ignored();
        let catch = |kind: SignalKind| -> Result<Option<unix::Signal>, Error> {
            let is_ignored = ignored & (1 << (kind.as_raw_value() - 1)) != 0;
            if is_ignored {
                return Ok(None);
            }
            unix::signal(kind).map(Some).map_err(|e| Error::new(Code::Internal, "signals cannot be caught").because(e))
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: catch(SignalKind::hangup())?,
            // A time too far off to be told is none.
            deadline: timeout.and_then(|t| Instant::now().checked_add(t)),
            stopped: None,
        })
    }

    /// The same, leaving SIGHUP to [`Hangups`].
    pub(crate) fn without_hangup() -> Result<Self, Error> {
        Ok(Self { hangup: None, ..Self::new(None)? })
    }

    /// The first stop there was.
    pub(crate) fn stopped(&self) -> Option<Stop> {
        self.stopped.map(|(stop, _)| stop)
    }

    /// Waits for something that may be dropped: any stop ends the wait.
    pub(crate) async fn idle<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            stop = self.next() => {
                self.note(stop);
                Err(stop)
            }
            done = work => Ok(done),
        }
    }

    /// Waits for something that should be done: the first signal leaves it [`GRACE`], the second ends it.
    pub(crate) async fn finish<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::pin!(work);
        loop {
            let until = self.stopped.map(|(_, until)| until);
            tokio::select! {
                biased;
                stop = self.next() => {
                    let first = self.stopped.is_none() && stop != Stop::Timeout;
                    self.note(stop);
                    if !first {
                        return Err(self.stopped().unwrap_or(stop));
                    }
                }
                () = at(until) => return Err(self.stopped().unwrap_or(Stop::Timeout)),
                done = &mut work => return Ok(done),
            }
        }
    }

    /// When the grace of the first signal ends.
    pub(crate) fn grace_left(&self) -> Duration {
        self.stopped.map_or(GRACE, |(_, until)| until.saturating_duration_since(Instant::now()))
    }

    fn note(&mut self, stop: Stop) {
        self.stopped.get_or_insert((stop, Instant::now() + GRACE));
    }

    async fn next(&mut self) -> Stop {
        tokio::select! {
            biased;
            () = caught(&mut self.interrupt) => Stop::Interrupt,
            () = caught(&mut self.terminate) => Stop::Terminate,
            () = caught(&mut self.hangup) => Stop::Terminate,
            () = at(self.deadline) => Stop::Timeout,
        }
    }
}

/// SIGHUPs, for who does not end by them.
pub(crate) struct Hangups(unix::Signal);

impl Hangups {
    /// From now on they are caught, also where they were ignored: whoever sends one to a service means it.
    pub(crate) fn new() -> Result<Self, Error> {
        let caught = unix::signal(SignalKind::hangup());
        caught.map(Self).map_err(|e| Error::new(Code::Internal, "signals cannot be caught").because(e))
    }

    /// Waits for the next; false when there can be none.
    pub(crate) async fn next(&mut self) -> bool {
        self.0.recv().await.is_some()
    }
}

async fn caught(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The signals this process was told to ignore, bit 0 for signal 1. Only Linux tells without unsafe code.
fn ignored() -> u64 {
    let mut status = String::with_capacity(STATUS_BYTES);
    let _ = File::open("/proc/self/status").and_then(|mut file| file.read_to_string(&mut status));
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(0)
}

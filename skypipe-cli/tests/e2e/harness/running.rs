//! A command that runs.

use std::fs::File;
use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;

use super::done::Done;
use super::output::Output;
use super::process::{self, Pid, Signal};

/// What keeps a command's stdin.
pub enum Feed {
    /// Nothing: it is fed by somebody else, or has ended.
    None,
    /// The test feeds it.
    Open(PipeWriter),
    /// The test types at its terminal.
    Keys(File),
    /// A terminal hangs up when its other end goes: held as long as the command runs.
    Terminal { _person: OwnedFd },
}

/// A running command; killed when dropped.
pub struct Running {
    shown: String,
    child: Child,
    feed: Feed,
    stdout: Output,
    unread: Option<OwnedFd>,
    stderr: Output,
}

impl Running {
    pub fn new(
        shown: String,
        child: Child,
        feed: Feed,
        stdout: Output,
        unread: Option<OwnedFd>,
        stderr: Output,
    ) -> Self {
        Self { shown, child, feed, stdout, unread, stderr }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Writes to its stdin, which is [`In::Open`](super::In::Open) or a [screen](super::Command::on_screen).
    #[track_caller]
    pub fn feed(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        match &mut self.feed {
            Feed::Open(pipe) => pipe.write_all(bytes.as_ref()).unwrap(),
            Feed::Keys(terminal) => terminal.write_all(bytes.as_ref()).unwrap(),
            _ => panic!("the stdin of {} is not kept open", self.shown),
        }
        self
    }

    /// Whether its terminal, a [screen](super::Command::on_screen), gives each key at once and shows none: as programs that take the screen have it.
    pub fn is_raw(&self) -> bool {
        let Feed::Keys(terminal) = &self.feed else { panic!("{} has no screen", self.shown) };
        !rustix::termios::tcgetattr(terminal).unwrap().local_modes.contains(rustix::termios::LocalModes::ICANON)
    }

    /// Closes its stdin.
    pub fn end_input(&mut self) -> &mut Self {
        self.feed = Feed::None;
        self
    }

    /// Closes the other end of its stdout, which is [`Out::Unread`](super::Out::Unread).
    pub fn stop_reading(&mut self) -> &mut Self {
        assert!(self.unread.take().is_some(), "the stdout of {} is read", self.shown);
        self
    }

    /// How many bytes wait in its stdout, which is [`Out::Unread`](super::Out::Unread).
    pub fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(self.unread.as_ref().expect("a stdout that is not read")).unwrap()
    }

    pub fn send(&self, signal: Signal) -> &Self {
        process::send(self.pid(), signal);
        self
    }

    /// Stops it as Ctrl-Z does, and waits until it stands.
    pub fn stop(&self) -> &Self {
        process::stop(self.pid());
        self
    }

    /// Lets it go on.
    pub fn go_on(&self) -> &Self {
        self.send(Signal::CONT)
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) {
        process::kill(self.pid());
        self.child.wait().unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// How many bytes it has read and written so far.
    pub fn progress(&self) -> u64 {
        process::bytes_moved(self.pid())
    }

    /// How many bytes of its stdout have arrived.
    pub fn received(&self) -> u64 {
        self.stdout.count()
    }

    /// Waits until its stdout gave at least `count` bytes.
    #[track_caller]
    pub fn until_received(&self, count: u64) -> &Self {
        if !self.stdout.wait(|now, _| now >= count) {
            panic!("{} gave {} bytes, not {count}; stderr: {}", self.shown, self.received(), self.errors());
        }
        self
    }

    /// Waits until its stdout holds `text`.
    #[track_caller]
    pub fn until_gave(&self, text: &str) -> &Self {
        if !self.stdout.wait(|_, bytes| holds(bytes, text)) {
            panic!("{} never gave {text:?}; stderr: {}", self.shown, self.errors());
        }
        self
    }

    /// What came on stdout so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.stdout.bytes()).into_owned()
    }

    /// Waits until its stderr holds `text`.
    #[track_caller]
    pub fn until_says(&self, text: &str) -> &Self {
        if !self.stderr.wait(|_, bytes| holds(bytes, text)) {
            panic!("{} never said {text:?}, only: {}", self.shown, self.errors());
        }
        self
    }

    /// What came on stderr so far.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr.bytes()).into_owned()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end, or when somebody it left behind still holds its stdout or stderr: then `$(…)` would never return.
    #[track_caller]
    pub fn wait(mut self) -> Done {
        let shown = self.shown.clone();
        let what = format!("{shown} ends");
        let start = std::time::Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < super::PATIENCE, "waited in vain: {what}; stderr: {}", self.errors());
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        self.feed = Feed::None;
        assert!(self.stdout.wait_closed(), "{shown} ended, and its stdout is still open");
        assert!(self.stderr.wait_closed(), "{shown} ended, and its stderr is still open");
        Done {
            shown,
            code: status.code(),
            signal: status.signal(),
            digest: self.stdout.digest(),
            stdout: self.stdout.bytes(),
            stderr: self.errors(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            // Of a line for the shell, the commands in it too.
            let _ = rustix::process::kill_process_group(self.pid(), Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

//! The roles of one run: started, heard, told to go, and asked what they did.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::Failure;
use crate::control::{Report, Word};
use crate::ground::Ground;
use crate::process::{Process, role, until};
use crate::task::Task;

/// How long all roles together may take until they are ready: ten thousand handshakes on a machine that is slow.
const READY_LIMIT: Duration = Duration::from_secs(180);
/// How long a run may take. A record that is lost is waited for so long.
const RUN_LIMIT: Duration = Duration::from_secs(180);

/// Everybody on one side of the server, or on both.
pub(crate) struct Crew {
    listener: UnixListener,
    socket: String,
    processes: Vec<Process>,
    members: Vec<BufReader<UnixStream>>,
}

impl Crew {
    pub(crate) fn new(ground: &Ground, name: &str) -> Result<Self, Failure> {
        let socket = ground.socket(name);
        let listener = UnixListener::bind(&socket)?;
        listener.set_nonblocking(true)?;
        let socket = socket.display().to_string();
        Ok(Self { listener, socket, processes: Vec::new(), members: Vec::new() })
    }

    /// The command of a role of this program.
    pub(crate) fn role(&self, name: &str, task: &Task, rest: &[&str]) -> Result<Command, Failure> {
        let task = serde_json::to_string(task)?;
        let words = ["role", name, &self.socket, &task];
        role(&[&words[..], rest].concat())
    }

    pub(crate) fn start(&mut self, name: &str, command: &mut Command) -> Result<(), Failure> {
        self.processes.push(Process::start(name, command)?);
        Ok(())
    }

    /// The same, and what it writes to its stdout.
    pub(crate) fn start_with_stdout(&mut self, name: &str, command: &mut Command) -> Result<ChildStdout, Failure> {
        let mut process = Process::start(name, command.stdout(Stdio::piped()))?;
        let stdout = process.child().stdout.take().ok_or("no stdout")?;
        self.processes.push(process);
        Ok(stdout)
    }

    /// Waits until so many roles are ready.
    pub(crate) fn ready(&mut self, count: usize) -> Result<(), Failure> {
        until(READY_LIMIT, "all are ready", || {
            self.processes.iter_mut().try_for_each(Process::is_well)?;
            if let Ok((stream, _)) = self.listener.accept() {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(READY_LIMIT))?;
                let mut member = BufReader::new(stream);
                match hear(&mut member)? {
                    Word::Ready => self.members.push(member),
                    Word::Failed(why) => return Err(why.into()),
                    Word::Done(_) => return Err("a role was done before it began".into()),
                }
            }
            Ok(self.members.len() == count)
        })
    }

    pub(crate) fn go(&mut self) -> Result<(), Failure> {
        for member in &mut self.members {
            // Readers do not listen, and may be gone.
            let _ = member.get_mut().write_all(b"go\n");
        }
        Ok(())
    }

    /// What all of them did, in the order in which they were ready. Waits until every process has ended, and ended well.
    pub(crate) fn reports(mut self) -> Result<Vec<Report>, Failure> {
        let mut reports = Vec::new();
        for member in &mut self.members {
            member.get_mut().set_read_timeout(Some(RUN_LIMIT))?;
            match hear(member)? {
                Word::Done(report) => reports.push(report),
                Word::Failed(why) => return Err(why.into()),
                Word::Ready => return Err("a role was ready twice".into()),
            }
        }
        self.processes.iter_mut().try_for_each(Process::ended)?;
        Ok(reports)
    }
}

fn hear(member: &mut BufReader<UnixStream>) -> Result<Word, Failure> {
    let mut line = String::new();
    match member.read_line(&mut line) {
        Ok(0) => Err("a role ended without a word".into()),
        Ok(_) => Ok(serde_json::from_str(&line)?),
        Err(_) => Err("not all came in time".into()),
    }
}

//! The system's own ssh, so that its configuration, keys, agent, passwords and questions work as always.
//!
//! All commands share one connection, so that one login is enough. Its socket lies in a folder of this command's own and closes
//! itself soon after this command is gone, however it went.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use skypipe_core::{Code, Error};
use tempfile::TempDir;

use super::answer::{ANSWER_BYTES_MAX, Answer};

/// The environment's word for the ssh to use: a command, with options, as the shell reads it.
pub(crate) const SSH_VARIABLE: &str = "SKYPIPE_SSH";

/// How long the shared connection stays without a command, in seconds: as long as somebody takes to answer a question.
const PERSIST_SECONDS: u32 = 60;

/// The exit code by which ssh says that it, not the command, failed.
const SSH_FAILED: i32 = 255;

/// A machine, reached over ssh.
pub(crate) struct Ssh {
    host: String,
    options: Vec<String>,
    sockets: TempDir,
}

impl Ssh {
    /// The machine at `[USER@]HOST`, a name that ssh knows; `options` are as behind ssh's `-o`. Nothing is connected yet.
    ///
    /// # Errors
    /// `E_USAGE` for a name that ssh would take for something else.
    pub(crate) fn new(host: &str, options: &[String]) -> Result<Self, Error> {
        let is_plain = |c: char| !c.is_control() && !c.is_whitespace();
        if host.is_empty() || host.starts_with('-') || !host.chars().all(is_plain) {
            return Err(Error::new(Code::Usage, format!("not a host for ssh: {}", host.escape_debug())));
        }
        Ok(Self { host: host.to_owned(), options: options.to_vec(), sockets: sockets().map_err(|e| no_ssh(&e))? })
    }

    /// The machine, as it was named.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The name or address that ssh connects to, once its own configuration is applied.
    pub(crate) fn address(&self) -> Option<String> {
        let shown =
            self.command().args(["-G", "--", &self.host]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        text.lines().find_map(|line| line.strip_prefix("hostname ")).map(|name| name.trim().to_owned())
    }

    /// Runs a script there and reads its answer.
    ///
    /// # Errors
    /// `E_UNREACHABLE` when ssh cannot get there, which has said why on stderr; what [`Answer::parse`] says.
    pub(crate) fn run(&self, script: &str) -> Result<Answer, Error> {
        let mut child = self.start("exec sh -s", Stdio::piped(), Stdio::piped())?;
        let mut stdin = child.stdin.take();
        let script = script.to_owned();
        // From beside: ssh may ask for a password before it reads, and answers before it has read everything.
        let feed = std::thread::spawn(move || stdin.as_mut().map(|s| s.write_all(script.as_bytes())));
        let mut text = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let _ = stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut text);
        }
        let status = child.wait().map_err(|e| no_ssh(&e))?;
        let _ = feed.join();
        self.check(status.code())?;
        Answer::parse(&String::from_utf8_lossy(&text))
    }

    /// Copies a file there, from where it stands to its end.
    ///
    /// # Errors
    /// As [`Ssh::run`]; a copy that was cut off is seen by its sum.
    pub(crate) fn copy(&self, file: &File, path: &str) -> Result<(), Error> {
        let file = file.try_clone().map_err(|e| no_ssh(&e))?;
        let command = format!("cat > {}", super::service::quoted(path));
        let status = self.start(&command, Stdio::from(file), Stdio::null())?.wait().map_err(|e| no_ssh(&e))?;
        self.check(status.code())
    }

    fn start(&self, command: &str, stdin: Stdio, stdout: Stdio) -> Result<Child, Error> {
        let mut ssh = self.command();
        let control = format!("ControlPath={}/%C", self.sockets.path().display());
        let persist = format!("ControlPersist={PERSIST_SECONDS}");
        for option in
            ["ControlMaster=auto", &control, &persist, "RequestTTY=no", "ForwardAgent=no", "ClearAllForwardings=yes"]
        {
            ssh.args(["-o", option]);
        }
        ssh.args(["--", &self.host, command]).stdin(stdin).stdout(stdout);
        ssh.spawn().map_err(|e| no_ssh(&e))
    }

    /// ssh with the user's options, which come first: the first word counts.
    fn command(&self) -> Command {
        let mut command = ssh();
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    fn check(&self, code: Option<i32>) -> Result<(), Error> {
        match code {
            Some(0) => Ok(()),
            Some(SSH_FAILED) => {
                let line = format!("ssh does not get to {}: does `ssh {}` work?", self.host, self.host);
                Err(Error::new(Code::Unreachable, line))
            }
            _ => Err(Error::new(
                Code::Internal,
                format!("{} did not run the command: has the account a shell?", self.host),
            )),
        }
    }
}

impl Drop for Ssh {
    /// Ends the shared connection at once instead of after a minute.
    fn drop(&mut self) {
        if std::fs::read_dir(self.sockets.path()).is_ok_and(|mut sockets| sockets.next().is_none()) {
            return;
        }
        let control = format!("ControlPath={}/%C", self.sockets.path().display());
        let mut exit = self.command();
        exit.args(["-o", &control, "-O", "exit", "--", &self.host]);
        let _ = exit.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// `ssh`, or what the environment says, which the shell takes apart.
fn ssh() -> Command {
    match std::env::var_os(SSH_VARIABLE).filter(|command| !command.is_empty()) {
        None => Command::new("ssh"),
        Some(words) => {
            let mut command = Command::new("sh");
            let mut line = OsString::from("exec ");
            line.push(words);
            line.push(" \"$@\"");
            command.arg("-c").arg(line).arg("ssh");
            command
        }
    }
}

/// A folder for the sockets; under /tmp, because a socket's path must be short.
fn sockets() -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix("skypipe-").tempdir_in("/tmp")
}

fn no_ssh(error: &std::io::Error) -> Error {
    Error::new(Code::Unreachable, format!("ssh cannot be run: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_would_take_for_an_option_is_no_host() {
        for bad in ["", "-oProxyCommand=x", "a b", "a\nb"] {
            assert_eq!(Ssh::new(bad, &[]).err().map(|e| e.code()), Some(Code::Usage), "{bad}");
        }
        assert_eq!(Ssh::new("me@host", &[]).unwrap().host(), "me@host");
    }
}

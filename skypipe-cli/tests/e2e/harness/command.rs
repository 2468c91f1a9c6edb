//! A command before it runs: what its stdin and stdout are.

use std::ffi::OsString;
use std::fs::File;
use std::io::{PipeWriter, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;

use super::data::Data;
use super::done::Done;
use super::output::Output;
use super::running::{Feed, Running};
use super::terminal;

/// What a command's stdin is.
#[derive(Clone, Debug)]
pub enum In {
    /// A pipe that gives these bytes and ends.
    Pipe(Vec<u8>),
    /// A pipe that gives this data and ends.
    Data(Data),
    /// A pipe that stays open: [`Running::feed`], [`Running::end_input`].
    Open,
    /// A file.
    File(PathBuf),
    /// A socket that gives these bytes and ends.
    Socket(Vec<u8>),
    /// A terminal at which nobody types.
    Terminal,
    /// A terminal at which this was typed.
    Typed(&'static str),
    /// `/dev/null`.
    Null,
    /// Not open at all.
    Closed,
}

/// What a command's stdout is.
#[derive(Clone, Debug)]
pub enum Out {
    /// A pipe whose bytes are kept.
    Pipe,
    /// A pipe of which only count and SHA-256 are kept.
    Summed,
    /// A pipe that nobody reads until [`Running::stop_reading`] closes it.
    Unread,
    /// A file.
    File(PathBuf),
    /// A terminal.
    Terminal,
    /// Not open at all.
    Closed,
}

/// A command to be run in a [`Home`](super::Home).
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    input: In,
    output: Out,
    errors_at_terminal: bool,
    screen: Option<(u16, u16)>,
}

impl Command {
    /// A command whose stdin is `/dev/null` and whose stdout is a pipe.
    pub fn new(program: impl Into<OsString>, folder: PathBuf, environment: Vec<(OsString, OsString)>) -> Self {
        let program = program.into();
        Self {
            program,
            arguments: Vec::new(),
            environment,
            folder,
            input: In::Null,
            output: Out::Pipe,
            errors_at_terminal: false,
            screen: None,
        }
    }

    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn stdin(mut self, input: In) -> Self {
        self.input = input;
        self
    }

    pub fn stdout(mut self, output: Out) -> Self {
        self.output = output;
        self
    }

    /// The same behind another command that becomes it, such as `ip netns exec NAME`.
    pub fn within(mut self, prefix: &[String]) -> Self {
        if let [before, rest @ ..] = prefix {
            let program = std::mem::replace(&mut self.program, before.into());
            let behind = rest.iter().map(OsString::from).chain([program]);
            self.arguments.splice(0..0, behind);
        }
        self
    }

    /// Its stderr is a terminal.
    pub fn stderr_at_terminal(mut self) -> Self {
        self.errors_at_terminal = true;
        self
    }

    /// Its stdin and stdout are a terminal of this many columns and rows; [`Running::feed`] types.
    pub fn on_screen(mut self, columns: u16, rows: u16) -> Self {
        self.screen = Some((columns, rows));
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Done {
        self.start().wait()
    }

    /// Runs it to its end, which must be exit code 0.
    #[track_caller]
    pub fn ok(self) -> Done {
        self.run().exits(0)
    }

    /// Starts it.
    #[track_caller]
    pub fn start(self) -> Running {
        let shown = format!("{:?} {:?}", self.program, self.arguments);
        let mut command = self.with_closed_streams();
        // A group of its own, as a shell gives each job: signals to the group do not reach the tests.
        command.process_group(0);
        command.env_remove("SKYPIPE_RELAY");
        command.current_dir(&self.folder).envs(self.environment.iter().cloned());
        let feed = self.connect_stdin(&mut command);
        let (watch_stdout, unread) = self.connect_stdout(&mut command);
        let (feed, watch_stdout) = match self.screen {
            Some(size) => connect_screen(&mut command, size),
            None => (feed, watch_stdout),
        };
        let at_terminal = self.errors_at_terminal.then(terminal::open).map(|(person, inside)| {
            command.stderr(inside);
            person
        });
        if at_terminal.is_none() {
            command.stderr(Stdio::piped());
        }
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{shown}: {e}"));
        // The command holds this side's copies of the streams: as long as it lives, nothing ends.
        drop(command);
        let stderr = match at_terminal {
            Some(person) => Output::keeping(person),
            None => Output::keeping(child.stderr.take().unwrap()),
        };
        let stdout = watch_stdout.unwrap_or_else(|| match (child.stdout.take(), &self.output) {
            (Some(pipe), Out::Summed) => Output::summing(pipe),
            (Some(pipe), _) => Output::keeping(pipe),
            (None, _) => Output::none(),
        });
        Running::new(shown, child, feed.start(), stdout, unread, stderr)
    }

    /// The command itself, or one that closes streams first: the standard library opens a closed stream again.
    fn with_closed_streams(&self) -> std::process::Command {
        let close = match (&self.input, &self.output) {
            (In::Closed, Out::Closed) => "<&- >&-",
            (In::Closed, _) => "<&-",
            (_, Out::Closed) => ">&-",
            _ => {
                let mut command = std::process::Command::new(&self.program);
                command.args(&self.arguments);
                return command;
            }
        };
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &format!("exec \"$0\" \"$@\" {close}")]).arg(&self.program).args(&self.arguments);
        command
    }

    fn connect_stdin(&self, command: &mut std::process::Command) -> ToFeed {
        match &self.input {
            In::Null | In::Closed => {
                command.stdin(Stdio::null());
                ToFeed::Nothing
            }
            In::File(path) => {
                command.stdin(File::open(path).unwrap());
                ToFeed::Nothing
            }
            In::Typed(text) => {
                let (mut person, inside) = terminal::open();
                person.write_all(text.as_bytes()).unwrap();
                command.stdin(inside);
                ToFeed::Hold(person.into())
            }
            In::Terminal => {
                let (person, inside) = terminal::open();
                command.stdin(inside);
                ToFeed::Hold(person.into())
            }
            In::Socket(bytes) => {
                let (outside, inside) = UnixStream::pair().unwrap();
                command.stdin(OwnedFd::from(inside));
                ToFeed::Socket(outside, bytes.clone())
            }
            In::Pipe(bytes) => ToFeed::Bytes(pipe_to(command), bytes.clone()),
            In::Data(data) => ToFeed::Data(pipe_to(command), data.clone()),
            In::Open => ToFeed::Open(pipe_to(command)),
        }
    }

    fn connect_stdout(&self, command: &mut std::process::Command) -> (Option<Output>, Option<OwnedFd>) {
        match &self.output {
            Out::Pipe | Out::Summed => {
                command.stdout(Stdio::piped());
                (None, None)
            }
            Out::Unread => {
                let (reader, writer) = std::io::pipe().unwrap();
                command.stdout(writer);
                (Some(Output::none()), Some(reader.into()))
            }
            Out::File(path) => {
                command.stdout(File::create(path).unwrap());
                (Some(Output::none()), None)
            }
            Out::Terminal => {
                let (person, inside) = terminal::open();
                command.stdout(inside);
                (Some(Output::keeping(person)), None)
            }
            Out::Closed => {
                command.stdout(Stdio::null());
                (Some(Output::none()), None)
            }
        }
    }
}

/// One terminal for both.
fn connect_screen(command: &mut std::process::Command, (columns, rows): (u16, u16)) -> (ToFeed, Option<Output>) {
    let (person, inside) = terminal::open();
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&inside, size).unwrap();
    command.stdin(inside.try_clone().unwrap()).stdout(inside);
    (ToFeed::Keys(person.try_clone().unwrap()), Some(Output::keeping(person)))
}

fn pipe_to(command: &mut std::process::Command) -> PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdin(reader);
    writer
}

/// What shall flow into a command once it runs.
enum ToFeed {
    Nothing,
    Hold(OwnedFd),
    Open(PipeWriter),
    Keys(File),
    Bytes(PipeWriter, Vec<u8>),
    Data(PipeWriter, Data),
    Socket(UnixStream, Vec<u8>),
}

impl ToFeed {
    /// Feeds on a thread; a command that stops reading is no error here.
    fn start(self) -> Feed {
        match self {
            Self::Nothing => Feed::None,
            Self::Hold(terminal) => Feed::Terminal { _person: terminal },
            Self::Open(pipe) => Feed::Open(pipe),
            Self::Keys(terminal) => Feed::Keys(terminal),
            Self::Bytes(mut pipe, bytes) => {
                std::thread::spawn(move || pipe.write_all(&bytes));
                Feed::None
            }
            Self::Data(mut pipe, data) => {
                std::thread::spawn(move || data.write_to(&mut pipe));
                Feed::None
            }
            Self::Socket(mut socket, bytes) => {
                std::thread::spawn(move || {
                    socket.write_all(&bytes)?;
                    socket.shutdown(Shutdown::Write)?;
                    // Held until the command is gone: a peer that closed altogether is another case.
                    std::io::copy(&mut socket, &mut std::io::sink())
                });
                Feed::None
            }
        }
    }
}

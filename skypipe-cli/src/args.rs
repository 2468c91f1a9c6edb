//! What may stand on the command line.

mod across;
mod machine;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use skypipe_core::{Code, Error};

pub(crate) use across::{InviteArgs, JoinArgs, KeysArgs, KeysVerb, RelayArgs};
pub(crate) use machine::{DownArgs, PrintArg, UpArgs};

use crate::exit;
use crate::words::{LATER, LATER_NOTE};

const AFTER_HELP: &str = "\
Examples:
  tail -f app.log | skypipe logs     write each line to the pipe `logs`
  skypipe logs                       read it, here or in another window
  skypipe write done yes             write one record from a script
  skypipe read -k logs >> all.log    read for ever
  skypipe invite                     print the line to run on another machine

Exit codes: 0 done, 2 usage, 3 not found, 4 item incomplete, 5 gap, 6 integrity, 7 relay unreachable or outcome unknown,
8 storage, 9 limit, 124 --timeout, 130 interrupted, 141 stdout closed, 143 terminated, 1 anything else.";

/// Named pipes in the sky: stored until read, then live to all who read.
#[derive(Debug, Parser)]
#[command(name = "skypipe", version, after_help = AFTER_HELP, subcommand_help_heading = "Verbs", disable_version_flag = true)]
pub(crate) struct Cli {
    /// The relay to use: quic://KEY@HOST:PORT, wss://…, unix:PATH; several URLs of one relay are joined by commas
    /// [default: SKYPIPE_RELAY, the config file, your own local relay]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) relay: Option<String>,

    /// Print the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,

    #[command(flatten)]
    pub(crate) bare: BareArgs,

    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// The bare form: the verb is found by looking at stdin.
#[derive(Args, Debug)]
pub(crate) struct BareArgs {
    /// The pipe. Reads when stdin is a terminal, /dev/null or closed; writes when it is a pipe, a file or a socket
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<OsString>,
    #[command(flatten)]
    pub(crate) shared: SharedArgs,
    #[command(flatten)]
    pub(crate) write: WriteOnlyArgs,
    #[command(flatten)]
    pub(crate) read: ReadOnlyArgs,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write stdin, or each TEXT, to a pipe
    Write(WriteArgs),
    /// Read a pipe to stdout; never touches stdin
    Read(ReadArgs),
    /// List pipes
    Ls(LsArgs),
    /// Show what there is to know of a pipe
    Stat(NameArgs),
    /// Print what is stored without taking it
    Peek(NameArgs),
    /// Remove a pipe with all it stores
    Rm(NameArgs),
    /// Host a relay; prints its URLs once it accepts
    Relay(RelayArgs),
    /// Put a relay on a machine of yours over ssh, and make it your own; again: bring it up to date
    Up(UpArgs),
    /// Take it away again; asks before it deletes what is stored
    Down(DownArgs),
    /// Print the line that lets another machine use your relay
    Invite(InviteArgs),
    /// Use the relay of a ticket from now on
    Join(JoinArgs),
    /// List, add and revoke the keys that the relay admits
    Keys(KeysArgs),
    /// Is the relay there, over which path, how fast; if not, what is wrong
    Check(JsonArgs),
    /// Print the completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man,
    /// Print the version
    #[command(hide = true)]
    Version,
}

/// Options of writing and reading alike.
#[derive(Args, Debug, Default)]
pub(crate) struct SharedArgs {
    /// End the whole command after this time, such as 5, 500ms or 2h, with exit code 124
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Do not wait: read what is there now, or else exit 3; write only if there is room
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Write: the whole input is one record. Read: exactly one item, waiting for its end
    #[arg(long)]
    pub(crate) item: bool,
    /// Show bytes and rate on stderr, where that is a terminal
    #[arg(short, long)]
    pub(crate) progress: bool,
    #[command(flatten)]
    later: LaterModes,
}

/// Options of writing.
#[derive(Args, Debug, Default)]
pub(crate) struct WriteOnlyArgs {
    /// What to wait for at the end
    #[arg(long, value_name = "WHEN", value_enum)]
    pub(crate) until: Option<UntilArg>,
    /// Records end with NUL instead of a newline
    #[arg(short = '0', long)]
    pub(crate) null: bool,
}

/// Options of reading.
#[derive(Args, Debug, Default)]
pub(crate) struct ReadOnlyArgs {
    /// Go on when an item has ended, for ever
    #[arg(short, long)]
    pub(crate) keep: bool,
    /// End after so many records; the rest stays in the pipe
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    later: LaterReads,
}

/// What a writer waits for before it exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UntilArg {
    /// Everything is on the relay's disk, or was delivered
    Stored,
    /// Every reader it was owed to has it
    Delivered,
}

/// `skypipe write`
#[derive(Args, Debug)]
pub(crate) struct WriteArgs {
    /// The pipe
    #[arg(value_name = "NAME")]
    pub(crate) name: OsString,
    /// Each is one record, a newline added; stdin is not read
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<OsString>,
    #[command(flatten)]
    pub(crate) shared: SharedArgs,
    #[command(flatten)]
    pub(crate) only: WriteOnlyArgs,
}

/// `skypipe read`
#[derive(Args, Debug)]
pub(crate) struct ReadArgs {
    /// The pipe
    #[arg(value_name = "NAME")]
    pub(crate) name: OsString,
    #[command(flatten)]
    pub(crate) shared: SharedArgs,
    #[command(flatten)]
    pub(crate) only: ReadOnlyArgs,
}

/// `skypipe ls`
#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    /// Only pipes that match: `*` is any one level, `**` any number of them
    #[arg(value_name = "PATTERN")]
    pub(crate) pattern: Option<OsString>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// A verb about one pipe.
#[derive(Args, Debug)]
pub(crate) struct NameArgs {
    /// The pipe
    #[arg(value_name = "NAME")]
    pub(crate) name: OsString,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// A verb that can answer programs.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct JsonArgs {
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `skypipe completions`
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Modes of later versions: known, so that they are told from a misspelling.
#[derive(Args, Debug, Default)]
struct LaterModes {
    #[arg(short, long, hide = true)]
    queue: bool,
    #[arg(short, long, hide = true)]
    broadcast: bool,
    #[arg(long, hide = true, value_name = "LIMIT")]
    retain: Option<OsString>,
}

/// Ways of reading of later versions.
#[derive(Args, Debug, Default)]
struct LaterReads {
    #[arg(long, hide = true, value_name = "POS", allow_hyphen_values = true)]
    from: Option<OsString>,
    #[arg(long = "as", hide = true, value_name = "ID")]
    cursor: Option<OsString>,
    #[arg(long, hide = true, value_name = "CMD")]
    exec: Option<OsString>,
}

/// The command as clap sees it, the verbs of later versions left out: what the manual and the completions show.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line, or says on the terminal what is wrong with it or what was asked.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    parse_from(std::env::args_os()).map_err(|refusal| match refusal {
        Refusal::Shown(error) => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        Refusal::Wrong(error) => exit::code(Err(error)),
    })
}

/// Why a command line is not run.
#[derive(Debug)]
enum Refusal {
    /// It asked for help or the version.
    Shown(clap::Error),
    /// It is wrong.
    Wrong(Error),
}

fn parse_from(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Refusal> {
    let matches = with_later(Cli::command()).try_get_matches_from(args).map_err(refusal)?;
    if let Some(word) = matches.subcommand_name().filter(|w| LATER.contains(w)) {
        let text = format!("`skypipe {word}` {LATER_NOTE}; a pipe of that name is reached with read and write");
        return Err(Refusal::Wrong(Error::new(Code::Unsupported, text)));
    }
    let cli = Cli::from_arg_matches(&matches).map_err(refusal)?;
    cli.check().map_err(Refusal::Wrong)?;
    Ok(cli)
}

/// Adds the verbs of later versions, each with whatever may stand behind it.
fn with_later(command: clap::Command) -> clap::Command {
    let anything = || clap::Arg::new("anything").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true);
    LATER.iter().fold(command, |c, word| {
        c.subcommand(clap::Command::new(*word).hide(true).disable_help_flag(true).arg(anything()))
    })
}

/// clap's page of text as one line.
fn refusal(error: clap::Error) -> Refusal {
    use clap::error::ErrorKind;
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Refusal::Shown(error);
    }
    let text = error.render().to_string();
    let lines: Vec<&str> = text.lines().take_while(|l| !l.starts_with("Usage:")).map(str::trim).collect();
    let told = |l: &&str| !l.is_empty() && !l.starts_with("For more information");
    let joined = lines.iter().copied().filter(told).collect::<Vec<_>>().join("; ");
    let line = joined.strip_prefix("error: ").unwrap_or(&joined);
    Refusal::Wrong(Error::new(Code::Usage, format!("{line}; see `skypipe --help`")))
}

impl Cli {
    /// What clap cannot check: options in the wrong place, and options of later versions.
    fn check(&self) -> Result<(), Error> {
        if self.verb.is_some() && self.bare.is_used() {
            return Err(Error::new(Code::Usage, "options stand behind the verb; see `skypipe --help`"));
        }
        let (shared, read) = match &self.verb {
            None => (Some(&self.bare.shared), Some(&self.bare.read)),
            Some(Verb::Write(args)) => (Some(&args.shared), None),
            Some(Verb::Read(args)) => (Some(&args.shared), Some(&args.only)),
            Some(Verb::Relay(args)) => return args.check(),
            Some(_) => (None, None),
        };
        let later = shared.and_then(|s| s.later.used()).or_else(|| read.and_then(|r| r.later.used()));
        later.map_or(Ok(()), |option| Err(not_yet(option)))
    }
}

impl BareArgs {
    fn is_used(&self) -> bool {
        self.name.is_some() || self.shared.is_used() || self.write.is_used() || self.read.is_used()
    }
}

impl SharedArgs {
    fn is_used(&self) -> bool {
        self.timeout.is_some() || self.no_wait || self.item || self.progress || self.later.used().is_some()
    }
}

impl WriteOnlyArgs {
    /// Whether any of them was given.
    pub(crate) fn is_used(&self) -> bool {
        self.until.is_some() || self.null
    }
}

impl ReadOnlyArgs {
    /// Whether any of them was given.
    pub(crate) fn is_used(&self) -> bool {
        self.keep || self.count.is_some() || self.later.used().is_some()
    }
}

impl LaterModes {
    fn used(&self) -> Option<&'static str> {
        [(self.queue, "--queue"), (self.broadcast, "--broadcast"), (self.retain.is_some(), "--retain")]
            .into_iter()
            .find_map(|(used, option)| used.then_some(option))
    }
}

impl LaterReads {
    fn used(&self) -> Option<&'static str> {
        [(self.from.is_some(), "--from"), (self.cursor.is_some(), "--as"), (self.exec.is_some(), "--exec")]
            .into_iter()
            .find_map(|(used, option)| used.then_some(option))
    }
}

fn not_yet(option: &str) -> Error {
    Error::new(Code::Unsupported, format!("{option} {LATER_NOTE}"))
}

/// `5` and `0.5` are seconds; else a number with its unit, such as `500ms` or `1h 30m`.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string());
    }
    humantime::parse_duration(text).map_err(|e| format!("{e}; such as 5, 500ms or 2h"))
}

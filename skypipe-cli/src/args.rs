//! What may stand on the command line.

mod across;
mod bench;
mod machine;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use skypipe_core::wire::constants::CURSOR_NAME_BYTES_MAX;
use skypipe_core::{Code, Error, Filter, Headers, Mode, Retain, Settings, Start};

pub(crate) use across::{InviteArgs, JoinArgs, KeysArgs, KeysVerb, RelayArgs};
pub(crate) use bench::{BenchArgs, BenchWhat};
pub(crate) use machine::{DownArgs, PrintArg, UpArgs};

use crate::exit;
use crate::words::{LATER, LATER_NOTE};

/// Looks are at least so far apart: nobody sees more, and each is work for the relay.
const LOOKS_APART_MIN: Duration = Duration::from_millis(100);

/// The verb that clap adds by itself.
const CLAPS_VERB: &str = "help";

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
#[derive(Args, Debug, Default)]
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

/// The verbs. What stands behind one is made known to clap only where that verb is used: most of what parsing costs.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Verb {
    /// Write stdin, or each TEXT, to a pipe
    Write(WriteArgs),
    /// Read a pipe to stdout; never touches stdin
    Read(ReadArgs),
    /// List pipes
    Ls(LsArgs),
    /// Show what there is to know of a pipe
    Stat(StatArgs),
    /// Show all pipes live: what waits, who is behind, how fast they are
    Top(TopArgs),
    /// Print what is stored without taking it
    Peek(NameArgs),
    /// Hand the dead letters of a queue out once more
    Redrive(RedriveArgs),
    /// Write stdin to a broadcast, line by line, and print what all others write there
    Chat(ChatArgs),
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
    /// Measure how fast the relay is from here, over pipes of its own
    Bench(BenchArgs),
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
    pub(crate) mode: ModeArgs,
}

/// Options of writing.
#[derive(Args, Debug, Default)]
pub(crate) struct WriteOnlyArgs {
    /// What to wait for at the end
    #[arg(long, value_name = "WHEN", value_enum)]
    pub(crate) until: Option<UntilArg>,
    /// Do not begin before a reader is there
    #[arg(long, conflicts_with = "no_wait")]
    pub(crate) wait_reader: bool,
    /// Records end with NUL instead of a newline
    #[arg(short = '0', long)]
    pub(crate) null: bool,
    /// Queues: hand each record out only so long after it was written
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) delay: Option<Duration>,
    /// Say this about each record; readers see it with --json, in SKYPIPE_HEADER_KEY with --exec, and can --filter by it
    #[arg(short = 'H', long = "header", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) headers: Vec<(String, String)>,
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
    /// Broadcasts: where to begin: now, start, -N (records back), 10m (ago), 2026-01-31T08:00:00Z, or a position that --json printed
    #[arg(long, value_name = "POS", value_parser = crate::start::parse, allow_hyphen_values = true)]
    pub(crate) from: Option<Start>,
    /// Broadcasts: go on where the last reader of this name stopped
    #[arg(long = "as", value_name = "ID", value_parser = cursor_name)]
    pub(crate) cursor: Option<String>,
    /// Queues: run this for each record, which is its stdin; exit 0 is done, anything else is tried again
    #[arg(long, value_name = "CMD")]
    pub(crate) exec: Option<OsString>,
    /// With --exec: so many at a time
    #[arg(short, long, value_name = "N", requires = "exec", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) jobs: Option<u32>,
    /// Only records that carry this header; given more than once, all of them. Others count as read
    #[arg(long, value_name = "KEY[=VALUE]", conflicts_with = "exec")]
    pub(crate) filter: Vec<String>,
    /// Print each record behind the name of its pipe, as in `logs/web: …`
    #[arg(long, conflicts_with_all = ["exec", "json"])]
    pub(crate) tag: bool,
    /// Print each record as a JSON object with its pipe and position
    #[arg(long, conflicts_with = "exec")]
    pub(crate) json: bool,
}

/// How the pipe hands out its records: set by whoever uses it first.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct ModeArgs {
    /// The pipe is a queue: each record goes to one reader, until one is done with it
    #[arg(short, long, conflicts_with = "broadcast")]
    pub(crate) queue: bool,
    /// The pipe is a broadcast: every record goes to every reader, and is kept for those to come
    #[arg(short, long)]
    pub(crate) broadcast: bool,
    /// Broadcasts: keep what is younger than 7d, within 10G, or of the last 1000 records; joined by commas
    #[arg(long, value_name = "LIMIT", value_parser = crate::start::retain)]
    pub(crate) retain: Option<Retain>,
    /// Queues: hand a record out so often at most, then to NAME/dead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_deliveries: Option<u32>,
}

impl ModeArgs {
    /// The mode that is asked for.
    pub(crate) fn mode(self) -> Option<Mode> {
        match (self.queue, self.broadcast || self.retain.is_some()) {
            (true, _) => Some(Mode::Queue),
            (false, true) => Some(Mode::Broadcast),
            (false, false) => self.max_deliveries.map(|_| Mode::Queue),
        }
    }

    /// How the pipe is to be kept.
    pub(crate) fn settings(self) -> Settings {
        let retain = self.retain.unwrap_or_default();
        Settings { max_deliveries: self.max_deliveries, retain, ..Settings::default() }
    }

    fn is_used(self) -> bool {
        self.mode().is_some()
    }

    fn check(self) -> Result<(), Error> {
        let is_wrong = self.queue && self.retain.is_some() || self.broadcast && self.max_deliveries.is_some();
        let text = "--retain is for broadcasts, --max-deliveries for queues";
        if is_wrong { Err(Error::new(Code::Usage, text)) } else { Ok(()) }
    }
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
    /// The pipe; or all queues and broadcasts that match a pattern: `*` is any one level, `**` any number of them
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
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// `skypipe stat`
#[derive(Args, Debug)]
pub(crate) struct StatArgs {
    /// The pipe
    #[arg(value_name = "NAME")]
    pub(crate) name: OsString,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// `skypipe top`
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// Only pipes that match: `*` is any one level, `**` any number of them
    #[arg(value_name = "PATTERN")]
    pub(crate) pattern: Option<OsString>,
}

/// A verb that can look again and again.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct WatchArgs {
    /// Look again each so many seconds, 1 if not said, until Ctrl-C: on a terminal in place, elsewhere one after the other
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = look_every)]
    watch: Option<Duration>,
}

impl WatchArgs {
    /// How far looks are apart, if there is to be more than one.
    pub(crate) fn every(self) -> Option<Duration> {
        self.watch
    }
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

/// `skypipe chat`
#[derive(Args, Debug)]
pub(crate) struct ChatArgs {
    /// The pipe, a broadcast
    #[arg(value_name = "NAME")]
    pub(crate) name: OsString,
    /// Print one's own lines too
    #[arg(long)]
    pub(crate) echo: bool,
    /// Begin with what was written before: start, -N (records back), 10m (ago), 2026-01-31T08:00:00Z
    #[arg(long, value_name = "POS", value_parser = crate::start::parse, allow_hyphen_values = true)]
    pub(crate) from: Option<Start>,
    /// End after so many records of others
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End the whole command after this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

/// `skypipe redrive`
#[derive(Args, Debug)]
pub(crate) struct RedriveArgs {
    /// The queue, whose dead letters are in NAME/dead
    #[arg(value_name = "NAME")]
    pub(crate) name: OsString,
    /// End the whole command after this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
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
    let args: Vec<OsString> = args.into_iter().collect();
    match &args[..] {
        [_, name] if is_name_alone(name) => Ok(Cli::bare(name.clone())),
        _ => parse_with_clap(args),
    }
}

/// Whether this one word is a pipe's name to clap, and nothing else: the commonest line of all is not to wait until clap knows all others.
fn is_name_alone(word: &OsStr) -> bool {
    let is_option = word.as_encoded_bytes().starts_with(b"-");
    let is_verb = |word: &str| word == CLAPS_VERB || Verb::has_subcommand(word) || LATER.contains(&word);
    !is_option && !word.to_str().is_some_and(is_verb)
}

fn parse_with_clap(args: Vec<OsString>) -> Result<Cli, Refusal> {
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
    /// `skypipe NAME`
    fn bare(name: OsString) -> Self {
        let bare = BareArgs { name: Some(name), ..BareArgs::default() };
        Self { relay: None, version: None, bare, verb: None }
    }

    /// What clap cannot check: options in the wrong place, and options of later versions.
    fn check(&self) -> Result<(), Error> {
        if self.verb.is_some() && self.bare.is_used() {
            return Err(Error::new(Code::Usage, "options stand behind the verb; see `skypipe --help`"));
        }
        let (shared, read) = match &self.verb {
            None => {
                self.bare.write.headers()?;
                (Some(&self.bare.shared), Some(&self.bare.read))
            }
            Some(Verb::Write(args)) => {
                args.only.headers()?;
                (Some(&args.shared), None)
            }
            Some(Verb::Read(args)) => (Some(&args.shared), Some(&args.only)),
            Some(Verb::Relay(args)) => return args.check(),
            Some(_) => (None, None),
        };
        shared.map_or(Ok(()), |shared| shared.mode.check())?;
        shared.zip(read).map_or(Ok(()), |(shared, read)| read.check(shared))
    }
}

impl BareArgs {
    fn is_used(&self) -> bool {
        self.name.is_some() || self.shared.is_used() || self.write.is_used() || self.read.is_used()
    }
}

impl SharedArgs {
    fn is_used(&self) -> bool {
        self.timeout.is_some() || self.no_wait || self.item || self.progress || self.mode.is_used()
    }
}

impl WriteOnlyArgs {
    /// What each record carries.
    pub(crate) fn headers(&self) -> Result<Headers, Error> {
        self.headers.iter().try_fold(Headers::new(), |headers, (key, value)| headers.with(key, value))
    }

    /// Whether any of them was given.
    pub(crate) fn is_used(&self) -> bool {
        self.until.is_some() || self.wait_reader || self.null || self.delay.is_some() || !self.headers.is_empty()
    }
}

impl ReadOnlyArgs {
    /// Whether any of them was given.
    pub(crate) fn is_used(&self) -> bool {
        let of_mode = self.from.is_some() || self.cursor.is_some() || self.exec.is_some();
        self.keep || self.count.is_some() || self.json || self.tag || !self.filter.is_empty() || of_mode
    }

    /// Which records are wanted, by their headers.
    pub(crate) fn filter(&self) -> Filter {
        self.filter.iter().fold(Filter::new(), |filter, wanted| match wanted.split_once('=') {
            Some((key, value)) => filter.with(key, value),
            None => filter.has(wanted),
        })
    }

    /// What of it has no meaning in the mode that is asked for.
    fn check(&self, shared: &SharedArgs) -> Result<(), Error> {
        let (queue, broadcast) = (self.exec.is_some(), self.from.is_some() || self.cursor.is_some());
        let wrong = match shared.mode.mode() {
            _ if queue && broadcast => "--exec is for queues, --from and --as for broadcasts",
            Some(Mode::Queue) if !self.filter.is_empty() => "--filter is not for queues: each record is for one reader",
            Some(Mode::Queue) if broadcast => "--from and --as are for broadcasts",
            Some(Mode::Broadcast) if queue => "--exec is for queues",
            Some(_) if self.keep => "--keep is for default pipes: readers of the others stay anyway",
            Some(_) if shared.item => "--item is for default pipes",
            _ => return Ok(()),
        };
        Err(Error::new(Code::Usage, wrong))
    }
}

fn not_yet(option: &str) -> Error {
    Error::new(Code::Unsupported, format!("{option} {LATER_NOTE}"))
}

/// A header.
fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a header is KEY=VALUE")?;
    Headers::new().with(key, value).map_err(|error| error.text().to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

/// The name of a durable cursor.
fn cursor_name(text: &str) -> Result<String, String> {
    let is_good = !text.is_empty() && text.len() <= CURSOR_NAME_BYTES_MAX && !text.chars().any(char::is_control);
    if is_good { Ok(text.to_owned()) } else { Err(format!("a name of 1 to {CURSOR_NAME_BYTES_MAX} bytes")) }
}

/// How far looks are apart. Whoever puts the name of the pipe behind `--watch` is told where it goes.
fn look_every(text: &str) -> Result<Duration, String> {
    let every = duration(text).map_err(|_| "not a number of seconds; the name of a pipe goes before --watch")?;
    if every < LOOKS_APART_MIN { Err(format!("at least {LOOKS_APART_MIN:?}")) } else { Ok(every) }
}

/// `5` and `0.5` are seconds; else a number with its unit, such as `500ms` or `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string());
    }
    humantime::parse_duration(text).map_err(|e| format!("{e}; such as 5, 500ms or 2h"))
}

//! What may stand behind the verbs about other machines.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use skypipe_core::log::FREE_PERCENT;
use skypipe_core::{Code, Error, MEMORY_BYTES_MIN};

use super::{JsonArgs, duration, not_yet};
use crate::listen::{Listen, Public};

/// Of a disk that nobody may fill to its half, most is kept from the relay: a mistake.
const FREE_PERCENT_MAX: i64 = 50;

/// `skypipe relay`
#[derive(Args, Debug)]
pub(crate) struct RelayArgs {
    /// Listen here as well: ADDR:PORT is QUIC and WebSocket on one port number; quic:, wss:, ws: (without TLS) before it
    /// is one of them; unix:PATH is a local socket
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Vec<Listen>,
    /// What tickets say instead of the address: HOST, HOST:PORT, or the URL of a proxy such as wss://HOST/PATH
    #[arg(long, value_name = "HOST")]
    pub(crate) public: Vec<Public>,
    /// A host name by which clients know this relay behind a proxy that ends TLS
    #[arg(long, value_name = "HOST")]
    pub(crate) name: Vec<String>,
    /// Let web pages of this origin, its scheme and host without a path, connect over WebSocket
    #[arg(long, value_name = "URL")]
    pub(crate) origin: Vec<String>,
    /// Whose relay it is, at its first start with a network listener: a public key, or a file with one [default: you]
    #[arg(long, value_name = "KEY")]
    pub(crate) owner: Option<OsString>,
    /// A relay of its own in this folder, instead of your local one
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Take at most so much memory, such as 512M or 2G; past it what is new waits or is refused [default: 512M]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub(crate) memory: Option<u64>,
    /// Leave so many percent of the disk free: past it writers wait. For the local relay, which other commands start, in the environment
    #[arg(long, value_name = "PERCENT", env = "SKYPIPE_KEEP_FREE", default_value_t = FREE_PERCENT, value_parser = free_percent())]
    pub(crate) keep_free: u8,
    /// Use the folder of --data although it lies on a network file system: no other machine must use it
    #[arg(long, requires = "data")]
    pub(crate) network_disk: bool,
    /// Write its version and URLs to this file as well, once it accepts
    #[arg(long, value_name = "FILE")]
    pub(crate) urls: Option<PathBuf>,
    /// Started by another command, to stay behind it.
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
    /// Stop when nobody was attached for so long.
    #[arg(long, hide = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) idle: Option<Duration>,
    /// Begin another segment of the log past so many bytes, which tests want to see often.
    #[arg(long, hide = true, value_name = "BYTES")]
    pub(crate) segment_bytes: Option<u64>,
    #[arg(long, hide = true, value_name = "ADDR:PORT")]
    ssh: Option<OsString>,
}

/// `skypipe invite`
#[derive(Args, Debug)]
pub(crate) struct InviteArgs {
    /// Open only pipes that match; again for more [default: all, as one of your own keys]
    #[arg(long, value_name = "PATTERN")]
    pub(crate) pipe: Vec<OsString>,
    /// Allow reading; without --write nothing else
    #[arg(long)]
    pub(crate) read: bool,
    /// Allow writing; without --read nothing else
    #[arg(long)]
    pub(crate) write: bool,
    /// How long the ticket may be used to join
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h")]
    pub(crate) expires: Duration,
    /// How many machines may join with it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) uses: u32,
    /// Where the other machine finds the relay, if not where you do; again for more
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) address: Vec<Public>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// `skypipe join`
#[derive(Args)]
pub(crate) struct JoinArgs {
    /// The ticket, or the whole line that `skypipe invite` printed; better on stdin or in a file, where nobody else sees it
    #[arg(value_name = "TICKET")]
    pub(crate) ticket: Vec<OsString>,
    /// Take the ticket from this file [default: SKYPIPE_TICKET_FILE, stdin]
    #[arg(long, value_name = "FILE", conflicts_with = "ticket")]
    pub(crate) ticket_file: Option<PathBuf>,
}

/// Without the ticket, which is a secret.
impl std::fmt::Debug for JoinArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let given = !self.ticket.is_empty();
        f.debug_struct("JoinArgs").field("ticket_given", &given).field("ticket_file", &self.ticket_file).finish()
    }
}

/// `skypipe keys`
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<KeysVerb>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysVerb {
    /// List the keys that the relay admits
    Ls(JsonArgs),
    /// Admit a key: a line of authorized_keys, a file with such lines, or - for stdin
    Add {
        /// The line, the file, or -
        #[arg(value_name = "LINE|FILE")]
        key: OsString,
    },
    /// Admit a key no longer; what it has attached ends within a second
    Revoke {
        /// The key, its fingerprint SHA256:…, or its comment
        #[arg(value_name = "KEY")]
        who: String,
    },
    /// Print your own public key, as the relay's administrator needs it
    Own,
}

/// A size that a relay can do with.
fn free_percent() -> clap::builder::RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(..=FREE_PERCENT_MAX)
}

fn memory(text: &str) -> Result<u64, String> {
    let bytes = skypipe_keys::parse_size(text)?;
    if bytes < MEMORY_BYTES_MIN {
        Err(format!("a relay needs at least {}M", MEMORY_BYTES_MIN >> 20))
    } else {
        Ok(bytes)
    }
}

impl RelayArgs {
    /// What clap cannot check.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.ssh.is_some() {
            return Err(not_yet("--ssh"));
        }
        let listens_afar = self.listen.iter().any(Listen::is_network);
        let needs = [
            (self.owner.is_some(), "--owner"),
            (!self.public.is_empty(), "--public"),
            (!self.name.is_empty(), "--name"),
            (!self.origin.is_empty(), "--origin"),
        ];
        let lonely = needs.into_iter().find(|(is_given, _)| *is_given && !listens_afar);
        match lonely {
            Some((_, option)) => Err(Error::new(Code::Usage, format!("{option} needs --listen ADDR:PORT"))),
            None if self.detached && listens_afar => Err(Error::new(Code::Usage, "--detached is for the local relay")),
            None => Ok(()),
        }
    }
}

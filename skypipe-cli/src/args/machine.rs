//! What may stand behind `up` and `down`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::up::settings;

/// `skypipe up`
#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// The machine, as ssh knows it. As root its relay is a service of the machine, else one of the account
    #[arg(value_name = "[USER@]HOST", required_unless_present = "print")]
    pub(crate) host: Option<String>,
    /// The relay's port, UDP and TCP [default: the one it has, at first 7473]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Listen on this address of the machine only [default: all]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) bind: Option<String>,
    /// How other machines reach it, if not by the address that ssh uses
    #[arg(long, value_name = "HOST", value_parser = host)]
    pub(crate) public: Option<String>,
    /// The binary to put there, for a machine of another kind [default: this very one]
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
    /// The folder there in which the relay stores [default: ~/.local/share/skypipe-relay; as root /var/lib/skypipe]
    #[arg(long, value_name = "DIR", value_parser = folder)]
    pub(crate) data: Option<String>,
    #[command(flatten)]
    pub(crate) ssh: SshArgs,
    /// Touch no machine: print the file for those who deploy by other means
    #[arg(long, value_name = "WHAT", value_enum, conflicts_with_all = ["host", "binary", "data", "bind", "option"])]
    pub(crate) print: Option<PrintArg>,
}

/// `skypipe down`
#[derive(Args, Debug)]
pub(crate) struct DownArgs {
    /// The machine [default: the one of the last `up`]
    #[arg(value_name = "[USER@]HOST")]
    pub(crate) host: Option<String>,
    /// Delete what is stored there, and the relay's keys, without asking
    #[arg(long)]
    pub(crate) delete_data: bool,
    #[command(flatten)]
    pub(crate) ssh: SshArgs,
}

/// How to call ssh. Its own configuration counts as always; `SKYPIPE_SSH` is another command to use in its place.
#[derive(Args, Debug)]
pub(crate) struct SshArgs {
    /// An option for ssh, as behind its -o, such as Port=2222; again for more
    #[arg(long = "ssh-option", value_name = "OPTION")]
    pub(crate) option: Vec<String>,
}

/// A file to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrintArg {
    /// A unit for systemd
    Systemd,
    /// A Dockerfile
    Docker,
    /// A compose.yaml, to go with the Dockerfile
    Compose,
}

fn host(text: &str) -> Result<String, String> {
    settings::host(text).map_err(|e| e.text().to_owned())
}

fn folder(text: &str) -> Result<String, String> {
    settings::folder(text).map_err(|e| e.text().to_owned())
}

fn address(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse::<std::net::IpAddr>()
        .map(|ip| ip.to_string())
        .map_err(|_| "not an address, such as 192.0.2.1".to_owned())
}

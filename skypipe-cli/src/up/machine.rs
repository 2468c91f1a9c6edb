//! What is known of the machine on which the relay is to run.

use skypipe_core::{Code, Error};

use super::answer::Answer;
use super::settings::Settings;
use super::version::Version;

/// The facts that the probe brought. Everything that is decided is decided from them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    /// The system, in Rust's words, such as `linux`.
    pub(crate) os: String,
    /// The processor, in Rust's words, such as `x86_64`.
    pub(crate) arch: String,
    /// Its C library; none where it could not be told.
    pub(crate) libc: Option<Libc>,
    /// The account's name.
    pub(crate) user: String,
    /// The account's home folder.
    pub(crate) home: String,
    /// What keeps services running.
    pub(crate) init: Init,
    /// Whether it speaks IPv6.
    pub(crate) has_ipv6: bool,
    /// What decides about ports, if it is a program that is known.
    pub(crate) firewall: Option<Firewall>,
    /// The program that makes SHA-256 sums there.
    pub(crate) sum: Option<String>,
    /// The relay that is there already.
    pub(crate) installed: Option<Installed>,
    /// The line of the key to which that relay belongs.
    pub(crate) owner: Option<String>,
    /// SHA-256 of the file that tells its service manager what to run.
    pub(crate) service_sum: Option<String>,
    /// Whether the service runs.
    pub(crate) is_active: bool,
    /// What the running relay says of itself: a comment with its version, then its URLs.
    pub(crate) urls: Vec<String>,
    /// The settings with which it was set up.
    pub(crate) settings: Settings,
    /// How much the data folder holds, in bytes; none where there is no such folder.
    pub(crate) data_bytes: Option<u64>,
    /// The port that was asked for and that another program has.
    pub(crate) taken: Option<u16>,
    /// Room on the disk to which the binary goes, in bytes.
    pub(crate) free_bytes: Option<u64>,
}

/// A binary that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    /// None where it does not run.
    pub(crate) version: Option<Version>,
    /// Its SHA-256.
    pub(crate) sum: String,
}

/// A C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Libc {
    Glibc,
    Musl,
}

/// What keeps services running on a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Init {
    /// systemd, for the whole machine: the account is root.
    System,
    /// systemd, for this account.
    User,
    /// Nothing that this account may use: a small script does it.
    #[default]
    None,
}

/// A program that decides which ports are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Firewall {
    Ufw,
    Firewalld,
}

impl Machine {
    /// The facts in the probe's answer.
    ///
    /// # Errors
    /// `E_UNSUPPORTED` for a machine that does not say who it is, or whose home folder has a name that no shell would leave alone.
    pub(crate) fn of_answer(answer: &Answer) -> Result<Self, Error> {
        let text = |key: &str| answer.get(key).unwrap_or_default().to_owned();
        let home = text("home");
        if !home.starts_with('/') || home.chars().any(char::is_control) {
            return Err(Error::new(Code::Unsupported, "the account there has no home folder"));
        }
        let settings: Vec<&str> = answer.all("setting").collect();
        Ok(Self {
            os: os(&text("os")),
            arch: arch(&text("arch")),
            libc: answer.get("libc").and_then(libc),
            user: text("user"),
            home,
            init: init(answer.get("init")),
            has_ipv6: answer.get("ipv6").is_some(),
            firewall: answer.get("firewall").and_then(firewall),
            sum: answer.get("sum").map(str::to_owned),
            installed: installed(answer),
            owner: answer.get("owner").map(str::to_owned),
            service_sum: answer.get("service_sum").map(str::to_owned),
            is_active: answer.get("active") == Some("yes"),
            urls: answer.all("url").map(str::to_owned).collect(),
            settings: Settings::parse(&settings)?,
            data_bytes: answer.number("data_kib").map(|kib| kib.saturating_mul(1024)),
            taken: answer.get("taken").and_then(|port| port.parse().ok()),
            free_bytes: answer.number("free_kib").map(|kib| kib.saturating_mul(1024)),
        })
    }

    /// The version of the relay that runs.
    pub(crate) fn running(&self) -> Option<Version> {
        let line = self.urls.iter().find_map(|line| line.strip_prefix("# "))?;
        Version::of_answer(line).filter(|_| self.is_active)
    }

    /// In a few words, for the one who waits.
    pub(crate) fn describe(&self) -> String {
        let service = match self.init {
            Init::System => "systemd, as root",
            Init::User => "systemd of the user",
            Init::None => "no systemd for this account",
        };
        format!("{} {}, {service}", self.os, self.arch)
    }
}

/// What `uname -s` says, as Rust says it.
fn os(uname: &str) -> String {
    match uname {
        "Darwin" => "macos".to_owned(),
        other => other.to_lowercase(),
    }
}

/// What `uname -m` says, as Rust says it.
fn arch(uname: &str) -> String {
    let name = match uname {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "i386" | "i486" | "i586" | "i686" => "x86",
        arm if arm.starts_with("armv") => "arm",
        other => other,
    };
    name.to_owned()
}

fn libc(text: &str) -> Option<Libc> {
    match text.split(' ').next() {
        Some("glibc") => Some(Libc::Glibc),
        Some("musl") => Some(Libc::Musl),
        _ => None,
    }
}

fn init(text: Option<&str>) -> Init {
    match text {
        Some("system") => Init::System,
        Some("user") => Init::User,
        _ => Init::None,
    }
}

fn firewall(text: &str) -> Option<Firewall> {
    match text {
        "ufw" => Some(Firewall::Ufw),
        "firewalld" => Some(Firewall::Firewalld),
        _ => None,
    }
}

fn installed(answer: &Answer) -> Option<Installed> {
    let sum = answer.get("installed_sum")?.to_owned();
    Some(Installed { version: answer.get("installed").and_then(Version::of_answer), sum })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(facts: &str) -> Result<Machine, Error> {
        let lines: String = facts.lines().map(|l| format!("@sky {}\n", l.trim())).collect();
        Machine::of_answer(&Answer::parse(&format!("{lines}@sky end ok\n")).unwrap())
    }

    #[test]
    fn a_bare_server() {
        let m = machine(
            "os Linux\narch aarch64\nuid 0\nuser root\nhome /root\nlibc glibc 2.36\nsum sha256sum\ninit system\nipv6 yes
             firewall ufw\nactive no\nfree_kib 2048",
        )
        .unwrap();
        assert_eq!((m.os.as_str(), m.arch.as_str(), m.libc), ("linux", "aarch64", Some(Libc::Glibc)));
        assert_eq!((m.init, m.firewall, m.free_bytes), (Init::System, Some(Firewall::Ufw), Some(2 << 20)));
        assert!(m.has_ipv6 && !m.is_active && m.installed.is_none() && m.running().is_none());
        assert_eq!(m.describe(), "linux aarch64, systemd, as root");
    }

    #[test]
    fn a_relay_that_runs() {
        let m = machine(
            "os Darwin\narch arm64\nuser u\nhome /Users/u\ninit none\nsetting port=7000\nsetting public=h\ninstalled skypipe 0.2.0
             installed_sum ab\nactive yes\nurl # skypipe 0.1.0\nurl quic://k@h:7000\ndata_kib 3",
        )
        .unwrap();
        assert_eq!((m.os.as_str(), m.arch.as_str()), ("macos", "aarch64"));
        assert_eq!(m.running(), "0.1.0".parse().ok());
        assert_eq!(m.installed.unwrap().version, "0.2.0".parse().ok());
        assert_eq!((m.settings.port, m.settings.public.as_deref(), m.data_bytes), (7000, Some("h"), Some(3072)));
    }

    #[test]
    fn an_account_without_home_is_refused() {
        for facts in ["os Linux\nhome x", "os Linux", "os Linux\nhome /a\u{7}b"] {
            assert_eq!(machine(facts).unwrap_err().code(), Code::Unsupported, "{facts}");
        }
    }
}

//! What keeps the relay running: a systemd unit for the whole machine, one for an account, or a small script.

use super::machine::{Init, Machine};
use super::place::Place;
use super::settings::Settings;

/// The file at [`Place::service`].
pub(crate) fn text(machine: &Machine, place: &Place, settings: &Settings) -> String {
    let arguments = arguments(place, settings, machine.has_ipv6, &place.owner());
    match machine.init {
        Init::System => system_unit(place, &arguments),
        Init::User => user_unit(place, &arguments),
        Init::None => supervisor(place, &arguments),
    }
}

/// The command line of the relay; `owner` is a key or the file of one. No argument is secret.
pub(crate) fn arguments(place: &Place, settings: &Settings, has_ipv6: bool, owner: &str) -> Vec<String> {
    // A socket for IPv6 takes IPv4 as well, but where there is no IPv6 it cannot be made.
    let all = if has_ipv6 { "::" } else { "0.0.0.0" };
    let listen = with_port(settings.bind.as_deref().unwrap_or(all), settings.port);
    let mut arguments = vec!["relay".to_owned(), "--listen".to_owned(), listen];
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    if let Some(public) = &settings.public {
        option("--public", with_port(public, settings.port));
    }
    option("--data", place.data.clone());
    option("--owner", owner.to_owned());
    option("--urls", format!("{}/urls", place.data));
    arguments
}

/// `HOST:PORT`, an IPv6 address in brackets.
pub(crate) fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A unit for the whole machine.
pub(crate) fn system_unit(place: &Place, arguments: &[String]) -> String {
    let start = exec_start(place, arguments);
    format!("{HEAD}\n{start}\n{COMMON}{HARDENED}\n[Install]\nWantedBy=multi-user.target\n")
}

fn user_unit(place: &Place, arguments: &[String]) -> String {
    let start = exec_start(place, arguments);
    format!("{HEAD}\n{start}\n{COMMON}{HARDENED_USER}\n[Install]\nWantedBy=default.target\n")
}

/// Settings let no quote, backslash, percent or dollar sign through: inside quotes nothing is special.
fn exec_start(place: &Place, arguments: &[String]) -> String {
    let words = arguments.iter().map(|a| if is_plain(a) { a.clone() } else { format!("\"{a}\"") });
    let program = if is_plain(&place.program()) { place.program() } else { format!("\"{}\"", place.program()) };
    std::iter::once(format!("ExecStart={program}")).chain(words).collect::<Vec<_>>().join(" ")
}

fn is_plain(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-:[]".contains(c))
}

fn supervisor(place: &Place, arguments: &[String]) -> String {
    let words: Vec<String> = arguments.iter().map(|a| quoted(a)).collect();
    format!(
        "#!/bin/sh\nlib={}\ndata={}\nrun() {{ exec \"$lib/skypipe\" {}; }}\n{SUPERVISE}",
        quoted(&place.lib),
        quoted(&place.data),
        words.join(" ")
    )
}

/// A word for the shell. In files that are compared, plain words are quoted as well.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

const SUPERVISE: &str = include_str!("supervise.sh");

const HEAD: &str = "\
# Written by `skypipe up`; `skypipe down` takes it away.
[Unit]
Description=skypipe relay: named pipes between machines
Wants=network-online.target
After=network-online.target
# It comes back however often it fails.
StartLimitIntervalSec=0

[Service]
# It says when it accepts: whoever starts or restarts it waits for that.
Type=notify
NotifyAccess=main";

const COMMON: &str = "\
Restart=always
RestartSec=1
# SIGTERM drains for at most 10 s; clients go on at the next one.
TimeoutStopSec=20
KillMode=mixed
UMask=0077
# A descriptor for each connection and each pipe's log.
LimitNOFILE=524288
# The relay's own budget is half of that.
MemoryMax=1G
TasksMax=512
";

/// What only the system's service manager can do, and what it can do for every service. `systemd-analyze security` rates the
/// unit; a test holds it at 1.5 or less.
const HARDENED: &str = "\
# A user of its own that exists only while it runs, and one folder to write to: /var/lib/skypipe.
DynamicUser=yes
StateDirectory=skypipe
StateDirectoryMode=0700
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateMounts=yes
PrivateDevices=yes
PrivateUsers=yes
PrivateIPC=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
DevicePolicy=closed
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
";

/// An account's service manager has no rights to give away and few walls to build; these need none.
const HARDENED_USER: &str = "\
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
";

#[cfg(test)]
mod tests {
    use super::super::golden::golden;
    use super::*;

    const OWN: &str = "/home/my user/.local/lib/skypipe";

    fn machine(init: Init) -> Machine {
        Machine { init, has_ipv6: true, home: "/home/my user".into(), ..Machine::default() }
    }

    fn text_for(init: Init, settings: &Settings) -> String {
        let machine = machine(init);
        text(&machine, &Place::of(&machine, settings).unwrap(), settings)
    }

    #[test]
    fn the_files_are_as_they_are_shown() {
        let public = Settings { public: Some("relay.example.org".into()), ..Settings::default() };
        golden("system.service", &text_for(Init::System, &public));
        golden("user.service", &text_for(Init::User, &public));
        golden("supervise", &text_for(Init::None, &public));
    }

    #[test]
    fn the_command_line_listens_where_it_is_told() {
        let place = Place::system();
        let line = |settings: &Settings, has_ipv6| arguments(&place, settings, has_ipv6, "o").join(" ");
        let usual = Settings::default();
        assert!(line(&usual, true).starts_with("relay --listen [::]:7473 --data "));
        assert!(line(&usual, false).starts_with("relay --listen 0.0.0.0:7473 --data "));
        let own = Settings { port: 9, bind: Some("10.0.0.1".into()), public: Some("fd00::1".into()), data: None };
        assert!(line(&own, true).starts_with("relay --listen 10.0.0.1:9 --public [fd00::1]:9 "));
    }

    #[test]
    fn paths_with_spaces_stay_whole() {
        let unit = text_for(Init::User, &Settings::default());
        assert!(unit.contains(&format!("ExecStart=\"{OWN}/skypipe\" relay --listen [::]:7473 --data \"")), "{unit}");
        let script = text_for(Init::None, &Settings::default());
        assert!(script.contains(&format!("lib='{OWN}'\n")), "{script}");
        let checked = std::process::Command::new("sh").args(["-n", "-c", &script]).status().unwrap();
        assert!(checked.success());
    }

    #[test]
    fn quotes_do_not_end_a_word() {
        let said = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted("a'b $(x)"))]).output();
        assert_eq!(said.unwrap().stdout, b"a'b $(x)");
    }

    #[test]
    fn systemd_rates_the_units_as_safe() {
        let dir = tempfile::tempdir().unwrap();
        let unit = dir.path().join("skypipe.service");
        let settings = Settings { public: Some("relay.example.org".into()), ..Settings::default() };
        std::fs::write(&unit, text_for(Init::System, &settings)).unwrap();
        let rated = std::process::Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=15"])
            .arg(&unit)
            .output()
            .expect("systemd-analyze, of the package systemd");
        assert!(rated.status.success(), "{}", String::from_utf8_lossy(&rated.stdout));
    }
}

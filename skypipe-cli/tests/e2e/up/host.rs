//! A machine that is reached over the distribution's OpenSSH server, on loopback: with host keys, a configuration and an account
//! of its own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::harness::{self, Home, Pid, Signal, until};

/// How the machine is called in the configuration of ssh.
pub const NAME: &str = "machine";

const SSHD: &str = "/usr/sbin/sshd";

/// The machine. Its account and every process of it go when it does.
pub struct Host {
    folder: TempDir,
    account: Account,
}

/// Who the relay belongs to on the machine.
struct Account {
    name: String,
    home: PathBuf,
    /// None where the tests are not root: then it is the account that runs them.
    own: Option<u32>,
}

impl Host {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("skyhost").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let account = Account::new(folder.path());
        let host = Self { folder, account };
        for key in ["host_key", "id"] {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &host.path(key)]);
        }
        host.serve();
        host
    }

    /// The value of `SKYPIPE_SSH` by which this machine is reached.
    pub fn ssh(&self) -> String {
        format!("ssh -F {}", self.path("ssh_config"))
    }

    /// A command of `home` that may ssh to the machine.
    pub fn skypipe<'a>(&self, home: &Home, arguments: impl IntoIterator<Item = &'a str>) -> harness::Command {
        home.skypipe(arguments).env("SKYPIPE_SSH", self.ssh())
    }

    /// The home folder of the account there.
    pub fn home(&self) -> &Path {
        &self.account.home
    }

    /// The data folder of the relay there.
    pub fn data(&self) -> PathBuf {
        self.home().join(".local/share/skypipe-relay")
    }

    /// The process of the relay there, if one lives.
    pub fn relay(&self) -> Option<Pid> {
        let lock = fs::read_to_string(self.data().join("relay.lock")).ok()?;
        let pid = Pid::from_raw(lock.split(' ').next()?.parse().ok()?)?;
        harness::is_alive(pid).then_some(pid)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Gives each connection a server of its own, as inetd does: so the port is any that is free.
    fn serve(&self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        self.configure(listener.local_addr().unwrap().port());
        let config = self.path("sshd_config");
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        // The thread stays until the tests end; it holds nothing but the socket.
        std::thread::spawn(move || {
            while let Ok((connection, _)) = listener.accept() {
                spawn_server(&config, connection);
            }
        });
    }

    fn configure(&self, port: u16) {
        let write = |name: &str, text: String| fs::write(self.path(name), text).unwrap();
        fs::copy(self.path("id.pub"), self.path("authorized")).unwrap();
        write(
            "sshd_config",
            format!(
                "HostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nPasswordAuthentication no\n\
                 KbdInteractiveAuthentication no\nStrictModes no\nLogLevel ERROR\nMaxStartups 100\n",
                self.path("host_key"),
                self.path("authorized")
            ),
        );
        let key = fs::read_to_string(self.path("host_key.pub")).unwrap();
        write("known_hosts", format!("[127.0.0.1]:{port} {key}"));
        write(
            "ssh_config",
            format!(
                "Host {NAME}\n HostName 127.0.0.1\n Port {port}\n User {}\n IdentityFile {}\n IdentitiesOnly yes\n \
                 StrictHostKeyChecking yes\n UserKnownHostsFile {}\n",
                self.account.name,
                self.path("id"),
                self.path("known_hosts")
            ),
        );
    }
}

impl Account {
    fn new(folder: &Path) -> Self {
        if !rustix::process::geteuid().is_root() {
            let home = std::env::home_dir().unwrap();
            return Self { name: whoami(), home, own: None };
        }
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("skyt{}n{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let home = folder.join("home");
        let arguments =
            ["--create-home", "--home-dir", home.to_str().unwrap(), "--shell", "/bin/sh", "--password", "*", &name];
        // Others change the same file; whoever comes second is told to try again.
        until("the account is made", || succeeds("useradd", &arguments).then_some(()));
        let own = run("id", &["-u", &name]).trim().parse().unwrap();
        Self { name, home, own: Some(own) }
    }

    /// Every process of the account.
    fn processes(&self) -> Vec<Pid> {
        let Some(uid) = self.own else { return Vec::new() };
        let numbers = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
        let is_of_account = |pid: &Pid| {
            let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
            let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
            uids.split_whitespace().next().and_then(|u| u.parse().ok()) == Some(uid) && harness::is_alive(*pid)
        };
        numbers.filter_map(Pid::from_raw).filter(is_of_account).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("relay.log:\n{}", fs::read_to_string(self.data().join("relay.log")).unwrap_or_default());
        }
        if self.account.own.is_none() {
            return;
        }
        let end = || {
            let left = self.account.processes();
            left.iter().for_each(|&pid| harness::send(pid, Signal::KILL));
            left.is_empty().then_some(())
        };
        until("the account's processes are gone", end);
        until("the account is gone", || succeeds("userdel", &[&self.account.name]).then_some(()));
    }
}

fn spawn_server(config: &str, connection: TcpStream) {
    let input = connection.try_clone().unwrap();
    let mut server = Command::new(SSHD);
    server.args(["-i", "-e", "-f", config]);
    server.stdin(OwnedFd::from(input)).stdout(OwnedFd::from(connection)).stderr(Stdio::null());
    let mut server = server.spawn().expect("sshd, of the package openssh-server");
    std::thread::spawn(move || server.wait());
}

/// A port that is free for UDP and TCP.
pub fn free_port() -> u16 {
    until("a port is free for both", || {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let port = tcp.local_addr().ok()?.port();
        UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    })
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stderr(Stdio::null())
        .status()
        .unwrap_or_else(|e| panic!("{program}: {e}"))
        .success()
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn whoami() -> String {
    run("id", &["-un"]).trim().to_owned()
}

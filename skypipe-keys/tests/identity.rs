//! Keys as OpenSSH makes and keeps them: files of `ssh-keygen`, and a real agent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use skypipe_core::{Code, Error, PublicKey, Signer};
use skypipe_keys::{AgentKey, fingerprint, identity, parse_public};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn load(path: &Path) -> Result<PublicKey, Error> {
    identity::load(Some(path.to_str().unwrap()), Path::new("/nowhere")).map(|s| s.key())
}

/// A key of ssh-keygen's, and its public half.
fn keygen(folder: &Path, kind: &str, passphrase: &str, comment: &str) -> (PathBuf, String) {
    let path = folder.join(format!("{kind}-{comment}"));
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", passphrase, "-C", comment, "-f"])
        .arg(&path)
        .status()
        .expect("ssh-keygen is there");
    assert!(made.success());
    let public = fs::read_to_string(path.with_extension("pub")).unwrap();
    (path, public)
}

/// That no eight letters of the secret are in what is shown.
fn assert_hides(secret: &str, shown: &str) {
    let body: String = secret.lines().filter(|l| !l.starts_with("-----")).collect();
    for at in 0..body.len().saturating_sub(8) {
        assert!(!shown.contains(&body[at..at + 8]), "{shown}");
    }
}

#[tokio::test]
async fn a_key_is_made_on_first_use_and_is_the_same_ever_after() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("config/skypipe");
    let first = identity::load(None, &folder).unwrap();
    assert_eq!(identity::load(None, &folder).unwrap().key(), first.key());
    let path = folder.join("id_ed25519");
    assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
    let public = fs::read_to_string(folder.join("id_ed25519.pub")).unwrap();
    assert_eq!(parse_public(&public).unwrap(), first.key());
    assert!(first.key().verifies(b"message", &first.sign(b"message").await.unwrap()));
    // ssh-keygen reads what skypipe wrote.
    let told = Command::new("ssh-keygen").args(["-y", "-f"]).arg(&path).output().expect("ssh-keygen is there");
    assert_eq!(parse_public(&String::from_utf8(told.stdout).unwrap()).unwrap(), first.key());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing temporary is left");
}

#[test]
fn many_who_make_it_at_once_have_the_same_key() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("skypipe");
    let all: Vec<PublicKey> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| identity::load(None, &folder).unwrap().key())).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(all.iter().all(|key| *key == all[0]));
    let public = fs::read_to_string(folder.join("id_ed25519.pub")).unwrap();
    assert_eq!(parse_public(&public).unwrap(), all[0]);
}

#[test]
fn a_key_of_ssh_keygens_serves() {
    let dir = tempfile::tempdir().unwrap();
    let (path, public) = keygen(dir.path(), "ed25519", "", "me");
    assert_eq!(load(&path).unwrap(), parse_public(&public).unwrap());
    let listed = Command::new("ssh-keygen").args(["-l", "-f"]).arg(&path).output().unwrap();
    assert!(String::from_utf8(listed.stdout).unwrap().contains(&fingerprint(load(&path).unwrap())));
}

#[test]
fn a_key_that_cannot_serve_says_what_to_do_and_shows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, _) = keygen(dir.path(), "ed25519", "", "plain");
    let (link, open, short) = (dir.path().join("link"), dir.path().join("open"), dir.path().join("short"));
    symlink(&plain, &link).unwrap();
    fs::copy(&plain, &open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let text = fs::read_to_string(&plain).unwrap();
    fs::write(&short, &text[..text.len() / 2]).unwrap();
    fs::set_permissions(&short, fs::Permissions::from_mode(0o600)).unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&fifo).status().unwrap().success());
    let public = plain.with_extension("pub");
    fs::set_permissions(&public, fs::Permissions::from_mode(0o600)).unwrap();
    for (path, says) in [
        (keygen(dir.path(), "ed25519", "a passphrase", "locked").0, "passphrase: ssh-add"),
        (keygen(dir.path(), "rsa", "", "rsa").0, "holds no Ed25519 key: ssh-keygen"),
        (keygen(dir.path(), "ecdsa", "", "ec").0, "holds no Ed25519 key: ssh-keygen"),
        (link, "symbolic link"),
        (open, "chmod 600"),
        (short, "is no OpenSSH private key"),
        (public, "is a public key"),
        (fifo, "is no file"),
        (dir.path().to_owned(), "is no file"),
        (dir.path().join("missing"), "cannot be read"),
    ] {
        let error = load(&path).unwrap_err();
        assert!(error.code() == Code::Key && error.code().exit() == 2 && error.text().contains(says), "{error}");
        let shown = format!("{error} {error:?}").replace(dir.path().to_str().unwrap(), "");
        assert!(!shown.contains('\n'), "{shown}");
        if path.is_file() {
            assert_hides(&fs::read_to_string(&path).unwrap(), &shown);
        }
    }
}

#[test]
fn a_setting_that_is_none_is_refused() {
    assert_eq!(identity::load(Some(""), Path::new("/nowhere")).err().unwrap().code(), Code::Key);
    assert_eq!(identity::load(Some("agents"), Path::new("/nowhere")).err().unwrap().code(), Code::Key);
}

/// A real agent, which ends with the test.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("agent.sock");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("ssh-agent is there");
        // Its first line comes when the socket is there.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        Self { child, socket }
    }

    fn add(&self, args: &[&str]) {
        let mut command = Command::new("ssh-add");
        let added = command.arg("-q").args(args).env("SSH_AUTH_SOCK", &self.socket).stderr(Stdio::null()).status();
        assert!(added.expect("ssh-add is there").success());
    }

    fn find(&self, which: Option<&str>) -> Result<AgentKey, Error> {
        AgentKey::find_at(self.socket.clone(), which)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_agent_signs_with_the_key_that_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start(dir.path());
    assert!(agent.find(None).unwrap_err().text().contains("ssh-add one"));
    let (rsa, _) = keygen(dir.path(), "rsa", "", "rsa");
    let (one, one_public) = keygen(dir.path(), "ed25519", "", "one");
    agent.add(&[rsa.to_str().unwrap()]);
    agent.add(&[one.to_str().unwrap()]);
    let only = agent.find(None).unwrap();
    assert_eq!(only.key(), parse_public(&one_public).unwrap());
    assert!(only.key().verifies(b"message", &only.sign(b"message").await.unwrap()));

    let (two, two_public) = keygen(dir.path(), "ed25519", "", "two");
    agent.add(&[two.to_str().unwrap()]);
    assert!(agent.find(None).unwrap_err().text().contains("say which"));
    let two_key = parse_public(&two_public).unwrap();
    for which in ["two", &fingerprint(two_key)] {
        let found = agent.find(Some(which)).unwrap();
        assert_eq!(found.key(), two_key);
        assert!(two_key.verifies(b"m", &found.sign(b"m").await.unwrap()));
    }
    agent.add(&["-d", one.to_str().unwrap()]);
    let error = only.sign(b"message").await.unwrap_err();
    assert!(error.code() == Code::Key && error.text().contains("refused"), "{error}");
}

#[tokio::test]
async fn an_agent_that_is_gone_or_talks_nonsense_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("nonsense.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let answers = std::thread::spawn(move || {
        for answer in [&[255, 255, 255, 255][..], &[0, 0, 0, 1, 99], &[0, 0]] {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 5];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(answer).unwrap();
        }
    });
    for _ in 0..3 {
        assert_eq!(AgentKey::find_at(socket.clone(), None).unwrap_err().code(), Code::Key);
    }
    answers.join().unwrap();
    assert!(AgentKey::find_at(socket, None).unwrap_err().text().contains("does not answer"));
}

//! A relay's keys in a folder: who comes in, with which ticket, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use skypipe_core::{
    Admission, Caller, Clock, Code, Env, Error, Gatekeeper, Invite, KeyPair, Owner, Pattern, PublicKey, Rights, Time,
    WallTime,
};
use skypipe_keys::{KeyFolder, Ticket, fingerprint, public_line};
use tempfile::TempDir;

const START: u64 = 1_700_000_000_000;
const READ: Rights = Rights { read: true, ..Rights::NONE };
const BOTH: Rights = Rights { write: true, ..READ };
const HOUR: Duration = Duration::from_secs(3600);

/// A wall clock that the test sets.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Time {
        Time::default()
    }

    fn wall(&self) -> WallTime {
        WallTime(self.0.load(Ordering::Relaxed))
    }
}

struct Rig {
    dir: TempDir,
    hand: Arc<Hand>,
    keys: KeyFolder,
}

impl Rig {
    fn new() -> Self {
        let (dir, hand) = (tempfile::tempdir().unwrap(), Arc::new(Hand(START.into())));
        let keys = open(dir.path(), &hand).unwrap();
        Self { dir, hand, keys }
    }

    /// The same folder after the relay was started again.
    fn again(self) -> Self {
        drop(self.keys);
        let keys = open(self.dir.path(), &self.hand).unwrap();
        Self { keys, ..self }
    }

    fn set_clock(&self, wall: u64) {
        self.hand.0.store(wall, Ordering::Relaxed);
    }

    fn list(&self) -> String {
        fs::read_to_string(self.keys.authorized_keys()).unwrap()
    }

    /// As an editor saves: a new file in place of the old one.
    fn edit(&self, edit: impl FnOnce(String) -> String) {
        let new = self.dir.path().join("authorized_keys.new");
        fs::write(&new, edit(self.list())).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, self.keys.authorized_keys()).unwrap();
    }

    async fn invite(&self, pipes: &[&str], rights: Rights, uses: u32) -> Bytes {
        let pipes = pipes.iter().map(|p| Pattern::parse(p).unwrap()).collect();
        let invite = Invite { pipes, rights, expires: HOUR, uses };
        self.keys.invite(&Caller::in_process(), invite).await.unwrap()
    }

    async fn admit(&self, seed: u8, ticket: Option<&Bytes>) -> Result<Admission, Error> {
        self.keys.admit(key(seed), ticket.cloned()).await
    }

    async fn refused(&self, seed: u8, ticket: Option<&Bytes>) -> Error {
        self.admit(seed, ticket).await.err().expect("refused")
    }
}

fn open(folder: &Path, hand: &Arc<Hand>) -> Result<KeyFolder, Error> {
    let env = Env { clock: hand.clone(), ..Env::system() };
    KeyFolder::open(folder, Some((key(0), "owner".to_owned())), vec!["relay.example".to_owned()], env)
}

fn key(seed: u8) -> PublicKey {
    KeyPair::from_seed(&[seed; 32]).public()
}

fn line(options: &str, seed: u8) -> String {
    format!("{options} {}\n", public_line(key(seed), &format!("key {seed}")))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_first_start_makes_a_key_and_a_list_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data/keys");
    let keys = open(&folder, &Arc::default()).unwrap();
    let relay_key = keys.relay_key().public();
    for name in ["relay_key", "authorized_keys", "authorized_keys.lock"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(keys.keys().await.unwrap(), [format!("admin,owner=\"relay\" {}", public_line(key(0), "owner"))]);
    let admission = keys.admit(key(0), None).await.unwrap();
    assert!(admission.admin && admission.namespace == Owner::SELF && admission.grants.is_none());
    assert_eq!((keys.owner(key(0)), keys.owner(key(1))), (Owner::SELF, Owner(Some(key(1).0))));
    assert_eq!(keys.names(), ["relay.example"]);
    drop(keys);
    // A later start changes nothing, whoever starts it.
    let again = KeyFolder::open(&folder, Some((key(5), "other".to_owned())), vec![], Env::system()).unwrap();
    assert_eq!(again.relay_key().public(), relay_key);
    assert_eq!(again.keys().await.unwrap().len(), 1);
}

#[tokio::test]
async fn files_that_others_may_write_and_lists_that_cannot_be_read_stop_the_start() {
    let rig = Rig::new();
    let (dir, hand) = (rig.dir, rig.hand);
    drop(rig.keys);
    let list = dir.path().join("authorized_keys");
    let good = fs::read_to_string(&list).unwrap();
    let refuses = |says: &str| {
        let error = open(dir.path(), &hand).unwrap_err();
        assert!(error.code() == Code::Key && error.text().contains(says), "{error}");
    };
    fs::write(&list, format!("{good}{}", line("no-pty", 1))).unwrap();
    refuses("line 11: unknown option `no-pty`");
    fs::write(&list, good).unwrap();
    fs::set_permissions(&list, fs::Permissions::from_mode(0o666)).unwrap();
    refuses("chmod 600");
    fs::set_permissions(&list, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(dir.path().join("relay_key"), fs::Permissions::from_mode(0o640)).unwrap();
    refuses("chmod 600");
    fs::set_permissions(dir.path().join("relay_key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(dir.path().join("tickets"), "nonsense\n").unwrap();
    refuses("tickets, line 1");
    fs::remove_file(dir.path().join("tickets")).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    refuses("chmod 700");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::rename(&list, dir.path().join("real")).unwrap();
    symlink(dir.path().join("real"), &list).unwrap();
    assert!(open(dir.path(), &hand).is_err());
}

#[tokio::test]
async fn a_stranger_gets_nothing() {
    let rig = Rig::new();
    let error = rig.refused(1, None).await;
    assert!(error.code() == Code::Access && error.code().exit() == 3, "{error}");
    assert!(!rig.dir.path().join("tickets").exists());
}

#[tokio::test]
async fn a_ticket_makes_a_key_known_and_is_on_disk_before_it_is_admitted() {
    let rig = Rig::new();
    let ticket = rig.invite(&["logs/**"], READ, 1).await;
    let admission = rig.admit(1, Some(&ticket)).await.unwrap();
    let grants = admission.grants.unwrap();
    assert!(admission.namespace == Owner::SELF && !admission.admin && grants.len() == 1 && !grants[0].rights.write);
    assert!(
        rig.list()
            .contains(&format!("owner=\"relay\",pipes=\"logs/**\",read {}", public_line(key(1), "joined 2023-11-14")))
    );
    assert_eq!((mode(&rig.keys.authorized_keys()), mode(&rig.dir.path().join("tickets"))), (0o600, 0o600));

    let rig = rig.again();
    assert!(rig.admit(1, None).await.is_ok(), "its own key counts from now on");
    assert!(rig.admit(1, Some(&ticket)).await.is_ok(), "the same ticket again uses nothing up");
    let error = rig.refused(2, Some(&ticket)).await;
    assert!(error.code() == Code::Access && error.text().contains("used up"), "{error}");
    rig.set_clock(START + 3_600_000);
    assert!(rig.admit(1, Some(&ticket)).await.is_ok(), "who came with it in time stays");
    assert!(rig.refused(2, Some(&ticket)).await.text().contains("expired"));
    rig.set_clock(START);
    assert!(rig.refused(2, Some(&ticket)).await.text().contains("expired"), "the clock never goes back");
}

#[tokio::test]
async fn each_bad_ticket_is_told_apart() {
    let (rig, other) = (Rig::new(), Rig::new());
    let foreign = other.invite(&[], BOTH, 1).await;
    let error = rig.refused(1, Some(&foreign)).await;
    assert!(error.code() == Code::Access && error.text().contains("another relay's"), "{error}");
    let error = rig.refused(1, Some(&Bytes::from_static(b"nonsense"))).await;
    assert!(error.code() == Code::Ticket, "{error}");
    let whole = Ticket::new(vec!["unix:/r".to_owned()], rig.invite(&["logs/**"], READ, 1).await).unwrap();
    let nothing = whole.attenuate(&[Pattern::parse("jobs").unwrap()], None, None).unwrap();
    assert!(rig.refused(1, Some(&nothing.token)).await.text().contains("nothing"));
    let less = whole.attenuate(&[Pattern::parse("logs/web").unwrap()], None, None).unwrap();
    assert!(rig.admit(1, Some(&less.token)).await.is_ok());
    assert!(rig.list().contains("pipes=\"logs/web\",read "));
    assert!(rig.refused(2, Some(&whole.token)).await.text().contains("used up"), "a narrowed one is the same ticket");
}

#[tokio::test]
async fn only_a_ticket_that_can_be_good_is_made() {
    let rig = Rig::new();
    let good = Invite { pipes: vec![], rights: BOTH, expires: HOUR, uses: 1 };
    for bad in [
        Invite { rights: Rights::NONE, ..good.clone() },
        Invite { uses: 0, ..good.clone() },
        Invite { uses: 1001, ..good.clone() },
        Invite { expires: Duration::ZERO, ..good.clone() },
        Invite { expires: HOUR * 24 * 366 * 11, ..good.clone() },
        Invite { pipes: vec![Pattern::all(); 65], ..good.clone() },
    ] {
        assert_eq!(rig.keys.invite(&Caller::in_process(), bad).await.unwrap_err().code(), Code::Usage);
    }
    let mut stranger = Caller::in_process();
    stranger.admin = false;
    assert_eq!(rig.keys.invite(&stranger, good.clone()).await.unwrap_err().code(), Code::Access);
    // Who has pipes of its own invites to these.
    let mut friend = Caller::in_process();
    friend.namespace = Owner(Some(key(7).0));
    let ticket = rig.keys.invite(&friend, good).await.unwrap();
    assert_eq!(rig.admit(1, Some(&ticket)).await.unwrap().namespace, Owner(Some(key(7).0)));
}

#[tokio::test(start_paused = true)]
async fn an_edited_line_ends_what_it_admitted_within_a_second() {
    let rig = Rig::new();
    rig.edit(|list| list + &line("", 1) + &line("read", 2) + &line("", 3));
    rig.keys.reload().unwrap();
    let [removed, changed, same] = [1, 2, 3].map(|seed| rig.admit(seed, None).now_or_never().unwrap().unwrap());
    let mut same = same.revoked;
    rig.edit(|list| list.replace(&line("", 1), "# gone\n").replace(&line("read", 2), &line("write", 2)));
    let edited = tokio::time::Instant::now();
    let both = futures::future::join(removed.revoked, changed.revoked);
    tokio::time::timeout(Duration::from_secs(1), both).await.expect("within a second");
    assert!(edited.elapsed() >= Duration::from_millis(250), "a half-written file is not believed");
    assert!((&mut same).now_or_never().is_none(), "an untouched line admits on");
    assert_eq!(rig.refused(1, None).await.code(), Code::Access);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_is_out_at_once_and_its_ticket_is_dead() {
    let rig = Rig::new();
    let ticket = rig.invite(&[], BOTH, 5).await;
    let admission = rig.admit(1, Some(&ticket)).await.unwrap();
    assert_eq!(rig.keys.revoke(&fingerprint(key(1))).await.unwrap(), 1);
    assert!(admission.revoked.now_or_never().is_some());
    for seed in [1, 2] {
        let error = rig.refused(seed, Some(&ticket)).await;
        assert!(error.code() == Code::Access && error.text().contains("revoked"), "{error}");
    }
    assert_eq!(rig.keys.revoke("nobody").await.unwrap_err().code(), Code::Access);
    assert_eq!(rig.keys.revoke("owner").await.unwrap_err().code(), Code::Usage, "nobody would be left");
    let rig = rig.again();
    assert!(rig.refused(1, Some(&ticket)).await.text().contains("revoked"));
}

#[tokio::test(start_paused = true)]
async fn a_time_that_ends_ends_the_admission() {
    let rig = Rig::new();
    rig.keys.add(line("expiry-time=\"20231114221330Z\"", 1).trim()).await.unwrap();
    let revoked = tokio::spawn(rig.admit(1, None).await.unwrap().revoked);
    rig.set_clock(START + 9_000);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!revoked.is_finished());
    rig.set_clock(START + 10_000);
    tokio::time::timeout(Duration::from_secs(1), revoked).await.expect("within a second").unwrap();
    assert!(rig.refused(1, None).await.text().contains("over"));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_read_changes_nothing_and_is_told_once() {
    let rig = Rig::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = told.clone();
    rig.keys.on_fault(move |e| tells.lock().unwrap().push(e.to_string()));
    let ticket = rig.invite(&[], BOTH, 1).await;
    rig.edit(|list| list + "nonsense\n");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(rig.admit(0, None).await.is_ok(), "the last good list counts");
    assert_eq!(told.lock().unwrap().len(), 1);
    assert!(told.lock().unwrap()[0].contains("authorized_keys line 11"));
    let error = rig.refused(1, Some(&ticket)).await;
    assert!(!error.text().contains("line 11") && !error.text().contains(rig.dir.path().to_str().unwrap()), "{error}");
    assert!(rig.list().ends_with("nonsense\n"), "and is not written over");
    assert!(rig.keys.reload().is_err());
    rig.edit(|list| list.replace("nonsense\n", ""));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(rig.admit(1, Some(&ticket)).await.is_ok());
}

#[tokio::test]
async fn lines_are_added_and_replaced_and_comments_stay() {
    let rig = Rig::new();
    rig.edit(|list| format!("# mine\n{list}"));
    rig.keys.add(line("read", 1).trim()).await.unwrap();
    rig.keys.add(line("write", 1).trim()).await.unwrap();
    assert!(rig.list().starts_with("# mine\n") && rig.list().ends_with(line("write", 1).as_str()));
    assert_eq!(rig.keys.keys().await.unwrap().len(), 2);
    for bad in ["", "nonsense", "no-pty ssh-ed25519 AAAA", &format!("{}{}", line("", 2), line("", 3))] {
        assert_eq!(rig.keys.add(bad).await.unwrap_err().code(), Code::Key, "{bad}");
    }
    assert_eq!(rig.keys.add(line("", 0).trim()).await.unwrap_err().code(), Code::Usage, "the owner would lose admin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_use_a_ticket_no_more_often_than_it_says() {
    let rig = Rig::new();
    // As if another process served the same folder.
    let second = open(rig.dir.path(), &rig.hand).unwrap();
    let ticket = rig.invite(&[], BOTH, 5).await;
    let all = (1..=20).map(|seed| {
        let keys = if seed % 2 == 0 { &rig.keys } else { &second };
        keys.admit(key(seed), Some(ticket.clone()))
    });
    let admitted = futures::future::join_all(all).await.iter().filter(|a| a.is_ok()).count();
    assert_eq!(admitted, 5);
    rig.keys.reload().unwrap();
    assert_eq!(rig.keys.keys().await.unwrap().len(), 6);
}

#[tokio::test]
async fn no_secret_is_shown() {
    let rig = Rig::new();
    let token = rig.invite(&[], BOTH, 1).await;
    let ticket = Ticket::new(vec!["unix:/r".to_owned()], token.clone()).unwrap();
    let seed = rig.keys.relay_key().seed();
    let mut shown = format!("{:?} {:?} {:?}", rig.keys, ticket, rig.keys.relay_key());
    rig.set_clock(START + 3_600_000);
    let errors = [rig.refused(1, Some(&token)).await, rig.refused(1, Some(&token.slice(3..))).await];
    shown += &format!("{errors:?} {} {}", errors[0], errors[1]);
    let text = ticket.to_string();
    let secrets = [data_encoding::HEXLOWER.encode(&*seed), data_encoding::BASE64.encode(&*seed), text[20..].to_owned()];
    for secret in secrets {
        for at in 0..secret.len() - 8 {
            assert!(!shown.contains(&secret[at..at + 8]), "{shown}");
        }
    }
    assert!(!shown.contains(&format!("{:?}", &seed[..8])) && !shown.contains(&format!("{:?}", &token[20..28])));
}

//! The keys of a relay, in files of its data folder: its own key, those it admits, and the tickets that were used.

mod files;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use skypipe_core::{
    Admission, Caller, Code, Env, Error, Gatekeeper, Invite, KeyPair, Owner, OwnerLimits, PublicKey, WallTime,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::allow_list::{Admitted, AllowList};
use crate::entry::{ActsFor, Entry, PATTERNS_MAX};
use crate::ticket_book::{TicketBook, USES_MAX};
use crate::token::{OpenTicket, Terms, TicketKey, acts_for};
use crate::{join, key_file};
use files::{Files, Stamp};

/// How often the files are looked at. A change counts when it was there at two looks, so that a half-written file is not taken for a whole one:
/// a key that was removed is out within twice this time.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The longest life of a ticket.
const TICKET_LIFE_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// A relay's [`Gatekeeper`] over a folder: `relay_key`, `authorized_keys`, `tickets`. All three are made on first start, with mode 0600.
///
/// Whoever edits `authorized_keys` is heard within a second. A list that cannot be read changes nothing: the last good one
/// counts, and [`on_fault`](Self::on_fault) is told.
pub struct KeyFolder {
    shared: Arc<Shared>,
    looks: JoinHandle<()>,
}

struct Shared {
    files: Files,
    relay_key: KeyPair,
    ticket_key: TicketKey,
    names: Vec<String>,
    env: Env,
    clock: Arc<LastSeen>,
    known: watch::Sender<Arc<Known>>,
    looked: Mutex<Looked>,
    /// Held while the files are read or written, so that what is known is never older than what was known before.
    changing: Mutex<()>,
    fault: Mutex<Option<Tell>>,
}

type Tell = Arc<dyn Fn(&Error) + Send + Sync>;

/// What stands in the files.
#[derive(Default)]
struct Known {
    list: AllowList,
    book: TicketBook,
}

/// What the last look at the files found.
#[derive(Default)]
struct Looked {
    at: WallTime,
    found: Option<Stamp>,
    applied: Option<Stamp>,
}

impl KeyFolder {
    /// Opens the folder, and makes what is missing. A new `authorized_keys` admits `owner`, a key and a comment, to everything. `names`
    /// are the host names by which clients may know the relay behind a proxy. Call it within a tokio runtime: a task of it looks after the files.
    ///
    /// # Errors
    /// `E_KEY` when a file is not the user's alone, or has a line that cannot be read: the text names it. `E_STORAGE` when the folder cannot be used.
    pub fn open(
        folder: &Path,
        owner: Option<(PublicKey, String)>,
        names: Vec<String>,
        env: Env,
    ) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::try_current();
        let runtime = runtime.map_err(|_| Error::new(Code::Internal, "the keys of a relay need a tokio runtime"))?;
        let files = Files::open(folder, &first_list(owner)?)?;
        let relay_key = relay_key(&files, &env)?;
        let shared = Arc::new(Shared::new(files, relay_key, names, env)?);
        shared.reload()?;
        let looks = runtime.spawn(keep_looking(Arc::downgrade(&shared)));
        Ok(Self { shared, looks })
    }

    /// The relay's own key in this folder, which is made where it is missing; no list is. For a relay that listens before it admits
    /// anybody: whoever opens the folder first is its owner for good, and a relay whose port is taken should not have been that.
    ///
    /// # Errors
    /// As [`KeyFolder::open`].
    pub fn relay_key_in(folder: &Path, env: &Env) -> Result<KeyPair, Error> {
        relay_key(&Files::at(folder)?, env)
    }

    /// Where the relay's list of keys is.
    pub fn authorized_keys(&self) -> PathBuf {
        self.shared.files.list()
    }

    /// Reads the files again now, as on SIGHUP.
    ///
    /// # Errors
    /// `E_KEY` or `E_STORAGE`, and the last good list counts on.
    pub fn reload(&self) -> Result<(), Error> {
        self.shared.reload()
    }

    /// Has `tell` called when the files were changed into something that cannot be read.
    pub fn on_fault(&self, tell: impl Fn(&Error) + Send + Sync + 'static) {
        *lock(&self.shared.fault) = Some(Arc::new(tell));
    }
}

impl Drop for KeyFolder {
    fn drop(&mut self) {
        self.looks.abort();
    }
}

impl std::fmt::Debug for KeyFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyFolder({}, {:?})", self.shared.files.list().display(), self.shared.relay_key)
    }
}

#[async_trait]
impl Gatekeeper for KeyFolder {
    fn relay_key(&self) -> &KeyPair {
        &self.shared.relay_key
    }

    fn names(&self) -> Vec<String> {
        self.shared.names.clone()
    }

    fn owner(&self, key: PublicKey) -> Owner {
        self.shared.known().list.owner(key)
    }

    fn limits(&self, owner: Owner) -> OwnerLimits {
        self.shared.known().list.limits(owner)
    }

    fn rate(&self, key: PublicKey) -> Option<u64> {
        self.shared.known().list.get(key).and_then(|entry| entry.limits.rate)
    }

    async fn admit(&self, key: PublicKey, ticket: Option<Bytes>) -> Result<Admission, Error> {
        if let Some(token) = ticket {
            let ticket = self.shared.ticket_key.open(&token)?;
            self.come_with(key, ticket).await?;
        }
        self.shared.admission(key)
    }

    async fn invite(&self, caller: &Caller, invite: Invite) -> Result<Bytes, Error> {
        if !caller.admin {
            return Err(Error::new(Code::Access, "only who administers the relay may invite"));
        }
        let terms = self.shared.terms(caller, invite)?;
        self.shared.ticket_key.make(&terms)
    }

    async fn keys(&self) -> Result<Vec<String>, Error> {
        Ok(self.shared.known().list.key_lines().map(str::to_owned).collect())
    }

    async fn add(&self, line: &str) -> Result<(), Error> {
        let entry = Entry::parse(line)?;
        self.change(move |list, _, now| and_somebody_administers(list, now, |list| list.put(entry))).await
    }

    async fn revoke(&self, who: &str) -> Result<u32, Error> {
        let who = who.to_owned();
        let gone = self.change(move |list, _, now| {
            and_somebody_administers(list, now, |list| match list.remove(&who).len() {
                0 => Err(Error::new(Code::Access, "the relay knows no key of this text, fingerprint or comment")),
                gone => Ok(gone),
            })
        });
        Ok(u32::try_from(gone.await?).unwrap_or(u32::MAX))
    }
}

impl KeyFolder {
    async fn come_with(&self, key: PublicKey, ticket: OpenTicket) -> Result<(), Error> {
        let known = self.shared.known();
        // Who came with it is known by now, whatever became of the ticket.
        if known.list.get(key).is_some() && join::came_with(&known.list, &known.book, key, ticket.id()) {
            return Ok(());
        }
        let joined = self.change(move |list, book, now| join::join(list, book, key, &ticket.terms(now)?, now)).await;
        joined.map_err(|e| match e.code() {
            Code::Access | Code::Ticket | Code::Busy => e,
            // What is wrong with the relay's files is for its owner, not for a stranger.
            _ => {
                self.shared.tell(&e);
                Error::new(e.code(), "the relay cannot change its list of keys now: its owner has to look after it")
            }
        })
    }

    /// Changes the files, on a thread that may wait for the disk.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut AllowList, &mut TicketBook, WallTime) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = self.shared.clone();
        #[expect(clippy::disallowed_methods, reason = "the folder's files are waited for")]
        let done = tokio::task::spawn_blocking(move || shared.change(change)).await;
        done.map_err(|e| Error::new(Code::Internal, "a change of the keys was given up").because(e))?
    }
}

impl Shared {
    fn new(files: Files, relay_key: KeyPair, names: Vec<String>, env: Env) -> Result<Self, Error> {
        let ticket_key = TicketKey::of(&relay_key)?;
        let clock = Arc::new(LastSeen { env: env.clone(), seen: AtomicU64::new(0) });
        let (known, looked, changing, fault) = Default::default();
        let known = watch::Sender::new(known);
        Ok(Self { files, relay_key, ticket_key, names, env, clock, known, looked, changing, fault })
    }

    fn known(&self) -> Arc<Known> {
        self.known.borrow().clone()
    }

    fn reload(&self) -> Result<(), Error> {
        let _changing = lock(&self.changing);
        self.read().map(|known| self.publish(known))
    }

    /// Reads the files. What was found, good or not, is not looked at again until it changes.
    fn read(&self) -> Result<Known, Error> {
        let stamp = self.files.stamp();
        lock(&self.looked).applied = stamp;
        let (list, book) = self.files.read()?;
        Ok(Known { list: AllowList::parse(&list)?, book: TicketBook::parse(&book)? })
    }

    fn publish(&self, known: Known) {
        self.clock.at_least(known.book.seen);
        self.known.send_replace(Arc::new(known));
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut AllowList, &mut TicketBook, WallTime) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _changing = lock(&self.changing);
        let _alone = self.files.lock()?;
        // Another process may have changed them; a list that cannot be read is not written over.
        let before = self.read()?;
        let (mut list, mut book) = (before.list.clone(), before.book.clone());
        let done = change(&mut list, &mut book, self.clock.now())?;
        let (old, new) = (before.list.to_string(), list.to_string());
        if old != new {
            self.files.write_list(&new)?;
        }
        if before.book != book {
            self.files.write_book(&book.to_string())?;
        }
        lock(&self.looked).applied = self.files.stamp();
        self.publish(Known { list, book });
        Ok(done)
    }

    /// Looks whether the files or the time changed something.
    fn look(&self) {
        let stamp = self.files.stamp();
        let now = self.clock.now();
        let (before, settled) = {
            let mut looked = lock(&self.looked);
            let settled = stamp != looked.applied && stamp == looked.found;
            looked.found = stamp;
            (std::mem::replace(&mut looked.at, now), settled)
        };
        if settled && let Ok(_changing) = self.changing.try_lock() {
            match self.read() {
                Ok(known) => self.publish(known),
                Err(e) => self.tell(&e),
            }
        }
        if self.known().list.expires_between(before, now) {
            self.known.send_modify(|_| {});
        }
    }

    fn tell(&self, error: &Error) {
        let tell = lock(&self.fault).clone();
        if let Some(tell) = tell {
            tell(error);
        }
    }

    fn admission(&self, key: PublicKey) -> Result<Admission, Error> {
        let admitted = self.known().list.admitted(key, self.clock.now())?;
        let Admitted { namespace, grants, admin, .. } = admitted.clone();
        let revoked = revoked(self.known.subscribe(), self.clock.clone(), key, admitted);
        Ok(Admission { namespace, grants, admin, revoked })
    }

    fn terms(&self, caller: &Caller, invite: Invite) -> Result<Terms, Error> {
        let Invite { pipes, rights, expires, uses } = invite;
        let usage = |why: &str| Err(Error::new(Code::Usage, why));
        if !rights.read && !rights.write {
            return usage("a ticket allows to read, to write, or both");
        }
        if uses == 0 || uses > USES_MAX {
            return usage("a ticket is good for 1 to 1000 keys");
        }
        if expires < Duration::from_secs(1) || expires > TICKET_LIFE_MAX {
            return usage("a ticket is good for a second to ten years");
        }
        if pipes.len() > PATTERNS_MAX {
            return usage("a ticket names at most 64 patterns");
        }
        let mut id = [0; 8];
        self.env.random.fill(&mut id);
        let (id, acts) = (data_encoding::HEXLOWER.encode(&id), acts_for(&caller.namespace));
        let life = u64::try_from(expires.as_millis()).unwrap_or(u64::MAX);
        let expires = WallTime(self.clock.now().0.saturating_add(life));
        Ok(Terms { id, acts, patterns: pipes, read: rights.read, write: rights.write, uses, expires })
    }
}

/// The wall clock, which never goes back: what has expired stays so.
struct LastSeen {
    env: Env,
    seen: AtomicU64,
}

impl LastSeen {
    fn now(&self) -> WallTime {
        self.at_least(self.env.clock.wall())
    }

    fn at_least(&self, time: WallTime) -> WallTime {
        WallTime(self.seen.fetch_max(time.0, Ordering::Relaxed).max(time.0))
    }
}

async fn keep_looking(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        match shared.upgrade() {
            Some(shared) => shared.look(),
            None => return,
        }
    }
}

/// Resolves when a key is admitted to something else than it was.
fn revoked(
    mut known: watch::Receiver<Arc<Known>>,
    clock: Arc<LastSeen>,
    key: PublicKey,
    was: Admitted,
) -> BoxFuture<'static, ()> {
    async move {
        loop {
            let is = known.borrow_and_update().list.admitted(key, clock.now());
            if is.as_ref() != Ok(&was) {
                return;
            }
            if known.changed().await.is_err() {
                // The folder was closed: nothing is revoked any more.
                return std::future::pending().await;
            }
        }
    }
    .boxed()
}

fn relay_key(files: &Files, env: &Env) -> Result<KeyPair, Error> {
    key_file::read_or_make(&files.relay_key(), "skypipe relay", env)
}

/// The list of a relay that starts for the first time.
fn first_list(owner: Option<(PublicKey, String)>) -> Result<String, Error> {
    let mut text = "# Who may use this relay: one key a line, in OpenSSH's format. Options in front of a key:\n\
        #   owner=\"relay\" | owner=\"KEY\"   whose pipes it uses (else its own)\n\
        #   pipes=\"logs/**,@KEY/jobs\"      which of them (else all)\n\
        #   read, write                    what with them (else both)\n\
        #   quota=\"10G\"                    how much its pipes hold (else 16G)\n\
        #   max-pipes=\"1000\"               how many it has\n\
        #   rate=\"10M\"                     bytes a second that it writes\n\
        #   expiry-time=\"YYYYMMDDHHMMZ\"    until when\n\
        #   admin                          may invite, and change this list\n"
        .to_owned();
    if let Some((key, comment)) = owner {
        let entry = Entry { admin: true, acts: ActsFor::Relay, ..Entry::new(key, comment) };
        text += &(entry.to_line()? + "\n");
    }
    Ok(text)
}

/// Refuses a change that leaves nobody to administer the relay where there was somebody.
fn and_somebody_administers<T>(
    list: &mut AllowList,
    now: WallTime,
    change: impl FnOnce(&mut AllowList) -> Result<T, Error>,
) -> Result<T, Error> {
    let before = list.has_admin(now);
    let done = change(list)?;
    if before && !list.has_admin(now) {
        return Err(Error::new(
            Code::Usage,
            "that would leave nobody to administer the relay: add another admin first",
        ));
    }
    Ok(done)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

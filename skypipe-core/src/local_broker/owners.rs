//! What each owner has, and may have: bytes on disk and pipes, over all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use crate::budget::{Budget, Reservation};
use crate::caller::OwnerLimits;
use crate::delivery::limits::OWNER_ROOM_STEP;
use crate::identity::PublicKey;
use crate::memory::{Memory, Part};
use crate::name::Owner;

use super::shared::{Shared, lock};

/// The accounts of all owners that have pipes.
pub(super) struct Owners {
    memory: Memory,
    accounts: Mutex<HashMap<Owner, Weak<Account>>>,
    /// Those whose pipes are still to hear that there is no room any more, or some again.
    changed: Mutex<Vec<Owner>>,
}

impl Owners {
    /// Nobody has anything yet, and what they will have takes of this memory.
    pub(super) fn new(memory: &Memory) -> Self {
        Self { memory: memory.clone(), accounts: Mutex::default(), changed: Mutex::default() }
    }

    /// The account of this owner, as long as somebody holds it.
    pub(super) fn account(&self, owner: Owner) -> Arc<Account> {
        let mut accounts = lock(&self.accounts);
        if let Some(account) = accounts.get(&owner).and_then(Weak::upgrade) {
            return account;
        }
        if accounts.len() == accounts.capacity() {
            accounts.retain(|_, account| account.strong_count() > 0);
        }
        let account = Arc::new(Account::new(owner, self.memory.part_of(owner.0.map(PublicKey))));
        accounts.insert(owner, Arc::downgrade(&account));
        account
    }

    /// The other pipes of this owner are to be told. Not here, where one of them is locked: [`follow`] does it.
    pub(super) fn changed(&self, owner: Owner) {
        lock(&self.changed).push(owner);
    }
}

/// Tells the pipes of each owner whose quota was used up, or is so no more.
pub(super) fn follow(shared: &Shared) {
    let changed = std::mem::take(&mut *lock(&shared.owners.changed));
    for owner in changed {
        let cells = shared.directory().of_owner(owner);
        cells.iter().for_each(|cell| cell.measured(shared));
    }
}

/// What one owner has.
pub(super) struct Account {
    owner: Owner,
    usage: Mutex<Usage>,
    /// The memory of its pipes that rest, together: for each by itself it would take a good part of what the pipe does.
    at_rest: Mutex<(u64, Reservation)>,
    /// What its pipes may take, which is kept as long as it has one.
    part: Arc<Part>,
}

impl Account {
    fn new(owner: Owner, part: Arc<Part>) -> Self {
        let at_rest = Mutex::new((0, part.pipes.hold(0)));
        Self { owner, usage: Mutex::default(), at_rest, part }
    }

    /// Whose it is.
    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The memory of its pipes.
    pub(super) fn memory(&self) -> &Budget {
        &self.part.pipes
    }

    /// A pipe that takes so many bytes rests from now on.
    pub(super) fn rests(&self, bytes: u64) {
        let mut at_rest = lock(&self.at_rest);
        at_rest.0 += bytes;
        let all = at_rest.0;
        at_rest.1.resize(all);
    }

    /// And no more.
    pub(super) fn wakes(&self, bytes: u64) {
        let mut at_rest = lock(&self.at_rest);
        at_rest.0 = at_rest.0.saturating_sub(bytes);
        let all = at_rest.0;
        at_rest.1.resize(all);
    }

    /// The owner may have so much from now on. Tells whether that changed what its writers may do.
    pub(super) fn may_have(&self, limits: OwnerLimits) -> bool {
        lock(&self.usage).may_have(limits)
    }

    /// Whether its quota is used up.
    pub(super) fn is_full(&self) -> bool {
        lock(&self.usage).is_full
    }

    /// Whether it has as many pipes as it may.
    pub(super) fn has_all_pipes(&self) -> bool {
        lock(&self.usage).has_all_pipes()
    }
}

/// What one pipe has of its owner's account: bytes on disk.
pub(super) struct Share(u64);

impl Share {
    /// One pipe more.
    pub(super) fn new(account: &Account) -> Self {
        lock(&account.usage).pipes += 1;
        Self(0)
    }

    /// The pipe has so many bytes on disk now. Tells whether that changed what the owner's writers may do.
    pub(super) fn uses(&mut self, account: &Account, bytes: u64) -> bool {
        let before = std::mem::replace(&mut self.0, bytes);
        lock(&account.usage).uses(before, bytes)
    }

    /// The pipe is gone, which is said once; tells the same.
    pub(super) fn end(&mut self, account: &Account) -> bool {
        lock(&account.usage).pipes -= 1;
        self.uses(account, 0)
    }
}

/// The thinking part of an [`Account`].
#[derive(Debug)]
struct Usage {
    limits: OwnerLimits,
    bytes: u64,
    pipes: u64,
    is_full: bool,
}

impl Default for Usage {
    fn default() -> Self {
        Self { limits: OwnerLimits::NONE, bytes: 0, pipes: 0, is_full: false }
    }
}

impl Usage {
    fn may_have(&mut self, limits: OwnerLimits) -> bool {
        self.limits = limits;
        self.look()
    }

    fn uses(&mut self, before: u64, bytes: u64) -> bool {
        self.bytes = (self.bytes - before).saturating_add(bytes);
        self.look()
    }

    fn has_all_pipes(&self) -> bool {
        self.pipes >= self.limits.pipes_max
    }

    /// It is full from its last byte on until there is some room: each change is a look at all the owner's pipes.
    fn look(&mut self) -> bool {
        let max = self.limits.bytes_max;
        let mark = if self.is_full { max - (max / 16).min(OWNER_ROOM_STEP) } else { max };
        let is_full = self.bytes >= mark;
        std::mem::replace(&mut self.is_full, is_full) != is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(bytes_max: u64, pipes_max: u64) -> OwnerLimits {
        OwnerLimits { bytes_max, pipes_max }
    }

    #[test]
    fn pipes_of_one_owner_are_counted_together() {
        let owners = Owners::new(&Memory::default());
        let own = owners.account(Owner::SELF);
        let mut shares = [Share::new(&own), Share::new(&owners.account(Owner::SELF))];
        let other = owners.account(Owner(Some([1; 32])));
        assert!(!own.may_have(limits(1000, 2)) && own.has_all_pipes() && !other.has_all_pipes());
        assert!(!shares[0].uses(&own, 600) && !own.is_full());
        assert!(shares[1].uses(&own, 400) && own.is_full() && !other.is_full());
        assert!(!shares[1].uses(&own, 500), "it is full already");
        assert!(!shares[0].uses(&own, 440) && own.is_full(), "a byte is no room yet");
        assert!(shares[0].uses(&own, 437) && !own.is_full());
        assert!(!shares[0].end(&own) && !own.has_all_pipes());
    }

    #[test]
    fn what_goes_makes_room_and_so_does_a_wider_limit() {
        let owners = Owners::new(&Memory::default());
        let own = owners.account(Owner::SELF);
        let mut share = Share::new(&own);
        assert!(!share.uses(&own, 1 << 40), "nobody set a limit");
        assert!(own.may_have(limits(1 << 30, 1)) && own.is_full());
        assert!(own.may_have(limits(1 << 41, 1)) && !own.is_full());
        assert!(own.may_have(limits(1 << 30, 1)) && share.end(&own) && !own.is_full() && !own.has_all_pipes());
    }

    #[test]
    fn accounts_of_owners_that_left_are_forgotten() {
        let owners = Owners::new(&Memory::default());
        for number in 0..10_000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_le_bytes());
            drop(owners.account(Owner(Some(key))));
        }
        assert!(lock(&owners.accounts).len() < 100);
    }
}

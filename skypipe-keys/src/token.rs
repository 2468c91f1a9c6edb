//! The token in a ticket: a [biscuit](https://www.biscuitsec.org), signed by the relay, which every holder can narrow and nobody can widen.
//!
//! The relay's block says `ticket(ID)`, `owner("relay"|KEY)`, `uses(N)`, `expires(TIME)`, and checks; whoever passes the ticket on may append more of
//! them. A check is one of three: on `time($t)`, that it is before some moment; on `right($r)`, that it is among some; on `pipe($p)`, that it is among some patterns,
//! or narrower. Anything else that was appended is refused, as its meaning for a pattern would not be its meaning for a name.

mod limit;
#[cfg(test)]
mod tests;

use biscuit_auth::builder::{BlockBuilder, Term, fact};
use biscuit_auth::{AuthorizerBuilder, AuthorizerLimits, Biscuit, UnverifiedBiscuit, builder};
use bytes::Bytes;
use hkdf::Hkdf;
use sha2::Sha256;
use skypipe_core::{Code, Error, KeyPair, Owner, Pattern, PublicKey, Rights, WallTime};
use std::time::Duration;
use zeroize::Zeroizing;

use crate::entry::{ActsFor, PATTERNS_MAX};
use crate::pattern;
use limit::Limit;

/// Longest token that is looked at, in bytes: one of the relay's own has about 300, and each narrowing adds about 150.
pub(crate) const TOKEN_BYTES_MAX: usize = 3000;
/// Most blocks of a token: the relay's own, and one for each narrowing.
const BLOCKS_MAX: usize = 16;
/// What the check of one token may take: far above what the three kinds of checks need, so that a busy machine refuses no good ticket.
const LIMITS: AuthorizerLimits =
    AuthorizerLimits { max_facts: 1000, max_iterations: 100, max_time: Duration::from_secs(2) };
/// Makes the key of tickets another one than the relay's, which signs other things.
const DERIVATION: &[u8] = b"skypipe ticket key 1";

/// The key with which a relay signs its tickets.
pub(crate) struct TicketKey(biscuit_auth::KeyPair);

/// What a ticket allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Its name in files and messages; no secret.
    pub(crate) id: String,
    /// For whom the keys that come with it act.
    pub(crate) acts: ActsFor,
    /// Which pipes they may use; none means all of the namespace.
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// How many keys may come with it.
    pub(crate) uses: u32,
    /// From when on it is not good any more.
    pub(crate) expires: WallTime,
}

/// A token whose signature is this relay's.
pub(crate) struct OpenTicket {
    token: Biscuit,
    id: String,
}

impl TicketKey {
    /// Derived from the relay's key, so that one file is all the secret there is, and a relay with a new key has no old tickets.
    pub(crate) fn of(relay: &KeyPair) -> Result<Self, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        let derived = Hkdf::<Sha256>::new(None, &*relay.seed()).expand(DERIVATION, &mut *seed);
        derived.map_err(|_| internal())?;
        let private = biscuit_auth::PrivateKey::from_bytes(&*seed, builder::Algorithm::Ed25519);
        Ok(Self(biscuit_auth::KeyPair::from(&private.map_err(|_| internal())?)))
    }

    /// Makes the token of a ticket.
    pub(crate) fn make(&self, terms: &Terms) -> Result<Bytes, Error> {
        let owner = match terms.acts {
            ActsFor::Key(key) => key.to_string(),
            _ => "relay".to_owned(),
        };
        let facts = [
            fact("ticket", &[Term::Str(terms.id.clone())]),
            fact("owner", &[Term::Str(owner)]),
            fact("uses", &[Term::Integer(terms.uses.into())]),
            fact("expires", &[Term::Date(seconds(terms.expires))]),
        ];
        let mut token = Biscuit::builder();
        for fact in facts {
            token = token.fact(fact).map_err(|_| internal())?;
        }
        let limits = limits(&terms.patterns, Some((terms.read, terms.write)), Some(terms.expires))?;
        for limit in &limits {
            token = token.check(limit.to_check()).map_err(|_| internal())?;
        }
        let made = token.build(&self.0).and_then(|t| t.to_vec()).map_err(|_| internal())?;
        bounded(made)
    }

    /// Reads a token of this relay's.
    pub(crate) fn open(&self, token: &[u8]) -> Result<OpenTicket, Error> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(unreadable());
        }
        let token = UnverifiedBiscuit::from(token).map_err(|_| unreadable())?;
        let token = token.verify(self.0.public()).map_err(|_| {
            access("the ticket is another relay's, or was changed: ask the owner of this relay for a ticket")
        })?;
        let fits = token.block_count() <= BLOCKS_MAX && token.external_public_keys().iter().all(Option::is_none);
        if !fits {
            return Err(unreadable());
        }
        // Before anything is computed with it: what was appended has facts and rules nowhere, and no check but the three.
        for block in 1..token.block_count() {
            Limit::all_of(&token, block)?;
        }
        let id = one(&token, "ticket")?;
        Ok(OpenTicket { token, id })
    }
}

impl OpenTicket {
    /// The name of the ticket.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// What the ticket allows at `now`, as the checks of all its blocks decide.
    ///
    /// # Errors
    /// `E_ACCESS` when it has expired, or was narrowed to nothing.
    pub(crate) fn terms(&self, now: WallTime) -> Result<Terms, Error> {
        let owner: String = one(&self.token, "owner")?;
        let acts = match owner.as_str() {
            "relay" => ActsFor::Relay,
            key => ActsFor::Key(key.parse().map_err(|_| unreadable())?),
        };
        let (patterns, read, write) = self.allowed(now)?.ok_or_else(|| self.nothing_left())?;
        let uses: i64 = one(&self.token, "uses")?;
        let expires: std::time::SystemTime = one(&self.token, "expires")?;
        let expires = expires.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let expires = WallTime(u64::try_from(expires.as_millis()).unwrap_or(u64::MAX));
        let uses = u32::try_from(uses).unwrap_or(0);
        Ok(Terms { id: self.id.clone(), acts, patterns, read, write, uses, expires })
    }

    fn nothing_left(&self) -> Error {
        // At the beginning of time nothing has expired yet.
        match self.allowed(WallTime(0)) {
            Ok(Some(_)) => access("the ticket has expired: ask for a new one"),
            _ => access("the ticket was narrowed until it allows nothing: ask for another one"),
        }
    }

    /// The patterns (none: all pipes) and rights that the checks let through.
    fn allowed(&self, now: WallTime) -> Result<Option<(Vec<Pattern>, bool, bool)>, Error> {
        let named = self.named_patterns()?;
        let (mut patterns, mut read, mut write) = (Vec::new(), false, false);
        for candidate in &named {
            let ask = |right| self.passes(candidate.as_ref(), &named, right, now);
            let (reads, writes) = (ask("read")?, ask("write")?);
            if reads || writes {
                (read, write) = (read || reads, write || writes);
                patterns.extend(candidate.clone());
            }
        }
        let whole = patterns.clone();
        patterns.retain(|p| !whole.iter().any(|wide| wide != p && pattern::covers(wide, p)));
        Ok((read || write).then_some((patterns, read, write)))
    }

    /// All patterns that some check names, each once; where none does, one place without pattern, which stands for all pipes.
    fn named_patterns(&self) -> Result<Vec<Option<Pattern>>, Error> {
        let mut named: Vec<Option<Pattern>> = Vec::new();
        for block in 0..self.token.block_count() {
            for text in Limit::all_of(&self.token, block)?.iter().flat_map(Limit::pipes) {
                let parsed = Some(pattern::parse(text).map_err(|_| unreadable())?);
                if !named.contains(&parsed) {
                    named.push(parsed);
                }
            }
        }
        if named.len() > PATTERNS_MAX {
            return Err(unreadable());
        }
        if named.is_empty() {
            named.push(None);
        }
        Ok(named)
    }

    /// Whether all checks pass for `right` to the pipes of `candidate`. A check that asks for a wider pattern is met by a narrower one.
    fn passes(
        &self,
        candidate: Option<&Pattern>,
        named: &[Option<Pattern>],
        right: &str,
        now: WallTime,
    ) -> Result<bool, Error> {
        let wider = named.iter().flatten().filter(|p| candidate.is_some_and(|c| pattern::covers(p, c)));
        let pipes: Vec<String> = wider.map(pattern::to_text).collect::<Result<_, _>>()?;
        let mut ask = AuthorizerBuilder::new().set_limits(LIMITS);
        for pipe in pipes {
            ask = ask.fact(fact("pipe", &[Term::Str(pipe)])).map_err(|_| internal())?;
        }
        let ask = ask.fact(fact("right", &[Term::Str(right.to_owned())])).map_err(|_| internal())?;
        let ask = ask.fact(fact("time", &[Term::Date(seconds(now))])).map_err(|_| internal())?;
        let mut ask = ask.policy("allow if true").and_then(|a| a.build(&self.token)).map_err(|_| internal())?;
        Ok(ask.authorize_with_limits(LIMITS).is_ok())
    }
}

/// Narrows a token without asking its relay: what is not named stays as it was.
///
/// # Errors
/// `E_TICKET` when it cannot be read or becomes too long, `E_NAME` for a pattern that cannot stand in it.
pub(crate) fn attenuate(
    token: &[u8],
    patterns: &[Pattern],
    rights: Option<Rights>,
    expires: Option<WallTime>,
) -> Result<Bytes, Error> {
    let token = UnverifiedBiscuit::from(token).map_err(|_| unreadable())?;
    let mut block = BlockBuilder::new();
    for limit in &limits(patterns, rights.map(|r| (r.read, r.write)), expires)? {
        block = block.check(limit.to_check()).map_err(|_| internal())?;
    }
    bounded(token.append(block).and_then(|t| t.to_vec()).map_err(|_| unreadable())?)
}

/// For whom those act whom somebody of this namespace invites.
pub(crate) fn acts_for(namespace: &Owner) -> ActsFor {
    namespace.0.map_or(ActsFor::Relay, |key| ActsFor::Key(PublicKey(key)))
}

fn limits(patterns: &[Pattern], rights: Option<(bool, bool)>, expires: Option<WallTime>) -> Result<Vec<Limit>, Error> {
    let mut limits = Vec::new();
    limits.extend(expires.map(|at| Limit::Before(seconds(at))));
    limits.extend(rights.map(|(read, write)| {
        let words = [("read", read), ("write", write)];
        Limit::Rights(words.iter().filter(|(_, has)| *has).map(|(word, _)| (*word).to_owned()).collect())
    }));
    if !patterns.is_empty() {
        limits.push(Limit::Pipes(patterns.iter().map(pattern::to_text).collect::<Result<_, _>>()?));
    }
    Ok(limits)
}

/// The one value of a fact in the relay's own block.
fn one<T>(token: &Biscuit, name: &str) -> Result<T, Error>
where
    (T,): TryFrom<builder::Fact, Error = biscuit_auth::error::Token>,
{
    let mut ask = AuthorizerBuilder::new().set_limits(LIMITS).build(token).map_err(|_| internal())?;
    // Facts of appended blocks are out of reach: a query trusts the relay's block alone.
    let rule = format!("value($v) <- {name}($v)");
    let found: Result<(T,), _> = ask.query_exactly_one(rule.as_str());
    found.map(|(value,)| value).map_err(|_| unreadable())
}

fn bounded(token: Vec<u8>) -> Result<Bytes, Error> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Error::new(Code::Ticket, "the ticket would be too long: name fewer pipes"));
    }
    Ok(token.into())
}

fn seconds(time: WallTime) -> u64 {
    time.0 / 1000
}

fn unreadable() -> Error {
    Error::new(Code::Ticket, "the token in the ticket cannot be read by this version: ask for a new ticket")
}

fn access(why: &str) -> Error {
    Error::new(Code::Access, why)
}

fn internal() -> Error {
    Error::new(Code::Internal, "a token could not be made")
}

//! What a stranger's tickets must not do here; the body of one target of `skypipe-fuzz`. No part of the crate's interface.
#![allow(clippy::panic, reason = "a promise that does not hold panics")]

use std::sync::LazyLock;

use biscuit_auth::UnverifiedBiscuit;
use biscuit_auth::builder::{Binary, BlockBuilder, Check, CheckKind, Expression, Op, Predicate, Rule, Term, Unary};
use skypipe_core::{KeyPair, Pattern, WallTime};

use crate::entry::ActsFor;
use crate::token::{Terms, TicketKey};

const NOW: WallTime = WallTime(1_700_000_000_000);

/// The relay's key, its ticket for one pattern, and the token of it.
static RELAY: LazyLock<Option<(TicketKey, Vec<u8>)>> = LazyLock::new(|| {
    let key = TicketKey::of(&KeyPair::from_seed(&[9; 32])).ok()?;
    let expires = WallTime(NOW.0 + 3_600_000);
    let patterns = vec![Pattern::parse("logs/**").ok()?];
    let (id, acts) = ("0011".to_owned(), ActsFor::Relay);
    let token = key.make(&Terms { id, acts, patterns, read: true, write: false, uses: 2, expires }).ok()?;
    Some((key, token.to_vec()))
});

/// Somebody who has a ticket changes its bytes, or appends a block to it: neither gives them more than they had.
pub fn token(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let Some((key, token)) = &*RELAY else { panic!("a relay makes tickets") };
    let changed = match first % 3 {
        0 => rest.to_vec(),
        1 => patched(token, rest),
        _ => match appended(token, rest) {
            Some(longer) => longer,
            None => return,
        },
    };
    let Ok(opened) = key.open(&changed) else { return };
    if let Ok(terms) = opened.terms(NOW) {
        let covered = |p: &Pattern| Pattern::parse("logs/**").is_ok_and(|wide| crate::pattern::covers(&wide, p));
        assert!(terms.read && !terms.write && !terms.patterns.is_empty(), "a ticket was widened: {terms:?}");
        assert!(terms.patterns.iter().all(covered), "a ticket was widened: {terms:?}");
    }
}

/// Some bytes of the token replaced: at two bytes of place, one byte.
fn patched(token: &[u8], patches: &[u8]) -> Vec<u8> {
    let mut bytes = token.to_vec();
    for patch in patches.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % bytes.len();
        bytes[at] = patch[2];
    }
    bytes
}

/// The token with a block that holds a fact, a rule or a check, made of any operations.
fn appended(token: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let (&[shape, name], rest) = bytes.split_first_chunk()?;
    let ops: Vec<Op> = rest.iter().map(|&b| op(b)).collect();
    let name = ["pipe", "right", "time", "ticket", "owner", "uses"][usize::from(name % 6)].to_owned();
    let variable = || vec![Term::Variable("v".to_owned())];
    let body = Predicate::new(name.clone(), if shape & 1 == 0 { variable() } else { vec![term(shape >> 4)] });
    let head = Predicate::new(name, variable());
    let rule = Rule::new(head, vec![body], vec![Expression { ops }], Vec::new());
    let block = match shape >> 1 & 3 {
        0 | 1 => {
            let kind = if shape & 8 == 0 { CheckKind::One } else { CheckKind::All };
            BlockBuilder::new().check(Check { queries: vec![rule], kind }).ok()?
        }
        2 => BlockBuilder::new().rule(rule).ok()?,
        _ => BlockBuilder::new().fact(biscuit_auth::builder::fact(&rule.head.name, &[term(shape >> 4)])).ok()?,
    };
    UnverifiedBiscuit::from(token).ok()?.append(block).ok()?.to_vec().ok()
}

fn op(byte: u8) -> Op {
    match byte >> 4 {
        0..=7 => Op::Value(term(byte)),
        8 | 9 => Op::Unary(Unary::Parens),
        10 => Op::Unary(Unary::Negate),
        11 => Op::Binary(Binary::Contains),
        12 => Op::Binary(Binary::Equal),
        13 => Op::Binary(Binary::LessThan),
        14 => Op::Binary(Binary::Or),
        _ => Op::Binary(Binary::And),
    }
}

fn term(byte: u8) -> Term {
    let words = ["logs/**", "logs/a", "**", "read", "write", "", "\"]) or true", "a\\"];
    let word = Term::Str(words[usize::from(byte % 8)].to_owned());
    match byte >> 3 & 3 {
        0 => word,
        1 => Term::Variable("v".to_owned()),
        2 => Term::Set([word, Term::Str("logs/b".to_owned())].into()),
        _ => Term::Date(u64::from(byte) * 60_000_000),
    }
}

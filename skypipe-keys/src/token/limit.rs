//! The three checks that a ticket may have.

use biscuit_auth::Biscuit;
use biscuit_auth::builder::{Binary, BlockBuilder, Check, CheckKind, Expression, Op, Predicate, Rule, Term};
use skypipe_core::Error;

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// That it is earlier than this, in seconds since 1970.
    Before(u64),
    /// That the right is one of these words.
    Rights(Vec<String>),
    /// That the pipes are covered by one of these patterns.
    Pipes(Vec<String>),
}

impl Limit {
    /// The limits of a block.
    ///
    /// # Errors
    /// `E_TICKET` when, behind the first block, there is anything else in it.
    pub(super) fn all_of(token: &Biscuit, block: usize) -> Result<Vec<Self>, Error> {
        let source = token.print_block_source(block).map_err(|_| super::unreadable())?;
        if !is_flat(&source) {
            return Err(super::unreadable());
        }
        let block_of = BlockBuilder::new().code(source).map_err(|_| super::unreadable())?;
        let pure = block_of.facts.is_empty() && block_of.rules.is_empty() && block_of.scopes.is_empty();
        if block > 0 && !pure {
            return Err(super::unreadable());
        }
        block_of.checks.iter().map(|c| Self::of(c).ok_or_else(super::unreadable)).collect()
    }

    /// The patterns it names.
    pub(super) fn pipes(&self) -> impl Iterator<Item = &str> {
        let pipes = match self {
            Self::Pipes(pipes) => &pipes[..],
            _ => &[],
        };
        pipes.iter().map(String::as_str)
    }

    /// As a check of a biscuit.
    pub(super) fn to_check(&self) -> Check {
        let variable = || Op::Value(Term::Variable("v".to_owned()));
        let (name, ops) = match self {
            Self::Before(time) => {
                ("time", vec![variable(), Op::Value(Term::Date(*time)), Op::Binary(Binary::LessThan)])
            }
            Self::Rights(words) | Self::Pipes(words) => {
                let name = if matches!(self, Self::Rights(_)) { "right" } else { "pipe" };
                let among = Term::Set(words.iter().cloned().map(Term::Str).collect());
                (name, vec![Op::Value(among), variable(), Op::Binary(Binary::Contains)])
            }
        };
        let body = Predicate::new(name.to_owned(), vec![Term::Variable("v".to_owned())]);
        let head = Predicate::new("query".to_owned(), Vec::new());
        let query = Rule::new(head, vec![body], vec![Expression { ops }], Vec::new());
        Check { queries: vec![query], kind: CheckKind::One }
    }

    fn of(check: &Check) -> Option<Self> {
        let ([query], CheckKind::One) = (&check.queries[..], &check.kind) else { return None };
        let [Predicate { name, terms }] = &query.body[..] else { return None };
        if !query.scopes.is_empty() {
            return None;
        }
        match (name.as_str(), &terms[..], &query.expressions[..]) {
            ("time", [Term::Variable(v)], [e]) => before(v, e),
            ("right", [term], expressions) => among(term, expressions).map(Self::Rights),
            ("pipe", [term], expressions) => among(term, expressions).map(Self::Pipes),
            _ => None,
        }
    }
}

/// Whether a text may be one of the three checks, told by its brackets alone: they never lie within each other, and nothing is
/// negated. The parser calls itself for each bracket and each `!`, and whoever has a ticket may append them: 500 overflow a stack of
/// 2 MiB, which ends the process, and some 400 fit a token.
fn is_flat(source: &str) -> bool {
    let (mut quoted, mut depth) = (false, 0_u32);
    for c in source.chars() {
        match c {
            // No pattern has one, so no quote is anything but the end of a text.
            '\\' => return false,
            '"' => quoted = !quoted,
            '!' if !quoted => return false,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > 1 {
            return false;
        }
    }
    true
}

fn before(variable: &str, expression: &Expression) -> Option<Limit> {
    let [Op::Value(Term::Variable(v)), Op::Value(Term::Date(time)), Op::Binary(compare)] = &expression.ops[..] else {
        return None;
    };
    let compares = matches!(compare, Binary::LessThan | Binary::LessOrEqual);
    (compares && v == variable).then_some(Limit::Before(*time))
}

/// `f("a")`, `f($v), $v == "a"` or `f($v), {"a", "b"}.contains($v)`.
fn among(term: &Term, expressions: &[Expression]) -> Option<Vec<String>> {
    match (term, expressions) {
        (Term::Str(only), []) => Some(vec![only.clone()]),
        (Term::Variable(variable), [expression]) => match &expression.ops[..] {
            [
                Op::Value(Term::Variable(v)),
                Op::Value(Term::Str(only)),
                Op::Binary(Binary::Equal | Binary::HeterogeneousEqual),
            ] if v == variable => Some(vec![only.clone()]),
            [Op::Value(set), Op::Value(Term::Variable(v)), Op::Binary(Binary::Contains)] if v == variable => words(set),
            _ => None,
        },
        _ => None,
    }
}

fn words(set: &Term) -> Option<Vec<String>> {
    let word = |term: &Term| match term {
        Term::Str(word) => Some(word.clone()),
        _ => None,
    };
    match set {
        Term::Set(terms) => terms.iter().map(word).collect(),
        Term::Array(terms) => terms.iter().map(word).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flat_text_is_parsed() {
        for flat in [r#"check if pipe($v), {"a(([{!", "b"}.contains($v);"#, r#"check if right("read")"#, ""] {
            assert!(is_flat(flat), "{flat}");
        }
        for deep in ["check if ((true))", "check if [[1]] == 1", "check if !true", r#"check if pipe("\"")"#, "f({1})"] {
            assert!(!is_flat(deep), "{deep}");
        }
    }
}

//! What stands where a pipe is named: `name`, or `@owner/name` for a pipe of somebody else's.

use std::fmt;
use std::str::FromStr;

use crate::error::{Code, Error};
use crate::identity::PublicKey;
use crate::name::{Owner, Pattern, PipeName, PipeRef};

/// One pipe as a person names it: `logs/web` is a pipe of one's own, `@KEY/logs/web` one of the owner with this key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whose pipe.
    pub owner: Owner,
    /// Which of the owner's.
    pub name: PipeName,
}

impl Target {
    /// Parses `text` as a pipe to write to.
    ///
    /// # Errors
    /// `E_NAME`, as [`PipeName::new`], and when what stands behind the `@` is no key.
    pub fn for_writers(text: &str) -> Result<Self, Error> {
        let (owner, rest) = split_owner(text)?;
        Ok(Self { owner, name: PipeName::new(rest)? })
    }

    /// Parses `text` as a pipe to read from.
    ///
    /// # Errors
    /// `E_NAME`, as [`PipeName::for_readers`], and when what stands behind the `@` is no key.
    pub fn for_readers(text: &str) -> Result<Self, Error> {
        let (owner, rest) = split_owner(text)?;
        Ok(Self { owner, name: PipeName::for_readers(rest)? })
    }

    /// The pipe as brokers name it.
    pub fn pipe_ref(&self) -> PipeRef {
        PipeRef { owner: self.owner, path: self.name.path() }
    }
}

impl Default for Target {
    /// The pipe that is meant when no name is given at all.
    fn default() -> Self {
        Self::from(PipeName::default())
    }
}

impl From<PipeName> for Target {
    fn from(name: PipeName) -> Self {
        Self { owner: Owner::SELF, name }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", OwnerPrefix(&self.owner), self.name)
    }
}

/// Pipes of one owner, as a person names them: `logs/*`, `@KEY/logs/*`; `@KEY` alone is all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPattern {
    /// Whose pipes.
    pub owner: Owner,
    /// Which of them.
    pub pattern: Pattern,
}

impl TargetPattern {
    /// Every pipe of one's own.
    pub fn all() -> Self {
        Self { owner: Owner::SELF, pattern: Pattern::all() }
    }
}

impl FromStr for TargetPattern {
    type Err = Error;

    /// # Errors
    /// `E_NAME`, as [`Pattern::parse`], and when what stands behind the `@` is no key.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(key) = text.strip_prefix('@').filter(|rest| !rest.contains('/')) {
            return Ok(Self { owner: owner(key)?, pattern: Pattern::all() });
        }
        let (owner, rest) = split_owner(text)?;
        Ok(Self { owner, pattern: Pattern::parse(rest)? })
    }
}

/// What stands before the name of an owner's pipe: `@KEY/`, or nothing before one's own.
pub struct OwnerPrefix<'a>(pub &'a Owner);

impl fmt::Display for OwnerPrefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.map_or(Ok(()), |key| write!(f, "@{}/", PublicKey(key)))
    }
}

fn split_owner(text: &str) -> Result<(Owner, &str), Error> {
    let Some(rest) = text.strip_prefix('@') else { return Ok((Owner::SELF, text)) };
    match rest.split_once('/') {
        Some((key, name)) => Ok((owner(key)?, name)),
        None => Err(Error::new(Code::Name, "a leading `@` names an owner; the pipe stands behind it: `@KEY/name`")),
    }
}

fn owner(key: &str) -> Result<Owner, Error> {
    let key: PublicKey = key.parse().map_err(|_| {
        // What was typed may be megabytes long: the line that complains of it stays a line.
        let shown: String = key.chars().take(60).collect();
        let text = format!("not an owner: @{}: an owner is a key, 52 letters and digits", shown.escape_debug());
        Error::new(Code::Name, text)
    })?;
    Ok(Owner(Some(key.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_ones_own_and_a_key_before_it_is_the_owners() {
        let key = PublicKey([9; 32]);
        let own = Target::for_writers("logs/web").unwrap();
        assert_eq!((own.owner, own.to_string()), (Owner::SELF, "logs/web".to_owned()));
        let theirs = Target::for_readers(&format!("@{key}/logs/dead")).unwrap();
        assert_eq!((theirs.owner, theirs.name.as_str()), (Owner(Some(key.0)), "logs/dead"));
        assert_eq!(theirs.to_string(), format!("@{key}/logs/dead"));
        assert_eq!(theirs.pipe_ref().owner, theirs.owner);
    }

    #[test]
    fn what_is_no_owner_or_no_name_behind_one_is_refused() {
        let key = PublicKey([9; 32]);
        let long = "x".repeat(5000);
        for bad in [
            "@",
            "@bob",
            "@bob/x",
            "@/x",
            &format!("@{key}"),
            &format!("@{key}/"),
            &format!("@{key}/@{key}/x"),
            &format!("@{long}/x"),
        ] {
            let error = Target::for_readers(bad).unwrap_err();
            assert!(error.code() == Code::Name && error.text().len() < 300, "{bad}: {error}");
        }
        assert!(Target::for_writers(&format!("@{key}/jobs/dead")).is_err());
    }

    #[test]
    fn patterns_have_owners_too() {
        let key = PublicKey([9; 32]);
        let parsed: TargetPattern = format!("@{key}/logs/*").parse().unwrap();
        assert_eq!((parsed.owner, parsed.pattern), (Owner(Some(key.0)), Pattern::parse("logs/*").unwrap()));
        let all: TargetPattern = format!("@{key}").parse().unwrap();
        assert_eq!(all.pattern, Pattern::all());
        assert_eq!("**".parse::<TargetPattern>().unwrap(), TargetPattern::all());
        assert!("@bob/*".parse::<TargetPattern>().is_err() && "".parse::<TargetPattern>().is_err());
    }
}

//! What a script on another machine tells: lines `@sky KEY VALUE`, the last of them `@sky end ok`.
//!
//! Whatever else stands between them, such as the greeting of a login shell, is for the one who looks into a failure.

use skypipe_core::{Code, Error};

const MARK: &str = "@sky ";
/// Longest answer that is read, in bytes: facts, not files.
pub(crate) const ANSWER_BYTES_MAX: u64 = 256 << 10;
/// Lines of what a machine said that are shown when something failed: the last ones tell why.
const SHOWN_LINES: usize = 3;

/// One script's answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    facts: Vec<(String, String)>,
    noise: Vec<String>,
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// What the script itself gave as the reason to stop, and `E_DISCONNECTED` where its last line is missing: an answer that
    /// was cut off is never taken for a whole one.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let answer = Self::lines(text);
        if let Some(reason) = answer.get("failed") {
            return Err(Error::new(Code::Internal, answer.with_noise(reason)));
        }
        if answer.get("end") != Some("ok") {
            return Err(Error::new(
                Code::Disconnected,
                answer.with_noise("the other machine did not finish its answer"),
            ));
        }
        Ok(answer)
    }

    fn lines(text: &str) -> Self {
        let mut answer = Self::default();
        for line in text.lines() {
            match line.strip_prefix(MARK).map(|l| l.split_once(' ').unwrap_or((l, ""))) {
                Some((key, value)) => answer.facts.push((key.to_owned(), value.trim_end().to_owned())),
                None if line.trim().is_empty() => {}
                None => answer.noise.push(line.trim().to_owned()),
            }
        }
        answer
    }

    /// The first value of `key` that is not empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.facts.iter().find(|(k, value)| k == key && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Every value of `key`.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.facts.iter().filter(move |(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The number of `key`.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }

    fn with_noise(&self, reason: &str) -> String {
        let last = &self.noise[self.noise.len().saturating_sub(SHOWN_LINES)..];
        if last.is_empty() { reason.to_owned() } else { format!("{reason}: {}", last.join(" · ")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn facts_are_found_between_a_shells_greetings() {
        let text = "Welcome!\n@sky os Linux\n@sky empty \n@sky url a\n@sky url b\nlast login: never\n@sky end ok\n";
        let answer = Answer::parse(text).unwrap();
        assert_eq!((answer.get("os"), answer.get("empty"), answer.get("none")), (Some("Linux"), None, None));
        assert_eq!(answer.all("url").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_cut_off_answer_is_none() {
        let whole = "@sky os Linux\n@sky end ok\n";
        for end in 0..whole.len() - 1 {
            let error = Answer::parse(&whole[..end]).unwrap_err();
            assert_eq!(error.code(), Code::Disconnected, "{:?}", &whole[..end]);
        }
    }

    #[test]
    fn a_failure_comes_with_its_reason() {
        let error = Answer::parse("mkdir: no room\n@sky failed the folder cannot be made\n@sky end ok\n").unwrap_err();
        assert_eq!(error.text(), "the folder cannot be made: mkdir: no room");
    }

    proptest! {
        #[test]
        fn nothing_that_a_machine_says_makes_it_panic(text in any::<String>()) {
            let _ = Answer::parse(&text);
        }
    }
}

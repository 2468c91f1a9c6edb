//! A command that has ended, and what must be true of it.

use super::data::Digest;

/// What a command left.
#[derive(Debug)]
pub struct Done {
    pub shown: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub digest: Digest,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Done {
    /// It exited with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        self.exits_one_of(&[code])
    }

    /// It exited with one of these codes.
    #[track_caller]
    pub fn exits_one_of(self, codes: &[i32]) -> Self {
        let fits = self.code.is_some_and(|c| codes.contains(&c));
        assert!(
            fits,
            "{} exited with {:?} (signal {:?}), not {codes:?}; stderr: {}",
            self.shown, self.code, self.signal, self.stderr
        );
        self
    }

    /// Its stdout was exactly this.
    #[track_caller]
    pub fn gave(self, expected: impl AsRef<[u8]>) -> Self {
        let expected = expected.as_ref();
        assert!(
            self.stdout == expected,
            "{} gave {} bytes {:?}, not {} bytes {:?}; stderr: {}",
            self.shown,
            self.stdout.len(),
            start_of(&self.stdout),
            expected.len(),
            start_of(expected),
            self.stderr
        );
        self
    }

    /// Its stdout had this count and SHA-256.
    #[track_caller]
    pub fn gave_digest(self, expected: &Digest) -> Self {
        assert_eq!(&self.digest, expected, "{}; stderr: {}", self.shown, self.stderr);
        self
    }

    /// It said nothing at all on stderr.
    #[track_caller]
    pub fn quietly(self) -> Self {
        assert_eq!(self.stderr, "", "{} said something", self.shown);
        self
    }

    /// Its stderr holds `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{} did not say {text:?}, only: {}", self.shown, self.stderr);
        self
    }

    /// Its stderr is one line for people, which ends with this code.
    #[track_caller]
    pub fn fails_with(self, code: &str) -> Self {
        let one_line = self.stderr.starts_with("skypipe: ") && self.stderr.lines().count() == 1;
        let ending = format!("({code})\n");
        assert!(one_line && self.stderr.ends_with(&ending), "not one line with {code}: {:?}", self.stderr);
        self
    }

    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|e| panic!("{} gave no JSON: {e}: {}", self.shown, self.text()))
    }
}

fn start_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}

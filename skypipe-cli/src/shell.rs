//! Words of commands that people are told to run.

/// `word` as a shell takes it for one word with exactly these characters.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:@%+,=".contains(c);
    if !word.is_empty() && !word.starts_with(['-', '=']) && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_that_a_shell_would_change_are_quoted() {
        assert_eq!(
            quoted("quic://k@example.org:7473,wss://k@example.org:7473"),
            "quic://k@example.org:7473,wss://k@example.org:7473"
        );
        assert_eq!(quoted("logs/web"), "logs/web");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!((quoted(""), quoted("-x"), quoted("[a]")), ("''".into(), "'-x'".into(), "'[a]'".into()));
    }
}

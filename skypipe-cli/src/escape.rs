//! Remote text made harmless for terminals: no byte of it moves the cursor, retitles a window or reverses a line.

use std::fmt::Write as _;

/// `text` with every control character but those in `keep` written out, bidirectional controls included.
fn escape_into(out: &mut String, text: &str, keep: &[char]) {
    for c in text.chars() {
        if (c.is_control() || is_bidi(c)) && !keep.contains(&c) {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
}

/// One line for stderr: newlines are written out as well.
pub(crate) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_into(&mut out, text, &[]);
    out
}

/// Characters that reorder what stands around them.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes a stream of bytes for a terminal. Newlines and tabs stay; a character that lies across two inputs stays whole.
#[derive(Debug, Default)]
pub(crate) struct Escaper {
    /// The first bytes of a character whose rest has not come yet: three at most.
    open: Vec<u8>,
}

impl Escaper {
    /// The next bytes, made harmless.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        let mut joined = std::mem::take(&mut self.open);
        joined.extend_from_slice(bytes);
        let (ready, open) = joined.split_at(joined.len() - open_bytes(&joined));
        self.open = open.to_vec();
        escaped(ready)
    }

    /// What is left when nothing follows.
    pub(crate) fn finish(&mut self) -> String {
        escaped(&std::mem::take(&mut self.open))
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        escape_into(&mut out, chunk.valid(), &['\n', '\t']);
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// How many bytes at the end are the beginning of a character.
fn open_bytes(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    (1..=tail.len())
        .rev()
        .find(|&n| {
            let end = &tail[tail.len() - n..];
            std::str::from_utf8(end).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn controls_are_written_out() {
        assert_eq!(line("a\u{1b}]52;x\u{7}\nb\u{202e}\u{9b}\r"), "a\\u{1b}]52;x\\u{7}\\nb\\u{202e}\\u{9b}\\r");
        assert_eq!(Escaper::default().push(b"tab\there\n\xff\x1b[2J"), "tab\there\n\\xff\\u{1b}[2J");
    }

    #[test]
    fn a_character_across_two_inputs_stays_whole() {
        let mut escaper = Escaper::default();
        assert_eq!(escaper.push(b"\xe2\x82"), "");
        assert_eq!(escaper.push(b"\xac!"), "\u{20ac}!");
        assert_eq!(escaper.push(b"\xc2"), "");
        assert_eq!(escaper.finish(), "\\xc2");
    }

    proptest! {
        #[test]
        fn no_split_changes_the_result(bytes in prop::collection::vec(any::<u8>(), 0..40), at in 0..40usize) {
            let at = at.min(bytes.len());
            let mut whole = Escaper::default();
            let mut split = Escaper::default();
            let one = whole.push(&bytes) + &whole.finish();
            let two = split.push(&bytes[..at]) + &split.push(&bytes[at..]) + &split.finish();
            prop_assert_eq!(&one, &two);
            prop_assert!(!one.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
        }
    }
}

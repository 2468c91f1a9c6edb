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

/// JSON that a terminal may show: what JSON lets stand in its texts and a terminal acts upon becomes `\u…`, which means the same.
pub(crate) fn json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        // All of them are in the first plane, where one escape is one character.
        if c.is_control() || is_bidi(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether some of it is not seen, or reorders what is: two texts that look the same may not be.
pub(crate) fn has_hidden(text: &str) -> bool {
    text.chars().any(|c| is_bidi(c) || is_invisible(c))
}

/// The same with those characters written out.
pub(crate) fn all_hidden(text: &str) -> String {
    let shown = |c: char| if is_bidi(c) || is_invisible(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// Characters without width.
fn is_invisible(c: char) -> bool {
    // The joiners U+200C and U+200D are left out: names in some scripts, and of some emoji, need them.
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
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
    fn json_means_the_same() {
        let text = "a\u{1b}\n\u{7f}\u{9b}\u{202e}ü\u{1f427}";
        let shown = json(&serde_json::to_string(text).unwrap());
        assert!(!shown.chars().any(|c| c.is_control() || is_bidi(c)), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
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

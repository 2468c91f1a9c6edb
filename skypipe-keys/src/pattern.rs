//! Patterns as text, and which of two covers the other.

use skypipe_core::{Code, Error, Pattern, PatternSegment};

/// Reads a pattern that may stand in `authorized_keys` and in tickets.
///
/// # Errors
/// `E_NAME` when it is none, or has one of the three characters that have a meaning there.
pub(crate) fn parse(text: &str) -> Result<Pattern, Error> {
    let pattern = Pattern::parse(text)?;
    to_text(&pattern)?;
    Ok(pattern)
}

/// The pattern as it was typed.
///
/// # Errors
/// `E_NAME` when a segment is not text, or has a quote, a comma or a backslash: there they mean something else, and `*` says it too.
pub(crate) fn to_text(pattern: &Pattern) -> Result<String, Error> {
    let segments: Option<Vec<&str>> = pattern.0.iter().map(segment_text).collect();
    let text = segments.map(|s| s.join("/")).filter(|text| !text.contains(['"', ',', '\\']));
    text.ok_or_else(|| {
        Error::new(Code::Name, "a pattern for keys has no quote, comma or backslash: put `*` for that segment")
    })
}

fn segment_text(segment: &PatternSegment) -> Option<&str> {
    match segment {
        PatternSegment::Literal(bytes) => std::str::from_utf8(bytes).ok(),
        PatternSegment::One => Some("*"),
        PatternSegment::Any => Some("**"),
        _ => None,
    }
}

/// Whether `wide` surely matches whatever `narrow` matches. In doubt, such as between `*/**` and `**/*`, it says no.
pub(crate) fn covers(wide: &Pattern, narrow: &Pattern) -> bool {
    // As `Pattern::matches`, with the segments of `narrow` in place of a path's.
    let mut reachable = vec![false; narrow.0.len() + 1];
    reachable[0] = true;
    for part in &wide.0 {
        let mut next = vec![false; narrow.0.len() + 1];
        for at in 0..=narrow.0.len() {
            let before = at > 0 && reachable[at - 1];
            next[at] = match part {
                PatternSegment::Any => reachable[at] || (at > 0 && next[at - 1]),
                PatternSegment::One => before && narrow.0[at - 1] != PatternSegment::Any,
                literal => before && narrow.0[at - 1] == *literal,
            };
        }
        reachable = next;
    }
    reachable[narrow.0.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skypipe_core::PipeName;

    use super::*;

    fn covered(wide: &str, narrow: &str) -> bool {
        covers(&parse(wide).unwrap(), &parse(narrow).unwrap())
    }

    #[test]
    fn a_pattern_survives_its_text() {
        for text in ["logs/**", "*", "a b/ü/*/c", "**"] {
            assert_eq!(to_text(&parse(text).unwrap()).unwrap(), text);
        }
        for bad in ["a,b", "a\"b", "a\\b", "", "a**"] {
            assert_eq!(parse(bad).unwrap_err().code(), Code::Name, "{bad}");
        }
    }

    #[test]
    fn the_wider_covers_the_narrower() {
        for (wide, narrow) in
            [("**", "a/b"), ("**", "**"), ("a/**", "a/*/**"), ("a/*", "a/b"), ("a/**/z", "a/*/z"), ("a", "a")]
        {
            assert!(covered(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [("a/*", "a/**"), ("a", "b"), ("a/b", "a/*"), ("*", "**"), ("a/**", "**"), ("a/*", "a")] {
            assert!(!covered(wide, narrow), "{wide} {narrow}");
        }
    }

    proptest! {
        #[test]
        fn what_is_covered_matches_no_more(
            wide in "(a|b|\\*|\\*\\*)(/(a|b|\\*|\\*\\*)){0,3}",
            narrow in "(a|b|\\*|\\*\\*)(/(a|b|\\*|\\*\\*)){0,3}",
            name in "[abc](/[abc]){0,4}",
        ) {
            let (wide, narrow) = (parse(&wide).unwrap(), parse(&narrow).unwrap());
            let path = PipeName::new(&name).unwrap().path();
            prop_assert!(!covers(&wide, &narrow) || !narrow.matches(&path) || wide.matches(&path));
        }
    }
}

//! Versions, compared as numbers.

use std::fmt;
use std::str::FromStr;

/// A version of skypipe: `1.2.3`. What stands behind it, such as `-rc.1`, makes it older than the same without.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    numbers: [u32; 3],
    is_release: bool,
    label: String,
}

impl Version {
    /// The version of this program.
    pub(crate) fn own() -> Option<Self> {
        env!("CARGO_PKG_VERSION").parse().ok()
    }

    /// The version in the answer to `--version`.
    pub(crate) fn of_answer(line: &str) -> Option<Self> {
        line.strip_prefix("skypipe ")?.trim().parse().ok()
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.split('+').next().unwrap_or_default();
        let (numbers, label) = text.split_once('-').unwrap_or((text, ""));
        let parts: Vec<u32> = numbers.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| ())?;
        let numbers = parts.try_into().map_err(|_| ())?;
        Ok(Self { numbers, is_release: label.is_empty(), label: label.to_owned() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if self.is_release { Ok(()) } else { write!(f, "-{}", self.label) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_ordered_as_numbers() {
        let order = ["0.1.0-rc.1", "0.1.0", "0.1.9", "0.1.10", "0.2.0", "1.0.0"].map(|v| v.parse::<Version>().unwrap());
        assert!(order.is_sorted() && order[0] < order[1]);
        assert_eq!(order[0].to_string(), "0.1.0-rc.1");
        assert_eq!(Version::of_answer("skypipe 0.1.0\n"), Some(order[1].clone()));
        assert!(Version::own().is_some());
    }

    #[test]
    fn what_is_none_is_none() {
        for bad in ["", "1", "1.2", "1.2.3.4", "a.b.c", "-1.0.0", "99999999999.0.0"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
        assert!(Version::of_answer("bash 5.2.0").is_none());
    }
}

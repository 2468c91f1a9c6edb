//! Sizes as people write them: `512M`, `10G`, `4096`.

/// Bytes; K, M, G and T are powers of 1024, with or without `B` or `iB` behind.
///
/// # Errors
/// What is wrong, for people.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_end_matches('B').trim_end_matches('i').to_ascii_uppercase();
    let power = match unit.as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("a size is a number and K, M, G or T, such as 512M".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a size is a number and K, M, G or T, such as 512M".to_owned())?;
    number.checked_mul(1 << power).ok_or_else(|| "that is more than there is".to_owned())
}

/// The shortest text of so many bytes.
pub(crate) fn size_text(bytes: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let whole = units.iter().find(|(power, _)| bytes != 0 && bytes.trailing_zeros() >= *power);
    whole.map_or_else(|| bytes.to_string(), |(power, unit)| format!("{}{unit}", bytes >> power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_survives_its_text() {
        for bytes in [0, 1, 1023, 1024, 1536, 10 << 30, (10 << 30) + 1, 3 << 40, u64::MAX] {
            assert_eq!(parse_size(&size_text(bytes)), Ok(bytes));
        }
        assert_eq!(size_text(10 << 30), "10G");
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("4096", 4096), ("512M", 512 << 20), ("2g", 2 << 30), ("1KiB", 1024), ("3TB", 3 << 40)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "10X", "10 M", "99999999999999999999", "99999999T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}

/// Reads a number of bytes such as `64KiB`, `10MB` or `4096`. Units of 1,000 and of 1,024 keep their meaning.
pub(super) fn parse(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// Writes a number of bytes in the largest unit that fits.
pub(super) fn show(bytes: usize) -> String {
    for (unit, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!(parse("64KiB"), Some(65_536));
        assert_eq!(parse(" 10 MB "), Some(10_000_000));
        assert_eq!(parse("7"), Some(7));
        for bad in
            ["", "KiB", "-1", "1.5MiB", "1TiB", "1 kib", "99999999999999999999", "18446744073709551615KiB"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!((show(65_536), show(1000), show(1 << 20)), ("64KiB".into(), "1000".into(), "1MiB".into()));
    }
}

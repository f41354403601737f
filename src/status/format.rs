//! Numbers and texts as people read them.

/// `12,345`; one decimal below ten that is not whole.
pub(super) fn number(value: f64) -> String {
    if value.abs() < 10.0 && (value - value.round()).abs() >= 0.05 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 && digits != "0" {
        text.insert(0, '-');
    }
    text
}

/// `3.5 MiB`
pub(super) fn bytes(value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = value;
    let mut unit = 0;
    while value.abs() >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", number(value), units.get(unit).unwrap_or(&"B"))
}

/// In the unit of a queue.
pub(super) fn amount(value: f64, unit: &str) -> String {
    match unit {
        "bytes" => bytes(value),
        unit => format!("{} {unit}", number(value)),
    }
}

/// `42 %`
pub(super) fn percent(part: f64) -> String {
    format!("{} %", number((part * 100.0).round()))
}

/// `3 d 4 h`, `5 min`, `12 s`
pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Text inside of HTML, also of attributes in quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (value, want) in [
            (0.0, "0"),
            (0.04, "0"),
            (0.5, "0.5"),
            (9.96, "10"),
            (999.4, "999"),
            (1000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-1234.0, "-1,234"),
            (-0.01, "0"),
        ] {
            assert_eq!(number(value), want, "{value}");
        }
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(3_670_016.0), "3.5 MiB");
        assert_eq!(amount(1024.0, "bytes"), "1 KiB");
        assert_eq!(amount(3.0, "batches"), "3 batches");
        assert_eq!(percent(0.256), "26 %");
        for (seconds, want) in [
            (5.0, "5 s"),
            (65.0, "1 min"),
            (3700.0, "1 h 1 min"),
            (90_000.0, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), want);
        }
    }

    #[test]
    fn texts_cannot_become_markup() {
        assert_eq!(
            escape("<a href=\"x\">&</a>"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&lt;/a&gt;"
        );
    }
}

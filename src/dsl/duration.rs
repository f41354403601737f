//! Lengths of time in ISO 8601, as rule files have them: `PT1M`, `PT1H30M`, `P1D`.

use std::time::Duration;

/// A positive length of days, hours, minutes and seconds; `None` for everything else. A day has 24 hours.
pub fn parse(text: &str) -> Option<Duration> {
    if !text.starts_with(['P', 'p']) {
        return None;
    }
    let span: jiff::Span = text.parse().ok()?;
    if span.get_years() != 0 || span.get_months() != 0 || span.get_weeks() != 0 {
        return None;
    }
    let without_days = span.days(0);
    let days = i64::from(span.get_days()).checked_mul(24 * 60 * 60)?;
    let rest = jiff::SignedDuration::try_from(without_days).ok()?;
    let length = rest.checked_add(jiff::SignedDuration::from_secs(days))?;
    let length = Duration::try_from(length).ok()?;
    (!length.is_zero()).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positive_lengths_of_fixed_units_count() {
        for (text, seconds) in [
            ("PT1M", Some(60.0)),
            ("PT15S", Some(15.0)),
            ("PT0.5S", Some(0.5)),
            ("P1DT1H", Some(25.0 * 3600.0)),
            ("pt1m", Some(60.0)),
            ("PT0S", None),
            ("-PT1M", None),
            ("P1M", None),
            ("1m", None),
            ("60", None),
            ("", None),
            ("PT99999999999999999999M", None),
        ] {
            assert_eq!(parse(text).map(|d| d.as_secs_f64()), seconds, "{text}");
        }
    }
}

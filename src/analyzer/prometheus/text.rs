//! The Prometheus text format 0.0.4: a page becomes samples, line by line; a line that is wrong loses only itself.

use std::borrow::Cow;

/// One line with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    pub name: &'a str,
    /// In the order of the line; no name twice.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// May be NaN or infinite.
    pub value: f64,
}

/// What a page declares a family of metrics to be. Everything that is neither of the other two is one number per line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyType {
    Number,
    Histogram,
    Summary,
}

/// A line that says something.
#[derive(Debug, Clone, PartialEq)]
pub enum Line<'a> {
    Type(&'a str, FamilyType),
    Sample(Sample<'a>),
}

/// Why a line was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadLine {
    #[error("not UTF-8")]
    NotText,
    #[error("expected the name of a metric, of letters, digits, _ and :")]
    Name,
    #[error("expected a metric type: counter, gauge, histogram, summary or untyped")]
    Type,
    #[error("expected the name of a label, of letters, digits and _")]
    LabelName,
    #[error("expected =\"value\" after the name of a label")]
    LabelValue,
    #[error("expected , or }} after a label")]
    LabelEnd,
    #[error("the same label twice")]
    SameLabel,
    #[error("more than {MAX_LABELS} labels")]
    TooManyLabels,
    #[error("expected a number, NaN, +Inf or -Inf as value")]
    Value,
    #[error("expected a time in whole milliseconds, or nothing, after the value")]
    Time,
    #[error("a bucket without a label le that is a number")]
    Bucket,
}

/// No exporter has a reason for more; finding one that comes twice takes time that grows with the square.
const MAX_LABELS: usize = 128;

/// The lines of a page that say something, with their numbers from 1.
pub fn lines(page: &[u8]) -> impl Iterator<Item = (usize, Result<Line<'_>, BadLine>)> {
    page.split(|byte| *byte == b'\n')
        .enumerate()
        .filter_map(|(at, line)| {
            let parsed = match std::str::from_utf8(line) {
                Ok(text) => parse(text.trim_matches([' ', '\t', '\r'])).transpose()?,
                Err(_) => Err(BadLine::NotText),
            };
            Some((at + 1, parsed))
        })
}

/// `None` for what says nothing: empty lines, comments, help texts.
fn parse(line: &str) -> Result<Option<Line<'_>>, BadLine> {
    match line.strip_prefix('#') {
        _ if line.is_empty() => Ok(None),
        Some(comment) => comment_line(comment),
        None => sample(line).map(|sample| Some(Line::Sample(sample))),
    }
}

fn comment_line(comment: &str) -> Result<Option<Line<'_>>, BadLine> {
    let mut words = comment.split([' ', '\t']).filter(|word| !word.is_empty());
    if words.next() != Some("TYPE") {
        return Ok(None);
    }
    let (name, rest) = metric_name(words.next().unwrap_or_default())?;
    if !rest.is_empty() {
        return Err(BadLine::Name);
    }
    let ty = match words.next().map(str::to_ascii_lowercase).as_deref() {
        Some("counter" | "gauge" | "untyped" | "unknown") => FamilyType::Number,
        Some("histogram") => FamilyType::Histogram,
        Some("summary") => FamilyType::Summary,
        _ => return Err(BadLine::Type),
    };
    Ok(Some(Line::Type(name, ty)))
}

fn sample(line: &str) -> Result<Sample<'_>, BadLine> {
    let (name, rest) = metric_name(line)?;
    let (labels, rest) = match blank(rest).strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
    let value = words.next().and_then(number).ok_or(BadLine::Value)?;
    // A sample counts as of the moment when the page was fetched, as in the original.
    let is_time = |word: &str| word.parse::<i64>().is_ok();
    if !words.next().is_none_or(is_time) || words.next().is_some() {
        return Err(BadLine::Time);
    }
    Ok(Sample {
        name,
        labels,
        value,
    })
}

/// Labels after `{`, and what follows their `}`.
#[expect(clippy::type_complexity, reason = "a list and a rest")]
fn labels(text: &str) -> Result<(Vec<(&str, Cow<'_, str>)>, &str), BadLine> {
    let mut labels: Vec<(&str, Cow<'_, str>)> = Vec::new();
    let mut rest = blank(text);
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, after) = word(rest, false).ok_or(BadLine::LabelName)?;
        let after = blank(after).strip_prefix('=').map(blank);
        let after = after.and_then(|rest| rest.strip_prefix('"'));
        let (value, after) = after.and_then(quoted).ok_or(BadLine::LabelValue)?;
        if labels.iter().any(|(other, _)| *other == name) {
            return Err(BadLine::SameLabel);
        }
        if labels.len() == MAX_LABELS {
            return Err(BadLine::TooManyLabels);
        }
        labels.push((name, value));
        rest = blank(after);
        match rest.strip_prefix(',') {
            Some(more) => rest = blank(more),
            None if rest.starts_with('}') => {}
            None => return Err(BadLine::LabelEnd),
        }
    }
}

/// The text up to the closing quote, and what follows it. A backslash before anything but `\`, `"` and `n` stays.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = text.find(['"', '\\'])?;
    if let Some(rest) = text.get(end..)?.strip_prefix('"') {
        return Some((Cow::Borrowed(text.get(..end)?), rest));
    }
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((Cow::Owned(value), text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c @ ('\\' | '"') => value.push(c),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
    None
}

fn metric_name(text: &str) -> Result<(&str, &str), BadLine> {
    word(text, true).ok_or(BadLine::Name)
}

/// A name at the start of `text`, and the rest.
fn word(text: &str, may_have_colons: bool) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (c == ':' && may_have_colons);
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    let is_name = name.starts_with(|c: char| !c.is_ascii_digit());
    is_name.then_some((name, rest))
}

fn blank(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// A number as exporters write it; also the bound of a bucket.
pub fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(line: &str) -> Result<Option<Line<'_>>, BadLine> {
        let mut lines = lines(line.as_bytes());
        let first = lines.next().map(|(_, parsed)| parsed).transpose();
        assert_eq!(lines.next(), None);
        first
    }

    #[test]
    fn samples_have_names_labels_and_values() {
        type Want<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);
        let cases: &[(&str, Want<'_>)] = &[
            ("a 1", ("a", &[], 1.0)),
            ("\t a:b_9\t 1e-3  \r", ("a:b_9", &[], 0.001)),
            ("a{} 2 1600000000000", ("a", &[], 2.0)),
            ("a -3.5 -1", ("a", &[], -3.5)),
            ("a +Inf", ("a", &[], f64::INFINITY)),
            ("a -Inf", ("a", &[], f64::NEG_INFINITY)),
            (r#"a{x="1",y="2"} 3"#, ("a", &[("x", "1"), ("y", "2")], 3.0)),
            (r#"a { x = "1" , } 3"#, ("a", &[("x", "1")], 3.0)),
            (r#"a{x=""}4"#, ("a", &[("x", "")], 4.0)),
            (
                r#"a{x="C:\\d\"q\"\nz\t é}"} 5"#,
                ("a", &[("x", "C:\\d\"q\"\nz\\t é}")], 5.0),
            ),
        ];
        for (line, (name, labels, value)) in cases {
            let labels = labels.iter().map(|(k, v)| (*k, Cow::from(*v))).collect();
            let want = Sample {
                name,
                labels,
                value: *value,
            };
            assert_eq!(only(line), Ok(Some(Line::Sample(want))), "{line}");
        }
        let Ok(Some(Line::Sample(sample))) = only("a NaN") else {
            panic!()
        };
        assert!(sample.value.is_nan());
    }

    #[test]
    fn comments_declare_types() {
        for (line, want) in [
            ("", None),
            ("# some words", None),
            ("# HELP a TYPE of thing", None),
            ("#", None),
            (
                "# TYPE a counter",
                Some(Line::Type("a", FamilyType::Number)),
            ),
            (
                "# TYPE a untyped",
                Some(Line::Type("a", FamilyType::Number)),
            ),
            (
                "#\tTYPE  a\tHistogram",
                Some(Line::Type("a", FamilyType::Histogram)),
            ),
            (
                "# TYPE a:b summary",
                Some(Line::Type("a:b", FamilyType::Summary)),
            ),
        ] {
            assert_eq!(only(line), Ok(want), "{line}");
        }
    }

    #[test]
    fn a_bad_line_says_what_was_expected() {
        for (line, want) in [
            ("1a 1", BadLine::Name),
            ("{x=\"1\"} 1", BadLine::Name),
            ("é 1", BadLine::Name),
            ("# TYPE", BadLine::Name),
            ("# TYPE a-b gauge", BadLine::Name),
            ("# TYPE a gouge", BadLine::Type),
            ("a{1=\"x\"} 1", BadLine::LabelName),
            ("a{x:y=\"x\"} 1", BadLine::LabelValue),
            ("a{x} 1", BadLine::LabelValue),
            ("a{x=1} 1", BadLine::LabelValue),
            ("a{x=\"1} 1", BadLine::LabelValue),
            ("a{x=\"1\\", BadLine::LabelValue),
            ("a{x=\"1\" y=\"2\"} 1", BadLine::LabelEnd),
            ("a{x=\"1\"", BadLine::LabelEnd),
            ("a{", BadLine::LabelName),
            ("a{,} 1", BadLine::LabelName),
            ("a{x=\"1\",x=\"2\"} 1", BadLine::SameLabel),
            ("a", BadLine::Value),
            ("a one", BadLine::Value),
            ("a{} ", BadLine::Value),
            ("a 1 2.5", BadLine::Time),
            ("a 1 2 3", BadLine::Time),
        ] {
            assert_eq!(only(line), Err(want), "{line}");
        }
        let many: String = (0..=MAX_LABELS).map(|i| format!("l{i}=\"\",")).collect();
        assert_eq!(only(&format!("a{{{many}}} 1")), Err(BadLine::TooManyLabels));
    }

    #[test]
    fn a_bad_line_loses_only_itself() {
        let page = b"# TYPE a gauge\na 1\nb {\n\xff\xfe\n\nc 2";
        let found: Vec<_> = lines(page)
            .map(|(at, line)| (at, line.map_err(|bad| bad.to_string()).is_ok()))
            .collect();
        assert_eq!(
            found,
            [(1, true), (2, true), (3, false), (4, false), (6, true)]
        );
    }
}

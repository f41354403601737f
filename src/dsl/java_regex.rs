//! Java's regular expressions in the words of the `regex` family: what both have but mean differently, or write differently.

use fancy_regex::{Regex, RegexBuilder};

/// A Java pattern that matches whole texts only. A match may take so many steps until it is given up.
///
/// By itself it must be a pattern too, or brackets that do not pair would join with ours.
pub fn compile(pattern: &str, max_steps: usize) -> Result<Regex, String> {
    let pattern = translate(pattern)?;
    let text = |error: fancy_regex::Error| error.to_string();
    Regex::new(&pattern).map_err(text)?;
    RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
        .backtrack_limit(max_steps)
        .build()
        .map_err(text)
}

/// A Java pattern as a pattern with the same meaning. What only other dialects have is refused, other mistakes stay in it.
fn translate(pattern: &str) -> Result<String, String> {
    let mut translated = String::with_capacity(pattern.len());
    let mut class_depth = 0_usize;
    let mut rest = pattern;
    while let Some(at) = rest.find(['\\', '[', ']', '(']) {
        translated.push_str(&rest[..at]);
        let from_here = &rest[at..];
        rest = &from_here[1..];
        match from_here.as_bytes()[0] {
            b'\\' => rest = translate_escape(rest, &mut translated)?,
            b'(' if class_depth > 0 => translated.push_str(r"\("),
            b'(' => {
                if rest.starts_with('?') && !is_group(&rest[1..]) {
                    let shown: String = from_here.chars().take(8).collect();
                    return Err(format!("`{shown}` begins no group of Java"));
                }
                translated.push('(');
            }
            b'[' => {
                class_depth += 1;
                translated.push('[');
            }
            _ => {
                class_depth = class_depth.saturating_sub(1);
                translated.push(']');
            }
        }
    }
    translated.push_str(rest);
    Ok(translated)
}

/// What follows a backslash: adds its meaning, returns what is behind it.
fn translate_escape<'a>(escape: &'a str, translated: &mut String) -> Result<&'a str, String> {
    let mut after = escape.chars();
    let Some(kind) = after.next() else {
        // A lone backslash is a mistake in both.
        translated.push('\\');
        return Ok("");
    };
    let rest = after.as_str();
    match (kind, class(kind)) {
        (_, Some(class)) => translated.push_str(class),
        ('Q', _) => {
            let (quoted, behind) = rest.split_once("\\E").unwrap_or((rest, ""));
            translated.push_str(&fancy_regex::escape(quoted));
            return Ok(behind);
        }
        ('p' | 'P', _) => match posix(rest) {
            Some((name, behind)) => {
                let not = if kind == 'P' { "^" } else { "" };
                translated.push_str(&format!("[[:{not}{name}:]]"));
                return Ok(behind);
            }
            None => translated.extend(['\\', kind]),
        },
        ('k', _) if !is_name_of_group(rest.strip_prefix('<')) => {
            return Err(r"`\k` needs the name of a group, as in `\k<name>`".to_owned());
        }
        ('g', _) => return Err(r"Java has no `\g`".to_owned()),
        _ => translated.extend(['\\', kind]),
    }
    Ok(rest)
}

/// Whether a name, and the `>` that ends it, are at the start.
fn is_name_of_group(text: Option<&str>) -> bool {
    let name = text.and_then(|text| text.split_once('>'));
    name.is_some_and(|(name, _)| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

/// Whether a group of Java goes on so after `(?`.
fn is_group(text: &str) -> bool {
    let flags = text.trim_start_matches(|c| "idmsuxU-".contains(c));
    text.starts_with([':', '=', '!', '>'])
        || text.starts_with("<=")
        || text.starts_with("<!")
        || is_name_of_group(text.strip_prefix('<'))
        || flags.len() < text.len() && flags.starts_with([':', ')'])
}

/// Classes that are ASCII in Java, or whose letter stands for something else.
fn class(letter: char) -> Option<&'static str> {
    Some(match letter {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        's' => r"[ \t\n\x0B\f\r]",
        'S' => r"[^ \t\n\x0B\f\r]",
        'h' => r"[ \t\x{A0}\x{1680}\x{180E}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}]",
        'H' => r"[^ \t\x{A0}\x{1680}\x{180E}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}]",
        'v' => r"[\n\x0B\f\r\x{85}\x{2028}\x{2029}]",
        'V' => r"[^\n\x0B\f\r\x{85}\x{2028}\x{2029}]",
        _ => return None,
    })
}

/// `{Alpha}` and its like at the start: the name of the same ASCII class, and what follows.
fn posix(text: &str) -> Option<(&'static str, &str)> {
    let (name, behind) = text.strip_prefix('{')?.split_once('}')?;
    let name = match name {
        "Lower" => "lower",
        "Upper" => "upper",
        "ASCII" => "ascii",
        "Alpha" => "alpha",
        "Digit" => "digit",
        "Alnum" => "alnum",
        "Punct" => "punct",
        "Graph" => "graph",
        "Print" => "print",
        "Blank" => "blank",
        "Cntrl" => "cntrl",
        "XDigit" => "xdigit",
        "Space" => "space",
        _ => return None,
    };
    Some((name, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_java() {
        for (pattern, matches, fails) in [
            (r"\/a\/\d+", "/a/12", "/a/\u{0661}"),
            (r"[\d-]+", "1-2", "1_2"),
            (r"[^\w]", "ü", "a"),
            (r"\W", "ü", "_"),
            (r"\s\S", "\u{b}x", "\u{a0}x"),
            (r"\h", "\u{a0}", "f"),
            (r"\Q/a.b(\E\d", "/a.b(1", "/axb(1"),
            (r"\Qa+", "a+", "aa"),
            (r"[\Q[]\E]", "]", "a"),
            (r"\p{Alpha}+", "abc", "ü"),
            (r"[\p{Digit}\P{Space}]", "1", "\t"),
            (r"\p{Lu}", "Ü", "ü"),
            (r"(?<n>a|b)\k<n>", "bb", "ab"),
            (r"\\d", r"\d", "1"),
            (r"[a-z&&[^b]]", "a", "b"),
            (r"(?!admin)\w++", "orders", "admin"),
            (r"\x41é", "Aé", "A"),
            (r".*", "", "\n"),
            (r"[(?(-1)b]", "?", "a"),
            (r"(?i-s:A)(?>b|bc)(?<=b)", "ab", "abc"),
        ] {
            let regex = compile(pattern, 10_000).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert!(regex.is_match(matches).unwrap(), "{pattern} {matches}");
            assert!(!regex.is_match(fails).unwrap(), "{pattern} {fails}");
        }
    }

    #[test]
    fn what_java_does_not_have_is_refused() {
        for (pattern, why) in [
            (r"a\", "Backslash"),
            (r"a)(b", "end of string not reached"),
            (r"(a)\g1", r"Java has no `\g`"),
            (r"(a)\k<-9223372036854775808>", "name of a group"),
            (r"(a)\k<1>", "name of a group"),
            (r"(a)\k'n'", "name of a group"),
            (r"(a)(?(-9223372036854775808)b)", "`(?(-9223` begins no"),
            (r"(?P<n>a)", "`(?P<n>a)` begins no"),
            (r"(?<n-1>a)", "begins no"),
            (r"(?", "begins no"),
            (r"(?i", "begins no"),
        ] {
            let error = compile(pattern, 10_000).unwrap_err();
            assert!(error.contains(why), "{pattern}: {error}");
        }
    }
}

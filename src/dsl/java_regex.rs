//! Java's regular expressions in the words of the `regex` family: what both have but mean differently, or write differently.

/// A Java pattern as a pattern with the same meaning; mistakes stay in it.
pub fn translate(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, escape)) = rest.split_once('\\') {
        translated.push_str(before);
        let mut after = escape.chars();
        let Some(kind) = after.next() else {
            // A lone backslash is a mistake in both.
            translated.push('\\');
            return translated;
        };
        rest = after.as_str();
        match (kind, class(kind)) {
            (_, Some(class)) => translated.push_str(class),
            ('Q', _) => {
                let (quoted, behind) = rest.split_once("\\E").unwrap_or((rest, ""));
                translated.push_str(&fancy_regex::escape(quoted));
                rest = behind;
            }
            ('p' | 'P', _) => match posix(rest) {
                Some((name, behind)) => {
                    let not = if kind == 'P' { "^" } else { "" };
                    translated.push_str(&format!("[[:{not}{name}:]]"));
                    rest = behind;
                }
                None => translated.extend(['\\', kind]),
            },
            _ => translated.extend(['\\', kind]),
        }
    }
    translated.push_str(rest);
    translated
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
        ] {
            let regex = fancy_regex::Regex::new(&format!(r"\A(?:{})\z", translate(pattern)));
            let regex = regex.unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert!(regex.is_match(matches).unwrap(), "{pattern} {matches}");
            assert!(!regex.is_match(fails).unwrap(), "{pattern} {fails}");
        }
        assert!(fancy_regex::Regex::new(&translate("a\\")).is_err());
    }
}

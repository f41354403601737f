//! `JAVA_OPTS`: deployments of the original pass properties and the run mode there (deployment spec, A5, A8).
//!
//! Split at white space only, as the original's start script does: quotes are ordinary characters. A JVM itself reads two more variables, before
//! and after its command line, and there takes what is between quotes as one (documentation of `JAVA_TOOL_OPTIONS`).

use super::{Environment, RunMode};

/// What `JAVA_OPTS` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct JavaOpts {
    /// `-Dname=value` in order; the last one of a name counts.
    pub properties: Vec<(String, String)>,
    /// `-Xmx` in bytes.
    pub max_heap_bytes: Option<u64>,
    /// Everything else, which means nothing to this server.
    pub others: Vec<String>,
}

impl JavaOpts {
    /// Those of a process with these variables.
    pub fn of(environment: &Environment) -> JavaOpts {
        let text = |name| environment.get(name).unwrap_or_default();
        let mut flags = quoted(text("JAVA_TOOL_OPTIONS"));
        flags.extend(text("JAVA_OPTS").split_whitespace().map(str::to_owned));
        flags.extend(quoted(text("_JAVA_OPTIONS")));
        JavaOpts::read(&flags)
    }

    fn read(flags: &[String]) -> JavaOpts {
        let mut opts = JavaOpts::default();
        for flag in flags {
            if let Some(property) = flag.strip_prefix("-D").filter(|p| !p.is_empty()) {
                let (name, value) = property.split_once('=').unwrap_or((property, ""));
                opts.properties.push((name.to_owned(), value.to_owned()));
            } else if let Some(bytes) = flag.strip_prefix("-Xmx").and_then(bytes) {
                opts.max_heap_bytes = Some(bytes);
            } else {
                opts.others.push(flag.clone());
            }
        }
        opts
    }

    /// A property by name.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// `-Dmode`, in whatever case; without one, the normal mode. `Err` is a value that is none.
    pub fn mode(&self) -> Result<RunMode, &str> {
        let value = self.property("mode").unwrap_or_default();
        match value.to_ascii_lowercase().as_str() {
            "init" => Ok(RunMode::Init),
            "no-init" => Ok(RunMode::NoInit),
            "" | "default" => Ok(RunMode::Normal),
            _ => Err(value),
        }
    }
}

/// Words, of which `'` and `"` keep white space; one without its partner reaches to the end.
fn quoted(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut open = None;
    for c in text.chars() {
        match open {
            Some(quote) if c == quote => open = None,
            None if c == '\'' || c == '"' => {
                open = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// `512m`, `2G`, `1048576`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &str) -> JavaOpts {
        JavaOpts::of(&[("JAVA_OPTS", options)].into_iter().collect())
    }

    #[test]
    fn options_for_every_jvm_count_too() {
        let opts = JavaOpts::of(
            &[
                ("JAVA_TOOL_OPTIONS", "-Dmode=init '-Da=b c' -D\"e=f"),
                ("JAVA_OPTS", "-Dmode=no-init '-Dx=y -Dg=h"),
                ("_JAVA_OPTIONS", "-Dg=last -Xmx1k"),
            ]
            .into_iter()
            .collect(),
        );
        assert_eq!(opts.mode(), Ok(RunMode::NoInit));
        for (name, want) in [("a", "b c"), ("e", "f"), ("g", "last")] {
            assert_eq!(opts.property(name), Some(want), "{name}");
        }
        assert_eq!(opts.others, ["'-Dx=y"]);
        assert_eq!(opts.max_heap_bytes, Some(1024));
    }

    #[test]
    fn options_of_the_chart_are_understood() {
        let opts = parse(
            " -Xmx2g -Xms2g  -Dmode=NO-INIT\n-Dcore.default.restPort=1 -Da=b=c -Dflag -XX:+UseG1GC ",
        );
        let property = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        assert_eq!(
            opts,
            JavaOpts {
                properties: vec![
                    property("mode", "NO-INIT"),
                    property("core.default.restPort", "1"),
                    property("a", "b=c"),
                    property("flag", ""),
                ],
                max_heap_bytes: Some(2 << 30),
                others: vec!["-Xms2g".to_owned(), "-XX:+UseG1GC".to_owned()],
            }
        );
        assert_eq!(opts.mode(), Ok(RunMode::NoInit));
    }

    #[test]
    fn the_last_property_of_a_name_counts() {
        for (options, mode) in [
            ("-Dmode=no-init -Dmode=Init", Ok(RunMode::Init)),
            ("-Dmode=init -Dmode=DEFAULT", Ok(RunMode::Normal)),
            ("-Dmode=", Ok(RunMode::Normal)),
            ("", Ok(RunMode::Normal)),
            ("-Dmode=init -Dmode=Bogus", Err("Bogus")),
        ] {
            assert_eq!(parse(options).mode(), mode, "{options}");
        }
    }

    #[test]
    fn heap_sizes_that_make_no_sense_are_left_alone() {
        for (flag, want) in [
            ("-Xmx512M", Some(512 << 20)),
            ("-Xmx1024", Some(1024)),
            ("-Xmx", None),
            ("-Xmxlots", None),
            ("-Xmx1x", None),
            ("-Xmx99999999999999999999g", None),
            ("-Xmx18446744073709551615t", None),
        ] {
            assert_eq!(parse(flag).max_heap_bytes, want, "{flag}");
        }
    }
}

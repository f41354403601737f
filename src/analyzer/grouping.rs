//! Endpoints that differ only in an id, joined by the rules of `endpoint-name-grouping.yml` (8.1.0 spec, B.1).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fancy_regex::Regex;

use crate::config::{ConfigFile, Place, Problem, Report};
use crate::dsl::java_regex::compile;

/// Steps that one match may take: some milliseconds. Names are short, so a rule that needs more needs too many.
const MAX_STEPS: usize = 100_000;

/// The rules by service.
#[derive(Debug, Default)]
pub struct EndpointGrouping {
    rules: HashMap<String, Vec<Rule>>,
}

#[derive(Debug)]
struct Rule {
    endpoint: Arc<str>,
    regex: Regex,
    has_given_up: AtomicBool,
}

impl EndpointGrouping {
    /// Reads the file. Returns also what in it has no effect, or all mistakes.
    pub fn parse(file: &ConfigFile) -> Result<(EndpointGrouping, Vec<String>), Vec<Problem>> {
        let (mut report, value) = Report::open(file);
        let [list] = Place::root(&value).fields(["grouping"], &mut report);
        let mut grouping = EndpointGrouping::default();
        for place in list.items(&mut report) {
            let [name, rules] = place.fields(["service-name", "rules"], &mut report);
            let service = name.scalar().unwrap_or_default();
            if service.is_empty() {
                report.wrong(&name, "the name of a service");
            }
            let known = grouping.rules.entry(service).or_default();
            for place in rules.items(&mut report) {
                known.extend(rule(&place, known, &mut report));
            }
        }
        grouping.rules.retain(|_, rules| !rules.is_empty());
        report.finish(grouping)
    }

    /// Whether names of this service can change at all.
    pub(super) fn has_rules(&self, service: &str) -> bool {
        !self.rules.is_empty() && self.rules.contains_key(service)
    }

    /// The name of the first rule of the service that matches the whole endpoint name; `None` if there is none.
    pub(super) fn group(&self, service: &str, endpoint: &str) -> Option<&Arc<str>> {
        let rules = self.rules.get(service)?;
        let first = rules.iter().find(|rule| rule.matches(service, endpoint));
        first.map(|rule| &rule.endpoint)
    }
}

/// A rule that is complete and new.
fn rule(place: &Place<'_>, known: &[Rule], report: &mut Report) -> Option<Rule> {
    let [name, regex] = place.fields(["endpoint-name", "regex"], report);
    let (endpoint, pattern) = (name.text(report), regex.text(report));
    let (Some(endpoint), Some(pattern)) = (endpoint, pattern) else {
        report.ignore(place, "needs endpoint-name and regex");
        return None;
    };
    if known.iter().any(|rule| &*rule.endpoint == endpoint) {
        report.ignore(
            place,
            "this service has a rule for the endpoint-name before",
        );
        return None;
    }
    match compile(pattern, MAX_STEPS) {
        Ok(compiled) => Some(Rule {
            endpoint: endpoint.into(),
            regex: compiled,
            has_given_up: AtomicBool::new(false),
        }),
        Err(error) => {
            report.wrong(&regex, format!("a Java regular expression: {error}"));
            None
        }
    }
}

impl Rule {
    /// Whether the rule matches the whole name. One that takes too long for that does not, and says so once.
    fn matches(&self, service: &str, endpoint: &str) -> bool {
        self.regex.is_match(endpoint).unwrap_or_else(|error| {
            if !self.has_given_up.swap(true, Ordering::Relaxed) {
                let rule = &*self.endpoint;
                tracing::warn!(service, rule, endpoint, %error, "a grouping rule takes too long, names that it cannot decide on are not grouped");
            }
            false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(EndpointGrouping, Vec<String>), Vec<String>> {
        EndpointGrouping::parse(&ConfigFile::built_in("endpoint-name-grouping.yml", text))
            .map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    const FILE: &str = r"
grouping:
  - service-name: orders
    rules:
      - endpoint-name: /orders/{id}
        regex: \/orders\/\d+
      - endpoint-name: /orders/{any}
        regex: \/orders\/.+
      - endpoint-name: /orders/{id}
        regex: .*
      - endpoint-name: no regex
      - regex: no name
  - service-name: stock
    rules:
      - endpoint-name: either
        regex: a|ab
  - service-name: orders
    rules:
      - {endpoint-name: /late, regex: '(?i)/LATE(?=/)/[a-c]++'}
  - service-name: nothing
";

    #[test]
    fn the_first_rule_that_matches_the_whole_name_decides() {
        let (grouping, ignored) = parse(FILE).unwrap();
        for (service, endpoint, want) in [
            ("orders", "/orders/12", Some("/orders/{id}")),
            ("orders", "/orders/12/x", Some("/orders/{any}")),
            ("orders", "/v1/orders/12", None),
            ("orders", "/orders/", None),
            ("orders", "/late/abc", Some("/late")),
            ("orders", "/late/abcd", None),
            ("stock", "ab", Some("either")),
            ("stock", "abc", None),
            ("Orders", "/orders/12", None),
            ("nothing", "/orders/12", None),
        ] {
            let got = grouping.group(service, endpoint).map(|name| &**name);
            assert_eq!(got, want, "{service} {endpoint}");
        }
        assert!(grouping.has_rules("stock") && !grouping.has_rules("nothing"));
        assert_eq!(
            ignored,
            [
                "grouping[0].rules[2]: this service has a rule for the endpoint-name before",
                "grouping[0].rules[3]: needs endpoint-name and regex",
                "grouping[0].rules[4]: needs endpoint-name and regex",
            ]
        );
    }

    #[test]
    fn an_empty_file_groups_nothing() {
        for text in ["", "grouping:", "grouping: []", "other: 1"] {
            let (grouping, _) = parse(text).unwrap();
            assert_eq!(grouping.group("orders", "/orders/12"), None, "{text}");
        }
    }

    #[test]
    fn every_mistake_is_named() {
        let found = parse(
            "grouping:\n- rules: []\n- {service-name: '', rules: 7}\n- service-name: a\n  rules: [{endpoint-name: b, regex: 'a(b'}, {endpoint-name: c, regex: 'a)(b'}, {endpoint-name: 5, regex: d}, e]\n- f",
        )
        .unwrap_err();
        let from = "(from endpoint-name-grouping.yml (built in)), expected";
        for (found, want) in found.iter().zip([
            format!("grouping[0].service-name is missing {from} the name of a service"),
            format!("grouping[1].service-name is \"\" {from} the name of a service"),
            format!("grouping[1].rules is \"7\" {from} a list"),
            format!("grouping[2].rules[0].regex is \"a(b\" {from} a Java regular expression: "),
            format!("grouping[2].rules[1].regex is \"a)(b\" {from} a Java regular expression: "),
            format!("grouping[2].rules[2].endpoint-name is \"5\" {from} a text"),
            format!("grouping[2].rules[3] is \"e\" {from} a map"),
            format!("grouping[3] is \"f\" {from} a map"),
            format!("grouping[3].service-name is missing {from} the name of a service"),
        ]) {
            assert!(found.starts_with(&want), "{found}\n{want}");
        }
        assert_eq!(found.len(), 9, "{found:#?}");
    }

    #[test]
    fn a_rule_that_never_ends_matches_nothing() {
        let (grouping, _) = parse(
            "grouping: [{service-name: a, rules: [{endpoint-name: slow, regex: '(?:(?=a)a|aa)+b'}, {endpoint-name: next, regex: a+c}]}]",
        )
        .unwrap();
        let name = format!("{}c", "a".repeat(140));
        let started = std::time::Instant::now();
        let got = grouping.group("a", &name).map(|name| &**name);
        assert_eq!(got, Some("next"));
        assert!(grouping.rules["a"][0].has_given_up.load(Ordering::Relaxed));
        assert!(started.elapsed().as_secs() < 5);
        assert_eq!(grouping.group("a", "aab").map(|name| &**name), Some("slow"));
    }
}

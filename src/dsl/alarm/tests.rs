//! Which files are read how.

use super::*;
use crate::dsl::oal;

const SCRIPT: &str = "
service_resp_time = from(Service.latency).longAvg();
service_percentile = from(Service.latency).percentile(10);
all_heatmap = from(All.latency).histogram(100, 20);
";

fn read(text: &str) -> Result<AlarmSettings, String> {
    let scripts = [("core.oal".to_owned(), SCRIPT.to_owned())];
    let metrics = oal::compile(&scripts).unwrap().metrics;
    compile("alarm-settings.yml", text, &metrics).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })
}

fn rule(fields: &str) -> AlarmRule {
    let text = format!("rules:\n  a_rule: {{metrics-name: service_resp_time, op: '>', {fields}}}");
    read(&text).unwrap().rules.remove(0)
}

#[test]
fn the_shipped_file_has_the_six_rules() {
    let core = include_str!("../../../config/oal/core.oal");
    let scripts = [("core.oal".to_owned(), core.to_owned())];
    let metrics = oal::compile(&scripts).unwrap().metrics;
    let text = include_str!("../../../config/alarm-settings.yml");
    let settings = compile("alarm-settings.yml", text, &metrics).unwrap();
    assert_eq!(settings.notes, [""; 0]);
    assert!(settings.webhooks.is_empty() && settings.grpc_hook.is_none());
    let found: Vec<_> = settings
        .rules
        .iter()
        .map(|rule| {
            let f = &rule.fields;
            let threshold: Vec<f64> = f.threshold.iter().map(|t| t.unwrap()).collect();
            let name = f.name.as_str();
            (name, f.op, threshold, f.period, f.count, f.silence_period)
        })
        .collect();
    let slow = Op::Greater;
    let want = [
        ("service_resp_time_rule", slow, vec![1000.0], 10, 3, 5),
        ("service_sla_rule", Op::Less, vec![8000.0], 10, 2, 3),
        (
            "service_resp_time_percentile_rule",
            slow,
            vec![1000.0; 5],
            10,
            3,
            5,
        ),
        (
            "service_instance_resp_time_rule",
            slow,
            vec![1000.0],
            10,
            2,
            5,
        ),
        (
            "database_access_resp_time_rule",
            slow,
            vec![1000.0],
            10,
            2,
            -1,
        ),
        (
            "endpoint_relation_resp_time_rule",
            slow,
            vec![1000.0],
            10,
            2,
            -1,
        ),
    ];
    assert_eq!(found, want);
}

#[test]
fn fields_that_are_missing_have_defaults() {
    let fields = rule("threshold: 5").fields;
    let numbers = (fields.period, fields.count, fields.silence_period);
    assert_eq!(numbers, (1, 1, -1));
    assert_eq!(fields.message, "Alarm caused by Rule a_rule");
    assert_eq!(read("").unwrap().rules.len(), 0);
    let hooks = "webhooks: [http://a/b]\ngRPCHook: {target_host: h, target_port: 9}\n";
    let settings = read(hooks).unwrap();
    let (host, port) = ("h".to_owned(), 9);
    assert_eq!(settings.webhooks, ["http://a/b"]);
    assert_eq!(settings.grpc_hook, Some(GrpcTarget { host, port }));
}

#[test]
fn names_are_included_and_excluded() {
    for (fields, name, want) in [
        ("", "shop", true),
        ("include-names: [shop, 12]", "shop", true),
        ("include-names: [shop, 12]", "12", true),
        ("include-names: [shop]", "shop2", false),
        ("exclude-names: [shop]", "shop", false),
        (r"include-names-regex: 'shop\d+'", "shop12", true),
        // The whole name must match.
        (r"include-names-regex: 'shop\d'", "shop12", false),
        ("exclude-names-regex: 's.*|t'", "shop", false),
        ("exclude-names-regex: ''", "shop", true),
        ("include-names: [a], include-names-regex: b", "a", false),
        ("include-names: [a], exclude-names-regex: a", "a", false),
    ] {
        let rule = rule(&format!("threshold: 1, {fields}"));
        assert_eq!(rule.is_about(name), want, "{fields} {name}");
    }
}

#[test]
fn values_are_compared_as_doubles() {
    for (op, threshold, value, want) in [
        (">", "10", 10.0, false),
        (">", "10", 10.5, true),
        (">=", "10", 10.0, true),
        ("<", "10", 9.0, true),
        ("<", "10", 10.0, false),
        ("<=", "0.5", 0.5, true),
        ("==", "\"3\"", 3.0, true),
        ("==", "3", 3.1, false),
    ] {
        let text = format!(
            "rules: {{a_rule: {{metrics-name: service_resp_time, op: '{op}', threshold: {threshold}}}}}"
        );
        let rule = read(&text).unwrap().rules.remove(0);
        assert_eq!(rule.matches_number(value), want, "{value} {op} {threshold}");
    }
    for (threshold, values, want) in [
        ("10,20", [10.0, 21.0], true),
        ("10,20", [10.0, 20.0], false),
        ("'-,20'", [99.0, 20.0], false),
        // A position without a threshold is compared with 0.
        ("10", [10.0, 1.0], true),
        ("10", [10.0, 0.0], false),
    ] {
        let text = format!(
            "rules: {{a_rule: {{metrics-name: service_percentile, op: '>', threshold: \"{}\"}}}}",
            threshold.trim_matches('\'')
        );
        let rule = read(&text).unwrap().rules.remove(0);
        assert_eq!(rule.matches_list(&values), want, "{values:?} {threshold}");
    }
}

#[test]
fn hosts_are_names_or_addresses() {
    for (host, is_host) in [
        ("oap_1.example-a.com", true),
        ("10.0.0.1", true),
        ("'::1'", true),
        ("'[::1]'", true),
        ("a b", false),
        ("http://a", false),
        ("a:80", false),
        ("a/b", false),
        ("u@a", false),
        ("ä", false),
    ] {
        let text = format!("gRPCHook: {{target_host: {host}, target_port: 9}}");
        let found = read(&text).map(|settings| settings.grpc_hook.is_some());
        assert_eq!(found.is_ok_and(|is_there| is_there), is_host, "{host}");
    }
}

#[test]
fn rules_may_share_what_they_say() {
    let text = "\
slow: &slow {op: '>', threshold: 9, period: 5, silence-period: -5}
rules:
  a_rule: {<<: *slow, metrics-name: service_resp_time, period: 3}
";
    let settings = read(text).unwrap();
    let fields = &settings.rules[0].fields;
    assert_eq!(fields.threshold, [Some(9.0)]);
    assert_eq!((fields.period, fields.silence_period), (3, -5));
    assert_eq!(settings.notes, ["line 1: slow has no effect"]);
}

#[test]
fn a_long_file_of_mistakes_is_read_soon() {
    let wrong = |i| format!("  r{i}_rule: {{metrics-name: a, op: '=', threshold: x}}\n");
    let text: String = (0..20_000).map(wrong).collect();
    let began = std::time::Instant::now();
    let found = read(&format!("rules:\n{text}")).unwrap_err();
    assert_eq!(found.lines().count(), 100);
    // Looking for the place of each would take several minutes.
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

#[test]
fn messages_name_the_entity() {
    let rule = rule("threshold: 1, message: '{name} ({id}) is {slow'");
    assert_eq!(rule.text("aWQ=.1", "shop"), "shop (aWQ=.1) is {slow");
}

#[test]
fn all_mistakes_come_at_once_with_their_places() {
    let text = "rules:
  a_rule:
    metrics-name: service_resp_time
    op: '=>'
    threshold: 1,2
    period: 0
  b_rule:
    threshold: fast
    include-names: shop
    include-names-regex: '(a'
    message: '{service} is slow'
webhooks:
  - ftp://a
gRPCHook:
  target_host: http://h
";
    let want = "\
alarm-settings.yml:4:9: unknown name `=>`, expected >, >=, <, <=, ==
alarm-settings.yml:5:16: `1,2` has several values, those of the metric are one each
alarm-settings.yml:6:13: expected a whole number from 1 to 1440
alarm-settings.yml:8:5: `metrics-name` of b_rule is missing
alarm-settings.yml:8:5: `op` of b_rule is missing
alarm-settings.yml:8:16: `fast` is no threshold, expected numbers, or - for a position to pass over, with commas between
alarm-settings.yml:9:20: expected a list
";
    let found = read(text).unwrap_err();
    assert!(found.starts_with(want), "{found}");
    for part in [
        "yml:10:26: no regular expression: `(a`",
        "yml:11:14: `{service}` in a message, expected {id} or {name}",
        "yml:13:5: `ftp://a` is no URL",
        "yml:15:3: `target_port`",
        "yml:15:16: `http://h` is no host",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
    assert_eq!(found.lines().count(), 12, "{found}");
    assert!(read("rules: [").unwrap_err().contains("no valid YAML"));
    assert!(read("rules: 5").unwrap_err().contains("expected a map"));
    let rule = "rules:\n  c_rule: {metrics-name: service_resp_time, op: '>', threshold: 1, ";
    for (text, want) in [
        (
            "rules:\n  c_rule: 5\n".to_owned(),
            ":2:11: expected a map with what c_rule is",
        ),
        (
            "gRPCHook: {target_host: h, target_port: 99999999}".to_owned(),
            ":1:41: expected a whole number from 1 to 65535",
        ),
        (
            format!("{rule}silence-period: 99999999999999999999}}\n"),
            "no valid YAML: 99999999999999999999 is too large for a whole number",
        ),
    ] {
        let found = read(&text).unwrap_err();
        assert!(found.contains(want), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn what_has_no_effect_is_noted() {
    let settings = read(
        "rules:
  slow: {metrics-name: service_resp_time}
  a_rule: {metrics-name: gone, op: '>', threshold: 1, tags: {a: b}}
  b_rule: {metrics-name: all_heatmap, op: '>', threshold: 1}
  c_rule: {metrics-name: service_resp_time, op: '>', threshold: 1, count: 2}
  d_rule: {metrics-name: service_percentile, op: '>', threshold: '-,9'}
  e_rule: {metrics-name: service_percentile, op: '>', threshold: '-,-,-,-,-,9'}
  f_rule: {metrics-name: service_percentile, op: '>', threshold: '-,-,-,-,9'}
dingtalkHooks: {url: x}
",
    )
    .unwrap();
    assert_eq!(settings.rules.len(), 6);
    let want = [
        "line 2: slow is no rule, its name does not end in _rule",
        "line 3: a_rule.tags has no effect",
        "line 3: a_rule never fires: gone is defined in no script that is in use",
        "line 4: b_rule never fires: all_heatmap is about no entity",
        "line 5: c_rule never fires: 2 minutes of 1 cannot match",
        "line 6: d_rule compares the last 3 of the 5 values of service_percentile with 0, which have no threshold",
        "line 7: e_rule never fires: it passes over every value",
        "line 9: dingtalkHooks has no effect",
    ];
    assert_eq!(settings.notes, want);
}

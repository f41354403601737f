//! Gateways that run no agent, as `gateways.yml` lists them (8.1.0 spec, B.3, B.7, B.8).

use std::collections::HashSet;

use crate::config::{ConfigFile, Place, Problem, Report};

/// Port of an instance that names none.
const DEFAULT_PORT: i64 = 80;

/// The addresses, `host:port`, at which a gateway answers and not the service behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gateways {
    addresses: HashSet<String>,
}

impl Gateways {
    /// Reads the file. Returns also what in it has no effect, or all mistakes.
    pub fn parse(file: &ConfigFile) -> Result<(Gateways, Vec<String>), Vec<Problem>> {
        let (mut report, value) = Report::open(file);
        let [list] = Place::root(&value).fields(["gateways"], &mut report);
        let mut gateways = Gateways::default();
        for gateway in list.items(&mut report) {
            let [_, instances] = gateway.fields(["name", "instances"], &mut report);
            for instance in instances.items(&mut report) {
                if let Some(address) = address(&instance, &mut report)
                    && !gateways.addresses.insert(address)
                {
                    report.ignore(&instance, "the address is listed before");
                }
            }
        }
        report.finish(gateways)
    }

    /// Whether a gateway answers at an address.
    pub fn contains(&self, address: &str) -> bool {
        !self.addresses.is_empty() && self.addresses.contains(address)
    }
}

fn address(instance: &Place<'_>, report: &mut Report) -> Option<String> {
    let [host, port] = instance.fields(["host", "port"], report);
    let port_number = port.whole_number(report).filter(|port| *port > 0);
    if port_number.is_some_and(|port| port > i64::from(u16::MAX)) {
        report.wrong(&port, "a port up to 65535");
    }
    let Some(name) = host.scalar().filter(|name| !name.is_empty()) else {
        report.wrong(&host, "a host name or an address");
        return None;
    };
    Some(format!("{name}:{}", port_number.unwrap_or(DEFAULT_PORT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Gateways, Vec<String>), Vec<String>> {
        Gateways::parse(&ConfigFile::built_in("gateways.yml", text))
            .map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_port_that_is_missing_or_none_is_80() {
        let (gateways, ignored) = parse(
            "gateways:\n- name: edge\n  instances:\n  - {host: a, port: 8080}\n  - {host: b}\n  - {host: c, port: 0}\n  - {host: d, port: -1}\n- name: other\n  instances: [{host: 10.0.0.7, port: 1}, {host: b, port: 80}]\n- name: none",
        )
        .unwrap();
        for (address, is_gateway) in [
            ("a:8080", true),
            ("a:80", false),
            ("a", false),
            ("b:80", true),
            ("c:80", true),
            ("d:80", true),
            ("10.0.0.7:1", true),
            ("", false),
        ] {
            assert_eq!(gateways.contains(address), is_gateway, "{address}");
        }
        let twice = "gateways[1].instances[1]: the address is listed before";
        assert_eq!(ignored, [twice]);
    }

    #[test]
    fn an_empty_document_lists_none() {
        for text in ["", "# nothing", "gateways:", "gateways: []", "---"] {
            assert_eq!(parse(text), Ok((Gateways::default(), vec![])), "{text}");
        }
    }

    #[test]
    fn every_mistake_is_named() {
        let found = parse(
            "gateways:\n- instances: [{port: 1}, {host: a, port: x}, {host: a, port: 70000}, 7]\n- 8\n- instances: {host: a}",
        );
        let from = "(from gateways.yml (built in)), expected";
        assert_eq!(
            found.unwrap_err(),
            [
                format!(
                    "gateways[0].instances[0].host is missing {from} a host name or an address"
                ),
                format!("gateways[0].instances[1].port is \"x\" {from} a whole number"),
                format!("gateways[0].instances[2].port is \"70000\" {from} a port up to 65535"),
                format!("gateways[0].instances[3] is \"7\" {from} a map"),
                format!(
                    "gateways[0].instances[3].host is missing {from} a host name or an address"
                ),
                format!("gateways[1] is \"8\" {from} a map"),
                format!("gateways[2].instances is \"a map\" {from} a list"),
            ]
        );
    }
}

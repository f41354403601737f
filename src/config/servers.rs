//! Addresses of the servers that a client is to ask, as people write them.

use std::net::Ipv6Addr;

use super::section::{Section, without_user};

/// A text that must not be empty.
pub fn needed(s: &mut Section<'_>, key: &'static str, default: &str, expected: &str) -> String {
    let text = s.text(key, default);
    if text.is_empty() {
        s.problem(key, expected);
    }
    text
}

/// `host:port` of servers, with commas between as a client of ZooKeeper takes them.
pub fn host_ports(s: &mut Section<'_>, key: &'static str, default: &str) -> String {
    let servers = s.list(key, default);
    let is_address = |server: &String| {
        let port = server
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse::<u16>()));
        matches!(port, Some((host, Ok(_))) if !host.is_empty())
    };
    if servers.is_empty() || !servers.iter().all(is_address) {
        s.problem(key, "host:port, several with commas between");
    }
    servers.join(",")
}

/// What keeps a text from being `host:port`, or `[address]:port` with one of IPv6; `None` if it is that.
pub fn member_fault(member: &str) -> Option<String> {
    let shown = without_user(member);
    let because = |fault: &str| Some(format!("{shown:?} {fault}"));
    if member.contains("://") {
        return because("is a URL, leave the part up to :// out");
    }
    if member.contains([';', ' ']) {
        return because("is several, which have commas between");
    }
    let Some((host, port)) = member.rsplit_once(':') else {
        return because("has no port");
    };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return because("does not end with a port from 1 to 65535");
    }
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return match address.parse::<Ipv6Addr>() {
            Ok(_) => None,
            Err(_) => because("has no address of IPv6 in its brackets"),
        };
    }
    if host.contains(':') {
        return because("has more than one colon, an address of IPv6 needs brackets");
    }
    let is_of_names = |c: char| c.is_alphanumeric() || ['.', '-', '_'].contains(&c);
    match !host.is_empty() && host.chars().all(is_of_names) {
        true => None,
        false => because("has no name of a host before its port"),
    }
}

/// `host:port` or URLs of servers, as URLs. `port` is for those that name none.
pub fn urls(
    s: &mut Section<'_>,
    key: &'static str,
    default: &str,
    port: Option<u16>,
) -> Vec<String> {
    let servers = s.list(key, default);
    let urls: Vec<Option<String>> = servers.iter().map(|server| url(server, port)).collect();
    if urls.is_empty() || urls.contains(&None) {
        s.problem(key, "host:port or a URL, several with commas between");
    }
    urls.into_iter().flatten().collect()
}

fn url(server: &str, port: Option<u16>) -> Option<String> {
    let is_url = server.starts_with("http://") || server.starts_with("https://");
    let text = match is_url {
        true => server.to_owned(),
        false => format!("http://{server}"),
    };
    let mut url = reqwest::Url::parse(&text).ok()?;
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.has_host();
    if let Some(port) = port.filter(|_| !is_url && url.port().is_none()) {
        url.set_port(Some(port)).ok()?;
    }
    is_plain.then(|| url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_addresses_and_nothing_else() {
        for (member, want) in [
            ("10.0.0.1:11800", None),
            ("oap-0.oap_headless.ns.svc:11800", None),
            ("[fd00::1]:11800", None),
            ("http://127.0.7.2:11800", Some("is a URL")),
            (
                "grpc://u:geheim@oap:11800",
                Some("://***@oap:11800\" is a URL"),
            ),
            ("a:11800;b:11800", Some("commas between")),
            ("a:11800 b:11800", Some("commas between")),
            ("oap", Some("has no port")),
            ("oap:", Some("a port from 1 to 65535")),
            ("oap:0", Some("a port from 1 to 65535")),
            ("oap:+11800", Some("a port from 1 to 65535")),
            ("oap:65536", Some("a port from 1 to 65535")),
            ("oap:11800/", Some("a port from 1 to 65535")),
            (":11800", Some("no name of a host")),
            ("oap/path:11800", Some("no name of a host")),
            ("user@oap:11800", Some("no name of a host")),
            ("[]:11800", Some("no address of IPv6")),
            ("[oap]:11800", Some("no address of IPv6")),
            ("fd00::1:11800", Some("needs brackets")),
        ] {
            let fault = member_fault(member);
            let is_wanted = match want {
                None => fault.is_none(),
                Some(part) => fault.as_ref().is_some_and(|fault| fault.contains(part)),
            };
            assert!(is_wanted, "{member}: {fault:?}");
        }
    }

    #[test]
    fn servers_are_urls_or_addresses() {
        for (server, port, want) in [
            ("localhost:2379", None, Some("http://localhost:2379/")),
            ("https://etcd:2379", None, Some("https://etcd:2379/")),
            ("http://proxy/apollo", None, Some("http://proxy/apollo")),
            ("[::1]:8500", None, Some("http://[::1]:8500/")),
            ("10.0.0.1", Some(8848), Some("http://10.0.0.1:8848/")),
            ("10.0.0.1:9", Some(8848), Some("http://10.0.0.1:9/")),
            ("http://proxy/", Some(8848), Some("http://proxy/")),
            ("a b", None, None),
            ("host:port", None, None),
            ("host?x=1", None, None),
            ("", None, None),
        ] {
            assert_eq!(url(server, port).as_deref(), want, "{server}");
        }
    }
}

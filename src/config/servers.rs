//! Addresses of the servers that a client is to ask, as people write them.

use super::section::Section;

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

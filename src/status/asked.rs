//! What a request for the state of the server asks for: its path below the context path, and the types that it accepts.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// The path without the context path and without slashes around it; `None` if it is not below the context path.
pub(super) fn below<'a>(context_path: &str, path: &'a str) -> Option<&'a str> {
    let context = context_path.trim_matches('/');
    let path = path.trim_matches('/');
    if context.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(context)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}

/// Whether a type is named in the header, in any case, and not with the quality 0 (RFC 9110, 12.5.1). Ranges as `*/*` do not
/// count: every client sends them.
pub(super) fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let texts = headers.get_all(ACCEPT).iter();
    let mut entries = texts
        .filter_map(|text| text.to_str().ok())
        .flat_map(|text| text.split(','));
    entries.any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let is_kind = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(kind));
        is_kind && !parts.any(is_refusal)
    })
}

/// Whether a parameter is a quality of 0.
fn is_refusal(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    name.trim().eq_ignore_ascii_case("q") && value.trim().parse() == Ok(0.0_f32)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_type_is_accepted_if_it_is_named() {
        for (header, want) in [
            ("text/html", true),
            ("TEXT/HTML", true),
            ("text/html;q=0.1", true),
            ("application/json, text/html ; level=1 ; Q=1", true),
            ("text/html;q=0", false),
            ("text/html; q=0.000, */*", false),
            ("text/html;q", true),
            ("text/html+xml", false),
            ("x-text/html", false),
            ("*/*", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(header);
            let headers = HeaderMap::from_iter([(ACCEPT, value)]);
            assert_eq!(accepts(&headers, "text/html"), want, "{header}");
        }
        assert!(!accepts(&HeaderMap::new(), "text/html"));
    }

    #[test]
    fn the_context_path_ends_with_a_slash() {
        for (context, path, want) in [
            ("/", "/healthcheck", Some("healthcheck")),
            ("", "/", Some("")),
            ("/api", "/api/healthcheck/", Some("healthcheck")),
            ("api/", "/api", Some("")),
            ("/api", "/apihealthcheck", None),
            ("/api", "/healthcheck", None),
        ] {
            assert_eq!(below(context, path), want, "{context} {path}");
        }
    }
}

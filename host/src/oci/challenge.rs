//! What a registry asks of someone it does not know: the header `WWW-Authenticate` (RFC 9110, section 11.6.1), and
//! where a token is to be had (the specification "Token Authentication" of distribution/distribution). Pure.

use std::collections::BTreeMap;

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token.
    Bearer {
        /// Where tokens are to be had.
        realm: String,
        /// For whom the token is.
        service: Option<String>,
    },
    /// Something else.
    Other,
}

// === impl Challenge ===

impl Challenge {
    /// Reads the header.
    pub(super) fn read(header: &str) -> Self {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        let mut params = params(rest);
        if scheme.eq_ignore_ascii_case("basic") {
            return Self::Basic;
        }
        match params.remove("realm") {
            Some(realm) if scheme.eq_ignore_ascii_case("bearer") => {
                Self::Bearer { realm, service: params.remove("service") }
            }
            _ => Self::Other,
        }
    }

    /// Where the token for a scope is asked for.
    pub(super) fn token_url(realm: &str, service: Option<&str>, scope: &str) -> String {
        let begin = if realm.contains('?') { '&' } else { '?' };
        let service = service.map_or(String::new(), |service| format!("service={}&", encoded(service)));
        format!("{realm}{begin}{service}scope={}", encoded(scope))
    }
}

/// `name="value", name=value`, names in lower case.
fn params(text: &str) -> BTreeMap<String, String> {
    let mut params = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        params.entry(name).or_insert(value);
        rest = after;
    }
    params
}

/// What stands before the closing quote, and what behind it.
fn unquoted(text: &str) -> (String, &str) {
    let (mut value, mut escaped) = (String::new(), false);
    for (index, of) in text.char_indices() {
        match of {
            _ if escaped => {
                value.push(of);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &text[index + 1..]),
            _ => value.push(of),
        }
    }
    (value, "")
}

/// As it may stand in the query of a URL.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::Challenge;

    #[test]
    fn challenges() {
        let check = |header: &str, expect: &str| {
            let got = match Challenge::read(header) {
                Challenge::Basic => "basic".to_owned(),
                Challenge::Bearer { realm, service } => {
                    Challenge::token_url(&realm, service.as_deref(), "repository:a/b:pull,push")
                }
                Challenge::Other => "other".to_owned(),
            };
            assert_eq!(got, expect, "{header}");
        };
        check("Basic realm=\"x\"", "basic");
        check("basic", "basic");
        check(
            "Bearer realm=\"https://a.example/token\",service=\"reg, \\\"x\\\"\",scope=\"y\"",
            "https://a.example/token?service=reg,%20%22x%22&scope=repository:a/b:pull,push",
        );
        check(
            "bearer service=s, realm=https://a.example/t",
            "https://a.example/t?service=s&scope=repository:a/b:pull,push",
        );
        check("Bearer realm=\"https://a.example/t?x=1\"", "https://a.example/t?x=1&scope=repository:a/b:pull,push");
        check("Bearer service=\"s\"", "other");
        check("Bearer realm=\"unclosed", "unclosed?scope=repository:a/b:pull,push");
        check("Negotiate abc", "other");
        check("", "other");
        check("==\"\"=,,", "other");
    }
}

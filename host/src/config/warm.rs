//! The rules of warming: which keys are read into memory before clients ask for them, when, and how those are asked for
//! that are about to end. As the settings write them; nothing is read here.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use hyper::Uri;
use serde::Deserialize;

use super::Value;

/// All rules, in their order. None: nothing is warmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WarmRules(pub Vec<WarmRule>);

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmRule {
    /// Patterns as SCAN MATCH takes them. Empty: all keys.
    pub patterns: Vec<String>,
    /// Only keys under the policies' rule of this name.
    pub namespace: Option<String>,
    /// Only so many keys: those that were read most.
    pub top: Option<usize>,
    /// Not only at the start, but again before a market opens.
    pub opening: Option<WarmOpening>,
    /// How keys are asked for that are about to end.
    pub asks: Option<WarmAsks>,
}

/// Again before a market opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmOpening {
    /// The market.
    pub market: String,
    /// So long before. 0: as it opens.
    pub before_ms: u64,
}

/// How keys are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmAsks {
    /// Whom.
    pub way: WarmWay,
    /// Those that end within so long, counted from the opening where there is one, and those that are gone.
    pub expires_within_ms: u64,
    /// How long an answer may take.
    pub request_ms_max: u64,
    /// Requests at one time.
    pub requests_max: usize,
    /// How long no other sidecar asks for the same key.
    pub once_ms: u64,
}

/// Whom keys are asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WarmWay {
    /// Whoever answers this URL.
    Url(WarmUrl),
    /// Whoever listens on this channel of the server's.
    Channel(String),
}

/// A URL with a place for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmUrl {
    /// Whether it is https.
    pub tls: bool,
    /// Host name or address, without the brackets of an IPv6 one.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Host and port as they stand in the URL.
    pub authority: String,
    /// The path and query, with `{key}` in the key's place.
    pub path: String,
    /// Whether the key is the body of a POST.
    pub post: bool,
    /// File (PEM) of the authorities that may have signed the certificate of https. None: those the system trusts.
    pub ca_file: Option<PathBuf>,
}

/// The rules, as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRules {
    warm: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    #[serde(default)]
    patterns: Vec<String>,
    namespace: Option<String>,
    top: Option<usize>,
    market: Option<String>,
    before_open_ms: Option<u64>,
    url: Option<String>,
    url_ca_file: Option<PathBuf>,
    method: Option<String>,
    channel: Option<String>,
    expires_within_ms: Option<u64>,
    request_ms_max: Option<u64>,
    requests_max: Option<usize>,
    once_ms: Option<u64>,
}

/// What stands in a URL where the key is to be.
const KEY: &str = "{key}";
/// What a text begins with that is rules and not patterns.
const TABLE: &str = "[[warm]]";
const TOP_MAX: usize = 10_000;
const REQUESTS_MAX: usize = 64;
/// A day before an opening is the day before.
const BEFORE_OPEN_MS_MAX: u64 = 24 * 60 * 60 * 1000;

// === impl WarmRules ===

impl Value for WarmRules {
    const TAKES: &'static str = "patterns separated by blanks, or rules: [[warm]] tables";

    fn read(text: &str) -> anyhow::Result<Self> {
        if text.trim_start().starts_with(TABLE) {
            let raw: RawRules = toml::from_str(text)?;
            let rules = raw.warm.into_iter().enumerate();
            let rules = rules.map(|(place, raw)| raw.check().with_context(|| format!("[[warm]] number {}", place + 1)));
            return rules.collect::<anyhow::Result<_>>().map(Self);
        }
        let patterns: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        let rule = WarmRule { patterns, namespace: None, top: None, opening: None, asks: None };
        Ok(Self(if rule.patterns.is_empty() { Vec::new() } else { vec![rule] }))
    }
}

// === impl WarmRule ===

/// Its keys, for people.
impl fmt::Display for WarmRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<&str> = self.patterns.iter().map(String::as_str).collect();
        words.extend(self.namespace.as_deref());
        if words.is_empty() {
            words.push("*");
        }
        out.write_str(&words.join(" "))?;
        self.top.map_or(Ok(()), |top| write!(out, " (the busiest {top})"))
    }
}

// === impl WarmUrl ===

impl WarmUrl {
    fn read(url: &str, method: Option<&str>) -> anyhow::Result<Self> {
        let post = match method {
            None | Some("GET") => false,
            Some("POST") => true,
            Some(other) => bail!("method is GET or POST, and not {other:?}"),
        };
        ensure!(post || url.contains(KEY), "url has no {KEY} for the key to stand in; put it there, or use POST");
        // The place is no letter that a URL may have.
        let uri: Uri = url.replace(KEY, "key").parse().with_context(|| format!("url {url:?} is none"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!("url {url:?} begins neither with http:// nor with https://"),
        };
        let authority = uri.authority().with_context(|| format!("url {url:?} names no host"))?;
        ensure!(!authority.as_str().contains('@'), "url has a user in it, which is not sent; leave it out");
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
        ensure!(!rest.split('/').next().unwrap_or_default().contains(KEY), "url has {KEY} in the host's place");
        Ok(Self {
            tls,
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: path.to_owned(),
            post,
            ca_file: None,
        })
    }

    /// The path and query for a key, in which all but letters, digits and `-._~` is written as its bytes.
    pub fn path_of(&self, key: &[u8]) -> String {
        self.path.replace(KEY, &encoded(key))
    }
}

impl fmt::Display for WarmUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "http{}://{}{}", if self.tls { "s" } else { "" }, self.authority, self.path)
    }
}

// === impl WarmWay ===

impl fmt::Display for WarmWay {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(out, "{url}"),
            Self::Channel(channel) => write!(out, "channel {channel}"),
        }
    }
}

// === impl RawRule ===

impl RawRule {
    fn check(self) -> anyhow::Result<WarmRule> {
        let asks = self.asks()?;
        let empty = self.patterns.iter().chain(&self.namespace).chain(&self.market).any(String::is_empty);
        ensure!(!empty, "a text in it is empty; leave it out");
        ensure!(
            !self.patterns.is_empty() || self.namespace.is_some() || self.top.is_some(),
            "it names no keys; give it patterns, namespace or top"
        );
        ensure!(self.top.is_none_or(|top| (1..=TOP_MAX).contains(&top)), "top is 1 to {TOP_MAX}");
        let opening = match (self.market, self.before_open_ms) {
            (None, None) => None,
            (None, Some(_)) => bail!("before_open_ms needs market, whose opening it is"),
            (Some(_), None) => bail!("market needs before_open_ms: how long before it opens"),
            (Some(market), Some(before_ms)) => {
                ensure!(before_ms <= BEFORE_OPEN_MS_MAX, "before_open_ms is at most {BEFORE_OPEN_MS_MAX}");
                Some(WarmOpening { market, before_ms })
            }
        };
        Ok(WarmRule { patterns: self.patterns, namespace: self.namespace, top: self.top, opening, asks })
    }

    fn asks(&self) -> anyhow::Result<Option<WarmAsks>> {
        let way = match (&self.url, &self.channel) {
            (Some(_), Some(_)) => bail!("it has url and channel; one of them is enough"),
            (Some(url), None) => {
                let url = WarmUrl::read(url, self.method.as_deref())?;
                let ca_file = self.url_ca_file.clone();
                ensure!(ca_file.is_none() || url.tls, "url_ca_file is for https, and url is not");
                WarmWay::Url(WarmUrl { ca_file, ..url })
            }
            (None, Some(channel)) => {
                ensure!(!channel.is_empty(), "channel is empty");
                WarmWay::Channel(channel.clone())
            }
            (None, None) => {
                let numbers = [self.expires_within_ms, self.request_ms_max, self.once_ms];
                let texts = self.method.is_some() || self.url_ca_file.is_some();
                let stray = numbers.iter().any(Option::is_some) || texts || self.requests_max.is_some();
                ensure!(!stray, "what it says of requests needs url or channel");
                return Ok(None);
            }
        };
        let of_url = self.method.is_some() || self.url_ca_file.is_some();
        ensure!(!of_url || self.url.is_some(), "method and url_ca_file need url");
        ensure!(self.top.is_some(), "url and channel need top: the keys that are asked for are the busiest");
        let asks = WarmAsks {
            way,
            expires_within_ms: self.expires_within_ms.unwrap_or(60_000),
            request_ms_max: self.request_ms_max.unwrap_or(5_000),
            requests_max: self.requests_max.unwrap_or(4),
            once_ms: self.once_ms.unwrap_or(60_000),
        };
        ensure!((1..=REQUESTS_MAX).contains(&asks.requests_max), "requests_max is 1 to {REQUESTS_MAX}");
        ensure!(asks.request_ms_max >= 1, "request_ms_max is at least 1");
        ensure!(
            asks.once_ms >= asks.request_ms_max.saturating_mul(2),
            "once_ms is at least twice request_ms_max: no other sidecar may ask while this one still does"
        );
        Ok(Some(asks))
    }
}

/// Bytes as they stand in a URL.
pub fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(*byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// The bytes of what [`encoded`] wrote. None: it did not.
pub fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = rest.get(2..)?;
        } else {
            bytes.push(*byte);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Value, WarmRules, WarmWay, decoded, encoded};

    #[test]
    fn rules() {
        let check = |text: &str, expect: &str| {
            let told = match WarmRules::read(text) {
                Ok(rules) => rules.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                Err(error) => format!("{error:#}"),
            };
            assert!(told == expect || (!expect.is_empty() && told.contains(expect)), "{text}: {told}");
        };
        check("", "");
        check(" a:*  b:? ", "a:* b:?");
        check("[[warm]]\npatterns = [\"a:*\"]\n[[warm]]\nnamespace = \"n\"\ntop = 3", "a:*, n (the busiest 3)");
        check("[[warm]]\ntop = 3\nurl = \"http://a/{key}\"", "* (the busiest 3)");
        check("[[warm]]\n", "it names no keys; give it patterns, namespace or top");
        check("[[warm]]\ntop = 0", "[[warm]] number 1: top is 1 to 10000");
        check("[[warm]]\ntops = 1", "unknown field `tops`");
        check("[[warm]]\ntop = 1\nmarket = \"XNSE\"", "market needs before_open_ms");
        check("[[warm]]\ntop = 1\nbefore_open_ms = 1", "before_open_ms needs market");
        check("[[warm]]\npatterns = [\"a\"]\nchannel = \"c\"", "url and channel need top");
        check("[[warm]]\ntop = 1\nonce_ms = 1", "needs url or channel");
        check("[[warm]]\ntop = 1\nchannel = \"c\"\nonce_ms = 1", "once_ms is at least twice request_ms_max");
        check("[[warm]]\ntop = 1\nchannel = \"c\"\nurl = \"http://a/{key}\"", "one of them is enough");
        check("[[warm]]\ntop = 1\nurl = \"http://a/\"", "url has no {key}");
        check("[[warm]]\ntop = 1\nurl = \"http://a/\"\nmethod = \"PUT\"", "method is GET or POST, and not \"PUT\"");
        check("[[warm]]\ntop = 1\nurl = \"ftp://a/{key}\"", "begins neither with http:// nor with https://");
        check("[[warm]]\ntop = 1\nurl = \"http://a/{key}\"\nurl_ca_file = \"f\"", "url_ca_file is for https");
        check("[[warm]]\ntop = 1\nchannel = \"c\"\nmethod = \"GET\"", "method and url_ca_file need url");
        check("[[warm]]\ntop = 1\nurl = \"http://u@a/{key}\"", "url has a user in it");
        check("[[warm]]\ntop = 1\nurl = \"http://{key}/\"", "{key} in the host's place");
    }

    #[test]
    fn urls() {
        let check = |url: &str, more: &str, place: (bool, &str, u16), path: &str| {
            let rules = WarmRules::read(&format!("[[warm]]\ntop = 1\nurl = {url:?}\n{more}")).unwrap();
            let Some(WarmWay::Url(url)) = rules.0[0].asks.as_ref().map(|asks| asks.way.clone()) else { panic!() };
            assert_eq!((url.tls, url.host.as_str(), url.port), place);
            assert_eq!(url.path_of(b"a:b/\xff~"), path);
        };
        check("http://app:8000/warm/{key}?x=1", "", (false, "app", 8000), "/warm/a%3Ab%2F%FF~?x=1");
        check("https://app/?key={key}", "", (true, "app", 443), "/?key=a%3Ab%2F%FF~");
        check("http://[::1]:80", "method = \"POST\"", (false, "::1", 80), "/");
    }

    #[test]
    fn bytes() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encoded(&all)), Some(all));
        assert_eq!((decoded("%f"), decoded("%zz")), (None, None));
    }
}

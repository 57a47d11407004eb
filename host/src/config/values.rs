//! The types of single settings: how each is read from text.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

/// A setting's type.
pub trait Value: Sized {
    /// What it takes, for errors and help.
    const TAKES: &'static str;
    /// Whether it is a number in the file.
    const NUMBER: bool = false;
    /// Whether it is never shown.
    const SECRET: bool = false;

    /// Reads it.
    ///
    /// # Errors
    /// The text is something else.
    fn read(text: &str) -> anyhow::Result<Self>;
}

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// The store inside this program.
    Embedded,
    /// A Redis server.
    Redis {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// Database.
        db: u32,
        /// User.
        user: Option<String>,
        /// Password.
        password: Option<Secret>,
    },
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// How far the clock is shifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    /// In milliseconds.
    pub ms: i64,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// JSON objects, one a line.
    Json,
}

/// What clients see when the server is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossChoice {
    /// A closed connection.
    Close,
    /// An error.
    Error,
}

/// What happens to a key that no policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// The command passes as it is.
    Forward,
    /// Commands that write it are refused.
    Refuse,
}

// === impl Secret ===

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("(not shown)")
    }
}

// === impl Value ===

macro_rules! numbers {
    ($($type:ty)+) => {
        $(impl Value for $type {
            const TAKES: &'static str = "a whole number";
            const NUMBER: bool = true;

            fn read(text: &str) -> anyhow::Result<Self> {
                Ok(text.parse()?)
            }
        })+
    };
}

numbers!(u16 u32 u64 usize);

macro_rules! choices {
    ($type:ty, $takes:literal, $($word:literal => $value:expr),+) => {
        impl Value for $type {
            const TAKES: &'static str = $takes;

            fn read(text: &str) -> anyhow::Result<Self> {
                match text {
                    $($word => Ok($value),)+
                    _ => bail!("there is no such choice"),
                }
            }
        }
    };
}

choices!(LogFormat, "`text` or `json`", "text" => Self::Text, "json" => Self::Json);
choices!(LossChoice, "`close` or `error`", "close" => Self::Close, "error" => Self::Error);
choices!(KeyChoice, "`forward` or `refuse`", "forward" => Self::Forward, "refuse" => Self::Refuse);

impl Value for String {
    const TAKES: &'static str = "a text";

    fn read(text: &str) -> anyhow::Result<Self> {
        ensure!(!text.is_empty(), "it is empty");
        Ok(text.to_owned())
    }
}

impl Value for Option<String> {
    const TAKES: &'static str = "a text";

    fn read(text: &str) -> anyhow::Result<Self> {
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }
}

impl Value for Option<Secret> {
    const TAKES: &'static str = "a text";
    const SECRET: bool = true;

    fn read(text: &str) -> anyhow::Result<Self> {
        Ok((!text.is_empty()).then(|| Secret(text.to_owned())))
    }
}

impl Value for Option<PathBuf> {
    const TAKES: &'static str = "a path";

    fn read(text: &str) -> anyhow::Result<Self> {
        Ok((!text.is_empty()).then(|| text.into()))
    }
}

impl Value for SocketAddr {
    const TAKES: &'static str = "an address and a port, such as 127.0.0.1:6380";

    fn read(text: &str) -> anyhow::Result<Self> {
        Ok(text.parse()?)
    }
}

impl Value for Option<SocketAddr> {
    const TAKES: &'static str = "an address and a port, such as 127.0.0.1:9180, or `off`";

    fn read(text: &str) -> anyhow::Result<Self> {
        if text == "off" { Ok(None) } else { SocketAddr::read(text).map(Some) }
    }
}

impl Value for ClockOffset {
    const TAKES: &'static str = "a span such as `2h 30m` or `-3d`";

    fn read(text: &str) -> anyhow::Result<Self> {
        let span: jiff::Span = text.parse()?;
        let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())?;
        Ok(Self { ms: i64::try_from(duration.as_millis())? })
    }
}

impl Value for Option<Upstream> {
    const TAKES: &'static str = "redis://[user[:password]@]host[:port][/database] or `embedded`";

    fn read(text: &str) -> anyhow::Result<Self> {
        match text {
            "" => Ok(None),
            "embedded" => Ok(Some(Upstream::Embedded)),
            url => redis_url(url).map(Some),
        }
    }
}

fn redis_url(text: &str) -> anyhow::Result<Upstream> {
    let (scheme, rest) = text.split_once("://").context("it has no scheme")?;
    ensure!(scheme != "rediss", "TLS is not there yet; use redis:// over a private network");
    ensure!(scheme == "redis", "the scheme is {scheme}, not redis");
    let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
    let (address, db) = rest.split_once('/').unwrap_or((rest, ""));
    // An address of version 6 stands in brackets.
    let (host, port) = match address.strip_prefix('[').and_then(|address| address.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    ensure!(!host.is_empty(), "it names no host");
    let port = port.map_or(Ok(6379), str::parse).context("the port")?;
    let db = if db.is_empty() { 0 } else { db.parse().context("the database")? };
    let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        None => (None, None),
        Some((user, password)) => (Some(percent_decoded(user)?), Some(percent_decoded(password)?)),
    };
    Ok(Upstream::Redis {
        host: host.to_owned(),
        port,
        db,
        user: user.filter(|user| !user.is_empty()),
        password: password.filter(|password| !password.is_empty()).map(Secret),
    })
}

fn percent_decoded(text: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits =
            rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).context("a % without its digits")?;
        bytes.push(u8::from_str_radix(digits, 16).context("a % without its digits")?);
        rest = rest.get(2..).unwrap_or_default();
    }
    Ok(String::from_utf8(bytes)?)
}

/// A URL without its password.
pub(super) fn without_password(url: &str) -> String {
    match url.rsplit_once('@').and_then(|(head, tail)| Some((head.split_once("://")?, tail))) {
        Some(((scheme, login), tail)) => {
            let user = login.split_once(':').map_or(login, |(user, _)| user);
            format!("{scheme}://{user}:(not shown)@{tail}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Secret, Upstream, Value};

    #[test]
    fn upstreams() {
        let check = |text: &str, host: &str, port: u16, db: u32, user: Option<&str>, password: Option<&str>| {
            let expect = Upstream::Redis {
                host: host.into(),
                port,
                db,
                user: user.map(Into::into),
                password: password.map(|password| Secret(password.into())),
            };
            assert_eq!(Option::<Upstream>::read(text).unwrap(), Some(expect), "{text}");
        };
        check("redis://a", "a", 6379, 0, None, None);
        check("redis://a:1/3", "a", 1, 3, None, None);
        check("redis://:p%40w@a:1", "a", 1, 0, None, Some("p@w"));
        check("redis://u:p@[::1]:7/1", "::1", 7, 1, Some("u"), Some("p"));
        assert_eq!(Option::<Upstream>::read("embedded").unwrap(), Some(Upstream::Embedded));
    }
}

//! The upstream's URL, as Redis clients write it: read, and shown without its password.

use anyhow::{Context, bail, ensure};

use super::values::{Address, Secret, Sentinels, Upstream};

/// Where a server is, and who asks.
#[derive(Debug, Default)]
struct Parts {
    db: Option<u32>,
    user: Option<String>,
    password: Option<String>,
}

const PORT_DEFAULT: u16 = 6379;
const SENTINEL_PORT_DEFAULT: u16 = 26379;

/// Reads `redis://`, `rediss://`, `unix://`, and the same of sentinels and clusters (`redis-sentinel://` …).
pub(super) fn read(text: &str) -> anyhow::Result<Upstream> {
    let (scheme, rest) = text.split_once("://").context("it has no scheme")?;
    let mut parts = Parts::default();
    if scheme == "redis-cluster" || scheme == "rediss-cluster" {
        return cluster(parts, rest, scheme == "rediss-cluster");
    }
    let address = match scheme {
        "redis" | "rediss" => {
            let rest = parts.login(rest)?;
            let rest = parts.options(rest)?;
            let (place, db) = rest.split_once('/').unwrap_or((rest, ""));
            if !db.is_empty() && parts.db.is_none() {
                parts.db = Some(db.parse().context("the database")?);
            }
            let (host, port) = host_and_port(place, PORT_DEFAULT)?;
            if scheme == "rediss" { Address::Tls { host, port } } else { Address::Tcp { host, port } }
        }
        "unix" => {
            // A path may hold an @, a login stands before the path's first slash.
            let login = rest.split('/').next().is_some_and(|head| head.contains('@'));
            let rest = if login { parts.login(rest)? } else { rest };
            let path = percent_decoded(parts.options(rest)?)?;
            ensure!(path.starts_with('/'), "the path of the socket is not absolute");
            Address::Unix(path.into())
        }
        "redis-sentinel" | "rediss-sentinel" => {
            let rest = parts.login(rest)?;
            Address::Sentinel(parts.sentinels(rest, scheme.starts_with("rediss"))?)
        }
        other => {
            bail!("the scheme is {other}, not unix, or redis or rediss, or one of these with -sentinel or -cluster")
        }
    };
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(Upstream::Redis {
        address,
        db: parts.db.unwrap_or(0),
        user: given(parts.user),
        password: given(parts.password).map(Secret::new),
    })
}

/// Reads what stands behind `redis-cluster://`: hosts, and no database, since a cluster has one.
fn cluster(mut parts: Parts, rest: &str, tls: bool) -> anyhow::Result<Upstream> {
    let rest = parts.login(rest)?;
    let rest = parts.options(rest)?;
    let (places, db) = rest.split_once('/').unwrap_or((rest, ""));
    let has_one = matches!(db, "" | "0") && parts.db.unwrap_or(0) == 0;
    ensure!(has_one, "a cluster has the database 0 and no other");
    let seeds = places.split(',').map(|place| host_and_port(place, PORT_DEFAULT)).collect::<Result<_, _>>()?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let password = given(parts.password).map(Secret::new);
    Ok(Upstream::Cluster { seeds, tls, user: given(parts.user), password })
}

/// A URL without its password.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (login, rest) = match rest.rsplit_once('@') {
        Some((login, rest)) if !login.contains('/') || scheme != "unix" => (Some(login), rest),
        _ => (None, rest),
    };
    let login = login.map_or(String::new(), |login| {
        let user = login.split_once(':').map_or(login, |(user, _)| user);
        format!("{user}:(not shown)@")
    });
    let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
    let shown = |option: &str| {
        if option.starts_with("password=") { "password=(not shown)".to_owned() } else { option.to_owned() }
    };
    let options: Vec<_> = options.split('&').filter(|option| !option.is_empty()).map(shown).collect();
    let mark = if options.is_empty() { "" } else { "?" };
    format!("{scheme}://{login}{place}{mark}{}", options.join("&"))
}

// === impl Parts ===

impl Parts {
    /// Takes `user:password@` off the front.
    fn login<'a>(&mut self, text: &'a str) -> anyhow::Result<&'a str> {
        let Some((login, rest)) = text.rsplit_once('@') else { return Ok(text) };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        self.user = Some(percent_decoded(user)?);
        self.password = Some(percent_decoded(password)?);
        Ok(rest)
    }

    /// Takes `host:port,host:port/NAME[/database]`.
    fn sentinels(&mut self, text: &str, tls: bool) -> anyhow::Result<Sentinels> {
        let rest = self.options(text)?;
        let (places, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let (name, db) = rest.split_once('/').unwrap_or((rest, ""));
        if !db.is_empty() && self.db.is_none() {
            self.db = Some(db.parse().context("the database")?);
        }
        ensure!(!name.is_empty(), "it does not say what the sentinels call the master: …host:port/NAME");
        let places = places.split(',').map(|place| host_and_port(place, SENTINEL_PORT_DEFAULT));
        Ok(Sentinels { places: places.collect::<Result<_, _>>()?, name: percent_decoded(name)?, tls })
    }

    /// Takes `?db=1&…` off the end.
    fn options<'a>(&mut self, text: &'a str) -> anyhow::Result<&'a str> {
        let Some((rest, options)) = text.split_once('?') else { return Ok(text) };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "db" => self.db = Some(value.parse().context("the database")?),
                "username" => self.user = Some(percent_decoded(value)?),
                "password" => self.password = Some(percent_decoded(value)?),
                name if name.starts_with("ssl") => bail!("{name} is not said here but by the settings upstream_tls_…"),
                name => bail!("there is no option {name}; there are db, username and password"),
            }
        }
        Ok(rest)
    }
}

fn host_and_port(place: &str, default: u16) -> anyhow::Result<(String, u16)> {
    // An address of version 6 stands in brackets.
    let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    ensure!(!host.is_empty(), "it names no host");
    Ok((host.to_owned(), port.map_or(Ok(default), str::parse).context("the port")?))
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

#[cfg(test)]
mod tests {
    use super::{Address, Secret, Sentinels, Upstream, read, without_password};

    /// What a URL means.
    fn check(text: &str, address: Address, db: u32, user: Option<&str>, password: Option<&str>) {
        let password = password.map(|password| Secret::new(password.into()));
        let expect = Upstream::Redis { address, db, user: user.map(Into::into), password };
        assert_eq!(read(text).unwrap(), expect, "{text}");
    }

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    #[test]
    fn urls() {
        check("redis://a", tcp("a", 6379), 0, None, None);
        check("redis://a:1/3", tcp("a", 1), 3, None, None);
        check("redis://a?db=3", tcp("a", 6379), 3, None, None);
        check("redis://:p%40w@a:1", tcp("a", 1), 0, None, Some("p@w"));
        check("redis://u:p@[::1]:7/1", tcp("::1", 7), 1, Some("u"), Some("p"));
        check("rediss://u:p@a:7/1", Address::Tls { host: "a".into(), port: 7 }, 1, Some("u"), Some("p"));
        let unix = |path: &str| Address::Unix(path.into());
        check("unix:///run/redis.sock", unix("/run/redis.sock"), 0, None, None);
        check("unix:///run/a@b%20c.sock?db=2", unix("/run/a@b c.sock"), 2, None, None);
        check("unix://u:p@/run/redis.sock", unix("/run/redis.sock"), 0, Some("u"), Some("p"));
        check("unix:///r?username=u&password=p%26&db=1", unix("/r"), 1, Some("u"), Some("p&"));
    }

    #[test]
    fn clusters() {
        let check = |text: &str, places: &[(&str, u16)], tls: bool, user: Option<&str>| {
            let seeds = places.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
            let password = user.map(|_| Secret::new("p".into()));
            let expect = Upstream::Cluster { seeds, tls, user: user.map(Into::into), password };
            assert_eq!(read(text).unwrap(), expect, "{text}");
        };
        check("redis-cluster://a:1", &[("a", 1)], false, None);
        check("redis-cluster://a,b:7,[::1]:8/0", &[("a", 6379), ("b", 7), ("::1", 8)], false, None);
        check("rediss-cluster://u:p@a:1,b:2", &[("a", 1), ("b", 2)], true, Some("u"));
    }

    #[test]
    fn sentinels() {
        let address = |places: &[(&str, u16)], tls| {
            let places = places.iter().map(|(host, port)| ((*host).into(), *port)).collect();
            Address::Sentinel(Sentinels { places, name: "m1".into(), tls })
        };
        check("redis-sentinel://a/m1", address(&[("a", 26379)], false), 0, None, None);
        let three = address(&[("a", 1), ("::1", 2), ("c", 26379)], true);
        check("rediss-sentinel://u:p@a:1,[::1]:2,c/m1/3", three.clone(), 3, Some("u"), Some("p"));
        check("rediss-sentinel://:p@a:1,[::1]:2,c/m1?db=3", three, 3, None, Some("p"));
    }

    #[test]
    fn mistakes() {
        let check = |text: &str, expect: &str| assert_eq!(format!("{:#}", read(text).unwrap_err()), expect, "{text}");
        check("a:1", "it has no scheme");
        let schemes = "the scheme is http, not unix, or redis or rediss, or one of these with -sentinel or -cluster";
        check("http://x", schemes);
        let nameless = "it does not say what the sentinels call the master: …host:port/NAME";
        check("redis-sentinel://a:1", nameless);
        check("redis-sentinel://a:1//3", nameless);
        check("redis-sentinel://a:1,/m", "it names no host");
        check("redis://", "it names no host");
        check("redis-cluster://a,", "it names no host");
        check("redis-cluster://a/1", "a cluster has the database 0 and no other");
        check("redis-cluster://a?db=1", "a cluster has the database 0 and no other");
        check("redis://a:x", "the port: invalid digit found in string");
        check("redis://a/x", "the database: invalid digit found in string");
        check("redis://a?dbs=1", "there is no option dbs; there are db, username and password");
        check("rediss://a?ssl_ca_certs=/x", "ssl_ca_certs is not said here but by the settings upstream_tls_…");
        check("unix://redis.sock", "the path of the socket is not absolute");
    }

    #[test]
    fn passwords_are_not_shown() {
        let check = |url: &str, expect: &str| assert_eq!(without_password(url), expect);
        check("redis://u:secret@a:1/3", "redis://u:(not shown)@a:1/3");
        check("rediss://:sec@ret@a", "rediss://:(not shown)@a");
        check("unix:///a@b?password=secret&db=1", "unix:///a@b?password=(not shown)&db=1");
        check("unix://u:secret@/a?db=1", "unix://u:(not shown)@/a?db=1");
        check("redis-cluster://u:secret@a:1,b:2", "redis-cluster://u:(not shown)@a:1,b:2");
        check("redis://a:1", "redis://a:1");
        check("redis-sentinel://u:secret@a:1,b:2/m/3", "redis-sentinel://u:(not shown)@a:1,b:2/m/3");
        check("embedded", "embedded");
    }
}

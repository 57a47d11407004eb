//! References to artifacts in registries: `oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]`. What a repository and a
//! tag may be called is of the OCI distribution specification 1.1, "Pulling manifests".

use std::net::IpAddr;

use anyhow::{Context, bail, ensure};
use sha2::Digest as _;

/// An artifact in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The registry: a host, and a port where one was given.
    pub host: String,
    /// The repository in it.
    pub repository: String,
    /// The tag. What it names may change.
    pub tag: Option<String>,
    /// The digest. What it names never changes.
    pub digest: Option<Digest>,
}

/// The SHA-256 of some bytes, as registries write it: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(String);

const SCHEME: &str = "oci://";
const HOST_BYTES_MAX: usize = 255;
const REPOSITORY_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;
const HEX_DIGITS: usize = 64;

// === impl Reference ===

impl Reference {
    /// What it takes, for messages.
    pub const TAKES: &'static str = "oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]";

    /// Whether a text means to be one.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none; the message says which part.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let rest = text.strip_prefix(SCHEME).with_context(|| format!("it does not begin with {SCHEME}"))?;
        let (host, rest) = rest.split_once('/').context("it names no repository")?;
        ensure!(!host.contains('@'), "passwords are not part of it; `docker login` keeps them");
        let of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        let is_host = (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(of_host);
        ensure!(is_host, "{host:?} is no host");
        let (rest, digest) = match rest.split_once('@') {
            None => (rest, None),
            Some((rest, digest)) => (rest, Some(Digest::read(digest)?)),
        };
        let (repository, tag) = match rest.split_once(':') {
            None => (rest, None),
            Some((repository, tag)) => (repository, Some(tag)),
        };
        ensure!(
            is_repository(repository),
            "{repository:?} is no repository: lower-case letters, digits and -_. in parts"
        );
        if let Some(tag) = tag {
            let of_tag = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            let is_tag =
                (1..=TAG_BYTES_MAX).contains(&tag.len()) && tag.bytes().all(of_tag) && !tag.starts_with(['.', '-']);
            ensure!(is_tag, "{tag:?} is no tag");
        }
        Ok(Self { host: host.into(), repository: repository.into(), tag: tag.map(Into::into), digest })
    }

    /// The same with a digest in the place of the tag: what never changes.
    pub fn pinned(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// Whether the registry is this machine's own, so that nobody stands between.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{SCHEME}{}/{}", self.host, self.repository)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(out, ":{tag}"))?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(out, "@{digest}"))
    }
}

// === impl Digest ===

impl Digest {
    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let hex: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("sha256:{hex}"))
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none, or of another algorithm.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let is_hex = |hex: &str| hex.len() == HEX_DIGITS && hex.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        match text.strip_prefix("sha256:") {
            Some(hex) if is_hex(hex) => Ok(Self(text.to_owned())),
            _ => bail!("{text:?} is no digest: sha256: and {HEX_DIGITS} hexadecimal digits in lower case"),
        }
    }

    /// As registries write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it stands in names of tags and folders, where a colon cannot: `sha256-…`.
    pub fn dashed(&self) -> String {
        self.0.replacen(':', "-", 1)
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

/// Whether a host, with a port or without, is this machine by the loopback interface.
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Parts between slashes; each begins and ends with a letter or a digit.
fn is_repository(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|byte| plain(*byte))
            && bytes.last().is_some_and(|byte| plain(*byte))
            && bytes.iter().all(|byte| plain(*byte) || b"._-".contains(byte))
    };
    text.len() <= REPOSITORY_BYTES_MAX && text.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::Reference;

    #[test]
    fn references() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let check = |text: &str, expect: &str| {
            let read = Reference::read(text).map(|reference| format!("{reference}"));
            let got = read.unwrap_or_else(|error| format!("{error:#}"));
            assert!(got.contains(expect), "{text}: {got}");
        };
        for good in ["oci://h/r", "oci://h:5000/a/b-c:v1.0", "oci://[::1]:5000/a", "oci://h.example/a_b:_x"] {
            check(good, good);
            check(&format!("{good}@{digest}"), &format!("{good}@{digest}"));
        }
        check("http://h/r", "does not begin with oci://");
        check("oci://h", "names no repository");
        check("oci://h/", "\"\" is no repository");
        check("oci:///r", "is no host");
        check("oci://h h/r", "is no host");
        check("oci://u:p@h/r", "passwords are not part of it");
        check("oci://h/R", "is no repository");
        check("oci://h/../r", "is no repository");
        check("oci://h/a//b", "is no repository");
        check("oci://h/r:", "\"\" is no tag");
        check("oci://h/r:-x", "is no tag");
        check("oci://h/r:a/b", "is no tag");
        check("oci://h/r@sha256:12", "is no digest");
        check("oci://h/r@sha512:12", "is no digest");
        check(&format!("oci://h/r@{}", digest.to_uppercase()), "is no digest");
    }

    #[test]
    fn loopback() {
        let check = |host: &str, expect: bool| assert_eq!(super::is_loopback(host), expect, "{host}");
        check("127.0.0.1:5000", true);
        check("127.9.9.9", true);
        check("localhost:1", true);
        check("[::1]:5000", true);
        check("localhost.example:1", false);
        check("10.0.0.1:5000", false);
        check("127.0.0.1.example", false);
    }
}

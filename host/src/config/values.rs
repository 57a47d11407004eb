//! The types of single settings: how each is read from text.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use super::Reference;

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
        /// Where it listens.
        address: Address,
        /// Database.
        db: u32,
        /// User.
        user: Option<String>,
        /// Password.
        password: Option<Secret>,
    },
    /// A cluster.
    Cluster {
        /// Nodes that are asked which others there are: host and port.
        seeds: Vec<(String, u16)>,
        /// Whether connections are encrypted.
        tls: bool,
        /// The user to authenticate as; none: the default user.
        user: Option<String>,
        /// The password; none: no authentication.
        password: Option<Secret>,
    },
}

/// Where the policies are that are not part of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyFolder {
    /// In a folder, which is watched.
    Folder(PathBuf),
    /// In a registry, under a digest: what they are never changes.
    Artifact(Reference),
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// On the network.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// On the network, encrypted.
    Tls {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// On a socket in the file system.
    Unix(PathBuf),
    /// Where sentinels say.
    Sentinel(Sentinels),
}

/// Sentinels, and the name under which they know a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentinels {
    /// Host and port of each.
    pub places: Vec<(String, u16)>,
    /// What they call the master.
    pub name: String,
    /// Whether they and the servers speak TLS.
    pub tls: bool,
}

/// Who may use a file: the nine permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// How far the clock is shifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    /// In milliseconds.
    pub ms: i64,
}

/// What the policy folder comes to hold must keep to before it comes into force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FolderGate {
    /// For so long it is compared, in milliseconds.
    pub ms: u64,
    /// Of all decisions at most so many may differ, from 0 to 100.
    pub percent: f64,
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

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They must.
    Required,
    /// They may; one that is shown must be good.
    Optional,
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
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

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
choices!(bool, "`on` or `off`", "on" => true, "off" => false);
choices!(LossChoice, "`close` or `error`", "close" => Self::Close, "error" => Self::Error);
choices!(ClientCertificates, "`required` or `optional`", "required" => Self::Required, "optional" => Self::Optional);
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

impl Value for PathBuf {
    const TAKES: &'static str = "a path";

    fn read(text: &str) -> anyhow::Result<Self> {
        ensure!(!text.is_empty(), "it is empty");
        Ok(text.into())
    }
}

impl Value for Option<PolicyFolder> {
    const TAKES: &'static str = "a path, or oci://HOST[:PORT]/REPOSITORY[:TAG]@sha256:DIGEST";

    fn read(text: &str) -> anyhow::Result<Self> {
        if text.is_empty() || !Reference::is_meant(text) {
            return Ok((!text.is_empty()).then(|| PolicyFolder::Folder(text.into())));
        }
        let reference = Reference::read(text)?;
        ensure!(
            reference.digest.is_some(),
            "it has no digest, and a tag may come to name something else; `bellwether policy pull` prints the digest"
        );
        Ok(Some(PolicyFolder::Artifact(reference)))
    }
}

impl Value for Option<PathBuf> {
    const TAKES: &'static str = "a path";

    fn read(text: &str) -> anyhow::Result<Self> {
        Ok((!text.is_empty()).then(|| text.into()))
    }
}

impl Value for Option<SocketAddr> {
    const TAKES: &'static str = "an address and a port, such as 127.0.0.1:6380, or `off`";

    fn read(text: &str) -> anyhow::Result<Self> {
        if text == "off" { Ok(None) } else { Ok(Some(text.parse()?)) }
    }
}

impl Value for Option<FileMode> {
    const TAKES: &'static str = "an octal mode of three digits, such as 770";

    fn read(text: &str) -> anyhow::Result<Self> {
        if text.is_empty() {
            return Ok(None);
        }
        ensure!(text.len() == 3, "it has {} digits", text.len());
        Ok(Some(FileMode(u32::from_str_radix(text, 8)?)))
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

impl Value for Option<FolderGate> {
    const TAKES: &'static str = "a span and a share such as `10m 0.1%`";

    fn read(text: &str) -> anyhow::Result<Self> {
        if text.is_empty() {
            return Ok(None);
        }
        let (span, share) = text.rsplit_once(' ').context("one of the two is missing")?;
        let span: jiff::Span = span.parse()?;
        let ms = u64::try_from(span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())?.as_millis())?;
        let percent: f64 = share.strip_suffix('%').context("the share has no %")?.parse()?;
        ensure!(ms > 0 && (0.0..=100.0).contains(&percent), "the span is more than 0, the share from 0% to 100%");
        Ok(Some(FolderGate { ms, percent }))
    }
}

impl Value for Option<Upstream> {
    const TAKES: &'static str = "redis://[user[:password]@]host[:port][/database], rediss://… for TLS, \
                                 unix:///path[?db=N], redis-sentinel://[user[:password]@]host:port[,host:port…]/NAME\
                                 [/database], redis-cluster://[user[:password]@]host:port[,host:port…], the same \
                                 with rediss, or `embedded`";

    fn read(text: &str) -> anyhow::Result<Self> {
        match text {
            "" => Ok(None),
            "embedded" => Ok(Some(Upstream::Embedded)),
            url => super::url::read(url).map(Some),
        }
    }
}

//! What is said with one sentinel, or with the server that it names: a command, its reply, and what that means. In
//! RESP2, which every version speaks.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::stream::Stream;
use super::{Login, Master, Place};
use crate::resp::reply::{self, Splitter};
use crate::resp::write;

/// A connection on which one thing is said after another.
pub(super) struct Talk {
    stream: Stream,
    bytes: BytesMut,
}

/// What a sentinel knows.
pub(super) struct Answer {
    pub(super) master: Master,
    /// The other sentinels of this master.
    pub(super) others: Vec<Place>,
}

/// No answer of a sentinel is longer; one that names all its masters has some hundred bytes for each.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Masters that an error lists.
const LISTED_MAX: usize = 8;

// === impl Talk ===

impl Talk {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, bytes: BytesMut::new() }
    }

    /// The stream again, when all that was asked has been answered.
    pub(super) fn into_stream(self) -> io::Result<Stream> {
        if self.bytes.is_empty() { Ok(self.stream) } else { Err(io::Error::other("says more than it was asked")) }
    }

    /// Gives a sentinel the password that it asks for, if the settings have one.
    pub(super) async fn log_in(&mut self, login: &Login) -> io::Result<()> {
        let Some(password) = &login.password else { return Ok(()) };
        let words = match &login.user {
            None => vec!["AUTH", password],
            Some(user) => vec!["AUTH", user, password],
        };
        match error(&self.ask(&words).await?) {
            None => Ok(()),
            Some(error) => Err(io::Error::other(format!("refuses sentinel_user and sentinel_password: {error}"))),
        }
    }

    /// Which server is the master, and who else watches it.
    pub(super) async fn ask_for(&mut self, name: &str) -> io::Result<Answer> {
        let place = self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name]).await?;
        if let Some(error) = error(&place) {
            return Err(io::Error::other(match error.split(' ').next() {
                Some("NOAUTH") => {
                    "asks for a password; set sentinel_password, and sentinel_user if it has users".into()
                }
                Some("NOPERM") => format!("does not tell the user that sentinel_user names: {error}"),
                _ => format!("is no sentinel: {error}"),
            }));
        }
        let place = reply::elements(&place).and_then(|pair| Some((string(pair.first()?)?, string(pair.get(1)?)?)));
        let Some((host, port)) = place else { return Err(self.unknown().await?) };
        let place = Place { host, port: port.parse().map_err(io::Error::other)? };
        let about = self.ask(&["SENTINEL", "MASTER", name]).await?;
        let epoch = field(&about, "config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or_default();
        let others = self.ask(&["SENTINEL", "SENTINELS", name]).await?;
        let others = reply::elements(&others).unwrap_or_default().into_iter().filter_map(other).collect();
        Ok(Answer { master: Master { place, epoch, anew: false }, others })
    }

    /// Which masters it knows instead.
    async fn unknown(&mut self) -> io::Result<io::Error> {
        let masters = self.ask(&["SENTINEL", "MASTERS"]).await?;
        let masters = reply::elements(&masters).unwrap_or_default();
        let names: Vec<_> = masters.iter().filter_map(|master| field(master, "name")).take(LISTED_MAX).collect();
        let more = if masters.len() > names.len() {
            format!(" and {} more", masters.len() - names.len())
        } else {
            String::new()
        };
        let known = if names.is_empty() { "none at all".to_owned() } else { names.join(", ") };
        Ok(io::Error::other(format!("knows no master of this name; it knows {known}{more}")))
    }

    /// Whether a server says of itself that it is a master. It is asked by HELLO, which every user may say.
    pub(super) async fn is_master(&mut self, login: &Login) -> io::Result<bool> {
        let user = login.user.as_deref().unwrap_or("default");
        let words = match &login.password {
            None => vec!["HELLO", "2"],
            Some(password) => vec!["HELLO", "2", "AUTH", user, password],
        };
        let said = self.ask(&words).await?;
        match error(&said) {
            None => Ok(field(&said, "role").as_deref() == Some("master")),
            // Whoever opens the connection is told the same, and knows what to make of it.
            Some(error) if ["WRONGPASS ", "NOAUTH "].iter().any(|code| error.starts_with(code)) => Ok(true),
            Some(error) => Err(io::Error::other(format!("says {error}"))),
        }
    }

    pub(super) async fn ask(&mut self, words: &[&str]) -> io::Result<Bytes> {
        let mut out = Vec::new();
        write::array(&mut out, words.len());
        words.iter().for_each(|word| write::bulk(&mut out, word.as_bytes()));
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        self.next().await
    }

    /// The next frame. Dropped before it has come, it loses nothing.
    pub(super) async fn next(&mut self) -> io::Result<Bytes> {
        let mut splitter = Splitter::default();
        loop {
            if let Some(length) = splitter.split(&self.bytes).map_err(io::Error::other)? {
                return Ok(self.bytes.split_to(length).freeze());
            }
            if self.bytes.len() > BYTES_MAX {
                return Err(io::Error::other("says more than any sentinel would"));
            }
            if self.stream.read_buf(&mut self.bytes).await? == 0 {
                return Err(io::Error::other("closed the connection"));
            }
        }
    }
}

/// What an error reply says.
pub(super) fn error(frame: &[u8]) -> Option<String> {
    (frame.first() == Some(&reply::kind::ERROR)).then(|| string(frame)).flatten()
}

fn string(frame: &[u8]) -> Option<String> {
    reply::text(frame).map(|text| String::from_utf8_lossy(text).into_owned())
}

/// The value behind a name in a flat array of both.
fn field(frame: &[u8], name: &str) -> Option<String> {
    let elements = reply::elements(frame)?;
    let mut pairs = elements.chunks_exact(2);
    string(
        pairs.find_map(|pair| pair.first().filter(|key| reply::text(key) == Some(name.as_bytes())).and(pair.get(1)))?,
    )
}

fn other(frame: &[u8]) -> Option<Place> {
    Some(Place { host: field(frame, "ip")?, port: field(frame, "port")?.parse().ok()? })
}

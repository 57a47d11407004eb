//! Requests and the replies they must get, as bytes with places for numbers, so that neither costs more than a copy or
//! a comparison. It must not know how they travel.

use std::fmt::Write as _;

use anyhow::{Context, bail};

use crate::keys::{KEYS_OF_REQUEST_MAX, Keys};

/// Bytes in which some numbers are still to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    holes: Vec<Hole>,
}

/// A number of fixed width: `base + source % modulo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    at: usize,
    width: usize,
    source: Source,
    base: u64,
    modulo: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The request's key of that place.
    Key(usize),
    /// Where the request stands in the order of all.
    Place,
}

/// What must come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// These bytes.
    Bytes(Template),
    /// So many integers, each 0 or 1.
    Flags(usize),
}

/// How far a reply has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is all there and right, and has so many bytes.
    Whole(usize),
    /// More must come.
    Partial,
    /// It is another one.
    Wrong,
}

/// One sort of request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) sent: Template,
    pub(crate) reply: Reply,
}

/// How keys and values look.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) prefix: String,
    /// So many prefixes: a number stands behind the prefix.
    pub(crate) namespaces: Option<u64>,
    pub(crate) value_bytes: usize,
}

const KEY_DIGITS: usize = 12;
const NAMESPACE_DIGITS: usize = 6;
/// A JSON string around a key's number; smaller values are numbers.
const TEXT_BYTES_MIN: usize = KEY_DIGITS + 2;
/// What a reply begins with tells whether it is the right one before all of it is there.
const BEGINNING_BYTES: usize = 16;
const LIFETIME_MS: &str = "60000";

// === impl Template ===

impl Template {
    /// Writes the bytes for the request at a place.
    pub(crate) fn write(&self, keys: &Keys, place: u64, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&self.bytes);
        let keys = keys.at(place);
        for hole in &self.holes {
            let mut number = hole.number(keys, place);
            let digits = out.get_mut(begin + hole.at..begin + hole.at + hole.width).unwrap_or_default();
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
    }

    /// How many bytes it has, whatever its numbers are.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn matches(&self, keys: &Keys, place: u64, bytes: &[u8]) -> bool {
        let keys = keys.at(place);
        let mut from = 0;
        for hole in &self.holes {
            if bytes.get(from..hole.at) != self.bytes.get(from..hole.at) {
                return false;
            }
            from = hole.at + hole.width;
            let mut number = hole.number(keys, place);
            for digit in bytes.get(hole.at..from).unwrap_or_default().iter().rev() {
                if *digit != b'0' + (number % 10) as u8 {
                    return false;
                }
                number /= 10;
            }
        }
        bytes.get(from..) == self.bytes.get(from..)
    }

    fn command(&mut self, args: usize) {
        self.text(&format!("*{args}\r\n"));
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn bulk(&mut self, text: &str) {
        self.text(&format!("${}\r\n{text}\r\n", text.len()));
    }

    fn hole(&mut self, width: usize, source: Source, base: u64, modulo: u64) {
        self.holes.push(Hole { at: self.bytes.len(), width, source, base, modulo });
        self.bytes.resize(self.bytes.len() + width, b'0');
    }

    fn key(&mut self, shape: &Shape, of: &str, slot: usize) {
        let namespace = shape.namespaces.map_or(0, |_| NAMESPACE_DIGITS + 1);
        self.text(&format!("${}\r\n{}", shape.prefix.len() + namespace + of.len() + KEY_DIGITS, shape.prefix));
        if let Some(namespaces) = shape.namespaces {
            self.hole(NAMESPACE_DIGITS, Source::Key(slot), 0, namespaces);
            self.text(":");
        }
        self.text(of);
        self.hole(KEY_DIGITS, Source::Key(slot), 0, u64::MAX);
        self.text("\r\n");
    }

    /// Another value for every key, and always the same: so that every reader knows what it must be given.
    fn value(&mut self, shape: &Shape, slot: usize) {
        let bytes = shape.value_bytes;
        self.text(&format!("${bytes}\r\n"));
        if bytes < TEXT_BYTES_MIN {
            let base = 10_u64.pow(bytes as u32 - 1);
            self.hole(bytes, Source::Key(slot), base, 9 * base);
        } else {
            self.text("\"");
            self.hole(KEY_DIGITS, Source::Key(slot), 0, u64::MAX);
            self.bytes.resize(self.bytes.len() + bytes - TEXT_BYTES_MIN, b'x');
            self.text("\"");
        }
        self.text("\r\n");
    }
}

// === impl Hole ===

impl Hole {
    fn number(&self, keys: &[u32], place: u64) -> u64 {
        let source = match self.source {
            Source::Key(slot) => keys.get(slot).copied().map_or(0, u64::from),
            Source::Place => place,
        };
        self.base + source % self.modulo
    }
}

// === impl Reply ===

impl Reply {
    /// Whether the bytes begin with this reply, for the request at a place.
    pub(crate) fn check(&self, keys: &Keys, place: u64, bytes: &[u8]) -> Progress {
        match self {
            Reply::Bytes(template) => {
                let whole = template.bytes.len();
                if let Some(reply) = bytes.get(..whole) {
                    return if template.matches(keys, place, reply) { Progress::Whole(whole) } else { Progress::Wrong };
                }
                // Up to the first number, which differs by key.
                let known = template.holes.first().map_or(whole, |hole| hole.at).min(BEGINNING_BYTES).min(bytes.len());
                if bytes.get(..known) == template.bytes.get(..known) { Progress::Partial } else { Progress::Wrong }
            }
            Reply::Flags(count) => {
                let reply = bytes.get(..(count * 4).min(bytes.len())).unwrap_or_default();
                let right = reply.iter().enumerate().all(|(at, byte)| match at % 4 {
                    0 => *byte == b':',
                    1 => matches!(byte, b'0' | b'1'),
                    2 => *byte == b'\r',
                    _ => *byte == b'\n',
                });
                match (right, reply.len() == count * 4) {
                    (false, _) => Progress::Wrong,
                    (true, true) => Progress::Whole(reply.len()),
                    (true, false) => Progress::Partial,
                }
            }
        }
    }

    /// How many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Reply::Bytes(template) => template.bytes(),
            Reply::Flags(count) => count * 4,
        }
    }

    /// What it is, for people.
    pub(crate) fn expected(&self, keys: &Keys, place: u64) -> String {
        match self {
            Reply::Bytes(template) => {
                let mut bytes = Vec::new();
                template.write(keys, place, &mut bytes);
                shown(&bytes)
            }
            Reply::Flags(count) => format!("{count} integers of 0 or 1"),
        }
    }
}

// === impl Request ===

impl Request {
    /// A request by its name in a mix.
    pub(crate) fn named(name: &str, shape: &Shape) -> anyhow::Result<Self> {
        if shape.value_bytes == 0 {
            bail!("a value has at least 1 byte");
        }
        let (mut sent, mut reply) = (Template::default(), Template::default());
        let ok = || Reply::Bytes(Template { bytes: b"+OK\r\n".to_vec(), holes: vec![] });
        let reply = match name {
            "get" => {
                sent.command(2);
                sent.bulk("GET");
                sent.key(shape, "quote:", 0);
                reply.value(shape, 0);
                Reply::Bytes(reply)
            }
            "mget" => {
                sent.command(1 + KEYS_OF_REQUEST_MAX);
                sent.bulk("MGET");
                reply.command(KEYS_OF_REQUEST_MAX);
                for slot in 0..KEYS_OF_REQUEST_MAX {
                    sent.key(shape, "quote:", slot);
                    reply.value(shape, slot);
                }
                Reply::Bytes(reply)
            }
            "set" | "set-px" => {
                let lifetime = name == "set-px";
                sent.command(if lifetime { 5 } else { 3 });
                sent.bulk("SET");
                sent.key(shape, "quote:", 0);
                sent.value(shape, 0);
                if lifetime {
                    sent.bulk("PX");
                    sent.bulk(LIFETIME_MS);
                }
                ok()
            }
            "hset" | "hset-pexpire" | "zadd" | "zadd-pexpire" => {
                let of = if name.starts_with("hset") { "hash:" } else { "zset:" };
                sent.command(4);
                sent.bulk(if of == "hash:" { "HSET" } else { "ZADD" });
                sent.key(shape, of, 0);
                if of == "hash:" {
                    sent.bulk("price");
                } else {
                    // The score changes, so that there is something to do.
                    sent.text(&format!("${NAMESPACE_DIGITS}\r\n"));
                    sent.hole(NAMESPACE_DIGITS, Source::Place, 0, 1_000_000);
                    sent.text("\r\n");
                }
                sent.value(shape, 0);
                if name.ends_with("-pexpire") {
                    sent.command(4);
                    sent.bulk("PEXPIRE");
                    sent.key(shape, of, 0);
                    sent.bulk(LIFETIME_MS);
                    sent.bulk("NX");
                }
                Reply::Flags(if name.ends_with("-pexpire") { 2 } else { 1 })
            }
            _ => bail!("no request {name:?}"),
        };
        Ok(Self { sent, reply })
    }
}

/// Requests and how often each is drawn, as `get:9,set:1`.
pub(crate) fn mix(text: &str, shape: &Shape) -> anyhow::Result<Vec<(Request, usize)>> {
    let one = |part: &str| {
        let (name, weight) = part.split_once(':').unwrap_or((part, "1"));
        let weight = weight.parse().with_context(|| format!("{part:?} in the mix has no number behind the colon"))?;
        Ok((Request::named(name, shape)?, weight))
    };
    text.split(',').map(one).collect()
}

/// The beginning of some bytes, for people.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let mut text = bytes.get(..bytes.len().min(60)).unwrap_or_default().escape_ascii().to_string();
    if bytes.len() > 60 {
        let _ = write!(text, "… ({} bytes)", bytes.len());
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies() {
        let check =
            |name: &str, value_bytes: usize, namespaces: Option<u64>, sent: &str, right: &str, wrong: &[&str]| {
                let shape = Shape { prefix: "p:".to_owned(), namespaces, value_bytes };
                let request = Request::named(name, &shape).unwrap();
                // The only key is 0.
                let keys = Keys::draw(1, None, 1);
                let mut bytes = Vec::new();
                request.sent.write(&keys, 5, &mut bytes);
                assert_eq!(String::from_utf8(bytes).unwrap(), sent);
                let progress = |bytes: &str| request.reply.check(&keys, 5, bytes.as_bytes());
                for end in 0..right.len() {
                    assert_eq!(progress(&right[..end]), Progress::Partial, "{name}: {:?}", &right[..end]);
                }
                assert_eq!(progress(right), Progress::Whole(right.len()));
                assert_eq!(progress(&format!("{right}+more")), Progress::Whole(right.len()));
                for wrong in wrong {
                    assert_eq!(progress(wrong), Progress::Wrong, "{name}: {wrong:?}");
                }
            };
        let key = "$20\r\np:quote:000000000000\r\n";
        let errors = ["-", "-ERR no\r\n", "$-1\r\n", "$4\r\n1000\r\n"];
        check("get", 3, None, &format!("*2\r\n$3\r\nGET\r\n{key}"), "$3\r\n100\r\n", &errors);
        check("get", 3, None, &format!("*2\r\n$3\r\nGET\r\n{key}"), "$3\r\n100\r\n", &["$3\r\n101\r\n", ":1\r\n"]);
        let far = "*2\r\n$3\r\nGET\r\n$27\r\np:000000:quote:000000000000\r\n";
        let wrong = ["$16\r\n\"000000000001xx\"\r\n", "$16\r\n\"000000000000xy\"\r\n"];
        check("get", 16, Some(7), far, "$16\r\n\"000000000000xx\"\r\n", &wrong);
        let set = format!("*5\r\n$3\r\nSET\r\n{key}$1\r\n1\r\n$2\r\nPX\r\n$5\r\n60000\r\n");
        check("set-px", 1, None, &set, "+OK\r\n", &["+QUEUED\r\n", "+NO"]);
        let zset = "$19\r\np:zset:000000000000\r\n";
        let zadd = format!("*4\r\n$4\r\nZADD\r\n{zset}$6\r\n000005\r\n$3\r\n100\r\n");
        check("zadd", 3, None, &zadd, ":0\r\n", &[":2\r\n", "+0\r\n"]);
        let pexpire = format!("*4\r\n$7\r\nPEXPIRE\r\n{zset}$5\r\n60000\r\n$2\r\nNX\r\n");
        check("zadd-pexpire", 3, None, &format!("{zadd}{pexpire}"), ":1\r\n:1\r\n", &[":1\r\n-", ":10\r\n"]);
        let mget = format!("*11\r\n$4\r\nMGET\r\n{}", key.repeat(10));
        check("mget", 2, None, &mget, &format!("*10\r\n{}", "$2\r\n10\r\n".repeat(10)), &["*9\r\n", "$2\r\n"]);
    }
}

//! A conversation as a file: what clients send, what they get, in order. It is read here and held by `conversation`.
//!
//! ```text
//! # A comment.                        Before the first step, lines `name: value`:
//! protocols: 2                        RESP2 only, RESP3 only (3), or both (2 3), which is the default
//! redis: --requirepass secret         options of the server
//! sidecar: --clients-max 2            flags of the sidecar
//! policies: lifetimes/policies        the sidecar's policy folder, below `tests`
//! bytewise: no                        it is not also sent one byte at a time
//!
//! > SET a "b\r\n"                     a command, typed as in redis-cli; lines that follow each other are one write
//! >> *1\r\n$4\r\nPING\r\n             bytes, with the escapes of Rust
//! < +OK                               a reply: of direct Redis and of the sidecar
//!   more                              (its next line)
//! <                                   a reply: the sidecar's is that of direct Redis, byte for byte
//! <! +OK                              a reply of the sidecar, where it differs on purpose; the comment says why
//! < closed                            the connection ends
//! wait blocked_clients:1              until the server's INFO has that line
//! close                               the client leaves
//! b> PING                             the same for another client, of any letter; without one it is `a`
//! ```
//! In what is sent `{1000*x}` is a thousand x, `{now+60s}` an instant in seconds and `{now+60000}` one in milliseconds.
//! In replies `{*}` is anything within a line and `{1..9}` a number within bounds.

use std::path::Path;

use bellwether::resp::request::{Limits, Scanned, Scanner};

/// A conversation.
#[derive(Debug, Default)]
pub struct Transcript {
    /// The file.
    pub name: String,
    /// What it is held with.
    pub setting: Setting,
    /// The versions of RESP.
    pub protocols: Vec<u8>,
    /// It is also sent one byte at a time.
    pub bytewise: bool,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// What a conversation is held with. Those that agree share a server and a sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// Options of the server.
    pub redis: Vec<String>,
    /// Flags of the sidecar.
    pub sidecar: Vec<String>,
    /// The policy folder, below `tests`.
    pub policies: Option<String>,
}

/// One thing that happens.
#[derive(Debug)]
pub struct Step {
    /// Its line in the file.
    pub line: usize,
    /// Whom it happens to.
    pub client: char,
    /// What it is.
    pub what: What,
}

/// What happens.
#[derive(Debug)]
pub enum What {
    /// Bytes are sent. Placeholders are still in the parts.
    Send(Vec<Part>),
    /// A reply comes.
    Receive(Reply),
    /// The connection ends.
    Ended,
    /// It asks for its number (CLIENT ID), which is `{id:x}` in what is sent from then on.
    Learn,
    /// The server's INFO gets a line.
    Wait(String),
    /// The client leaves.
    Close,
}

/// A part of what is sent in one write.
#[derive(Debug)]
pub enum Part {
    /// A command.
    Command(Vec<Vec<u8>>),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// What is known of a reply.
#[derive(Debug)]
pub enum Reply {
    /// It is the one that direct Redis gives.
    AsRedis,
    /// Both are like this.
    Both(Vec<u8>),
    /// The sidecar's is like this.
    Sidecar(Vec<u8>),
}

// === impl Transcript ===

impl Transcript {
    /// Reads a file. Panics where a line means nothing.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut transcript = Self { name, protocols: vec![2, 3], bytewise: true, ..Self::default() };
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let known = transcript.line(index + 1, line);
            assert!(known.is_some(), "{}:{}: {line:?} means nothing", transcript.name, index + 1);
        }
        assert!(!transcript.steps.is_empty(), "{}: nothing happens", transcript.name);
        transcript
    }

    /// Takes in a line. None: it means nothing.
    fn line(&mut self, number: usize, line: &str) -> Option<()> {
        if let Some(more) = line.strip_prefix("  ") {
            let last = self.steps.last_mut();
            let Some(Step { what: What::Receive(Reply::Both(reply) | Reply::Sidecar(reply)), .. }) = last else {
                return None;
            };
            reply.extend(reply_line(more));
            return Some(());
        }
        let (client, rest) = match line.as_bytes() {
            [client @ b'a'..=b'z', b'<' | b'>' | b' ', ..] => (char::from(*client), line.get(1..)?.trim_start()),
            _ => ('a', line),
        };
        let what = match rest.split_once(' ').unwrap_or((rest, "")) {
            (">", command) => return self.send(number, client, Part::Command(words(command)?)),
            (">>", bytes) => return self.send(number, client, Part::Bytes(unescaped(bytes))),
            ("<", "") => What::Receive(Reply::AsRedis),
            ("<", "closed") => What::Ended,
            ("<", reply) => What::Receive(Reply::Both(reply_line(reply))),
            ("<!", reply) => What::Receive(Reply::Sidecar(reply_line(reply))),
            ("wait", text) => What::Wait(text.to_owned()),
            ("close", "") => What::Close,
            ("id", "") => What::Learn,
            (name, value) if self.steps.is_empty() => return self.header(name.strip_suffix(':')?, value),
            _ => return None,
        };
        self.steps.push(Step { line: number, client, what });
        Some(())
    }

    fn send(&mut self, line: usize, client: char, part: Part) -> Option<()> {
        match self.steps.last_mut() {
            Some(Step { client: same, what: What::Send(parts), .. }) if *same == client => parts.push(part),
            _ => self.steps.push(Step { line, client, what: What::Send(vec![part]) }),
        }
        Some(())
    }

    fn header(&mut self, name: &str, value: &str) -> Option<()> {
        let values = || value.split(' ').map(str::to_owned).collect();
        match name {
            "protocols" => {
                self.protocols = value.split(' ').map(|number| number.parse().ok()).collect::<Option<_>>()?
            }
            "redis" => self.setting.redis = values(),
            "sidecar" => self.setting.sidecar = values(),
            "policies" => self.setting.policies = Some(value.to_owned()),
            "bytewise" => self.bytewise = value != "no",
            _ => return None,
        }
        Some(())
    }
}

// === impl Part ===

impl Part {
    /// Appends the bytes that are sent at `now`.
    pub fn write(&self, now: i64, out: &mut Vec<u8>) {
        match self {
            Self::Bytes(bytes) => out.extend(expanded(bytes, now)),
            Self::Command(words) => {
                let words: Vec<_> = words.iter().map(|word| expanded(word, now)).collect();
                out.extend(super::client::encoded(&words));
            }
        }
    }
}

/// Splits a command as redis-cli does.
pub fn words(line: &str) -> Option<Vec<Vec<u8>>> {
    let mut scanner = Scanner::new(Limits { args_max: 4096, bulk_bytes_max: 1 << 20, command_bytes_max: 1 << 20 });
    let Ok(Scanned::Inline(_, bytes)) = scanner.scan(format!("{line}\n").as_bytes()) else { return None };
    scanner.scan(&bytes).unwrap();
    Some(scanner.args().iter().map(|arg| arg.of(&bytes).to_vec()).collect())
}

fn reply_line(text: &str) -> Vec<u8> {
    [unescaped(text), b"\r\n".to_vec()].concat()
}

/// The bytes of a text with `\r`, `\n`, `\t`, `\0`, `\\` and `\xNN`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                (u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap(), after)
            }
            (b'\\', [escape, after @ ..]) => {
                let of = [(b'r', b'\r'), (b'n', b'\n'), (b't', b'\t'), (b'0', 0), (b'\\', b'\\')];
                let found = of.iter().find(|(name, _)| name == escape);
                (found.unwrap_or_else(|| panic!("{text:?} has an escape that means nothing")).1, after)
            }
            _ => (byte, after),
        };
        out.push(byte);
        rest = after;
    }
    out
}

/// Puts what they stand for in the place of placeholders.
pub fn expanded(bytes: &[u8], now: i64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let end = if byte == b'{' { rest.iter().position(|byte| *byte == b'}') } else { None };
        let found = end.and_then(|end| Some((placeholder(rest.get(1..end)?, now)?, rest.get(end + 1..)?)));
        match found {
            Some((meant, after)) => {
                out.extend(meant);
                rest = after;
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

fn placeholder(inner: &[u8], now: i64) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(inner).ok()?;
    if let Some(span) = text.strip_prefix("now") {
        return Some(
            match span.strip_suffix('s') {
                Some(seconds) => (now / 1000 + seconds.parse::<i64>().ok()?).to_string(),
                None => (now + span.parse::<i64>().ok()?).to_string(),
            }
            .into_bytes(),
        );
    }
    let (count, of) = text.split_once('*')?;
    Some(of.repeat(count.parse().ok()?).into_bytes())
}

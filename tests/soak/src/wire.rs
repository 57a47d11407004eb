//! A connection that knows what each reply is. The splitter of the product is not used: it is what is tested. It must
//! not know what a reply should be.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Number(i64),
    Bulk(Vec<u8>),
    Nil,
    /// Arrays, sets and maps.
    Array(Vec<Reply>),
    /// What was not asked for.
    Push(Vec<Reply>),
}

/// Why no reply came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The connection was closed.
    Closed,
    /// Nothing came for longer than anybody waits.
    Silent,
    /// What came is no reply.
    Nonsense,
}

/// A connection to the sidecar, or to the server itself.
pub struct Connection {
    socket: TcpStream,
    bytes: Vec<u8>,
    start: usize,
    /// What came without being asked for, between replies.
    pub pushes: Vec<Vec<Reply>>,
    /// Where the ledger's count of troubles stood when the last reply came.
    pub era: u64,
}

/// How long a reply is waited for: more than any fault lasts, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

// === impl Reply ===

impl Reply {
    /// The bytes of a text.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Bulk(bytes) => Some(bytes),
            Self::Simple(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// Whether it is this simple text.
    pub fn is(&self, text: &str) -> bool {
        matches!(self, Self::Simple(own) if own == text)
    }

    /// As it is shown in a report: no more than a line.
    pub fn shown(&self) -> String {
        let whole = match self {
            Self::Bulk(bytes) => format!("{:?} of {} bytes", text_of(&bytes[..bytes.len().min(90)]), bytes.len()),
            other => format!("{other:?}"),
        };
        whole.chars().take(200).collect()
    }
}

// === impl Connection ===

impl Connection {
    /// Connects and says which protocol is spoken.
    pub fn open(port: u16, resp3: bool) -> Result<Self, Lost> {
        let socket = TcpStream::connect(("127.0.0.1", port)).map_err(|_| Lost::Closed)?;
        socket.set_nodelay(true).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut connection = Self { socket, bytes: Vec::new(), start: 0, pushes: Vec::new(), era: 0 };
        if resp3 && !matches!(connection.ask(&[b"HELLO", b"3"])?, Reply::Array(_)) {
            return Err(Lost::Closed);
        }
        Ok(connection)
    }

    /// Sends a command and waits for its reply.
    pub fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, Lost> {
        self.send(&encoded(words))?;
        self.reply()
    }

    /// The same with words split at blanks.
    pub fn say(&mut self, line: &str) -> Result<Reply, Lost> {
        self.ask(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.socket.write_all(bytes).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Lost::Silent,
            _ => Lost::Closed,
        })
    }

    /// The next reply; what was not asked for is put aside.
    pub fn reply(&mut self) -> Result<Reply, Lost> {
        loop {
            match self.next(PATIENCE)? {
                Some(Reply::Push(parts)) => self.pushes.push(parts),
                Some(reply) => return Ok(reply),
                None => return Err(Lost::Silent),
            }
        }
    }

    /// Whatever comes next. None: nothing came for so long.
    pub fn next(&mut self, patience: Duration) -> Result<Option<Reply>, Lost> {
        let end = Instant::now() + patience;
        loop {
            if let Some((reply, length)) = parse(&self.bytes[self.start..])? {
                self.start += length;
                if self.start == self.bytes.len() {
                    self.bytes.clear();
                    self.start = 0;
                }
                return Ok(Some(reply));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.read(left, 65536)? {
                return Ok(None);
            }
        }
    }

    /// Reads what is there, up to so many bytes. False: nothing came in time.
    pub fn read(&mut self, patience: Duration, count_max: usize) -> Result<bool, Lost> {
        self.bytes.drain(..std::mem::take(&mut self.start));
        self.socket.set_read_timeout(Some(patience.max(Duration::from_millis(1)))).unwrap();
        let mut chunk = vec![0; count_max];
        match self.socket.read(&mut chunk) {
            Ok(0) => Err(Lost::Closed),
            Ok(count) => {
                self.bytes.extend_from_slice(&chunk[..count]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(_) => Err(Lost::Closed),
        }
    }

    /// Goes away without a word: what is sent last is a reset.
    pub fn vanish(self) {
        // Where it is gone already there is nothing to reset.
        drop(socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)));
    }
}

/// A command as bytes.
pub fn encoded(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words.iter().map(AsRef::as_ref) {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Bytes for people.
pub fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The reply that the bytes begin with, and its length. None: it has not all come.
fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Lost> {
    let Some(end) = bytes.windows(2).take(4096).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > 4096 { Err(Lost::Nonsense) } else { Ok(None) };
    };
    let (kind, line, body) = (bytes[0], text_of(&bytes[1..end]), end + 2);
    let number = || line.parse::<i64>().map_err(|_| Lost::Nonsense);
    let reply = match kind {
        b'+' => Reply::Simple(line),
        b'-' => Reply::Error(line),
        b':' => Reply::Number(number()?),
        b'_' => Reply::Nil,
        b',' | b'#' | b'(' => Reply::Bulk(line.into_bytes()),
        b'$' | b'=' | b'*' | b'~' | b'%' | b'>' if number()? == -1 => Reply::Nil,
        b'$' | b'=' => {
            let length = usize::try_from(number()?).map_err(|_| Lost::Nonsense)?;
            let Some(found) = bytes.get(body..body + length + 2) else { return Ok(None) };
            if !found.ends_with(b"\r\n") {
                return Err(Lost::Nonsense);
            }
            return Ok(Some((Reply::Bulk(found[..length].to_vec()), body + length + 2)));
        }
        b'*' | b'~' | b'%' | b'>' => {
            let count = number()? * if kind == b'%' { 2 } else { 1 };
            let (mut at, mut parts) = (body, Vec::new());
            for _ in 0..count {
                let Some((part, length)) = parse(&bytes[at..])? else { return Ok(None) };
                parts.push(part);
                at += length;
            }
            return Ok(Some((if kind == b'>' { Reply::Push(parts) } else { Reply::Array(parts) }, at)));
        }
        _ => return Err(Lost::Nonsense),
    };
    Ok(Some((reply, body)))
}

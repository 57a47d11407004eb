//! A raw client: bytes in, bytes out. It splits replies and does not interpret them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bellwether::resp::reply::Splitter;

use super::process::PATIENCE;
use super::wire::Wire;

/// A connection.
pub struct Client {
    socket: Wire,
    bytes: Vec<u8>,
}

/// Why no reply came.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// The connection was closed.
    Closed,
    /// Nothing came, or not a whole reply.
    Nothing,
}

impl Client {
    /// Connects.
    pub fn connect(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self::over(Wire::Tcp(socket))
    }

    /// Connects, where somebody listens.
    pub fn try_connect(port: u16) -> Option<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
        socket.set_nodelay(true).unwrap();
        Some(Self::over(Wire::Tcp(socket)))
    }

    /// Connects to a unix socket.
    pub fn connect_unix(path: &Path) -> Self {
        Self::over(Wire::Unix(UnixStream::connect(path).unwrap()))
    }

    /// Speaks over what is connected.
    pub fn over(socket: Wire) -> Self {
        socket.set_read_timeout(PATIENCE);
        Self { socket, bytes: Vec::new() }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends bytes. False: the connection is closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// Sends one command.
    pub fn command(&mut self, args: &[&[u8]]) {
        self.send(&encoded(args));
    }

    /// The bytes of the next reply. Panics where none comes.
    pub fn reply(&mut self) -> Vec<u8> {
        self.try_reply()
            .unwrap_or_else(|| panic!("closed before a reply; so far: {:?}", self.bytes.escape_ascii().to_string()))
    }

    /// The bytes of the next reply, or None where the connection was closed first.
    pub fn try_reply(&mut self) -> Option<Vec<u8>> {
        match self.next() {
            Ok(reply) => Some(reply),
            Err(Ending::Closed) => None,
            Err(Ending::Nothing) => panic!("no reply; so far: {:?}", self.bytes.escape_ascii().to_string()),
        }
    }

    /// The bytes of the next reply.
    pub fn next(&mut self) -> Result<Vec<u8>, Ending> {
        let mut splitter = Splitter::default();
        loop {
            if let Some(length) = splitter.split(&self.bytes).unwrap() {
                return Ok(self.bytes.drain(..length).collect());
            }
            self.read()?;
        }
    }

    /// Says that nothing more is sent, and gives all that still comes.
    pub fn rest(&mut self) -> Vec<u8> {
        // Closed already is just as well.
        drop(self.socket.end_writing());
        while self.read() == Ok(()) {}
        std::mem::take(&mut self.bytes)
    }

    fn read(&mut self) -> Result<(), Ending> {
        let mut chunk = [0; 65536];
        match self.socket.read(&mut chunk) {
            Ok(0) => Err(Ending::Closed),
            Ok(count) => {
                self.bytes.extend_from_slice(chunk.get(..count).unwrap());
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(Ending::Nothing),
            Err(_) => Err(Ending::Closed),
        }
    }

    /// Sends a command, words split at blanks, and gives its reply as text.
    pub fn ask(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.ask_words(&words)
    }

    /// Sends a command and gives its reply as text.
    pub fn ask_words(&mut self, words: &[&[u8]]) -> String {
        self.command(words);
        String::from_utf8_lossy(&self.reply()).trim_end().to_owned()
    }

    /// The same, or None where the connection is closed.
    pub fn try_ask(&mut self, line: &str) -> Option<String> {
        let sent = self.try_send(&encoded(&line.split(' ').collect::<Vec<_>>()));
        let reply = if sent { self.try_reply() } else { None };
        reply.map(|reply| String::from_utf8_lossy(&reply).trim_end().to_owned())
    }

    /// Whether nothing arrives for a moment.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        self.socket.set_read_timeout(time);
        let silent = self.bytes.is_empty() && self.read() == Err(Ending::Nothing);
        self.socket.set_read_timeout(PATIENCE);
        silent
    }
}

/// A command of words as bytes.
pub fn encoded(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words.iter().map(AsRef::as_ref) {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

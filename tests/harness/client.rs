//! A raw client: bytes in, bytes out. It splits replies and does not interpret them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bellwether::resp::reply::Splitter;

use super::process::PATIENCE;

/// A connection.
pub struct Client {
    socket: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    /// Connects.
    pub fn connect(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, bytes: Vec::new() }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends one command.
    pub fn command(&mut self, args: &[&[u8]]) {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            bytes.extend_from_slice(arg);
            bytes.extend_from_slice(b"\r\n");
        }
        self.send(&bytes);
    }

    /// The bytes of the next reply. Panics where none comes.
    pub fn reply(&mut self) -> Vec<u8> {
        self.try_reply()
            .unwrap_or_else(|| panic!("closed before a reply; so far: {:?}", self.bytes.escape_ascii().to_string()))
    }

    /// The bytes of the next reply, or None where the connection was closed first.
    pub fn try_reply(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = Splitter::default().split(&self.bytes).unwrap() {
                return Some(self.bytes.drain(..length).collect());
            }
            let mut chunk = [0; 65536];
            match self.socket.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend_from_slice(chunk.get(..count).unwrap()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}"),
            }
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

    /// Whether nothing arrives for a moment.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let silent = self.bytes.is_empty()
            && matches!(self.socket.peek(&mut [0]), Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }
}

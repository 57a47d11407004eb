//! What a raw client speaks over.

use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tokio_rustls::rustls::{ClientConnection, StreamOwned};

/// A connected stream that blocks.
pub enum Wire {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Unix(UnixStream),
}

impl Wire {
    /// How long a read may wait.
    pub fn set_read_timeout(&self, time: Duration) {
        match self {
            Self::Tcp(socket) => socket.set_read_timeout(Some(time)),
            Self::Tls(socket) => socket.sock.set_read_timeout(Some(time)),
            Self::Unix(socket) => socket.set_read_timeout(Some(time)),
        }
        .unwrap();
    }

    /// Says that nothing more is sent.
    pub fn end_writing(&mut self) -> Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Self::Tls(socket) => {
                socket.conn.send_close_notify();
                socket.flush()?;
                socket.sock.shutdown(Shutdown::Write)
            }
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(bytes),
            Self::Tls(socket) => socket.read(bytes),
            Self::Unix(socket) => socket.read(bytes),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Tls(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Tcp(socket) => socket.flush(),
            Self::Tls(socket) => socket.flush(),
            Self::Unix(socket) => socket.flush(),
        }
    }
}

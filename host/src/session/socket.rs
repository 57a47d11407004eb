//! The connection of a client, whatever it came over. An enum and no trait object: plain TCP is the usual case, and its
//! bytes take no other way than before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::tls::{self, Acceptor};

/// A client's connection on its way to a worker.
#[derive(Debug)]
pub enum Incoming {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// Over TCP, and yet to agree on the encryption.
    Tls(std::net::TcpStream, Acceptor),
    /// Over a unix socket.
    Unix(std::os::unix::net::UnixStream),
}

/// A client's connection.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Tls(Box<tls::Stream>),
    Unix(UnixStream),
}

// === impl Incoming ===

impl Incoming {
    /// Says something to a client that is not served, as far as it can be said at once.
    ///
    /// # Errors
    /// The client is gone.
    pub fn say(&self, line: &[u8]) -> io::Result<()> {
        use std::io::Write;
        match self {
            Self::Tcp(socket) => (&mut &*socket).write(line),
            // It would not understand.
            Self::Tls(..) => return Ok(()),
            Self::Unix(socket) => (&mut &*socket).write(line),
        }
        .map(drop)
    }
}

// === impl Socket ===

impl Socket {
    /// Takes a connection over, on the worker's runtime.
    pub(super) async fn open(incoming: Incoming) -> io::Result<Self> {
        Ok(match incoming {
            Incoming::Tls(socket, acceptor) => {
                Self::Tls(Box::new(acceptor.accept(TcpStream::from_std(socket)?).await?))
            }
            Incoming::Tcp(socket) => Self::Tcp(TcpStream::from_std(socket)?),
            Incoming::Unix(socket) => Self::Unix(UnixStream::from_std(socket)?),
        })
    }

    /// Says that nothing more comes, where the protocol has a word for it, as far as it can be said at once.
    pub(super) async fn close(&mut self) {
        if let Self::Tls(socket) = self {
            std::future::poll_fn(|cx| {
                // A client that has gone does not miss it.
                drop(Pin::new(&mut **socket).poll_shutdown(cx));
                Poll::Ready(())
            })
            .await;
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_read(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_write(cx, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_flush(cx),
            Self::Unix(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

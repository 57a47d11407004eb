//! The byte stream under a lane: a socket to a server, or a pipe to the embedded store or into a cluster.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use super::cluster::Cluster;
use super::embedded::EmbeddedStore;
use super::lane::Follows;
use super::sentinel::Sentinels;
use crate::tls;

/// Where the server is.
#[derive(Clone, Debug)]
pub enum Target {
    /// A server on the network.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A server on the network, encrypted.
    Tls {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// The other end, and what it must show.
        tls: tls::Client,
    },
    /// A server on this machine, on a socket in the file system.
    Unix(PathBuf),
    /// Whichever server sentinels call the master.
    Sentinel(Sentinels),
    /// The store inside this process.
    Embedded(EmbeddedStore),
    /// Servers that share the keys, and look like one.
    Cluster(Cluster),
}

/// An open stream.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<tls::Stream>),
    Unix(UnixStream),
    Pipe(DuplexStream),
}

// === impl Target ===

impl Target {
    /// Opens a stream within `timeout`.
    ///
    /// # Errors
    /// There is none to be had; the message says what to do where that is known.
    pub(super) async fn connect(&self, timeout: Duration) -> io::Result<Stream> {
        Ok(self.connect_followed(timeout).await?.0)
    }

    /// The same, and what tells when something is gone behind the stream while that is there, where that may be.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub(super) async fn connect_followed(&self, timeout: Duration) -> io::Result<(Stream, Follows)> {
        let deadline = Instant::now() + timeout;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let stream = match self {
            Self::Tcp { host, port } => {
                Stream::Tcp(timeout_at(deadline, connect_tcp(host, *port)).await.map_err(late)??)
            }
            Self::Tls { host, port, tls } => {
                let socket = timeout_at(deadline, connect_tcp(host, *port)).await.map_err(late)??;
                // A server that is not spoken to in its own way may wait for the end of what it takes for a command.
                let silent = "the server does not answer the TLS handshake; if it does not speak TLS on this port, \
                              name its tls-port, or use redis://";
                let silent = |_| io::Error::new(io::ErrorKind::TimedOut, silent);
                timeout_at(deadline, connect_tls(tls, socket)).await.map_err(silent)??
            }
            Self::Unix(path) => Stream::Unix(timeout_at(deadline, UnixStream::connect(path)).await.map_err(late)??),
            Self::Sentinel(sentinels) => {
                let (stream, moved) = sentinels.connect(timeout).await?;
                return Ok((stream, Follows::Master(moved)));
            }
            Self::Embedded(store) => Stream::Pipe(store.connect()),
            Self::Cluster(cluster) => {
                let (pipe, losses) = cluster.connect().await?;
                return Ok((Stream::Pipe(pipe), Follows::Nodes(losses, 0)));
            }
        };
        Ok((stream, Follows::Nothing))
    }

    /// What connections are encrypted with, if they are.
    pub fn tls(&self) -> Option<&tls::Client> {
        match self {
            Self::Tls { tls, .. } => Some(tls),
            Self::Sentinel(sentinels) => sentinels.tls(),
            Self::Cluster(cluster) => cluster.tls(),
            Self::Tcp { .. } | Self::Unix(_) | Self::Embedded(_) => None,
        }
    }
}

pub(super) async fn connect_tls(tls: &tls::Client, socket: TcpStream) -> io::Result<Stream> {
    Ok(Stream::Tls(Box::new(tls.connect(socket).await?)))
}

pub(super) async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    // A server that vanished without a word is noticed by the kernel, not by a client's own timeout.
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

impl std::fmt::Display for Target {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } | Self::Tls { host, port, .. } => write!(out, "{host}:{port}"),
            Self::Unix(path) => write!(out, "unix://{}", path.display()),
            Self::Sentinel(sentinels) => write!(out, "{sentinels}"),
            Self::Embedded(_) => out.write_str("the embedded store"),
            Self::Cluster(cluster) => cluster.fmt(out),
        }
    }
}

// === impl Stream ===

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Pipe(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Pipe(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Pipe(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Pipe(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

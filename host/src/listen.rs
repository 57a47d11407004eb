//! Where clients come in: binds, accepts, and leaves no socket file behind. Says nothing to a client.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};

use crate::config::{Config, FileMode};
use crate::session::Incoming;
use crate::tls;

/// All that the sidecar listens on.
#[derive(Debug)]
pub struct Listeners {
    all: Vec<Listener>,
    /// Who is asked first, so that a busy one does not shut the others out.
    next: Cell<usize>,
}

/// Where the sidecar listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the network.
    Tcp(SocketAddr),
    /// On the network, encrypted.
    Tls(SocketAddr),
    /// On a socket in the file system.
    Unix(PathBuf),
}

/// A client that has come.
#[derive(Debug)]
pub struct Arrival {
    /// Its connection.
    pub incoming: Incoming,
    /// Its address.
    pub peer: String,
    /// The address it came to.
    pub local: String,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Tls(TcpListener, tls::Server),
    Unix(UnixListener, SocketFile),
}

/// A socket in the file system, which goes when the listener does.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// The device and number of the file: another process may have put its own there since.
    identity: Option<(u64, u64)>,
}

// === impl Listeners ===

impl Listeners {
    /// Listens on all that the configuration names. `door`: what clients that speak TLS are let in with.
    ///
    /// # Errors
    /// It names nothing, or something that cannot be listened on.
    pub fn bind(config: &Config, door: Option<tls::Server>) -> anyhow::Result<Self> {
        let (mut all, backlog) = (Vec::new(), config.listen_backlog);
        if let Some(address) = config.listen {
            all.push(Listener::Tcp(bind_tcp(address, backlog, "listen")?));
        }
        if let (Some(address), Some(door)) = (config.listen_tls, door) {
            all.push(Listener::Tls(bind_tcp(address, backlog, "listen_tls")?, door));
        }
        if let Some(path) = &config.listen_unix {
            let (listener, file) = bind_unix(path, backlog, config.listen_unix_mode)
                .with_context(|| format!("cannot listen on {} (listen_unix)", path.display()))?;
            all.push(Listener::Unix(listener, file));
        }
        ensure!(!all.is_empty(), "there is nothing to listen on: set listen, listen_tls or listen_unix");
        Ok(Self { all, next: Cell::new(0) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn places(&self) -> io::Result<Vec<Place>> {
        self.all.iter().map(Listener::place).collect()
    }

    /// Waits for a client.
    ///
    /// # Errors
    /// One could not be accepted; others may be.
    pub async fn accept(&self) -> io::Result<Arrival> {
        std::future::poll_fn(|cx| {
            let first = self.next.get();
            for index in (first..self.all.len()).chain(0..first) {
                let accepted = self.all.get(index).map_or(Poll::Pending, |listener| listener.poll_accept(cx));
                if accepted.is_ready() {
                    self.next.set((index + 1) % self.all.len());
                    return accepted;
                }
            }
            Poll::Pending
        })
        .await
    }
}

// === impl Place ===

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "{address}"),
            Self::Tls(address) => write!(out, "{address} with TLS"),
            Self::Unix(path) => write!(out, "{}", path.display()),
        }
    }
}

// === impl Listener ===

impl Listener {
    fn place(&self) -> io::Result<Place> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Place::Tcp),
            Self::Tls(listener, _) => listener.local_addr().map(Place::Tls),
            Self::Unix(_, file) => Ok(Place::Unix(file.path.clone())),
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arrival>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map(|accepted| Arrival::over_tcp(accepted?, Incoming::Tcp)),
            Self::Tls(listener, door) => listener
                .poll_accept(cx)
                .map(|accepted| Arrival::over_tcp(accepted?, |socket| Incoming::Tls(socket, door.acceptor()))),
            Self::Unix(listener, file) => listener.poll_accept(cx).map(|accepted| {
                let (socket, _) = accepted?;
                // The other end of a unix socket has no name: both addresses are the path, as the server's own are.
                let local = format!("{}:0", file.path.display());
                Ok(Arrival { incoming: Incoming::Unix(socket.into_std()?), peer: local.clone(), local })
            }),
        }
    }
}

// === impl Arrival ===

impl Arrival {
    fn over_tcp(
        (socket, peer): (TcpStream, SocketAddr),
        incoming: impl FnOnce(std::net::TcpStream) -> Incoming,
    ) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        // A client that vanished without a word is noticed by the kernel, as the server's tcp-keepalive has it.
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(300))
            .with_interval(Duration::from_secs(100))
            .with_retries(3);
        socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
        let local = socket.local_addr()?.to_string();
        Ok(Self { incoming: incoming(socket.into_std()?), peer: peer.to_string(), local })
    }
}

// === impl SocketFile ===

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // What cannot be removed now is replaced by the next start.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

fn bind_tcp(address: SocketAddr, backlog: u32, setting: &str) -> anyhow::Result<TcpListener> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Connections of the process before this one may still be on their way out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(backlog)
    };
    bind().with_context(|| format!("cannot listen on {address} ({setting})"))
}

fn bind_unix(path: &Path, backlog: u32, mode: Option<FileMode>) -> anyhow::Result<(UnixListener, SocketFile)> {
    make_way(path)?;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path) };
    if let Some(FileMode(mode)) = mode {
        // Before it listens, so that nobody gets in who may not.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).context("its mode cannot be set")?;
    }
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let listener = std::os::unix::net::UnixListener::from(OwnedFd::from(socket));
    Ok((UnixListener::from_std(listener)?, file))
}

/// Removes a socket that a dead process left.
fn make_way(path: &Path) -> anyhow::Result<()> {
    let Ok(file) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !file.file_type().is_socket() {
        bail!("a file is there that is not a socket; move it away, or choose another path");
    }
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    // One whose queue is full must not hold us up: it is alive.
    socket.set_nonblocking(true)?;
    match socket.connect(&socket2::SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).context("the socket that a dead process left there cannot be removed")?;
            tracing::info!(path = %path.display(), "removed the socket that a dead process left");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(error).context("whether another process listens there cannot be told; remove it if none does")
        }
        Ok(()) | Err(_) => bail!("another process listens there; stop it, or choose another path"),
    }
}

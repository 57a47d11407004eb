//! One page of an admin server. It needs no more of HTTP than a request and the end of the connection.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// How long a sidecar may take for each step.
const TIME_MAX: Duration = Duration::from_secs(2);
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The body of a page.
pub(super) fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let place = address.to_socket_addrs()?.next().context("it has no address")?;
    let mut socket = TcpStream::connect_timeout(&place, TIME_MAX)?;
    socket.set_read_timeout(Some(TIME_MAX))?;
    socket.set_write_timeout(Some(TIME_MAX))?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.take(BYTES_MAX).read_to_string(&mut answer)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("it does not speak HTTP") };
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(status == "200", "it says {status}: {}", body.trim());
    Ok(body.to_owned())
}

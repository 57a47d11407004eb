//! Requests to an admin server. They need no more of HTTP than a request and the end of the connection.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};

use super::Call;

/// How long a sidecar may take for each step of telling something.
const TIME_MAX: Duration = Duration::from_secs(2);
/// How long it may take to load policies: large components take seconds to compile, on a busy machine more.
const LOAD_TIME_MAX: Duration = Duration::from_secs(600);
const WHERE: &str = "a sidecar is asked at its admin_listen";
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The addresses that are named, or this configuration's own.
pub(super) fn addresses(call: &Call<'_>) -> anyhow::Result<Vec<String>> {
    let given: Vec<_> = call.matches.get_many::<String>("address").into_iter().flatten().cloned().collect();
    if !given.is_empty() {
        return Ok(given);
    }
    match call.config.admin_listen {
        Some(own) => Ok(vec![own.to_string()]),
        None => bail!("admin_listen is off; name the ADDRESS of a sidecar's admin server"),
    }
}

/// The body of a page.
pub(super) fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let (status, body) = ask(address, &format!("GET {path}"), "", &[], TIME_MAX)?;
    ensure!(status == "200", "it says {status}: {}", body.trim());
    Ok(body)
}

/// Orders something: the status and the body of the answer.
pub(super) fn post(call: &Call<'_>, address: &str, path: &str, body: &[u8]) -> anyhow::Result<(String, String)> {
    let token = call.config.admin_token.as_ref();
    let token = token.map_or(String::new(), |token| format!("Authorization: Bearer {}\r\n", token.reveal()));
    ask(address, &format!("POST {path}"), &token, body, LOAD_TIME_MAX)
}

fn ask(address: &str, what: &str, more: &str, body: &[u8], time_max: Duration) -> anyhow::Result<(String, String)> {
    let place = address.to_socket_addrs()?.next().context("it has no address")?;
    let connected = TcpStream::connect_timeout(&place, TIME_MAX);
    let mut socket = connected.map_err(|error| anyhow!("{error}; {WHERE}"))?;
    socket.set_read_timeout(Some(time_max))?;
    socket.set_write_timeout(Some(TIME_MAX))?;
    let length = if what.starts_with("POST") { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    write!(socket, "{what} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{length}{more}\r\n")?;
    // One that does not want to read all of it says why, and closes.
    let sent = socket.write_all(body);
    let mut answer = Vec::new();
    let read = socket.take(BYTES_MAX).read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        sent?;
        read?;
        bail!("it does not speak HTTP; {WHERE}")
    };
    Ok((head.split(' ').nth(1).unwrap_or_default().to_owned(), body.to_owned()))
}

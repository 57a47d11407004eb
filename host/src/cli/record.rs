//! `bellwether record`: decisions of a running sidecar, as its admin server tells them, into a trace.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Arg, value_parser};
use serde::Deserialize;

use super::{Call, Verb, format, unless_unread};
use crate::record::Sample;

pub(super) const VERB: Verb = Verb {
    name: "record",
    command: |command| {
        command
            .about("Record what a running sidecar decides, as a trace")
            .long_about(
                "Record what the policies of a running sidecar decide, with all that they decided it from, as a trace: \
                 one JSON object a line. `bellwether policy replay` puts it to other policies. Ends after --for, \
                 after --count, or with Ctrl-C. A trace contains the keys of the application as they are, and these \
                 may be secrets: whoever may reach the admin server may record them, and a file that is made is for \
                 its owner alone. Values are not recorded, only their sizes. The sidecar never waits for the reader: \
                 what it does not take in time is dropped, and the trace says how much.",
            )
            .arg(
                Arg::new("address")
                    .value_name("ADDRESS")
                    .help("Host and port of the sidecar's admin server [default: admin_listen]"),
            )
            .arg(Arg::new("for").long("for").value_name("SPAN").help("So long, such as 10s [default: until Ctrl-C]"))
            .arg(
                Arg::new("count")
                    .long("count")
                    .value_name("N")
                    .value_parser(value_parser!(u64).range(1..))
                    .help("So many decisions [default: any number]"),
            )
            .arg(
                Arg::new("sample")
                    .long("sample")
                    .value_name("1/N")
                    .default_value("1/1")
                    .help("One of so many decisions, taken at random"),
            )
            .arg(Arg::new("out").long("out").value_name("FILE").help("Where the trace goes [default: standard output]"))
    },
    run: |call, out| unless_unread(run(&call, out)),
};

/// What is wanted, and how much of it there is.
struct Recording {
    until: Option<Instant>,
    count_max: u64,
    count: u64,
    dropped: u64,
}

/// What the end of a recording looks at of each line.
#[derive(Deserialize)]
struct Counted {
    id: Option<u64>,
    dropped: Option<u64>,
}

/// How long the sidecar may take to answer at all.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// How long nothing may come before the end is looked for again.
const LOOK: Duration = Duration::from_millis(50);
const HEAD_BYTES_MAX: usize = 16 * 1024;
const LINE_BYTES_MAX: usize = 1024 * 1024;

fn run(call: &Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let text = |name: &str| call.matches.get_one::<String>(name).map(String::as_str);
    let sample = text("sample").unwrap_or_default();
    let sample =
        Sample::parse(sample).with_context(|| format!("--sample takes 1/N, such as 1/100, and not {sample:?}"))?;
    let span = text("for").map(format::duration).transpose().context("--for")?;
    let address = match (text("address"), call.config.admin_listen) {
        (Some(address), _) => address.to_owned(),
        (None, Some(own)) => own.to_string(),
        (None, None) => bail!("admin_listen is off; name the ADDRESS of a sidecar's admin server"),
    };
    let (mut socket, first) = open(&address, &format!("/record?sample={sample}"))
        .with_context(|| format!("no sidecar tells at {address}"))?;
    // Opened once there is something to write: a file of before is not lost to a wrong address.
    let mut file = text("out").map(|path| create(path).with_context(|| format!("cannot write {path}"))).transpose()?;
    let begun = Instant::now();
    let count_max = call.matches.get_one("count").copied().unwrap_or(u64::MAX);
    let mut recording = Recording { until: span.map(|span| begun + span), count_max, count: 0, dropped: 0 };
    let trace: &mut dyn Write = match &mut file {
        Some(file) => file,
        None => &mut *out,
    };
    recording.copy(&mut socket, first, trace)?;
    if let Some(path) = text("out") {
        let Recording { count, dropped, .. } = recording;
        let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        writeln!(out, "{path}: {count} decisions in {}, {dropped} dropped", format::span(ms))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A file for its owner alone.
fn create(path: &str) -> std::io::Result<std::fs::File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Asks for a page that does not end: the connection, and what has come of the body. HTTP/1.0, so that the body comes
/// as it is.
fn open(address: &str, path: &str) -> anyhow::Result<(TcpStream, Vec<u8>)> {
    let place = address.to_socket_addrs()?.next().context("it has no address")?;
    let mut socket = TcpStream::connect_timeout(&place, ANSWER_TIME_MAX)?;
    socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    socket.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    write!(socket, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    let end = loop {
        if let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            break end;
        }
        let mut some = [0; 4096];
        let length = socket.read(&mut some)?;
        ensure!(length > 0 && answer.len() < HEAD_BYTES_MAX, "it does not speak HTTP");
        answer.extend_from_slice(some.get(..length).unwrap_or_default());
    };
    let mut body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer);
    let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
    if status != "200" {
        // The reason is short, and ends with the connection.
        Read::by_ref(&mut socket).take(HEAD_BYTES_MAX as u64).read_to_end(&mut body)?;
        bail!("it says {status}: {}", String::from_utf8_lossy(&body).trim());
    }
    socket.set_read_timeout(Some(LOOK))?;
    Ok((socket, body))
}

// === impl Recording ===

impl Recording {
    /// Copies whole lines until there are enough.
    fn copy(&mut self, socket: &mut TcpStream, mut waiting: Vec<u8>, trace: &mut dyn Write) -> anyhow::Result<()> {
        let mut some = vec![0; 64 * 1024];
        loop {
            if self.take(&mut waiting, trace)? || self.until.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
            ensure!(waiting.len() <= LINE_BYTES_MAX, "a line has more than {LINE_BYTES_MAX} bytes");
            match socket.read(&mut some) {
                Ok(0) => bail!("the sidecar has ended, after {} decisions", self.count),
                Ok(length) => waiting.extend_from_slice(some.get(..length).unwrap_or_default()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).context("the sidecar has gone"),
            }
        }
    }

    /// Takes the whole lines of what has come. True: there are enough decisions.
    fn take(&mut self, waiting: &mut Vec<u8>, trace: &mut dyn Write) -> anyhow::Result<bool> {
        let mut taken = 0;
        for end in memchr::memchr_iter(b'\n', waiting) {
            let line = waiting.get(taken..end).unwrap_or_default();
            let counted: Counted = serde_json::from_slice(line).context("the sidecar tells what is no trace")?;
            self.count += u64::from(counted.id.is_some());
            self.dropped = counted.dropped.unwrap_or(self.dropped);
            taken = end + 1;
            if self.count >= self.count_max {
                break;
            }
        }
        trace.write_all(waiting.get(..taken).unwrap_or_default())?;
        trace.flush()?;
        waiting.drain(..taken);
        Ok(self.count >= self.count_max)
    }
}

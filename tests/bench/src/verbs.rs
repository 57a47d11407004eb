//! What each verb takes, and what it prints.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::bare::{Replies, Sort};
use crate::figures::Figures;
use crate::keys::Keys;
use crate::load::{Load, SILENCE_MAX};
use crate::template::{Reply, Request, Shape, mix, shown};
use crate::{bare, closed, delay, open, wasm};

const KEYS: usize = 10_000;
const PREFIX: &str = "fyntrix:general:";

/// `closed`
pub(crate) fn closed(arguments: &mut Arguments) -> anyhow::Result<()> {
    let load = load(arguments)?;
    arguments.finish()?;
    print(&closed::run(&load)?.json())
}

/// `open`
pub(crate) fn open(arguments: &mut Arguments) -> anyhow::Result<()> {
    let rate: f64 = arguments.take("rate")?.context("--rate is missing: requests a second")?;
    ensure!(rate.is_finite() && rate > 0.0, "--rate is above 0");
    let load = load(arguments)?;
    arguments.finish()?;
    ensure!(load.pipeline == 1, "an open loop has no --pipeline: it sends what is due");
    let figures: Figures = open::run(&load, rate)?;
    print(&figures.json())
}

/// `fill`: the keys in order, in batches.
pub(crate) fn fill(arguments: &mut Arguments) -> anyhow::Result<()> {
    let to = arguments.address("to")?;
    let (shape, count) = (shape(arguments)?, arguments.count("keys", KEYS)?);
    arguments.finish()?;
    let request = Request::named("set", &shape)?;
    let mut stream = connect(to)?;
    let numbers: Vec<u32> = (0..u32::try_from(count)?).collect();
    let (mut out, mut replies) = (Vec::new(), Vec::new());
    for batch in numbers.chunks(100) {
        out.clear();
        for number in batch {
            request.sent.write(&Keys::only(*number), 0, &mut out);
        }
        stream.write_all(&out)?;
        replies.resize(batch.len() * 5, 0);
        stream.read_exact(&mut replies).context("the server does not answer SET")?;
        ensure!(replies == b"+OK\r\n".repeat(batch.len()), "wrong reply to SET: {}", shown(&replies));
    }
    print(&json!({ "keys": count }))
}

/// `hold`
pub(crate) fn hold(arguments: &mut Arguments) -> anyhow::Result<()> {
    let (to, count) = (arguments.address("to")?, arguments.count("connections", 1000)?);
    arguments.finish()?;
    let mut held = Vec::new();
    for number in 1..=count {
        held.push(greet(to).with_context(|| format!("connection {number}"))?);
    }
    print(&json!({ "connections": held.len() }))?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// `delay`
pub(crate) fn delay(arguments: &mut Arguments) -> anyhow::Result<()> {
    let (listen, to) = (arguments.address("listen")?, arguments.address("to")?);
    let delay = arguments.span("ms", 1e3, 1.0)?;
    arguments.finish()?;
    delay::run(listen, to, delay)
}

/// `bare`
pub(crate) fn bare(arguments: &mut Arguments) -> anyhow::Result<()> {
    let (listen, to) = (arguments.address("listen")?, arguments.take("to")?);
    let (shape, count) = (shape(arguments)?, arguments.count("keys", KEYS)?);
    let name: String = arguments.take("mix")?.unwrap_or_else(|| "get".to_owned());
    arguments.finish()?;
    let Request { sent, reply } = Request::named(&name, &shape)?;
    let replies = match (to, reply) {
        (Some(to), reply) => Replies::Asked(to, reply.bytes()),
        (None, Reply::Bytes(reply)) if name == "get" => {
            let of = |number| {
                let mut bytes = Vec::new();
                reply.write(&Keys::only(number), 0, &mut bytes);
                bytes
            };
            Replies::Known((0..u32::try_from(count)?).map(of).collect())
        }
        (None, _) => bail!("--to is missing: only the replies to get are known"),
    };
    bare::run(listen, &Sort { request_bytes: sent.bytes(), replies })
}

/// `odd`: the files, what is odd about each, and what a refusal of it says.
pub(crate) fn odd(arguments: &mut Arguments) -> anyhow::Result<()> {
    let of: PathBuf = arguments.take("of")?.context("--of is missing: a ttl component")?;
    let into: PathBuf = arguments.take("into")?.context("--into is missing: a folder")?;
    arguments.finish()?;
    let ttl = std::fs::read(&of).with_context(|| format!("cannot read {}", of.display()))?;
    ensure!(ttl.starts_with(b"\0asm\x0d"), "{} is no component", of.display());
    let all = wasm::odd(&ttl).into_iter().chain([wasm::slow_to_compile(&ttl)]);
    let told = all.enumerate().map(|(number, odd)| {
        let file = into.join(format!("{number}.wasm"));
        std::fs::write(&file, odd.component).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(json!({ "what": odd.what, "file": file, "refused": odd.refused }))
    });
    print(&told.collect::<anyhow::Result<Value>>()?)
}

/// A client's connection, which the server has answered on: one that only waits to be accepted is none yet, and too
/// many of those are turned away.
pub(crate) fn greet(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = connect(to)?;
    stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
    let mut reply = [0; 7];
    stream.read_exact(&mut reply).with_context(|| format!("{to} does not answer PING"))?;
    ensure!(reply == *b"+PONG\r\n", "wrong reply to PING: {}", shown(&reply));
    Ok(stream)
}

/// A connection that sends what it is given at once.
pub(crate) fn connect(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, SILENCE_MAX).with_context(|| format!("nothing listens at {to}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    Ok(stream)
}

/// Has threads woken when they asked for it, and not up to 50 µs later. Where the system has no such thing they are
/// late, and lateness is told.
pub(crate) fn wake_on_time() {
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
}

pub(crate) fn print(value: &Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

fn shape(arguments: &mut Arguments) -> anyhow::Result<Shape> {
    let namespaces = arguments.take("namespaces")?;
    if namespaces == Some(0) {
        bail!("--namespaces is at least 1");
    }
    let prefix = arguments.take("prefix")?.unwrap_or_else(|| PREFIX.to_owned());
    Ok(Shape { prefix, namespaces, value_bytes: arguments.count("value-bytes", 256)? })
}

fn load(arguments: &mut Arguments) -> anyhow::Result<Load> {
    let shape = shape(arguments)?;
    let text: String = arguments.take("mix")?.unwrap_or_else(|| "get".to_owned());
    let (requests, weights): (Vec<_>, Vec<usize>) = mix(&text, &shape)?.into_iter().unzip();
    let choice: Vec<usize> =
        weights.iter().enumerate().flat_map(|(at, weight)| std::iter::repeat_n(at, *weight)).collect();
    ensure!(!choice.is_empty(), "the mix {text:?} is empty");
    let seed = arguments.take("seed")?.unwrap_or(1);
    let processes: String = arguments.take("cpu-of")?.unwrap_or_default();
    let id = |text: &str| text.parse().with_context(|| format!("--cpu-of: {text:?} is not the number of a process"));
    let keys = u32::try_from(arguments.count("keys", KEYS)?)?;
    Ok(Load {
        to: arguments.address("to")?,
        clients: arguments.count("clients", 50)?,
        pipeline: arguments.count("pipeline", 1)?,
        seconds: arguments.span("seconds", 1.0, 1.0)?,
        warm_up: arguments.span("warm-up-seconds", 1.0, 0.2)?,
        requests_max: arguments.take("requests")?,
        keys: Keys::draw(keys, arguments.take("zipf")?, seed),
        requests,
        choice,
        seed,
        cpu_of: processes.split(',').filter(|text| !text.is_empty()).map(id).collect::<Result<_, _>>()?,
    })
}

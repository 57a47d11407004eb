//! The closed loop: every client sends a pipeline of requests, and the next one as soon as all are answered. One thread
//! does it for all clients, so that it takes the measured as little of the processors as it can.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::cpu::Cpu;
use crate::figures::{Figures, Latencies};
use crate::load::{Load, Owed, SILENCE_MAX};

/// One client.
struct Client {
    stream: TcpStream,
    next_place: u64,
    owed: Owed,
    /// Replies that are still to come.
    replies: usize,
    out: Vec<u8>,
    written: usize,
    sent_at: Instant,
}

/// Between the beginning of the counting and the end of it.
struct Counted {
    since: Instant,
    cpu: Cpu,
    latencies: Latencies,
}

const EVENTS: usize = 1024;

/// Runs it.
///
/// # Errors
/// A reply is wrong, or none comes.
pub(crate) fn run(load: &Load) -> anyhow::Result<Figures> {
    let mut poll = Poll::new()?;
    let mut clients = connect(load, &poll)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut memory = Owed::memory();
    let begun = Instant::now();
    let mut counted: Option<Counted> = None;
    let mut answered_at = begun;
    for client in &mut clients {
        client.begin(load)?;
    }
    loop {
        let now = wait(&mut poll, &mut events)?;
        for event in &events {
            let Some(client) = clients.get_mut(event.token().0) else { continue };
            let replies = client.ready(load, &mut memory)?;
            if replies == 0 {
                continue;
            }
            answered_at = now;
            if let Some(counted) = &mut counted {
                counted.latencies.add(client.sent_at.elapsed(), replies);
            }
            if client.replies == 0 {
                client.begin(load)?;
            }
        }
        ensure!(now - answered_at < SILENCE_MAX, "no reply for {SILENCE_MAX:?}");
        match &counted {
            None if now - begun >= load.warm_up => {
                let (cpu, latencies) = (Cpu::read(&load.cpu_of)?, Latencies::new()?);
                counted = Some(Counted { since: Instant::now(), cpu, latencies });
            }
            Some(so_far) if so_far.is_over(now, load) => break,
            _ => {}
        }
    }
    let counted = counted.context("nothing was counted")?;
    let span = counted.since.elapsed();
    let cpu = Cpu::read(&load.cpu_of)?.since(&counted.cpu);
    take_the_rest(load, &mut poll, &mut clients, &mut memory)?;
    ensure!(counted.latencies.count() > 0, "no request was answered in {span:?}");
    Ok(Figures { latencies: counted.latencies, span, cpu, lateness: None })
}

/// Waits a moment for something to read or to write, and says when that ended.
fn wait(poll: &mut Poll, events: &mut Events) -> anyhow::Result<Instant> {
    match poll.poll(events, Some(Duration::from_millis(100))) {
        Err(error) if error.kind() != std::io::ErrorKind::Interrupted => Err(error.into()),
        _ => Ok(Instant::now()),
    }
}

/// Reads what is owed when the counting is over: a client whose reply was lost among all has asked for nothing since,
/// and would not be missed.
fn take_the_rest(load: &Load, poll: &mut Poll, clients: &mut [Client], memory: &mut [u8]) -> anyhow::Result<()> {
    let mut events = Events::with_capacity(EVENTS);
    let mut answered_at = Instant::now();
    loop {
        let owed: usize = clients.iter().map(|client| client.replies).sum();
        if owed == 0 {
            return Ok(());
        }
        let now = wait(poll, &mut events)?;
        for event in &events {
            let Some(client) = clients.get_mut(event.token().0) else { continue };
            if client.ready(load, memory)? > 0 {
                answered_at = now;
            }
        }
        ensure!(now - answered_at < SILENCE_MAX, "no reply for {SILENCE_MAX:?}; {owed} are owed");
    }
}

fn connect(load: &Load, poll: &Poll) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(load.clients);
    for index in 0..load.clients {
        let stream = crate::verbs::greet(load.to).with_context(|| format!("connection {}", index + 1))?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let place = load.first_place(index);
        let (out, sent_at) = (Vec::new(), Instant::now());
        clients.push(Client {
            stream,
            next_place: place,
            owed: Owed::new(place),
            replies: 0,
            out,
            written: 0,
            sent_at,
        });
    }
    Ok(clients)
}

// === impl Counted ===

impl Counted {
    fn is_over(&self, now: Instant, load: &Load) -> bool {
        let enough = load.requests_max.is_some_and(|max| self.latencies.count() >= max);
        enough || now.saturating_duration_since(self.since) >= load.seconds
    }
}

// === impl Client ===

impl Client {
    /// Sends the next pipeline.
    fn begin(&mut self, load: &Load) -> anyhow::Result<()> {
        self.out.clear();
        self.written = 0;
        for _ in 0..load.pipeline {
            load.write(self.next_place, &mut self.out)?;
            self.next_place = Load::next_place(self.next_place);
        }
        self.replies = load.pipeline;
        self.sent_at = Instant::now();
        self.write()
    }

    fn write(&mut self) -> anyhow::Result<()> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("a request cannot be sent"),
            }
        }
        Ok(())
    }

    /// Goes on where it can, and says how many replies came.
    fn ready(&mut self, load: &Load, memory: &mut [u8]) -> anyhow::Result<usize> {
        self.write()?;
        let mut replies = 0;
        // Readiness is told once, so that all is read; behind the last reply nothing is to come.
        while self.replies > 0 {
            match self.owed.read(load, &mut self.stream, memory, self.replies)? {
                Some(more) => {
                    self.replies -= more;
                    replies += more;
                }
                None => break,
            }
        }
        Ok(replies)
    }
}

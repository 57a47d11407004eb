//! The open loop: requests are due at a fixed rate, whatever becomes of them, and a request's latency counts from when
//! it was due. A server that stops for a moment so pays for all whom it kept waiting (no coordinated omission).
//!
//! One thread sends and one reads. Request n is due at `n / rate` and goes to client `n % clients`, so that neither has
//! to tell the other anything.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mio::{Events, Interest, Poll, Token};

use crate::cpu::Cpu;
use crate::figures::{Figures, Latencies};
use crate::load::{Load, Owed, SILENCE_MAX};

/// When which request is due.
#[derive(Clone, Copy)]
struct Schedule {
    begun: Instant,
    rate: f64,
    /// Requests before the first that is counted.
    uncounted: u64,
    total: u64,
}

/// The half of a client that sends.
struct Sending {
    stream: TcpStream,
    place: u64,
    /// What the system did not take yet.
    out: Vec<u8>,
}

/// The half of a client that reads.
struct Reading {
    stream: mio::net::TcpStream,
    owed: Owed,
    /// The number of the request that is answered next.
    next: u64,
}

const EVENTS: usize = 1024;

/// Runs it at so many requests a second.
///
/// # Errors
/// A reply is wrong, or none comes.
pub(crate) fn run(load: &Load, rate: f64) -> anyhow::Result<Figures> {
    let (mut sending, mut reading) = (Vec::new(), Vec::new());
    for index in 0..load.clients {
        let stream = crate::verbs::greet(load.to).with_context(|| format!("connection {}", index + 1))?;
        stream.set_nonblocking(true)?;
        let (place, other) = (load.first_place(index), mio::net::TcpStream::from_std(stream.try_clone()?));
        sending.push(Sending { stream, place, out: Vec::new() });
        reading.push(Reading { stream: other, owed: Owed::new(place), next: index as u64 });
    }
    let uncounted = (load.warm_up.as_secs_f64() * rate) as u64;
    let counted = (load.seconds.as_secs_f64() * rate).round() as u64;
    let total = uncounted + load.requests_max.map_or(counted, |max| max.min(counted)).max(1);
    crate::verbs::wake_on_time();
    let schedule = Schedule { begun: Instant::now(), rate, uncounted, total };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let read = read(load, schedule, &mut reading);
            over.store(true, Ordering::Relaxed);
            read
        });
        let sent = send(load, schedule, &mut sending, &over);
        let read = reader.join().map_err(|_| anyhow::anyhow!("the thread that reads has died"))?;
        // What the reader says is the cause; that nothing could be sent any more follows from it.
        let (latencies, ended) = read?;
        let (lateness, (counted_from, before)) = sent?;
        let cpu = Cpu::read(&load.cpu_of)?.since(&before);
        Ok(Figures { latencies, span: ended - counted_from, cpu, lateness: Some(lateness) })
    })
}

/// Sends what is due until all is sent: how late requests were, and when the counting began.
fn send(
    load: &Load,
    schedule: Schedule,
    clients: &mut [Sending],
    over: &AtomicBool,
) -> anyhow::Result<(Latencies, (Instant, Cpu))> {
    let mut lateness = Latencies::new()?;
    let mut counted = (schedule.begun, Cpu::read(&load.cpu_of)?);
    let mut number = 0;
    while number < schedule.total || clients.iter().any(|client| !client.out.is_empty()) {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let now = Instant::now();
        let due = schedule.due(number);
        if number >= schedule.total || due > now {
            let mut wait = if number < schedule.total { due - now } else { Duration::from_millis(1) };
            for client in clients.iter_mut().filter(|client| !client.out.is_empty()) {
                client.write()?;
                wait = wait.min(Duration::from_millis(1));
            }
            std::thread::park_timeout(wait);
            continue;
        }
        if number == schedule.uncounted && number > 0 {
            counted = (due, Cpu::read(&load.cpu_of)?);
        }
        let index = (number % clients.len() as u64) as usize;
        let client = clients.get_mut(index).context("no clients")?;
        load.write(client.place, &mut client.out)?;
        client.place = Load::next_place(client.place);
        client.write()?;
        if number >= schedule.uncounted {
            lateness.add(now - due, 1);
        }
        number += 1;
    }
    Ok((lateness, counted))
}

/// Reads until all is answered: the latencies, and when the last reply came.
fn read(load: &Load, schedule: Schedule, clients: &mut [Reading]) -> anyhow::Result<(Latencies, Instant)> {
    let mut latencies = Latencies::new()?;
    let mut poll = Poll::new()?;
    for (index, client) in clients.iter_mut().enumerate() {
        poll.registry().register(&mut client.stream, Token(index), Interest::READABLE)?;
    }
    let step = clients.len() as u64;
    let mut events = Events::with_capacity(EVENTS);
    let mut memory = Owed::memory();
    let mut left = schedule.total;
    let mut answered_at = Instant::now();
    while left > 0 {
        match poll.poll(&mut events, Some(Duration::from_millis(100))) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            let Some(client) = clients.get_mut(event.token().0) else { continue };
            // At most what was due by now can have been sent.
            while let Some(replies) = client.owed.read(load, &mut client.stream, &mut memory, usize::MAX)? {
                let now = Instant::now();
                for _ in 0..replies {
                    ensure!(client.next < schedule.total, "wrong reply: more replies than requests");
                    if client.next >= schedule.uncounted {
                        latencies.add(now.saturating_duration_since(schedule.due(client.next)), 1);
                    }
                    client.next += step;
                    left -= 1;
                }
                answered_at = now;
            }
        }
        ensure!(answered_at.elapsed() < SILENCE_MAX, "no reply for {SILENCE_MAX:?}; {left} are owed");
    }
    Ok((latencies, answered_at))
}

// === impl Schedule ===

impl Schedule {
    fn due(&self, number: u64) -> Instant {
        self.begun + Duration::from_secs_f64(number as f64 / self.rate)
    }
}

// === impl Sending ===

impl Sending {
    /// Sends what the system takes; the rest is tried again.
    fn write(&mut self) -> anyhow::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(bytes) => drop(self.out.drain(..bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("a request cannot be sent"),
            }
        }
        Ok(())
    }
}

//! What goes wrong, when, and how long until all is well again. The order is drawn from the seed; every kind comes up
//! once before any comes up twice.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::clients::Shared;
use crate::ledger::Rule;
use crate::link::{Fault, Link};
use crate::random::Random;
use crate::servers::{Server, Sidecar, poll};
use crate::wire::{Connection, Reply};

/// One kind of fault.
struct Kind {
    name: &'static str,
    what: What,
    /// How long it lasts, in milliseconds.
    lasts: (u64, u64),
    /// Whether a client may be told: by an error, or by the end of its connection.
    is_told: bool,
}

#[derive(Clone, Copy)]
enum What {
    Link(Fault),
    /// The same, and behind it all connections are closed.
    Severed(Fault),
    KillServer,
    StopServer,
    KillConnections,
    Pause,
    Full,
    Reload,
    BrokenReload,
}

/// What happened once.
pub struct Event {
    pub name: &'static str,
    pub at_ms: u64,
    pub lasted_ms: u64,
    /// How often it struck, where the link counts that.
    pub struck: u64,
    /// From its end until a new connection was answered a write and a read.
    pub answered_ms: u64,
    /// From its end until every client had good rounds again.
    pub recovered_ms: u64,
}

/// What is damaged on purpose, to show that it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Two replies change their places.
    Swap,
    /// Acknowledged writes are undone.
    Lose,
    /// An element comes a second time.
    Twice,
    /// A message comes that nobody published.
    Message,
}

/// All that can be made to fail.
pub struct Faults<'a> {
    pub shared: &'a Shared,
    pub server: Server,
    pub sidecar: &'a Sidecar,
    pub link: Link,
    pub random: Random,
    /// A short run: faults and the time between are a fifth as long.
    pub is_quick: bool,
    pub events: Vec<Event>,
    reloads: u64,
}

/// The longest lifetime that the policy gives.
pub const LIFETIME_MS_MAX: u64 = 10_800_000;
/// How long all may take to be well again: more than a busy machine takes.
const RECOVERY_MAX: Duration = Duration::from_secs(90);
const GARBAGE: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\r\n";
const WRONG_LENGTH: &[u8] = b"$2\r\nabcd\r\n";
const TOO_LONG: &[u8] = b"$99999999999999999999\r\n";
const ZEROS: &[u8] = &[0; 64];

const fn kind(name: &'static str, what: What, lasts: (u64, u64), is_told: bool) -> Kind {
    Kind { name, what, lasts, is_told }
}

const KINDS: [Kind; 20] = [
    kind("connections cut between replies", What::Link(Fault::Cut(0)), (200, 2_000), true),
    kind("connections cut in a reply", What::Link(Fault::Cut(7)), (200, 2_000), true),
    kind("connections reset", What::Link(Fault::Reset(3)), (200, 2_000), true),
    kind("connections refused", What::Link(Fault::Refuse), (200, 4_000), true),
    kind("half open, and on again", What::Link(Fault::HalfOpen), (500, 12_000), true),
    kind("half open, and closed", What::Severed(Fault::HalfOpen), (500, 12_000), true),
    kind("connections dead", What::Severed(Fault::Dead), (2_000, 16_000), true),
    kind("late by 30 ms", What::Link(Fault::Delay(Duration::from_millis(30))), (1_000, 6_000), false),
    kind("a little at a time", What::Link(Fault::Drip), (500, 4_000), false),
    kind("not RESP", What::Link(Fault::Garbage(GARBAGE)), (200, 1_500), true),
    kind("a wrong length", What::Link(Fault::Garbage(WRONG_LENGTH)), (200, 1_500), true),
    kind("a length that is too long", What::Link(Fault::Garbage(TOO_LONG)), (200, 1_500), true),
    kind("zeros", What::Link(Fault::Garbage(ZEROS)), (200, 1_500), true),
    kind("server killed, back with its data", What::KillServer, (50, 3_000), true),
    kind("server stopped for a time", What::StopServer, (500, 12_000), true),
    kind("all connections killed by the server", What::KillConnections, (10, 100), true),
    kind("CLIENT PAUSE", What::Pause, (300, 3_000), true),
    kind("memory of the server full", What::Full, (500, 4_000), true),
    kind("policies reloaded", What::Reload, (10, 100), false),
    kind("broken policies refused", What::BrokenReload, (10, 100), false),
];

/// The lifetimes' file after so many reloads.
pub fn lifetimes(reloads: u64) -> String {
    let ms = if reloads.is_multiple_of(2) { LIFETIME_MS_MAX } else { 7_200_000 };
    format!("# {reloads}\n[settings.namespaces.default]\nfixed_ttl_ms = {ms}\n")
}

// === impl Faults ===

impl<'a> Faults<'a> {
    pub fn new(
        shared: &'a Shared,
        server: Server,
        sidecar: &'a Sidecar,
        link: Link,
        seed: u64,
        is_quick: bool,
    ) -> Self {
        let random = Random::new(seed);
        Self { shared, server, sidecar, link, random, is_quick, events: Vec::new(), reloads: 0 }
    }

    /// Lets things go wrong until the time is over. `sabotage` is done once, in the first third.
    pub fn run(&mut self, time: Duration, mut sabotage: Option<Sabotage>) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut left: Vec<usize> = Vec::new();
        while begun.elapsed() < time {
            let gap = if self.is_quick { (100, 600) } else { (2_000, 8_000) };
            let gap = self.random.between(gap.0, gap.1);
            std::thread::park_timeout(Duration::from_millis(gap));
            if begun.elapsed() > time / 5
                && let Some(damage) = sabotage.take()
            {
                self.damage(damage)?;
            }
            if left.is_empty() {
                left = (0..KINDS.len()).collect();
            }
            let chosen = left.swap_remove(self.random.below(left.len()));
            self.strike(&KINDS[chosen])?;
            self.recovered(&KINDS[chosen])?;
        }
        Ok(())
    }

    /// One fault, from its beginning to its end.
    fn strike(&mut self, kind: &Kind) -> anyhow::Result<()> {
        let ledger = &self.shared.ledger;
        let lasts = self.random.between(kind.lasts.0, kind.lasts.1) / if self.is_quick { 5 } else { 1 };
        let lasts = Duration::from_millis(lasts);
        let (at_ms, begun) = (ledger.now_ms(), Instant::now());
        if kind.is_told {
            ledger.trouble(true);
        }
        let hold = || std::thread::park_timeout(lasts);
        match kind.what {
            What::Link(fault) | What::Severed(fault) => {
                self.link.set(fault);
                hold();
            }
            What::KillServer => {
                self.server.process.kill()?;
                hold();
                self.server.start_again()?;
                self.server.wait()?;
            }
            What::StopServer => {
                self.server.process.signal("STOP")?;
                hold();
                self.server.process.signal("CONT")?;
            }
            What::KillConnections => {
                self.server.say("CLIENT KILL TYPE normal SKIPME yes")?;
                self.server.say("CLIENT KILL TYPE pubsub SKIPME yes")?;
            }
            What::Pause => {
                let which = self.random.pick(&["ALL", "WRITE"]);
                self.server.say(&format!("CLIENT PAUSE {} {which}", lasts.as_millis()))?;
                hold();
            }
            What::Full => {
                self.server.say("CONFIG SET maxmemory 1")?;
                hold();
                self.server.say("CONFIG SET maxmemory 0")?;
            }
            What::Reload => self.reload()?,
            What::BrokenReload => self.broken_reload()?,
        }
        let struck = self.link.struck();
        if let What::Severed(_) = kind.what {
            self.link.sever(true);
        }
        self.link.set(Fault::None);
        let lasted_ms = u64::try_from(begun.elapsed().as_millis())?;
        let event = Event { name: kind.name, at_ms, lasted_ms, struck, answered_ms: 0, recovered_ms: 0 };
        self.events.push(event);
        Ok(())
    }

    /// New lifetimes, which come into force.
    fn reload(&mut self) -> anyhow::Result<()> {
        let before = self.sidecar.metric("bellwether_generation")?;
        self.reloads += 1;
        self.put("ttl.toml", &lifetimes(self.reloads))?;
        let is_new = || self.sidecar.metric("bellwether_generation").ok().filter(|now| *now > before).map(|_| ());
        poll("the new generation", RECOVERY_MAX, is_new)
    }

    /// Settings that are none, which leave the old ones in force.
    fn broken_reload(&mut self) -> anyhow::Result<()> {
        const REFUSED: &str = "bellwether_generations_refused_total";
        let before = self.sidecar.metric(REFUSED)?;
        self.put("ttl.toml", &format!("# {before}\n[settings]\nno_such_setting = 1\n"))?;
        let refused = || self.sidecar.metric(REFUSED).ok().filter(|now| *now > before).map(|_| ());
        poll("the refusal", RECOVERY_MAX, refused)?;
        self.put("ttl.toml", &lifetimes(self.reloads))
    }

    fn put(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let (beside, file) = (self.sidecar.policies.join(".beside"), self.sidecar.policies.join(name));
        std::fs::write(&beside, text)?;
        Ok(std::fs::rename(beside, file)?)
    }

    /// Waits until all is well, and notes how long that took.
    fn recovered(&mut self, kind: &Kind) -> anyhow::Result<()> {
        let begun = Instant::now();
        let ledger = &self.shared.ledger;
        let port = self.sidecar.port;
        let answers = || {
            let mut connection = Connection::open(port, false).ok()?;
            connection.say("SET free:probe 1").ok().filter(|reply| reply.is("OK"))?;
            connection.say("GET free:probe").ok().filter(|reply| reply == &Reply::Bulk(b"1".to_vec()))
        };
        if poll("an answer", RECOVERY_MAX, answers).is_err() {
            ledger.broken(Rule::Stuck, format!("no write and read is answered after {}", kind.name));
        }
        let answered_ms = u64::try_from(begun.elapsed().as_millis())?;
        let good = || ledger.clients.iter().map(|client| client.good.load(Ordering::SeqCst)).collect::<Vec<_>>();
        let before = good();
        let behind = || {
            let now = good();
            let behind = |place: &usize| now[*place] < before[*place] + 2;
            (0..now.len()).filter(behind).map(|place| ledger.clients[place].name.as_str()).collect::<Vec<_>>()
        };
        if poll("good rounds of all", RECOVERY_MAX, || behind().is_empty().then_some(())).is_err() {
            ledger.broken(Rule::Stuck, format!("after {} these do not go on: {}", kind.name, behind().join(", ")));
        }
        if kind.is_told {
            ledger.trouble(false);
        }
        let event = self.events.last_mut().context("an event")?;
        event.answered_ms = answered_ms;
        event.recovered_ms = u64::try_from(begun.elapsed().as_millis())?;
        crate::tell(&format!(
            "{:>7.1} s: {} for {} ms, struck {}; answered after {answered_ms} ms, all well after {} ms",
            event.at_ms as f64 / 1000.0,
            event.name,
            event.lasted_ms,
            event.struck,
            event.recovered_ms
        ));
        Ok(())
    }

    /// Damages something that nobody may damage.
    fn damage(&mut self, sabotage: Sabotage) -> anyhow::Result<()> {
        crate::tell(&format!("sabotage: {sabotage:?}"));
        match sabotage {
            Sabotage::Swap => {
                self.link.set(Fault::Swap);
                let done = poll("two replies in one piece", RECOVERY_MAX, || (self.link.struck() > 0).then_some(()));
                self.link.set(Fault::None);
                done?;
            }
            Sabotage::Lose => {
                let mut direct = match Connection::open(self.server.port, false) {
                    Ok(direct) => direct,
                    Err(lost) => bail!("the server does not answer: {lost:?}"),
                };
                for cell in self.shared.cells.iter().filter(|cell| cell.kind == crate::cells::Kind::Text) {
                    let floor = cell.floor();
                    if floor.write > 1 && !cell.deletes(floor.write) && !cell.deletes(floor.write - 1) {
                        let value = cell.value(floor.epoch, floor.write - 1, &mut self.random);
                        drop(direct.ask(&[b"SET", cell.key(floor.epoch).as_bytes(), &value]));
                    }
                }
            }
            // The first one of all; it was taken long ago.
            Sabotage::Twice => drop(self.server.say("RPUSH free:queue:0 0:0:0")?),
            Sabotage::Message => drop(self.server.say("PUBLISH soak:0 0|0|999999999")?),
        }
        Ok(())
    }
}

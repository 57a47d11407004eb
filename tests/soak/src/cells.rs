//! Places that hold a value, each with one writer and any number of readers: what was acknowledged, what may be there,
//! and what a reply about it must be. It must not know how replies come.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ledger::Rule;
use crate::random::Random;
use crate::wire::{Reply, text_of};

/// What a cell is at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A string that ends by itself after so many milliseconds.
    Brief(u64),
    /// A string of up to two million bytes.
    Big,
    /// A field of a hash.
    Field,
    /// A member of a sorted set; its score is the number of the write.
    Member,
    /// A number that is counted up.
    Counter,
}

/// A cell. A write has a number; every sixteenth deletes. A write of which nobody knows whether it ran may still run
/// later: its cell gets a new name (the next epoch), and the old one is written no more.
pub struct Cell {
    pub kind: Kind,
    prefix: &'static str,
    owner: usize,
    number: usize,
    /// Epoch and number of the last acknowledged write.
    known: AtomicU64,
    /// Epoch and number of the last write that was sent.
    sent: AtomicU64,
    /// From when on a brief value may be gone, in milliseconds of the ledger.
    ends_ms: AtomicU64,
}

/// What a reader knows before it asks.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    pub epoch: u64,
    pub write: u64,
    /// From when on a brief value may be gone, in milliseconds of the ledger.
    pub ends_ms: u64,
}

/// The name and what was written under it before its cell got another one.
pub struct Retired {
    pub cell: usize,
    pub epoch: u64,
    pub acknowledged: u64,
    pub in_doubt: u64,
}

const WRITE_BITS: u32 = 40;
const DELETES_EVERY: u64 = 16;

// === impl Cell ===

impl Cell {
    pub fn new(kind: Kind, prefix: &'static str, owner: usize, number: usize) -> Self {
        let zero = || AtomicU64::new(0);
        Self { kind, prefix, owner, number, known: zero(), sent: zero(), ends_ms: zero() }
    }

    /// The key at the server.
    pub fn key(&self, epoch: u64) -> String {
        let Self { prefix, owner, number, .. } = self;
        match self.kind {
            Kind::Field => format!("{prefix}hash:{owner}"),
            Kind::Member => format!("{prefix}sorted:{owner}"),
            Kind::Counter => format!("{prefix}count:{owner}:{number}:{epoch}"),
            _ => format!("{prefix}{owner}:{number}:{epoch}"),
        }
    }

    /// What the value says it is: the key, or the field.
    fn name(&self, epoch: u64) -> String {
        format!("{}{}:{}:{epoch}", self.prefix, self.owner, self.number)
    }

    /// Whether GET reads it.
    pub fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Text | Kind::Brief(_) | Kind::Big)
    }

    /// Whether its rule keeps values in memory.
    pub fn is_near(&self) -> bool {
        self.is_text() && ["near:", "safe:", "both:"].iter().any(|prefix| self.prefix.starts_with(prefix))
    }

    pub fn deletes(&self, write: u64) -> bool {
        write.is_multiple_of(DELETES_EVERY) && self.kind != Kind::Counter
    }

    /// The value of a write, of a size that is drawn.
    pub fn value(&self, epoch: u64, write: u64, random: &mut Random) -> Vec<u8> {
        let length = match self.kind {
            Kind::Big => random.between(20_000, 400_000) * if random.chance(5) { 5 } else { 1 },
            Kind::Field => random.between(1, 60),
            _ if random.chance(2) => random.between(4_000, 40_000),
            _ => random.between(1, 300),
        };
        made(&self.name(epoch), write, length)
    }

    /// The command that writes.
    pub fn write(&self, epoch: u64, write: u64, random: &mut Random) -> Vec<Vec<u8>> {
        let (key, name) = (self.key(epoch).into_bytes(), self.name(epoch).into_bytes());
        let text = |text: &str| text.as_bytes().to_vec();
        match self.kind {
            Kind::Field if self.deletes(write) => vec![text("HDEL"), key, name],
            Kind::Member if self.deletes(write) => vec![text("ZREM"), key, name],
            _ if self.deletes(write) => vec![text("DEL"), key],
            Kind::Field => vec![text("HSET"), key, name, self.value(epoch, write, random)],
            Kind::Member => vec![text("ZADD"), key, text(&write.to_string()), name],
            Kind::Counter => vec![text("INCR"), key],
            Kind::Text | Kind::Big => vec![text("SET"), key, self.value(epoch, write, random)],
            Kind::Brief(ms) => {
                vec![text("SET"), key, self.value(epoch, write, random), text("PX"), text(&ms.to_string())]
            }
        }
    }

    /// Whether a reply, which is no error, is that of the write.
    pub fn is_written(&self, write: u64, reply: &Reply) -> bool {
        match self.kind {
            Kind::Counter => reply == &Reply::Number(i64::try_from(write).unwrap()),
            Kind::Field | Kind::Member => matches!(reply, Reply::Number(0 | 1)),
            _ if self.deletes(write) => matches!(reply, Reply::Number(0 | 1)),
            _ => reply.is("OK"),
        }
    }

    /// The command that reads.
    pub fn read(&self, epoch: u64) -> Vec<Vec<u8>> {
        let (key, name) = (self.key(epoch).into_bytes(), self.name(epoch).into_bytes());
        match self.kind {
            Kind::Field => vec![b"HGET".to_vec(), key, name],
            Kind::Member => vec![b"ZSCORE".to_vec(), key, name],
            _ => vec![b"GET".to_vec(), key],
        }
    }

    /// The number of the write that a reply to `read` shows; 0 for nothing. Err: it is another's.
    pub fn shown(&self, epoch: u64, reply: &Reply) -> Result<u64, String> {
        let name = self.name(epoch);
        let foreign = || format!("a read of {name} gave {}", reply.shown());
        let text = match reply {
            Reply::Nil => return Ok(0),
            reply => reply.text().ok_or_else(foreign)?,
        };
        if matches!(self.kind, Kind::Member | Kind::Counter) {
            return text_of(text).parse().map_err(|_| foreign());
        }
        let head: Vec<&[u8]> = text.splitn(4, |&byte| byte == b'|').collect();
        let number = |at: usize| head.get(at).and_then(|part| text_of(part).parse::<u64>().ok()).ok_or_else(foreign);
        let write = number(1)?;
        if head[0] != name.as_bytes() || text != made(&name, write, number(2)?) {
            return Err(foreign());
        }
        Ok(write)
    }

    /// What a reader knows now.
    pub fn floor(&self) -> Floor {
        let known = self.known.load(Ordering::SeqCst);
        let ends_ms = self.ends_ms.load(Ordering::SeqCst);
        Floor { epoch: known >> WRITE_BITS, write: known & ((1 << WRITE_BITS) - 1), ends_ms }
    }

    /// A write is about to be sent.
    pub fn sends(&self, epoch: u64, write: u64) {
        self.sent.store(epoch << WRITE_BITS | write, Ordering::SeqCst);
    }

    /// A write was acknowledged, which was sent at this time.
    pub fn acknowledge(&self, epoch: u64, write: u64, sent_ms: u64) {
        if let Kind::Brief(ms) = self.kind {
            self.ends_ms.store(sent_ms + ms, Ordering::SeqCst);
        }
        self.known.store(epoch << WRITE_BITS | write, Ordering::SeqCst);
    }

    /// The cell gets its next name.
    pub fn retire(&self, epoch: u64) {
        self.acknowledge(epoch + 1, 0, 0);
        self.sends(epoch + 1, 0);
    }

    /// What is wrong with a reply to a read, by anybody who knew this before he asked.
    pub fn judge(&self, floor: Floor, reply: &Reply, now_ms: u64) -> Result<u64, (Rule, String)> {
        let shown = self.shown(floor.epoch, reply).map_err(|text| (Rule::Swapped, text))?;
        let sent = self.sent.load(Ordering::SeqCst);
        // In a younger epoch nobody knows any more how far the older one went.
        let last = if sent >> WRITE_BITS == floor.epoch { sent & ((1 << WRITE_BITS) - 1) } else { u64::MAX };
        let name = self.name(floor.epoch);
        if shown > last {
            return Err((Rule::Swapped, format!("{name} shows write {shown}, and {last} was the last")));
        }
        let ended = matches!(self.kind, Kind::Brief(_)) && now_ms >= floor.ends_ms;
        // Nothing is right where it ended, or one of the writes that may have been the last one deleted it.
        let deleted = last == u64::MAX || (floor.write..=last).any(|write| write == 0 || self.deletes(write));
        let fits = if shown == 0 { ended || deleted } else { shown >= floor.write };
        if fits {
            return Ok(shown);
        }
        let what = format!("{name} shows {}, and write {} was acknowledged", reply.shown(), floor.write);
        Err((Rule::Lost, what))
    }
}

/// A value: its name, its number, the length of the rest, and the rest, which follows from them.
fn made(name: &str, write: u64, length: u64) -> Vec<u8> {
    let mut value = format!("{name}|{write}|{length}|").into_bytes();
    let seed = name.bytes().fold(write, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let row: Vec<u8> = (0..61).map(|at| b'a' + u8::try_from((seed >> (at % 16) ^ at) % 26).unwrap()).collect();
    value.extend(row.iter().cycle().take(usize::try_from(length.min(4_000_000)).unwrap()));
    value
}

//! Lists as queues: every element that was acknowledged is taken once, or is still there. Two queues: one whose
//! consumers move elements to a list of their own first, so that nothing can be lost; and one that is popped, where a
//! connection that is lost under a pop may take one element with it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::Client;
use crate::ledger::{Rule, Said};
use crate::wire::{Connection, Lost, Reply, text_of};

/// Those who produce; the even ones for the queue that is moved from, the others for the one that is popped.
pub const PRODUCERS: usize = 2;
/// Those who move.
pub const CONSUMERS: usize = 3;

/// What is known of one element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Element {
    pub acknowledged: bool,
    pub in_doubt: bool,
    /// How often somebody was given it.
    pub taken: u32,
}

/// All elements of both queues, by their names.
#[derive(Default)]
pub struct Queues {
    pub elements: Mutex<BTreeMap<String, Element>>,
    /// Pops that were lost with their connection: each may have taken an element.
    pub pops_lost: Mutex<u64>,
}

/// What the final look at the queues found.
pub struct Found {
    pub acknowledged: usize,
    pub still_there: usize,
    /// Popped and lost with a connection.
    pub lost: usize,
    pub pops_lost: u64,
}

/// The key of a queue.
fn queue(which: usize) -> String {
    format!("free:queue:{which}")
}

/// The list of one who moves.
fn taken(consumer: usize) -> String {
    format!("free:taken:{consumer}")
}

// === impl Queues ===

impl Queues {
    fn note(&self, element: &str, change: impl FnOnce(&mut Element)) -> Element {
        let mut elements = self.elements.lock().unwrap();
        let known = elements.entry(element.to_owned()).or_default();
        change(known);
        *known
    }

    /// Looks at the server itself for what nobody was given.
    pub fn judge(&self, direct: &mut Connection, broken: &mut Vec<(Rule, String)>) -> Result<Found, Lost> {
        let mut there = BTreeMap::new();
        for key in (0..2).map(queue).chain((0..CONSUMERS).map(taken)) {
            if let Reply::Array(parts) = direct.say(&format!("LRANGE {key} 0 -1"))? {
                parts.iter().filter_map(Reply::text).for_each(|text| drop(there.insert(text_of(text), key.clone())));
            }
        }
        let elements = self.elements.lock().unwrap();
        let pops_lost = *self.pops_lost.lock().unwrap();
        let missing =
            |name: &str, element: &Element| element.acknowledged && element.taken == 0 && !there.contains_key(name);
        let gone: Vec<_> = elements.iter().filter(|(name, element)| missing(name, element)).collect();
        let (popped, moved): (Vec<_>, Vec<_>) = gone.iter().partition(|(name, _)| name.starts_with("1:"));
        for (name, element) in moved {
            broken.push((Rule::Lost, format!("element {name} is nowhere: {element:?}")));
        }
        if popped.len() as u64 > pops_lost {
            let what = format!("{} elements are nowhere, and {pops_lost} pops were lost: {popped:?}", popped.len());
            broken.push((Rule::Lost, what));
        }
        let acknowledged = elements.values().filter(|element| element.acknowledged).count();
        Ok(Found { acknowledged, still_there: there.len(), lost: popped.len(), pops_lost })
    }
}

/// Pushes elements until all is over.
pub fn produce(mut client: Client<'_>) {
    let (which, mut number) = (client.number % 2, 0_u64);
    let (key, number_of) = (queue(which), client.number);
    while client.goes_on() {
        if !client.is_connected() {
            continue;
        }
        let count = if client.random.chance(80) { 1 } else { 1 + client.random.below(5) };
        let names: Vec<_> = (0..count as u64).map(|more| format!("{which}:{number_of}:{}", number + more)).collect();
        number += count as u64;
        let words: Vec<&[u8]> =
            [b"LPUSH", key.as_bytes()].into_iter().chain(names.iter().map(String::as_bytes)).collect();
        for name in &names {
            client.shared.queues.note(name, |element| element.in_doubt = true);
        }
        let said = match client.ask(&words) {
            Some(Reply::Number(_)) => None,
            Some(Reply::Error(error)) => Some(client.error(&error)),
            Some(reply) => {
                client.broken(Rule::Swapped, &format!("{} for LPUSH", reply.shown()));
                Some(Said::InDoubt)
            }
            None => Some(Said::InDoubt),
        };
        for name in &names {
            client.shared.queues.note(name, |element| {
                element.acknowledged = said.is_none();
                element.in_doubt = said == Some(Said::InDoubt);
            });
        }
        if said.is_none() {
            client.ledger().count("elements pushed", count as u64);
            client.good();
        }
    }
}

/// Moves elements to a list of its own, and takes them off there.
pub fn consume(mut client: Client<'_>) {
    let (from, own) = (queue(0), taken(client.number));
    let mut known = false;
    while client.goes_on() {
        if !client.is_connected() {
            known = false;
        } else if !known {
            // What was moved and not taken off when the connection was lost.
            known = left_over(&mut client, &own) == Some(true);
        } else {
            let moved = client.ask(&[b"BLMOVE", from.as_bytes(), own.as_bytes(), b"RIGHT", b"LEFT", b"2"]);
            known = match moved {
                None => false,
                Some(Reply::Nil) => true,
                Some(Reply::Error(error)) => {
                    client.error(&error);
                    false
                }
                Some(reply) => take(&mut client, &own, &reply, true) == Some(true),
            };
            if known {
                client.good();
            }
        }
    }
}

fn left_over(client: &mut Client<'_>, own: &str) -> Option<bool> {
    match client.ask(&[b"LRANGE", own.as_bytes(), b"0", b"-1"])? {
        Reply::Array(parts) => {
            for part in &parts {
                if !take(client, own, part, false)? {
                    return Some(false);
                }
            }
            Some(true)
        }
        Reply::Error(error) => {
            client.error(&error);
            Some(false)
        }
        reply => {
            client.broken(Rule::Swapped, &format!("{} for LRANGE", reply.shown()));
            Some(false)
        }
    }
}

/// Notes an element and takes it off the own list.
fn take(client: &mut Client<'_>, own: &str, reply: &Reply, once: bool) -> Option<bool> {
    let Some(name) = reply.text().map(text_of) else {
        client.broken(Rule::Swapped, &format!("{} for an element", reply.shown()));
        return Some(false);
    };
    check_taken(client, &name, "0:", once);
    match client.ask(&[b"LREM", own.as_bytes(), b"1", name.as_bytes()])? {
        Reply::Number(0 | 1) => Some(true),
        Reply::Error(error) => {
            client.error(&error);
            Some(false)
        }
        reply => {
            client.broken(Rule::Swapped, &format!("{} for LREM", reply.shown()));
            Some(false)
        }
    }
}

/// Somebody was given an element; where it is given `once`, nobody was before.
fn check_taken(client: &Client<'_>, name: &str, begins: &str, once: bool) {
    let element = client.shared.queues.note(name, |element| element.taken += 1);
    client.ledger().count("elements taken", 1);
    if !name.starts_with(begins) || !(element.acknowledged || element.in_doubt) {
        client.broken(Rule::Swapped, &format!("{name:?} for an element: {element:?}"));
    } else if once && element.taken > 1 {
        client.broken(Rule::Twice, &format!("element {name} was given {} times", element.taken));
    }
}

/// Pops elements; now and then it goes away while it waits.
pub fn pop(mut client: Client<'_>) {
    let key = queue(1);
    let lose = |client: &Client<'_>| *client.shared.queues.pops_lost.lock().unwrap() += 1;
    while client.goes_on() {
        if !client.is_connected() {
            continue;
        }
        if client.random.chance(3) {
            let bytes = crate::wire::encoded(&["BLPOP", &key, "0"]);
            if client.send(&bytes).is_some() {
                std::thread::park_timeout(std::time::Duration::from_millis(client.random.between(0, 30)));
                client.vanish();
            }
            lose(&client);
            continue;
        }
        let verb: &[u8] = if client.random.chance(50) { b"BLPOP" } else { b"BRPOP" };
        match client.ask(&[verb, key.as_bytes(), b"2"]) {
            None => lose(&client),
            Some(Reply::Nil) => client.good(),
            Some(Reply::Array(parts)) if parts.len() == 2 && parts[0].text() == Some(key.as_bytes()) => {
                check_taken(&client, &parts[1].text().map(text_of).unwrap_or_default(), "1:", true);
                client.good();
            }
            Some(Reply::Error(error)) => {
                if client.error(&error) == Said::InDoubt {
                    lose(&client);
                }
            }
            Some(reply) => client.broken(Rule::Swapped, &format!("{} for a pop", reply.shown())),
        }
    }
}

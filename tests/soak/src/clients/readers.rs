//! Those who read cells that others write: what they are given must be the last acknowledged write, or a later one.

use super::Client;
use crate::cells::{Cell, Floor, Kind};
use crate::ledger::Rule;
use crate::wire::{Reply, encoded};

/// How many cells half of all reads go to.
const HOT: usize = 10;

/// Reads until all is over.
pub fn run(mut client: Client<'_>) {
    while client.goes_on() {
        if client.is_connected() && (if client.random.chance(30) { many(&mut client) } else { row(&mut client) }) {
            client.good();
        }
    }
}

fn any<'a>(client: &mut Client<'a>) -> &'a Cell {
    let cells = &client.shared.cells;
    if client.random.chance(50) {
        return client.random.pick(cells);
    }
    // Some are read again and again, so that they are served from memory.
    let hot: Vec<&Cell> = cells.iter().filter(|cell| cell.is_near()).collect();
    hot[client.random.below(HOT)]
}

/// A row of single reads, sent at once.
fn row(client: &mut Client<'_>) -> bool {
    let count = 1 + client.random.below(24);
    let mut asked: Vec<(&Cell, Floor)> = Vec::new();
    let mut bytes = Vec::new();
    for _ in 0..count {
        let cell = any(client);
        if cell.kind == Kind::Big && count > 4 {
            continue;
        }
        let floor = cell.floor();
        bytes.extend(encoded(&cell.read(floor.epoch)));
        asked.push((cell, floor));
    }
    if client.send(&bytes).is_none() {
        return false;
    }
    client.ledger().count("commands", asked.len() as u64);
    let mut good = true;
    for (cell, floor) in asked {
        let Some(reply) = client.reply() else { return false };
        good &= judge(client, cell, floor, &reply);
    }
    good
}

/// Several strings by one MGET.
fn many(client: &mut Client<'_>) -> bool {
    let mut asked: Vec<(&Cell, Floor)> = Vec::new();
    let mut words = vec![b"MGET".to_vec()];
    for _ in 0..12 {
        let cell = any(client);
        if cell.is_text() && cell.kind != Kind::Big {
            let floor = cell.floor();
            words.push(cell.key(floor.epoch).into_bytes());
            asked.push((cell, floor));
        }
    }
    if asked.is_empty() {
        return false;
    }
    match client.ask(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()) {
        None => false,
        Some(Reply::Error(error)) => {
            client.error(&error);
            false
        }
        Some(Reply::Array(parts)) if parts.len() == asked.len() => {
            asked.iter().zip(&parts).all(|((cell, floor), reply)| judge(client, cell, *floor, reply))
        }
        Some(reply) => {
            client.broken(Rule::Swapped, &format!("{} for MGET of {} keys", reply.shown(), asked.len()));
            false
        }
    }
}

fn judge(client: &Client<'_>, cell: &Cell, floor: Floor, reply: &Reply) -> bool {
    if let Reply::Error(error) = reply {
        client.error(error);
        return false;
    }
    client.ledger().count("checked reads", 1);
    match cell.judge(floor, reply, client.ledger().now_ms()) {
        Ok(_) => true,
        Err((rule, what)) => {
            client.broken(rule, &what);
            false
        }
    }
}

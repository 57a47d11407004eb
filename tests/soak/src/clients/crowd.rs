//! Clients that behave badly, and those that do nothing: slow readers, some that go away in the middle of a word, and a
//! crowd that hardly ever speaks.

use std::time::{Duration, Instant};

use super::Client;
use crate::cells::Kind;
use crate::ledger::Rule;
use crate::wire::{Connection, Reply, encoded};

/// Connections of the crowd.
const CROWD: usize = 60;
/// How long a slow reader takes little sips.
const SIPPING: Duration = Duration::from_millis(400);

/// Asks for many large values, and reads the answers slowly.
pub fn slow(mut client: Client<'_>) {
    while client.goes_on() {
        if !client.is_connected() || client.random.chance(90) {
            client.good();
            continue;
        }
        let cells: Vec<_> = client.shared.cells.iter().filter(|cell| cell.kind == Kind::Big).collect();
        let asked: Vec<_> = (0..8).map(|_| *client.random.pick(&cells)).map(|cell| (cell, cell.floor())).collect();
        let bytes: Vec<u8> = asked.iter().flat_map(|(cell, floor)| encoded(&cell.read(floor.epoch))).collect();
        if client.send(&bytes).is_none() {
            continue;
        }
        client.ledger().count("commands", asked.len() as u64);
        let begun = Instant::now();
        while begun.elapsed() < SIPPING && client.sip(4096).is_some() {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let mut good = true;
        for (cell, floor) in asked {
            let Some(reply) = client.reply() else {
                good = false;
                break;
            };
            if let Reply::Error(error) = &reply {
                client.error(error);
                good = false;
            } else if let Err((rule, what)) = cell.judge(floor, &reply, client.ledger().now_ms()) {
                client.broken(rule, &what);
            } else {
                client.ledger().count("checked reads", 1);
            }
        }
        if good {
            client.good();
        }
    }
}

/// Goes away with commands under way, or in the middle of one.
pub fn vanishing(mut client: Client<'_>) {
    while client.goes_on() {
        if !client.is_connected() {
            continue;
        }
        let key = format!("free:vanishing:{}", client.number);
        let value = "v".repeat(client.random.below(100_000));
        let whole = match client.random.below(5) {
            0 => encoded(&["SET", &key, &value]),
            1 => [encoded(&["MULTI"]), encoded(&["SET", &key, &value])].concat(),
            2 => encoded(&["GET", "plain:big:0:0:0"]).repeat(20),
            3 => [encoded(&["SUBSCRIBE", "soak:0"]), encoded(&["PING"])].concat(),
            _ => encoded(&["BLPOP", "free:nothing", "0"]),
        };
        let part = if client.random.chance(50) { whole.len() } else { 1 + client.random.below(whole.len() - 1) };
        let sent = client.send(&whole[..part]);
        std::thread::park_timeout(Duration::from_millis(client.random.between(0, 10)));
        if client.random.chance(50) {
            client.vanish();
        }
        client.forget();
        client.ledger().count("clients that went away", 1);
        if sent.is_some() {
            client.good();
        }
    }
}

/// Many connections that say something now and then.
pub fn idle(mut client: Client<'_>) {
    let mut crowd: Vec<Option<Connection>> = (0..CROWD).map(|_| None).collect();
    while client.goes_on() {
        let place = client.random.below(CROWD);
        let Some(connection) = &mut crowd[place] else {
            crowd[place] = client.open();
            continue;
        };
        let word = format!("idle-{place}-{}", client.random.draw());
        let answer = connection.ask(&[b"ECHO", word.as_bytes()]);
        client.ledger().count("commands", 1);
        match answer {
            Ok(Reply::Error(error)) => drop(client.ledger().error(client.name(), connection, &error)),
            Ok(reply) if reply.text() == Some(word.as_bytes()) => {
                connection.era = client.ledger().era();
                client.good();
            }
            Ok(reply) => client.broken(Rule::Swapped, &format!("{} in place of {word}", reply.shown())),
            Err(lost) => {
                client.ledger().lost(client.name(), connection, lost);
                crowd[place] = None;
            }
        }
    }
}

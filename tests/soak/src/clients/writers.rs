//! Those who write cells: alone, in pipelines, in transactions, by scripts, many keys at once. They know what each
//! reply must be, since nobody else writes their cells.

use std::time::Instant;

use super::Client;
use crate::cells::{Cell, Floor, Kind, Retired};
use crate::ledger::{Rule, Said};
use crate::wire::{Reply, encoded};

/// Writers. Each has its own cells.
pub const WRITERS: usize = 6;

/// The cells of one writer: kind, prefix, and how many.
const CELLS: [(Kind, &str, usize); 15] = [
    (Kind::Text, "plain:", 12),
    (Kind::Text, "near:", 4),
    (Kind::Text, "safe:", 3),
    (Kind::Text, "free:", 6),
    (Kind::Text, "lease:l", 3),
    (Kind::Text, "both:l", 3),
    (Kind::Brief(700), "lease:", 4),
    (Kind::Brief(900), "both:", 3),
    (Kind::Brief(600), "cold:", 3),
    (Kind::Brief(800), "near:b", 3),
    (Kind::Big, "plain:big:", 1),
    (Kind::Field, "plain:", 8),
    (Kind::Member, "free:", 8),
    (Kind::Counter, "plain:", 4),
    (Kind::Counter, "near:", 2),
];

/// A write through the server's Lua, which gives the value back with a word that nobody else has.
const SCRIPT: &str = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1]) .. '|' .. ARGV[2]";
/// The digest of the script, by which EVALSHA names it.
const SCRIPT_DIGEST: &str = "842e0853baa1b7f187e83168cf51f8cc7d936ec8";
const BATCH_MAX: usize = 24;

/// What a writer does with one cell in one batch.
struct Step {
    cell: usize,
    floor: Floor,
    /// The number of its write, where it writes.
    write: Option<u64>,
    reads: bool,
}

/// What has become of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Done,
    NotRun,
    InDoubt,
}

/// How a batch is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Pipeline,
    Transaction,
    Watched,
}

/// The cells of all writers.
pub fn cells() -> Vec<Cell> {
    let of = |owner| {
        let many = |&(kind, prefix, count): &(Kind, &'static str, usize)| {
            (0..count).map(move |number| Cell::new(kind, prefix, owner, number))
        };
        CELLS.iter().flat_map(many).collect::<Vec<_>>()
    };
    (0..WRITERS).flat_map(of).collect()
}

/// Writes until all is over.
pub fn run(mut client: Client<'_>) {
    while client.goes_on() {
        if !client.is_connected() {
            continue;
        }
        let good = match client.random.below(20) {
            0..=9 => batch(&mut client, Shape::Pipeline),
            10..=12 => batch(&mut client, Shape::Transaction),
            13 => batch(&mut client, Shape::Watched),
            14..=16 => script(&mut client),
            17 => lifetime(&mut client),
            _ => many(&mut client),
        };
        if good {
            client.good();
        }
    }
}

/// Places of cells of this writer that fit, each once.
fn choose(client: &mut Client<'_>, count: usize, fits: impl Fn(&Cell) -> bool) -> Vec<usize> {
    let all = &client.shared.cells;
    let (own, first) = (all.len() / WRITERS, client.number * (all.len() / WRITERS));
    let mut chosen = Vec::new();
    for _ in 0..count {
        let place = first + client.random.below(own);
        if fits(&all[place]) && !chosen.contains(&place) {
            chosen.push(place);
        }
    }
    chosen
}

/// What is to be done with these cells. The writes count as sent.
fn steps(client: &mut Client<'_>, chosen: &[usize]) -> Vec<Step> {
    let step = |&place: &usize| {
        let cell = &client.shared.cells[place];
        let floor = cell.floor();
        let write = client.random.chance(60).then_some(floor.write + 1);
        if let Some(write) = write {
            cell.sends(floor.epoch, write);
        }
        Step { cell: place, floor, write, reads: write.is_none() || client.random.chance(50) }
    };
    chosen.iter().map(step).collect()
}

/// A row of commands, sent at once, with a word of its own behind them.
fn batch(client: &mut Client<'_>, shape: Shape) -> bool {
    let count = if client.random.chance(30) { 1 } else { 1 + client.random.below(BATCH_MAX) };
    let chosen = choose(client, count, |cell| cell.kind != Kind::Big || count < 4);
    let steps = steps(client, &chosen);
    let token = format!("{}-{}", client.name(), client.random.draw());
    let mut bytes = Vec::new();
    let before: &[&[&str]] = match shape {
        Shape::Pipeline => &[],
        Shape::Transaction => &[&["MULTI"]],
        Shape::Watched => &[&["WATCH", "free:watched"], &["MULTI"]],
    };
    before.iter().for_each(|words| bytes.extend(encoded(words)));
    let mut commands = 0;
    for step in &steps {
        let cell = &client.shared.cells[step.cell];
        if let Some(write) = step.write {
            bytes.extend(encoded(&cell.write(step.floor.epoch, write, &mut client.random)));
        }
        if step.reads {
            bytes.extend(encoded(&cell.read(step.floor.epoch)));
        }
        commands += usize::from(step.write.is_some()) + usize::from(step.reads);
    }
    bytes.extend(encoded(&["ECHO", &token]));
    if shape != Shape::Pipeline {
        bytes.extend(encoded(&["EXEC"]));
    }
    client.ledger().count("commands", (commands + 1) as u64);
    let mut fates = vec![Fate::Open; steps.len()];
    let sent_ms = client.ledger().now_ms();
    let done = client.send(&bytes).and_then(|()| match shape {
        Shape::Pipeline => replies(client, &steps, &mut fates, &token, sent_ms, None),
        _ => transaction(client, &steps, &mut fates, &token, sent_ms, (before.len(), commands + 1)),
    });
    settle(client, &steps, &fates);
    done == Some(true)
}

/// The replies of a transaction, in EXEC's array or by its error.
fn transaction(
    client: &mut Client<'_>,
    steps: &[Step],
    fates: &mut [Fate],
    token: &str,
    sent_ms: u64,
    (before, queued): (usize, usize),
) -> Option<bool> {
    let mut good = true;
    for place in 0..before + queued {
        let expect = if place < before { "OK" } else { "QUEUED" };
        match client.reply()? {
            Reply::Error(error) => {
                client.error(&error);
                good = false;
            }
            reply if reply.is(expect) => {}
            reply => client.broken(Rule::Swapped, &format!("{} in place of {expect}", reply.shown())),
        }
    }
    match client.reply()? {
        Reply::Array(parts) if good && parts.len() == queued => {
            client.ledger().count("transactions", 1);
            replies(client, steps, fates, token, sent_ms, Some(&mut parts.into_iter()))
        }
        Reply::Error(error) => {
            if client.error(&error) == Said::NotRun {
                fates.fill(Fate::NotRun);
            }
            // WATCH may be left, or a transaction that nobody has told the end of.
            client.forget();
            Some(false)
        }
        reply => {
            client.broken(Rule::Swapped, &format!("{} in place of EXEC's reply", reply.shown()));
            Some(false)
        }
    }
}

/// Checks the replies of all steps, and the word behind them.
fn replies(
    client: &mut Client<'_>,
    steps: &[Step],
    fates: &mut [Fate],
    token: &str,
    sent_ms: u64,
    mut inside: Option<&mut std::vec::IntoIter<Reply>>,
) -> Option<bool> {
    let mut good = true;
    let mut next = |client: &mut Client<'_>| match &mut inside {
        Some(parts) => parts.next(),
        None => client.reply(),
    };
    for (step, fate) in steps.iter().zip(fates) {
        let cell = &client.shared.cells[step.cell];
        if let Some(write) = step.write {
            let reply = next(client)?;
            *fate = written(client, step, write, &reply, sent_ms);
            good &= *fate == Fate::Done;
        }
        if step.reads {
            let reply = next(client)?;
            good &= match (&reply, step.write, *fate) {
                (Reply::Error(error), ..) => {
                    client.error(error);
                    false
                }
                // What is there is one of two, and which one need not be known.
                (_, Some(_), Fate::InDoubt) => true,
                (_, Some(write), Fate::Done) => exact(client, cell, step.floor.epoch, write, &reply),
                _ => exact(client, cell, step.floor.epoch, step.floor.write, &reply),
            };
        }
    }
    match next(client)? {
        Reply::Error(error) => {
            client.error(&error);
            Some(false)
        }
        reply if reply.text() == Some(token.as_bytes()) => Some(good),
        reply => {
            client.broken(Rule::Swapped, &format!("{} in place of {token}", reply.shown()));
            Some(false)
        }
    }
}

/// What a reply says about a write.
fn written(client: &mut Client<'_>, step: &Step, write: u64, reply: &Reply, sent_ms: u64) -> Fate {
    let cell = &client.shared.cells[step.cell];
    if let Reply::Error(error) = reply {
        return if client.error(error) == Said::NotRun { Fate::NotRun } else { Fate::InDoubt };
    }
    if !cell.is_written(write, reply) {
        let what = format!("{} for write {write} of {}", reply.shown(), cell.key(step.floor.epoch));
        // A counter that is elsewhere has lost a step, or ran one twice.
        client.broken(if cell.kind == Kind::Counter { Rule::Lost } else { Rule::Swapped }, &what);
    }
    cell.acknowledge(step.floor.epoch, write, sent_ms);
    client.ledger().count("acknowledged writes", 1);
    Fate::Done
}

/// Whether a reply shows just this write: nobody else writes here.
fn exact(client: &Client<'_>, cell: &Cell, epoch: u64, write: u64, reply: &Reply) -> bool {
    client.ledger().count("checked reads", 1);
    let shown = match cell.shown(epoch, reply) {
        Ok(shown) => shown,
        Err(what) => {
            client.broken(Rule::Swapped, &what);
            return false;
        }
    };
    let nothing = write == 0 || cell.deletes(write);
    let may_have_ended = match cell.kind {
        Kind::Brief(_) => shown == 0 && client.ledger().now_ms() >= cell.floor().ends_ms,
        _ => false,
    };
    let fits = if nothing { shown == 0 } else { shown == write || may_have_ended };
    if !fits {
        let what = format!("{} shows {}, and its writer wrote {write} last", cell.key(epoch), reply.shown());
        client.broken(Rule::Lost, &what);
    }
    fits
}

/// A cell of which something is in doubt gets its next name.
fn settle(client: &Client<'_>, steps: &[Step], fates: &[Fate]) {
    for (step, fate) in steps.iter().zip(fates) {
        let cell = &client.shared.cells[step.cell];
        let Some(write) = step.write else { continue };
        match fate {
            Fate::Done => {}
            Fate::NotRun => cell.sends(step.floor.epoch, step.floor.write),
            Fate::Open | Fate::InDoubt => {
                client.ledger().count("writes in doubt", 1);
                let (epoch, acknowledged) = (step.floor.epoch, step.floor.write);
                cell.retire(epoch);
                let retired = Retired { cell: step.cell, epoch, acknowledged, in_doubt: write };
                client.shared.retired.lock().unwrap().push(retired);
            }
        }
    }
}

/// One write by a script.
fn script(client: &mut Client<'_>) -> bool {
    let chosen = choose(client, 8, |cell| cell.kind == Kind::Text);
    let Some(&place) = chosen.first() else { return false };
    let cell = &client.shared.cells[place];
    let floor = cell.floor();
    let write = floor.write + 1;
    if cell.deletes(write) {
        return batch(client, Shape::Pipeline);
    }
    cell.sends(floor.epoch, write);
    let step = Step { cell: place, floor, write: Some(write), reads: false };
    let (key, token) = (cell.key(floor.epoch), format!("token-{}", client.random.draw()));
    let value = cell.value(floor.epoch, write, &mut client.random);
    let by_digest = client.random.chance(70);
    let (verb, what) = if by_digest { ("EVALSHA", SCRIPT_DIGEST) } else { ("EVAL", SCRIPT) };
    let sent_ms = client.ledger().now_ms();
    let words = [verb.as_bytes(), what.as_bytes(), b"1", key.as_bytes(), &value, token.as_bytes()];
    client.ledger().count("scripts", 1);
    let mut fate = Fate::Open;
    let reply = client.ask(&words);
    match &reply {
        Some(Reply::Error(error)) if error.starts_with("NOSCRIPT") => {
            fate = Fate::NotRun;
            client.ledger().count("scripts that the server did not know", 1);
        }
        Some(Reply::Error(error)) => {
            fate = if client.error(error) == Said::NotRun { Fate::NotRun } else { Fate::InDoubt };
        }
        Some(reply) => {
            if reply.text() != Some(&[&value, &b"|"[..], token.as_bytes()].concat()) {
                client.broken(Rule::Swapped, &format!("{} for a script about {key}", reply.shown()));
            }
            cell.acknowledge(floor.epoch, write, sent_ms);
            client.ledger().count("acknowledged writes", 1);
            fate = Fate::Done;
        }
        None => {}
    }
    settle(client, &[step], &[fate]);
    fate == Fate::Done
}

/// Several keys by one MSET.
fn many(client: &mut Client<'_>) -> bool {
    let chosen = choose(client, 8, |cell| cell.kind == Kind::Text && !cell.deletes(cell.floor().write + 1));
    if chosen.is_empty() {
        return false;
    }
    let mut words = vec![b"MSET".to_vec()];
    let mut steps = Vec::new();
    for &place in &chosen {
        let cell = &client.shared.cells[place];
        let floor = cell.floor();
        let write = floor.write + 1;
        cell.sends(floor.epoch, write);
        words.extend([cell.key(floor.epoch).into_bytes(), cell.value(floor.epoch, write, &mut client.random)]);
        steps.push(Step { cell: place, floor, write: Some(write), reads: false });
    }
    let sent_ms = client.ledger().now_ms();
    let reply = client.ask(&words.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let mut fates = vec![Fate::Open; steps.len()];
    if let Some(reply) = &reply {
        for (step, fate) in steps.iter().zip(&mut fates) {
            *fate = written(client, step, step.write.unwrap_or_default(), reply, sent_ms);
        }
    }
    settle(client, &steps, &fates);
    fates.iter().all(|fate| *fate == Fate::Done)
}

/// Whether a key that was acknowledged has the lifetime that its policy gave it.
fn lifetime(client: &mut Client<'_>) -> bool {
    let has = |cell: &Cell| matches!(cell.kind, Kind::Brief(_)) || cell.key(0).starts_with("plain:big");
    let Some(&place) = choose(client, 8, has).first() else { return false };
    let cell = &client.shared.cells[place];
    let floor = cell.floor();
    let (key, asked) = (cell.key(floor.epoch), Instant::now());
    let Some(reply) = client.ask(&[b"PTTL", key.as_bytes()]) else { return false };
    let longest_ms = if let Kind::Brief(ms) = cell.kind { ms } else { crate::faults::LIFETIME_MS_MAX };
    match reply {
        Reply::Error(error) => {
            client.error(&error);
            false
        }
        Reply::Number(-2) => true,
        Reply::Number(left) if u64::try_from(left).is_ok_and(|left| left <= longest_ms) => true,
        reply => {
            let what = format!("{key} has a lifetime of {}, asked {:?} ago", reply.shown(), asked.elapsed());
            client.broken(Rule::Lost, &what);
            false
        }
    }
}

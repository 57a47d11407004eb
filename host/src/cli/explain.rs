//! `bellwether explain`: one command's decision, step by step, by the code that serves it.

use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Arg, ArgAction};
use jiff::tz::TimeZone;

use super::{Call, Verb, format, unless_unread};
use crate::command::{Command, Data, KeyUse, Kind, Row, Table};
use crate::metrics::Metrics;
use crate::namespace::{MarketSource, Rule};
use crate::policy::{Asked, Cost, PolicySet, Question, one_line};
use crate::proxy::lifetime::Lifetime;
use crate::proxy::restore::asked_ms;
use crate::proxy::set::{ClientExpiry, Set};
use crate::proxy::{Plan, Policies, What};
use crate::resp::request::{Limits, Scanned, Scanner};
use crate::resp::write;

pub(super) const VERB: Verb = Verb {
    name: "explain",
    command: |command| {
        command
            .about("Say what becomes of a command: rule, market session, decision, what is sent, and what it took")
            .arg(Arg::new("at").long("at").value_name("TIME").help(format::AT))
            .arg(
                Arg::new("command")
                    .value_name("COMMAND")
                    .help("The command and its arguments, such as: SET fyntrix:general:x '{}'")
                    .required(true)
                    .num_args(1..)
                    .trailing_var_arg(true)
                    .allow_hyphen_values(true)
                    .action(ArgAction::Append),
            )
    },
    run: |call, out| unless_unread(run(&call, out)),
};

fn run(call: &Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let words: Vec<&String> = call.matches.get_many("command").unwrap_or_default().collect();
    let mut bytes = Vec::new();
    write::array(&mut bytes, words.len());
    words.iter().for_each(|word| write::bulk(&mut bytes, word.as_bytes()));
    let limits = Limits { args_max: words.len(), bulk_bytes_max: bytes.len(), command_bytes_max: bytes.len() };
    let mut scanner = Scanner::new(limits);
    let Ok(Scanned::Command(_)) = scanner.scan(&bytes) else { bail!("a command has at least its name") };
    let command = Command { bytes: &bytes, args: scanner.args() };
    let name = command.name().escape_ascii().to_string();
    let Some(row) = command.row(Table::newest()) else {
        writeln!(out, "{name} is not in the command table: it is passed on, and the server answers in its own words")?;
        return Ok(ExitCode::SUCCESS);
    };
    if !row.takes(command.args.len()) {
        writeln!(out, "{name} takes another number of arguments: it is passed on, and the server says so")?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = call.at()?;
    let reloader = call.reloader()?;
    let set = PolicySet::load(reloader.engine(), 1, &reloader.mounts()?, None)?;
    let mut policies = Policies::new(Arc::new(set), Arc::new(Metrics::default()), 0, &call.config);
    writeln!(out, "command   {name}: {}", row.kind.label())?;
    writeln!(out, "now       {}", format::utc(now))?;
    for (index, key) in keys(&command, row) {
        explain_key(&mut policies, &command, row, index, key, now, out)?;
    }
    let plan = policies.decide(&command, row, now);
    show_plan(&plan, &words, out)?;
    Ok(ExitCode::SUCCESS)
}

/// The keys whose lifetime the command may set.
fn keys<'a>(command: &Command<'a>, row: &Row) -> Vec<(usize, &'a [u8])> {
    let lives = |used| used == KeyUse::Create || matches!(row.kind, Kind::Expire(_) | Kind::Persist | Kind::GetEx);
    let places = row.keys.iter().filter(|keys| lives(keys.used()));
    places.flat_map(|keys| keys.positions(command)).filter_map(|index| Some((index, command.arg(index)?))).collect()
}

fn explain_key(
    policies: &mut Policies,
    command: &Command<'_>,
    row: &Row,
    index: usize,
    key: &[u8],
    now: i64,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    writeln!(out, "key       {}", crate::proxy::shown(key))?;
    let set = Rc::clone(policies.decider().set());
    let Some((id, rule)) = set.rules.find(key) else {
        writeln!(out, "rule      none covers it: its lifetime is left alone")?;
        return Ok(());
    };
    writeln!(
        out,
        "rule      {} ({}*{}), client-ttl {}, apply {}",
        rule.name,
        rule.prefix,
        rule.suffix,
        rule.client_ttl.label(),
        rule.apply.label()
    )?;
    show_lease(rule, out)?;
    let Ok(text) = std::str::from_utf8(key) else {
        writeln!(out, "policy    is not asked: the key is not UTF-8")?;
        return Ok(());
    };
    let client_ttl = client_ttl(command, row, now);
    let value_bytes = match row.kind {
        Kind::Set(_) | Kind::MultiSet | Kind::MultiSetEx => command.arg(index + 1).map_or(0, <[u8]>::len) as u64,
        _ => command.bytes.len() as u64,
    };
    let data = match row.kind {
        Kind::Create(data) | Kind::Block(Some(data)) => data,
        Kind::Restore => Data::Copy,
        Kind::Expire(_) | Kind::Persist | Kind::GetEx => Data::Expiry,
        _ => Data::Value,
    };
    let question = Question { rule: id, key: text, command: data, value_bytes, client_ttl, now };
    match policies.decider().ask(&question) {
        None => writeln!(out, "policy    none: lifetimes under this rule are left alone")?,
        Some(asked) => {
            show_market(policies, &asked, rule, out)?;
            show_asked(&asked, key, now, out)?;
            if asked.decision.is_err() {
                let fallback = rule.fallback_ttl_ms.map_or("the write is refused".to_owned(), format::span);
                writeln!(out, "fallback  {fallback}")?;
            }
        }
    }
    if let Some(ms) = client_ttl {
        writeln!(out, "client    asks for {}, and the rule says {}", format::span(ms), rule.client_ttl.label())?;
    }
    Ok(())
}

/// What becomes of those who ask for a key that is not there.
fn show_lease(rule: &Rule, out: &mut dyn Write) -> anyhow::Result<()> {
    let Some(lease_ms) = rule.lease_ms else { return Ok(()) };
    let stale = rule.stale_ms.map_or("there is no old value".to_owned(), |ms| {
        format!("the others have its old value for {} after its end", format::span(ms))
    });
    let wait = rule.lease_wait_ms.map_or("not at all".to_owned(), format::span);
    let lease = format::span(lease_ms);
    if let Some(percent) = rule.refresh_ahead_percent {
        writeln!(out, "ahead     one client recomputes a value in memory when {percent} % of its lifetime are left")?;
    }
    Ok(writeln!(out, "lease     {lease} for one client to recompute it; {stale}; without, they wait {wait}")?)
}

fn show_market(policies: &mut Policies, asked: &Asked, rule: &Rule, out: &mut dyn Write) -> anyhow::Result<()> {
    let name = asked.market.as_ref().map(|(name, _)| name);
    let markets = if name.is_some() { policies.decider().markets()? } else { Vec::new() };
    let known = name.and_then(|name| markets.iter().find(|of| of.name == *name || of.aliases.contains(name)));
    let zone = known.and_then(|market| TimeZone::get(&market.time_zone).ok());
    show_session(asked, zone.as_ref(), out)?;
    if asked.unknown_symbol {
        let which = match &rule.market {
            MarketSource::Symbol { part: Some(part), .. } => format!("part {part} of the key is not"),
            _ => "no part of the key is".to_owned(),
        };
        let instead =
            if asked.market.is_some() { "this market is the rule's default" } else { "the rule has no default" };
        writeln!(out, "          {which} a symbol that the symbol table knows: {instead}")?;
    }
    Ok(())
}

/// The session that the policy was handed, on the market's own clock where its zone is known.
pub(super) fn show_session(asked: &Asked, zone: Option<&TimeZone>, out: &mut dyn Write) -> anyhow::Result<()> {
    match &asked.market {
        None => writeln!(out, "market    none")?,
        Some((name, Err(error))) => writeln!(out, "market    {name}: {error}")?,
        Some((name, Ok(session))) => {
            let local = |at| format::local(at, zone);
            writeln!(
                out,
                "market    {name}: {} since {} until {}",
                session.phase.label(),
                local(session.since),
                local(session.until)
            )?;
            if let Some(open) = session.next_regular_open {
                writeln!(out, "          next regular open {}", local(open))?;
            }
        }
    }
    Ok(())
}

/// What the policy decided, why, what it took, and the lines it wrote.
pub(super) fn show_asked(asked: &Asked, key: &[u8], now: i64, out: &mut dyn Write) -> anyhow::Result<()> {
    match &asked.decision {
        Err(error) => {
            writeln!(out, "policy    {} failed: {}", asked.policy, one_line(error))?;
        }
        Ok((decision, cost)) => {
            writeln!(
                out,
                "policy    {}: {}, ends spread over {}",
                asked.policy,
                format::expiry(decision.expiry),
                format::span(decision.spread_ms)
            )?;
            writeln!(out, "because   {}", decision.reason)?;
            let valid = decision.valid_until.map_or("the market session ends".to_owned(), format::utc);
            writeln!(out, "          remembered until {valid}")?;
            if let Lifetime::Ms(ms) = Lifetime::decided(decision.expiry, decision.spread_ms, key, now) {
                writeln!(out, "ttl       {} ms ({}), for this key", ms, format::span(ms))?;
            }
            let market = asked.market_cost.map_or(String::new(), |cost| format!("; market session {}", spent(cost)));
            writeln!(out, "took      {}{market}", spent(*cost))?;
        }
    }
    for line in &asked.lines {
        writeln!(out, "log       {}: {}", line.level, line.message)?;
    }
    Ok(())
}

fn spent(cost: Cost) -> String {
    format!("{} fuel, {:.1} µs", cost.fuel, cost.time.as_nanos() as f64 / 1000.0)
}

/// The lifetime that the command itself asks for.
fn client_ttl(command: &Command<'_>, row: &Row, now: i64) -> Option<u64> {
    match row.kind {
        Kind::Set(form) => match Set::read(form, command, now)?.expiry {
            ClientExpiry::Ms(ms) => Some(ms),
            _ => None,
        },
        Kind::Expire(form) => crate::proxy::set::span_ms(form, command.arg(2)?, now)?.try_into().ok(),
        Kind::Restore => u64::try_from(asked_ms(command, now)?).ok().filter(|ms| *ms > 0),
        _ => None,
    }
}

fn show_plan(plan: &Plan<'_>, words: &[&String], out: &mut dyn Write) -> anyhow::Result<()> {
    match &plan.what {
        What::Refused(error) => return Ok(writeln!(out, "refused   {error}")?),
        What::AsItCame => {
            writeln!(out, "sends     {}", words.iter().map(|word| shown(word)).collect::<Vec<_>>().join(" "))?
        }
        What::Set(set, lifetime) => {
            let mut sent = Vec::new();
            set.write(*lifetime, &mut sent);
            writeln!(out, "sends     {}", as_words(&sent)?)?;
        }
        What::Instead(args) => {
            let args: Vec<_> = args.iter().map(|arg| shown(&String::from_utf8_lossy(arg))).collect();
            writeln!(out, "sends     {}", args.join(" "))?;
        }
    }
    for follow in &plan.follows {
        let mut sent = Vec::new();
        follow.write(&mut sent);
        writeln!(out, "then      {}", as_words(&sent)?)?;
    }
    let mut copies = Vec::new();
    plan.copies.iter().for_each(|of| of.write(|command| copies.push(command.to_vec())));
    for command in copies {
        writeln!(out, "beside    {}", as_words(&command)?)?;
    }
    Ok(())
}

/// A command as a person would type it.
fn as_words(bytes: &[u8]) -> anyhow::Result<String> {
    let mut scanner =
        Scanner::new(Limits { args_max: 16, bulk_bytes_max: bytes.len(), command_bytes_max: bytes.len() });
    scanner.scan(bytes).context("a command that bellwether wrote")?;
    let words: Vec<_> = scanner.args().iter().map(|arg| shown(&String::from_utf8_lossy(arg.of(bytes)))).collect();
    Ok(words.join(" "))
}

fn shown(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:.,^=+/@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

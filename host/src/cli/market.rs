//! `bellwether market`: what a market is doing, and what it does next.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgAction};
use jiff::tz::TimeZone;
use serde_json::json;

use super::{Call, Verb, format};
use crate::policy::{Decider, Market, MarketError, MarketSession, PolicySet, Transition};

pub(super) const VERB: Verb = Verb {
    name: "market",
    command: |command| {
        command
            .about("Say what a market is doing, and what it does next")
            .arg(Arg::new("market").value_name("MARKET").help("The market, such as XBOM; without it, all are listed"))
            .arg(
                Arg::new("at").long("at").value_name("TIME").help("At this instant, such as 2026-11-23T10:00:00+05:30"),
            )
            .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON, instants in RFC 3339"))
    },
    run,
};

/// Changes of phase that are shown.
const TRANSITIONS: u32 = 8;

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let reloader = call.reloader()?;
    let set = PolicySet::load(reloader.engine(), 1, &reloader.mounts()?, None)?;
    let mut decider = Decider::new(Arc::new(set));
    let at = call.at()?;
    let json = call.matches.get_flag("json");
    let markets = decider.markets()?;
    let Some(name) = call.matches.get_one::<String>("market") else {
        return all(&mut decider, &markets, at, json, out);
    };
    let market = markets.iter().find(|market| market.name == *name || market.aliases.contains(name));
    let session = match decider.session(name, at)? {
        Ok(session) => session,
        Err(error) => anyhow::bail!("{name} at {}: {error}{}", format::utc(at), hint(error, name, &markets)),
    };
    let next = decider.transitions(name, at, TRANSITIONS)?.unwrap_or_default();
    if json {
        writeln!(out, "{:#}", as_json(&session, &next))?;
    } else {
        show(&session, &next, market, at, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn hint(error: MarketError, name: &str, markets: &[Market]) -> String {
    let names = markets.iter().flat_map(|market| market.aliases.iter().chain([&market.name]));
    match crate::config::nearest(name, names.map(String::as_str)) {
        Some(near) if error == MarketError::UnknownMarket => format!("; did you mean {near}?"),
        None if error == MarketError::UnknownMarket => "; `bellwether market` lists them all".to_owned(),
        _ => String::new(),
    }
}

fn all(
    decider: &mut Decider,
    markets: &[Market],
    at: i64,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let mut list = Vec::new();
    for market in markets {
        let session = decider.session(&market.name, at)?;
        if json {
            list.push(session.map_or_else(
                |error| json!({ "market": market.name, "error": error.to_string() }),
                |session| as_json(&session, &[]),
            ));
            continue;
        }
        let zone = TimeZone::get(&market.time_zone).ok();
        let state = session.map_or_else(
            |error| error.to_string(),
            |session| format!("{:<16}until {}", session.phase.label(), format::local(session.until, zone.as_ref())),
        );
        writeln!(out, "{:<14}{state:<53}{}", market.name, market.title)?;
    }
    if json {
        writeln!(out, "{:#}", serde_json::Value::from(list))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(
    session: &MarketSession,
    next: &[Transition],
    market: Option<&Market>,
    at: i64,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let zone = market.and_then(|market| TimeZone::get(&market.time_zone).ok());
    let local = |at: i64| format::local(at, zone.as_ref());
    let optional = |at: Option<i64>| at.map_or("(none in the data)".to_owned(), local);
    let title = market.map_or("", |market| &market.title);
    writeln!(out, "{} {title}, {}", session.market, local(at))?;
    writeln!(out, "  phase              {}", session.phase.label())?;
    writeln!(out, "  since              {}", local(session.since))?;
    writeln!(out, "  until              {}", local(session.until))?;
    writeln!(out, "  next open          {}", optional(session.next_open))?;
    writeln!(out, "  next regular open  {}", optional(session.next_regular_open))?;
    writeln!(out, "  previous close     {}", optional(session.previous_close))?;
    let projected = if session.projected { ", projected" } else { "" };
    writeln!(out, "  data               {} until {}{projected}", session.data_version, local(session.horizon))?;
    writeln!(out, "  then")?;
    next.iter().try_for_each(|change| writeln!(out, "    {}  {}", local(change.at), change.phase.label()))
}

fn as_json(session: &MarketSession, next: &[Transition]) -> serde_json::Value {
    let optional = |at: Option<i64>| at.map(format::utc);
    let transitions: Vec<_> =
        next.iter().map(|change| json!({ "at": format::utc(change.at), "phase": change.phase.label() })).collect();
    json!({
        "market": *session.market,
        "phase": session.phase.label(),
        "since": format::utc(session.since),
        "until": format::utc(session.until),
        "next_open": optional(session.next_open),
        "next_regular_open": optional(session.next_regular_open),
        "previous_close": optional(session.previous_close),
        "horizon": format::utc(session.horizon),
        "projected": session.projected,
        "data_version": *session.data_version,
        "transitions": transitions,
    })
}

//! `bellwether retime`: gives the keys that are there already the lifetimes that the policies decide for them now.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Arg, ArgAction};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Call, Verb, format};
use crate::config::{SETTINGS, Upstream, nearest};
use crate::metrics::Retimed;
use crate::policy::{Decider, PolicySet};
use crate::proxy::retime::{Change, Pick, Retiming};
use crate::proxy::shown;
use crate::retime::{Counts, Example, RuleCounts, Walk};
use crate::upstream::{Control, Keys, Route};

pub(super) const VERB: Verb = Verb {
    name: "retime",
    command: |command| {
        command
            .about("Give the keys that are there already the lifetimes that are decided for them now")
            .long_about(
                "Give the keys that are there already the lifetimes that the policies decide for them now: for a Redis \
                 that bellwether is put in front of, and after a rule was changed. Keys without an end are given one. \
                 Under a rule that caps or replaces what clients ask for, lifetimes are shortened. None is lengthened, \
                 since how old a value is nobody knows. Keys that a client writes meanwhile are left to the sidecar.",
            )
            .arg(
                Arg::new("namespace")
                    .long("namespace")
                    .value_name("RULE|PREFIX")
                    .help("Only the keys under the rule of this name, or those that begin with this"),
            )
            .arg(Arg::new("market").long("market").value_name("MARKET").help("Only the keys of this market"))
            .arg(
                Arg::new("dry-run")
                    .long("dry-run")
                    .action(ArgAction::SetTrue)
                    .help("Change nothing; say what would be done, with examples"),
            )
            .arg(
                Arg::new("keys-per-second")
                    .long("keys-per-second")
                    .value_name("N")
                    .value_parser(clap::value_parser!(u32).range(1..))
                    .help("Keys a second that are looked at [default: retime_keys_per_second_max]"),
            )
    },
    run,
};

/// Names that an error lists.
const LISTED_MAX: usize = 20;

/// The columns of the summary. No lifetime is lengthened here.
const COLUMNS: [Retimed; 5] =
    [Retimed::Shortened, Retimed::Given, Retimed::Persisted, Retimed::Left, Retimed::WrittenMeanwhile];

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    if call.config.upstream == Some(Upstream::Embedded) {
        bail!(
            "the embedded store lives inside a running sidecar, which retimes its keys by itself when a market's \
             sessions change; name a Redis server with --upstream redis://HOST:PORT"
        );
    }
    let reloader = call.reloader()?;
    let set = Arc::new(PolicySet::load(reloader.engine(), 1, &reloader.mounts()?, None)?);
    let pick = pick(&call, &set)?;
    let mut retiming = Retiming::ordered(Arc::clone(&set), pick);
    let (route, db, _) = crate::server::route(&call.config, call.clock)?;
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut counts = Counts::default();
    let looked = runtime.block_on(walk(&call, &route, db, &mut retiming, &mut counts))?;
    let dry_run = call.matches.get_flag("dry-run");
    if dry_run {
        counts.examples.iter().try_for_each(|example| show_example(example, out))?;
    }
    show(&counts, &set, out)?;
    let seconds = begun.elapsed().as_secs_f64();
    let server = &route.target;
    writeln!(out, "looked at {looked} keys of database {db} at {server} in {seconds:.1} s")?;
    if dry_run {
        writeln!(out, "dry run: nothing was changed")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Walks, with a progress bar where somebody sees it: how many keys were looked at.
async fn walk(
    call: &Call<'_>,
    route: &Route,
    db: u32,
    retiming: &mut Retiming,
    counts: &mut Counts,
) -> anyhow::Result<u64> {
    let server = &route.target;
    // Asked as the sidecar asks, so that what it refuses to serve is refused here in the same words.
    let facts = Control::new(route).facts(db, call.system_clock).await;
    facts.with_context(|| {
        format!("cannot use the server {server} (start it, or name another with --upstream redis://HOST:PORT)")
    })?;
    let mut keys = Keys::connect(route, db).await.with_context(|| {
        format!("cannot use the server {server} (start it, or name another with --upstream redis://HOST:PORT)")
    })?;
    let bar = progress_bar(keys.count().await?);
    let mut looked = 0;
    let walk = Walk {
        keys,
        retiming,
        clock: call.clock,
        keys_per_second_max: keys_per_second(call)?,
        dry_run: call.matches.get_flag("dry-run"),
        counts,
        metrics: None,
        progress: &mut |keys| {
            looked = keys;
            bar.set_position(keys);
        },
    };
    let walked = walk.run().await;
    bar.finish_and_clear();
    walked.with_context(|| format!("stopped after {looked} keys of {server}; what has been changed stays changed"))?;
    Ok(looked)
}

/// The flag; else the setting; else, where the setting keeps the sidecar from walking by itself, its default.
fn keys_per_second(call: &Call<'_>) -> anyhow::Result<u32> {
    if let Some(flag) = call.matches.get_one::<u32>("keys-per-second") {
        return Ok(*flag);
    }
    if call.config.retime_keys_per_second_max > 0 {
        return Ok(call.config.retime_keys_per_second_max);
    }
    let setting = SETTINGS.iter().find(|setting| setting.name == "retime_keys_per_second_max");
    setting.context("no such setting")?.default.parse().context("its default")
}

fn progress_bar(keys: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(keys), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} keys, {per_sec}, {eta} to go");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn pick(call: &Call<'_>, set: &Arc<PolicySet>) -> anyhow::Result<Pick> {
    let mut pick = Pick::default();
    if let Some(name) = call.matches.get_one::<String>("namespace") {
        pick.rule = set.rules.ids().find(|(_, rule)| rule.name == *name).map(|(id, _)| id);
        if pick.rule.is_none() {
            pick.prefix = Some(prefix(set, name)?);
        }
    }
    if let Some(name) = call.matches.get_one::<String>("market") {
        pick.markets = Some(market(&mut Decider::new(Arc::clone(set)), name)?);
    }
    Ok(pick)
}

/// A prefix under which rules have keys.
fn prefix(set: &PolicySet, text: &str) -> anyhow::Result<String> {
    let rules = set.rules.rules();
    if !text.is_empty() && rules.iter().any(|rule| rule.prefix.starts_with(text) || text.starts_with(&rule.prefix)) {
        return Ok(text.to_owned());
    }
    let names = || rules.iter().map(|rule| rule.name.as_str());
    let hint = nearest(text, names()).map_or(".".to_owned(), |near| format!("; did you mean {near}?"));
    bail!("no rule is called {text:?}, and none covers keys that begin so{hint} There are {}", listed(names()))
}

/// All names of a market.
fn market(decider: &mut Decider, name: &str) -> anyhow::Result<BTreeSet<String>> {
    let markets = decider.markets()?;
    if let Some(found) = markets.iter().find(|market| market.name == name || market.aliases.iter().any(|of| of == name))
    {
        return Ok(found.aliases.iter().chain([&found.name]).cloned().collect());
    }
    let names = markets.iter().flat_map(|market| market.aliases.iter().chain([&market.name])).map(String::as_str);
    match nearest(name, names) {
        Some(near) => bail!("there is no market {name}; did you mean {near}?"),
        None => bail!("there is no market {name}; `bellwether market` lists them all"),
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<_> = names.collect();
    let first = all.iter().take(LISTED_MAX).copied().collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(LISTED_MAX) {
        None | Some(0) => first,
        Some(more) => format!("{first} and {more} more"),
    }
}

fn show_example(example: &Example, out: &mut dyn Write) -> std::io::Result<()> {
    let left = example.left_ms.map_or("without end".to_owned(), |ms| format!("{} left", seconds(ms)));
    let change = match example.change {
        Change::Set(ms) => seconds(ms),
        Change::Persist => "without end".to_owned(),
        Change::Leave(_) => left.clone(),
    };
    writeln!(out, "{}: {left}, would be {change} ({})", shown(&example.key), example.reason)
}

/// A span without its milliseconds, which tell nobody anything here.
fn seconds(ms: u64) -> String {
    if ms < 1_000 { format::span(ms) } else { format::span(ms / 1_000 * 1_000) }
}

/// A table, a line for each rule that has keys.
fn show(counts: &Counts, set: &PolicySet, out: &mut dyn Write) -> std::io::Result<()> {
    let name = |rule: Option<crate::namespace::RuleId>| {
        let rule = rule.and_then(|id| set.rules.rules().get(id.index()));
        rule.map_or("(no rule)", |rule| rule.name.as_str())
    };
    let width = counts.rules.keys().map(|rule| name(*rule).len()).max().unwrap_or(0).max("rule".len());
    write!(out, "{:<width$}  {:>9}", "rule", "keys")?;
    COLUMNS.iter().try_for_each(|column| write!(out, "  {:>9}", column.label()))?;
    writeln!(out)?;
    let line = |out: &mut dyn Write, name: &str, counts: &RuleCounts| {
        write!(out, "{name:<width$}  {:>9}", counts.keys())?;
        COLUMNS.iter().try_for_each(|column| {
            write!(out, "  {:>width$}", counts.of(*column), width = column.label().len().max(9))
        })?;
        writeln!(out)
    };
    for (rule, counts) in &counts.rules {
        line(out, name(*rule), counts)?;
    }
    let sum = counts.sum();
    if counts.rules.len() != 1 {
        line(out, "all", &sum)?;
    }
    sum.left.iter().try_for_each(|(left, keys)| writeln!(out, "left: {keys} {}", left.label()))
}

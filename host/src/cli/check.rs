//! `bellwether check`: loads everything that `serve` would load, and says what it found.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Arg;

use super::{Call, Verb, format};
use crate::policy::contract::{VERSION, hosts};
use crate::policy::reach::{Reach, date, days_left};
use crate::policy::{Facts, Origin, Policy, PolicySet};

pub(super) const VERB: Verb = Verb {
    name: "check",
    command: |command| {
        let about = "Load the configuration and the policies as `serve` would, and print what each component exports \
                     and imports, its size, digest, settings and self-test; the rules; and how far the calendars of \
                     the markets in use reach. Exits with 1 if anything is refused. A warning is no refusal.";
        command
            .about("Load the configuration and the policies, and say what each policy is")
            .long_about(about)
            .arg(Arg::new("at").long("at").value_name("TIME").help(format::AT))
    },
    run,
};

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let reloader = call.reloader()?;
    let (mut policies, mut refused) = (Vec::new(), 0);
    for mount in reloader.mounts()? {
        match Policy::load(reloader.engine(), &mount) {
            Ok(policy) => {
                show(&policy, out)?;
                policies.push(Arc::new(policy));
            }
            Err(rejected) => {
                refused += 1;
                writeln!(out, "REFUSED {rejected}\n")?;
            }
        }
    }
    if refused > 0 {
        writeln!(out, "{refused} refused")?;
        return Ok(ExitCode::FAILURE);
    }
    let set = PolicySet::of_loaded(reloader.engine(), 1, policies)?;
    writeln!(out, "rules")?;
    for rule in set.rules.rules() {
        let decides = rule.ttl_policy.as_deref().unwrap_or("(lifetimes left alone)");
        let keys = format!("{}*{}", rule.prefix, rule.suffix);
        writeln!(out, "  {:<36} {keys:<44} {decides}", rule.name)?;
    }
    show_markets(&Reach::of_all(&set.rules, &set.markets()?), call.at()?, out)?;
    writeln!(out, "\nok: {} policies, {} rules", set.policies.len(), set.rules.rules().len())?;
    Ok(ExitCode::SUCCESS)
}

/// How far the calendars of the markets in use reach, then the warnings.
fn show_markets(markets: &[Reach], now: i64, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "\nmarkets")?;
    for reach in markets {
        let by = if reach.rules.is_empty() { "the symbol table".to_owned() } else { reach.rules.join(", ") };
        let Ok(market) = &reach.market else {
            writeln!(out, "  {:<20} {:<62} {by}", reach.name, "not known")?;
            continue;
        };
        let projected = if market.projected_from < market.horizon {
            format!("projected from {}", date(market, market.projected_from))
        } else {
            "nothing projected".to_owned()
        };
        let end = date(market, market.horizon);
        let left = format!("{:>5} days to {end}, {projected}", days_left(market.horizon, now));
        writeln!(out, "  {:<20} {left:<62} {by}", reach.name)?;
    }
    for (reach, warning) in markets.iter().filter_map(|reach| Some((reach, reach.warning(now)?))) {
        let remedy = match &reach.market {
            Ok(market) if market.horizon > now => {
                "put a newer market-hours.wasm into the policy folder before, or its keys get the lifetimes that the \
                 ttl policy has for times it knows nothing about"
            }
            Ok(_) => {
                "its keys get the lifetimes that the ttl policy has for times it knows nothing about, until a newer \
                 market-hours.wasm is in the policy folder"
            }
            Err(_) => {
                "its keys get the lifetimes that the ttl policy has for markets it knows nothing about: name another \
                 in the settings of the namespaces policy (`bellwether market` lists them all)"
            }
        };
        writeln!(out, "WARNING {}: {warning}; {remedy}", reach.name)?;
    }
    Ok(())
}

/// What a component imports, apart what has nothing behind it.
pub(super) fn show_imports(facts: &Facts, out: &mut dyn Write) -> std::io::Result<()> {
    let (inert, imports): (Vec<_>, Vec<_>) =
        facts.imports.iter().map(String::as_str).partition(|name| facts.inert.iter().any(|inert| inert == name));
    let or_nothing = |list: Vec<&str>| if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
    writeln!(out, "  imports    {}", or_nothing(imports))?;
    if inert.is_empty() {
        return Ok(());
    }
    writeln!(out, "  inert      {}", inert.join(", "))?;
    writeln!(
        out,
        "             (no files, no network, no environment, a clock that stands still, fixed random numbers)"
    )
}

/// All that is known of a policy that loads.
pub(super) fn show(policy: &Policy, out: &mut dyn Write) -> std::io::Result<()> {
    let facts = &policy.facts;
    let origin = match &policy.origin {
        Origin::Embedded => "part of this program".to_owned(),
        Origin::File(path) => path.display().to_string(),
    };
    let or_none = |list: &[String]| if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
    let passed = match policy.passed.0 {
        0 => "no cases are shipped beside it".to_owned(),
        count => format!("{count} cases passed, each on a fresh and on a warm instance"),
    };
    let description = &policy.description;
    writeln!(out, "{}", policy.name)?;
    writeln!(out, "  is         {} {}: {}", description.name, description.version, description.summary)?;
    writeln!(out, "  from       {origin}, {} bytes", facts.bytes)?;
    writeln!(out, "  digest     sha256:{}", facts.digest)?;
    writeln!(out, "  exports    {}", or_none(&facts.exports))?;
    show_imports(facts, out)?;
    writeln!(out, "  contract   bellwether:policy@{VERSION}, which bellwether {} speaks", env!("CARGO_PKG_VERSION"))?;
    if let Some(hosts) = hosts(VERSION) {
        writeln!(out, "  hosts      {hosts}")?;
    }
    writeln!(out, "  memory     {} bytes from the start", facts.needs.memory_bytes)?;
    writeln!(out, "  decides by {}", description.reads)?;
    writeln!(out, "  settings   {}", policy.settings)?;
    writeln!(out, "  self-test  {passed}")?;
    writeln!(
        out,
        "  loaded in  {} ms, {} of them {}\n",
        policy.load_time.as_millis(),
        facts.compile_time.as_millis(),
        if facts.code_found { "taking up what was compiled before" } else { "compiling" }
    )
}

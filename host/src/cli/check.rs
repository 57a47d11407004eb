//! `bellwether check`: loads everything that `serve` would load, and says what it found.

use std::io::Write;
use std::process::ExitCode;

use super::{Call, Verb};
use crate::policy::{Origin, Policy, PolicySet};

pub(super) const VERB: Verb = Verb {
    name: "check",
    command: |command| {
        command.about("Load the configuration and the policies, and say what each policy is").long_about(
            "Load the configuration and the policies as `serve` would, and print what each component exports and \
                 imports, its size, digest, settings and self-test. Exits with 1 if anything is refused.",
        )
    },
    run,
};

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let reloader = call.reloader()?;
    let mut refused = 0;
    for mount in reloader.mounts()? {
        match Policy::load(reloader.engine(), &mount) {
            Ok(policy) => show(&policy, out)?,
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
    let set = PolicySet::load(reloader.engine(), 1, &reloader.mounts()?, None)?;
    writeln!(out, "rules")?;
    for rule in set.rules.rules() {
        let decides = rule.ttl_policy.as_deref().unwrap_or("(lifetimes left alone)");
        let keys = format!("{}*{}", rule.prefix, rule.suffix);
        writeln!(out, "  {:<36} {keys:<44} {decides}", rule.name)?;
    }
    writeln!(out, "\nok: {} policies, {} rules", set.policies.len(), set.rules.rules().len())?;
    Ok(ExitCode::SUCCESS)
}

fn show(policy: &Policy, out: &mut dyn Write) -> std::io::Result<()> {
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
    writeln!(out, "  imports    {}", or_none(&facts.imports))?;
    writeln!(out, "  decides by {}", description.reads)?;
    writeln!(out, "  settings   {}", policy.settings)?;
    writeln!(out, "  self-test  {passed}")?;
    writeln!(
        out,
        "  loaded in  {} ms, {} of them compiling\n",
        policy.load_time.as_millis(),
        facts.compile_time.as_millis()
    )
}

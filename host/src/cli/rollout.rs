//! `bellwether rollout`: which generation of policies running sidecars serve, and what operators do about it, by their
//! admin servers.

mod show;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use super::{Call, Verb, fetch, settings_args, unless_unread};
use crate::config::Setting;
use crate::rollout::content::named;
use crate::rollout::{Files, tar};

pub(super) const VERB: Verb = Verb { name: "rollout", command, run: |call, out| unless_unread(run(&call, out)) };

/// How often it is asked whether a comparison is over.
const LOOK: Duration = Duration::from_millis(200);

fn command(command: Command) -> Command {
    let own = |name: &'static str, about: &'static str| Command::new(name).about(about);
    let address = || Arg::new("address").value_name("ADDRESS").action(ArgAction::Append);
    let whose = "Host and port of a sidecar's admin server; several may be named [default: admin_listen]";
    let one = || address().long("address").help(whose);
    let path = || {
        Arg::new("path").value_name("FILE|FOLDER").required(true).help(
            "A file of a policy folder, laid over what is in force, or a whole policy folder in the place of the \
             sidecar's",
        )
    };
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON");
    let span = Arg::new("for").long("for").value_name("SPAN").required(true).help("For how long, such as 10m");
    let gate = Arg::new("max-differing").long("max-differing").value_name("PERCENT").help(
        "At the end put it in force by itself if at most this share of all decisions differs, such as 0.1%, and drop \
         it otherwise. Without it a person decides: promote or reject",
    );
    let wait = Arg::new("wait")
        .long("wait")
        .action(ArgAction::SetTrue)
        .help("Wait for the end and print what differed; exits with 1 if the gate did not let it through");
    let number = Arg::new("to").value_name("N").value_parser(value_parser!(u64)).help("The generation [default: last]");
    let verbs = [
        own("status", "Say which generation each sidecar serves, and what is not as it should be")
            .long_about(
                "Say which generation each sidecar serves, and what is not as it should be. Exits with 0 if all serve \
                 the same policies, with 2 if they do not, and with 1 if one tells nothing.",
            )
            .args([address().help(whose), json()]),
        own("history", "List the generations of a sidecar, with states, times and reasons")
            .args([address().help(whose), json()]),
        own("shadow", "Compare other policies with those in force on live traffic; only those in force apply").args([
            path(),
            span,
            gate,
            wait,
            one(),
            json(),
        ]),
        own("publish", "Put other policies in force at once").args([path(), one()]),
        own("promote", "Put the candidate in force").args([one()]),
        own("reject", "Drop the candidate").args([one()]),
        own("rollback", "Put an earlier generation in force")
            .long_about(
                "Put an earlier generation in force: the last one, or N. What the policy folder holds is left alone \
                 from then on, until it holds something else; with state_dir over restarts too.",
            )
            .args([number, one()]),
    ];
    let about = "See which policies sidecars serve; try others on live traffic, put them in force, go back";
    let command = command.about(about).subcommand_required(true).arg_required_else_help(true);
    verbs.into_iter().fold(command, |command, own| command.subcommand(settings_args(own, is_admin)))
}

fn is_admin(setting: &Setting) -> bool {
    ["admin_listen", "admin_token"].contains(&setting.name)
}

fn run(call: &Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let (name, matches) = call.matches.subcommand().context("no verb was given; try `bellwether rollout --help`")?;
    let call = Call { matches, texts: call.texts.clone(), config: call.config.clone(), docker_file: None, ..*call };
    match name {
        "status" => show::status(&call, out),
        "history" => show::history(&call, out),
        "shadow" => shadow(&call, matches, out),
        "publish" => each(&call, "/rollout/publish", Some(matches), out),
        "rollback" => {
            let to = matches.get_one::<u64>("to").map_or(String::new(), |number| format!("?to={number}"));
            each(&call, &format!("/rollout/rollback{to}"), None, out)
        }
        name => each(&call, &format!("/rollout/{name}"), None, out),
    }
}

/// Gives the same order to each sidecar, one after the other, as far as they take it.
fn each(call: &Call<'_>, path: &str, files: Option<&ArgMatches>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let (query, body) = files.map(upload).transpose()?.unwrap_or_default();
    for address in fetch::addresses(call)? {
        let (_, said) = order(call, &address, &format!("{path}{query}"), &body)?;
        writeln!(out, "{address}: {said}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives an order: the generation that it is about, and what became of it.
pub(super) fn order(call: &Call<'_>, address: &str, path: &str, body: &[u8]) -> anyhow::Result<(u64, String)> {
    let (status, answer) =
        fetch::post(call, address, path, body).with_context(|| format!("no sidecar answers at {address}"))?;
    ensure!(status == "200", "{address}: {}", answer.trim());
    let done: Value = serde_json::from_str(&answer).with_context(|| format!("{address} tells no JSON"))?;
    let said = done["said"].as_str().unwrap_or_default().to_owned();
    Ok((done["generation"].as_u64().unwrap_or_default(), said))
}

fn shadow(call: &Call<'_>, matches: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let text = matches.get_one::<String>("for").map_or("", String::as_str);
    let span: jiff::Span = text.parse().with_context(|| format!("--for: {text:?} is not a span such as 10m"))?;
    let span = Duration::try_from(span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())?)?;
    let gate = matches.get_one::<String>("max-differing").map(|text| percent(text)).transpose()?;
    let (over, body) = upload(matches)?;
    let gate = gate.map_or(String::new(), |percent| format!("&max-differing-percent={percent}"));
    let path = format!("/rollout/shadow{over}&seconds={}{gate}", span.as_secs_f64());
    let mut begun = Vec::new();
    for address in fetch::addresses(call)? {
        let (number, said) = order(call, &address, &path, &body)?;
        if !matches.get_flag("json") {
            writeln!(out, "{address}: {said}")?;
        }
        begun.push((address, number));
    }
    if !matches.get_flag("wait") {
        return Ok(ExitCode::SUCCESS);
    }
    out.flush()?;
    let mut rejected = false;
    for (address, number) in begun {
        let page = ended(&address, number, span)?;
        rejected |= show::found(&page, number).is_none_or(|of| of["state"] == "rejected");
        match matches.get_flag("json") {
            true => writeln!(out, "{:#}", json!({ "address": address, "shadow": page["shadow"] }))?,
            false => show::shadow(&page["shadow"], out)?,
        }
    }
    Ok(if rejected { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Waits for the end of a comparison: the page that tells of it.
fn ended(address: &str, number: u64, span: Duration) -> anyhow::Result<Value> {
    let deadline = Instant::now() + span + Duration::from_secs(30);
    loop {
        let page = show::page(address)?;
        let shadow = &page["shadow"];
        ensure!(shadow["generation"] == number, "{address} compares generation {number} no longer");
        if shadow["ended"] == true {
            return Ok(page);
        }
        ensure!(Instant::now() < deadline, "{address} still compares generation {number}");
        std::thread::park_timeout(LOOK);
    }
}

/// A share as people write it.
fn percent(text: &str) -> anyhow::Result<f64> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
    let number = number.filter(|number| (0.0..=100.0).contains(number));
    number.with_context(|| format!("--max-differing: {text:?} is not a share such as 0.1%"))
}

/// What is uploaded of a file or a folder, and where it is laid.
fn upload(matches: &ArgMatches) -> anyhow::Result<(String, Vec<u8>)> {
    let path = Path::new(matches.get_one::<String>("path").map_or("", String::as_str));
    let cannot = || format!("cannot read {}", path.display());
    let mut files = Files::new();
    let is_folder = std::fs::metadata(path).with_context(cannot)?.is_dir();
    let mut add = |path: &Path| -> anyhow::Result<()> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| named(name).is_some()) else {
            return Ok(());
        };
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        files.insert(name.to_owned(), bytes.into());
        Ok(())
    };
    if is_folder {
        for entry in std::fs::read_dir(path).with_context(cannot)? {
            add(&entry.with_context(cannot)?.path())?;
        }
    } else {
        add(path)?;
    }
    if files.is_empty() && !is_folder {
        bail!("{} is no file of a policy folder: NAME.wasm, NAME.toml, NAME.cases.toml", path.display());
    }
    let over = if is_folder { "standard" } else { "active" };
    Ok((format!("?over={over}"), tar::write(&files)))
}

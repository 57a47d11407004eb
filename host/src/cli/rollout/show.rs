//! What `bellwether rollout` prints: a fleet, a history, a comparison.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use super::{Call, fetch};
use crate::cli::format;
use crate::policy::Expiry;

/// Digits of a digest that people compare.
const DIGEST_CHARS: usize = 12;

/// What a sidecar tells of its generations.
pub(super) fn page(address: &str) -> anyhow::Result<Value> {
    let text = fetch::get(address, "/rollout").with_context(|| format!("no sidecar tells at {address}"))?;
    serde_json::from_str(&text).with_context(|| format!("{address} tells no JSON"))
}

/// The generation of a number.
pub(super) fn found(page: &Value, number: u64) -> Option<&Value> {
    page["generations"].as_array()?.iter().find(|of| of["generation"] == number)
}

/// Which generation each sidecar serves.
pub(super) fn status(call: &Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let told: Vec<_> = fetch::addresses(call)?.into_iter().map(|address| (page(&address), address)).collect();
    let mut digests: Vec<_> = told.iter().filter_map(|(page, _)| page.as_ref().ok()?["digest"].as_str()).collect();
    digests.sort_unstable();
    digests.dedup();
    let (unreachable, same) = (told.iter().any(|(page, _)| page.is_err()), digests.len() < 2);
    let bypassed = |page: &Value| page["bypass"] == true;
    let mixed = told.iter().filter_map(|(page, _)| page.as_ref().ok()).map(bypassed).collect::<Vec<_>>();
    let same = same && mixed.windows(2).all(|pair| pair.first() == pair.last());
    if call.matches.get_flag("json") {
        let one = |(page, address): &(anyhow::Result<Value>, String)| match page {
            Ok(page) => json!({ "address": address, "rollout": page }),
            Err(error) => json!({ "address": address, "error": format!("{error:#}") }),
        };
        writeln!(out, "{:#}", Value::Array(told.iter().map(one).collect()))?;
    } else {
        table(&told, same, out)?;
    }
    Ok(match (unreachable, same) {
        (true, _) => ExitCode::FAILURE,
        (false, false) => ExitCode::from(2),
        (false, true) => ExitCode::SUCCESS,
    })
}

fn table(told: &[(anyhow::Result<Value>, String)], same: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let width = told.iter().map(|(_, address)| address.len()).max().unwrap_or(0).max("sidecar".len());
    writeln!(out, "{:<width$}  {:>10}  {:<DIGEST_CHARS$}  {:<20}  folder", "sidecar", "generation", "digest", "since")?;
    for (page, address) in told {
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                writeln!(out, "{address:<width$}  {:>10}  {error:#}", "-")?;
                continue;
            }
        };
        let number = page["generation"].as_u64().unwrap_or_default();
        let active =
            |of: &Value| of["states"].as_array()?.iter().rev().find(|of| of["state"] == "active")?["at_ms"].as_i64();
        let since = found(page, number).and_then(active).map_or("-".to_owned(), |at| format::utc(at - at % 1000));
        let folder = text(&page["folder"]["is"]);
        writeln!(
            out,
            "{address:<width$}  {number:>10}  {:<DIGEST_CHARS$}  {since:<20}  {folder}",
            short(&page["digest"])
        )?;
        for remark in page["remarks"].as_array().into_iter().flatten() {
            writeln!(out, "{:<width$}  {}", "", text(remark))?;
        }
        if let Some(why) = page["folder"]["why"].as_str() {
            writeln!(out, "{:<width$}  the policy folder is {folder}: {why}", "")?;
        }
        if !page["shadow"].is_null() && page["shadow"]["ended"] != true {
            shadow(&page["shadow"], out)?;
        }
    }
    if !same {
        writeln!(out, "they do not serve the same")?;
    }
    Ok(())
}

/// The generations of each sidecar.
pub(super) fn history(call: &Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    for address in fetch::addresses(call)? {
        let page = page(&address)?;
        if call.matches.get_flag("json") {
            writeln!(out, "{:#}", json!({ "address": address, "generations": page["generations"] }))?;
            continue;
        }
        writeln!(out, "{:>10}  {:<11}  {:<DIGEST_CHARS$}  {:<20}  from", address, "state", "digest", "since")?;
        for of in page["generations"].as_array().into_iter().flatten().rev() {
            let since = of["states"].as_array().and_then(|states| states.last()?["at_ms"].as_i64());
            let since = since.map_or(String::new(), |at| format::utc(at - at % 1000));
            let (number, state, from) =
                (of["generation"].as_u64().unwrap_or_default(), text(&of["state"]), text(&of["from"]));
            let digest = short(&of["digest"]);
            write!(out, "{number:>10}  {state:<11}  {digest:<DIGEST_CHARS$}  {since:<20}  {from}")?;
            match (of["reason"].as_str(), of["rejected_at"].as_str(), of["policy"].as_str()) {
                (Some(why), Some(stage), Some(policy)) => writeln!(out, "; policy {policy:?} ({stage}): {why}")?,
                (Some(why), Some(stage), None) => writeln!(out, "; ({stage}): {why}")?,
                (Some(why), None, _) => writeln!(out, "; {why}")?,
                (None, ..) => writeln!(out)?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a comparison found.
pub(super) fn shadow(shadow: &Value, out: &mut dyn Write) -> anyhow::Result<()> {
    let number = |name: &str| shadow[name].as_u64().unwrap_or_default();
    let left = format::span(number("left_ms") / 1000 * 1000);
    let how = if shadow["ended"] == true { text(&shadow["said"]).to_owned() } else { format!("{left} left") };
    let (candidate, beside) = (number("generation"), number("beside"));
    let (differing, compared) = (number("differing"), number("compared"));
    writeln!(out, "generation {candidate} beside {beside}: {differing} of {compared} decisions differ; {how}")?;
    if (number("dropped"), number("one_of")) != (0, 1) {
        let (dropped, one_of) = (number("dropped"), number("one_of"));
        writeln!(out, "  there were too many for all: {dropped} were left out, and one of {one_of} is compared now")?;
    }
    for remark in shadow["remarks"].as_array().into_iter().flatten() {
        writeln!(out, "  {}", text(remark))?;
    }
    for rule in shadow["rules"].as_array().into_iter().flatten().filter(|rule| rule["differing"] != 0) {
        writeln!(out, "  rule {}: {} of {} differ", text(&rule["rule"]), rule["differing"], rule["compared"])?;
    }
    for key in shadow["sample"].as_array().into_iter().flatten() {
        let times = match key["times"].as_u64() {
            Some(1) => String::new(),
            times => format!(" ({} times)", times.unwrap_or_default()),
        };
        writeln!(out, "  {}{times}", text(&key["key"]))?;
        for side in ["active", "candidate"] {
            writeln!(out, "    {side:<9}  {}", answer(&key[side]))?;
        }
    }
    if number("unlisted") > 0 {
        writeln!(out, "  and {} more about keys that are not listed", number("unlisted"))?;
    }
    Ok(())
}

/// What one of two sides says about a key.
fn answer(of: &Value) -> String {
    let lifetime = match (of["after_ms"].as_u64(), of["at_ms"].as_i64()) {
        (Some(ms), _) => format::expiry(Expiry::After(ms)),
        (_, Some(at)) => format::expiry(Expiry::At(at)),
        _ if of["keep"] == true => format::expiry(Expiry::Keep),
        _ if of["never"] == true => format::expiry(Expiry::Never),
        _ if of["failed"] == true => "the policy fails, and the rule's fallback applies".to_owned(),
        _ => "no policy decides".to_owned(),
    };
    let spread = match of["spread_ms"].as_u64() {
        None | Some(0) => String::new(),
        Some(ms) => format!(", ends spread over {}", format::span(ms)),
    };
    let rule = of["rule"].as_str().map_or(String::new(), |rule| format!(" by rule {rule}"));
    format!("{lifetime}{spread}{rule}: {}", text(&of["why"]))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn short(digest: &Value) -> &str {
    let digest = digest.as_str().and_then(|digest| digest.strip_prefix("sha256:")).unwrap_or("-");
    digest.get(..DIGEST_CHARS).unwrap_or(digest)
}

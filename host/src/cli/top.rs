//! `bellwether top`: the busy and the large keys of running sidecars, and what each rule's memory is good for, as their
//! admin servers tell it.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Arg, ArgAction, value_parser};
use serde_json::{Value, json};

use super::paint::Paint;
use super::{Call, Verb, fetch, screen, unless_unread};

pub(super) const VERB: Verb = Verb {
    name: "top",
    command: |command| {
        command
            .about("Show the busy and the large keys of running sidecars")
            .long_about(
                "Show which keys running sidecars read and write most, which have the largest values, and how often \
                 each rule's values were in memory: live on a terminal until Ctrl-C, or once. Rates are of the last \
                 seconds and, under load, of samples; sizes are those of values that were seen lately. Keys are shown \
                 as they are: who may reach the admin server may read them.",
            )
            .arg(
                Arg::new("address")
                    .value_name("ADDRESS")
                    .action(ArgAction::Append)
                    .help("Host and port of a sidecar's admin server [default: admin_listen]"),
            )
            .arg(Arg::new("once").long("once").action(ArgAction::SetTrue).help("Once, as plain text"))
            .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Once, as JSON"))
            .arg(
                Arg::new("limit")
                    .long("limit")
                    .value_name("N")
                    .value_parser(value_parser!(u64).range(1..=1000))
                    .help("Keys that are shown [default: 20; on a terminal, those that there is room for]"),
            )
            .arg(
                Arg::new("by")
                    .long("by")
                    .value_parser(["reads", "writes", "bytes"])
                    .default_value("reads")
                    .help("What the keys are ordered by"),
            )
    },
    run: |call, out| unless_unread(run(&call, out)),
};

/// What is asked, and of whom.
struct Asked {
    addresses: Vec<String>,
    limit: Option<u64>,
    by: String,
    paint: Paint,
}

const LIMIT_DEFAULT: u64 = 20;
/// Rules that the table shows, the busiest first.
const RULES_MAX: usize = 8;

fn run(call: &Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let asked = Asked::of(call)?;
    if call.matches.get_flag("json") {
        writeln!(out, "{:#}", Value::Array(asked.pages(LIMIT_DEFAULT)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    if call.matches.get_flag("once") {
        let lines = asked.lines(&asked.pages(LIMIT_DEFAULT)?, usize::MAX);
        writeln!(out, "{}", lines.join("\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        std::io::stdout().is_terminal(),
        "top draws on a terminal, and the output is none; --once prints it once, and --json for programs"
    );
    // What is missing is told before the terminal is taken, and afterwards on it.
    asked.pages(1)?;
    screen::live(out, |lines| {
        let room = u64::try_from(lines).unwrap_or(LIMIT_DEFAULT).clamp(1, 1000);
        Ok(match asked.pages(room) {
            Ok(pages) => asked.lines(&pages, lines),
            Err(error) => vec![format!("{error:#}")],
        })
    })?;
    Ok(ExitCode::SUCCESS)
}

// === impl Asked ===

impl Asked {
    fn of(call: &Call<'_>) -> anyhow::Result<Self> {
        let addresses = fetch::addresses(call)?;
        let by = call.matches.get_one::<String>("by").cloned().unwrap_or_default();
        Ok(Self { addresses, limit: call.matches.get_one("limit").copied(), by, paint: Paint::of(call) })
    }

    /// What each sidecar tells.
    fn pages(&self, limit: u64) -> anyhow::Result<Vec<Value>> {
        let path = format!("/top?limit={}&by={}", self.limit.unwrap_or(limit), self.by);
        let page = |address: &String| {
            let text = fetch::get(address, &path).with_context(|| format!("no sidecar tells at {address}"))?;
            let mut page: Value = serde_json::from_str(&text).with_context(|| format!("{address} tells no JSON"))?;
            page.as_object_mut().into_iter().for_each(|page| drop(page.insert("address".into(), json!(address))));
            Ok(page)
        };
        self.addresses.iter().map(page).collect()
    }

    /// As many lines as there is room for: the sidecars, the rules of all, the keys of all.
    fn lines(&self, pages: &[Value], room: usize) -> Vec<String> {
        let mut lines: Vec<_> = pages.iter().map(summary).collect();
        let rules = put_together(pages, "rules", &["rule"]);
        let busy = |rule: &&Value| number(rule, "commands_per_second") > 0.0 || number(rule, "decisions") > 0.0;
        let mut rules: Vec<_> = rules.iter().filter(busy).collect();
        rules.sort_by(|a, b| number(b, "commands_per_second").total_cmp(&number(a, "commands_per_second")));
        if !rules.is_empty() {
            lines.push(self.paint.strong("commands/s   hit ratio   decisions  rule"));
            lines.extend(rules.into_iter().take(RULES_MAX).map(rule_line));
        }
        lines.push(self.paint.strong("   reads/s    writes/s       bytes  near  key"));
        let by = match self.by.as_str() {
            "writes" => "writes_per_second",
            "bytes" => "bytes",
            _ => "reads_per_second",
        };
        let mut keys = put_together(pages, "keys", &["db", "key"]);
        keys.sort_by(|a, b| number(b, by).total_cmp(&number(a, by)));
        let shown = self.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let shown = shown.min(room.saturating_sub(lines.len()));
        lines.extend(keys.iter().take(shown).map(key_line));
        lines
    }
}

/// The rows of all pages, those of the same thing as one: numbers are added, sizes are the largest.
fn put_together(pages: &[Value], list: &str, same: &[&str]) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    for row in pages.iter().filter_map(|page| page.get(list)?.as_array()).flatten() {
        let known = rows.iter_mut().find(|known| same.iter().all(|name| known.get(name) == row.get(name)));
        let Some(known) = known else {
            rows.push(row.clone());
            continue;
        };
        for name in
            ["reads_per_second", "writes_per_second", "commands_per_second", "near_hits", "near_misses", "decisions"]
        {
            if let Some(value) = known.get_mut(name) {
                *value = json!(value.as_f64().unwrap_or_default() + number(row, name));
            }
        }
        if let Some(value) = known.get_mut("bytes").filter(|bytes| bytes.as_f64() < row["bytes"].as_f64()) {
            *value = row["bytes"].clone();
        }
        if let Some(value) = known.get_mut("near").filter(|_| row["near"] == true) {
            *value = json!(true);
        }
    }
    rows
}

fn summary(page: &Value) -> String {
    let (text, near, upstream) =
        (|value: &Value| value.as_str().unwrap_or_default().to_owned(), &page["near"], &page["upstream"]);
    format!(
        "{}: {} commands/s, {} clients, {} values with {} bytes near; server {}: {}, {} connections",
        text(&page["address"]),
        number(page, "commands_per_second"),
        number(page, "clients"),
        number(near, "values"),
        number(near, "bytes"),
        text(&upstream["server"]),
        text(&upstream["state"]),
        number(upstream, "connections"),
    )
}

fn rule_line(rule: &Value) -> String {
    let (hits, misses) = (number(rule, "near_hits"), number(rule, "near_misses"));
    let ratio = if hits + misses > 0.0 { format!("{:.1} %", 100.0 * hits / (hits + misses)) } else { "-".into() };
    let (rate, decisions) = (number(rule, "commands_per_second"), number(rule, "decisions"));
    format!("{rate:>10.1} {ratio:>11} {decisions:>11}  {}", rule["rule"].as_str().unwrap_or_default())
}

fn key_line(key: &Value) -> String {
    let bytes = key["bytes"].as_u64().map_or("-".to_owned(), |bytes| bytes.to_string());
    let near = if key["near"] == true { "yes" } else { "no" };
    let db = match key["db"].as_u64() {
        None | Some(0) => String::new(),
        Some(db) => format!(" (database {db})"),
    };
    format!(
        "{:>10.1} {:>11.1} {bytes:>11}  {near:<4}  {}{db}",
        number(key, "reads_per_second"),
        number(key, "writes_per_second"),
        key["key"].as_str().unwrap_or_default()
    )
}

fn number(value: &Value, name: &str) -> f64 {
    value.get(name).and_then(Value::as_f64).unwrap_or_default()
}

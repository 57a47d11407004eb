//! Decisions by instant: the rows of `decisions.toml`, through `bellwether explain`, `bellwether market`, and a running
//! sidecar whose clock is set to the row's instant.

use std::path::Path;

use serde::Deserialize;

use crate::harness::{Redis, Sidecar, folder, run};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    decision: Vec<Decision>,
    market: Vec<Market>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    name: String,
    at: jiff::Timestamp,
    command: String,
    #[serde(default)]
    rules: String,
    rule: Option<String>,
    market: Option<String>,
    until: Option<String>,
    /// A line that says more about the market.
    note: Option<String>,
    ttl_ms: Option<u64>,
    ends: Option<[jiff::Timestamp; 2]>,
    sends: Option<String>,
    #[serde(default)]
    then: Vec<String>,
    refused: Option<String>,
    #[serde(default)]
    live: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Market {
    market: String,
    at: jiff::Timestamp,
    #[serde(default)]
    expect: toml::Table,
    error: Option<String>,
}

/// How late a key may be looked at after the clock was set: the start of a sidecar on a busy machine.
const LATE_MS: i64 = 20_000;

fn file() -> File {
    toml::from_str(include_str!("decisions.toml")).unwrap()
}

// === impl Decision ===

impl Decision {
    fn policies(&self) -> tempfile::TempDir {
        let mounts = if self.rules.is_empty() { String::new() } else { settings(&self.rules) };
        folder(&[("namespaces.toml", mounts.as_bytes())])
    }

    /// What `explain` prints, a line a label.
    fn explained(&self, policies: &Path) -> Vec<(String, String)> {
        let mut args = vec!["explain", "--policy-folder", policies.to_str().unwrap(), "--at"];
        let at = self.at.to_string();
        args.push(&at);
        args.extend(self.command.split(' '));
        let output = run(&args, policies);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {args:?}\n{out}{err}", self.name);
        let line = |line: &str| {
            let (label, rest) = line.split_at_checked(10).unwrap_or((line, ""));
            (label.trim().to_owned(), rest.to_owned())
        };
        out.lines().map(line).collect()
    }

    /// Compares what the row says with what was printed: the lifetime.
    fn check(&self, printed: &[(String, String)]) -> Option<u64> {
        let of = |label: &'static str| {
            printed.iter().filter(move |(known, _)| known == label).map(|(_, rest)| rest.as_str())
        };
        let first = |label: &'static str| of(label).next().unwrap_or_default();
        let ttl = first("ttl").split(' ').next().and_then(|ms| ms.parse::<u64>().ok());
        let told = |what: &str, expect: &str, got: &str, same: bool| {
            assert!(same, "{}\n{}\n{what}: expected {expect:?}, got {got:?} in\n{printed:#?}", self.name, self.command);
        };
        let with_ttl = |text: &str| text.replace("{ttl}", &ttl.unwrap_or_default().to_string());
        if let Some(rule) = &self.rule {
            told("rule", rule, first("rule"), first("rule").starts_with(&format!("{rule} (")));
        }
        if let Some(market) = &self.market {
            told("market", market, first("market"), first("market").starts_with(market));
        }
        if let Some(until) = &self.until {
            told("until", until, first("market"), first("market").ends_with(&format!("until {until}")));
        }
        if let Some(note) = &self.note {
            told("note", note, "", of("").any(|line| line == note));
        }
        if let Some(ms) = self.ttl_ms {
            told("ttl", &ms.to_string(), first("ttl"), ttl == Some(ms));
        }
        if let Some([from, to]) = self.ends {
            let end = self.at.as_millisecond() + i64::try_from(ttl.unwrap()).unwrap();
            let within = (from.as_millisecond()..=to.as_millisecond()).contains(&end);
            told("ends", &format!("{from} to {to}"), first("ttl"), within);
        }
        if let Some(sends) = &self.sends {
            told("sends", &with_ttl(sends), first("sends"), first("sends") == with_ttl(sends));
            let then: Vec<_> = self.then.iter().map(|then| with_ttl(then)).collect();
            told("then", &then.join("; "), &of("then").collect::<Vec<_>>().join("; "), of("then").eq(then.iter()));
        }
        if let Some(refused) = &self.refused {
            told("refused", refused, first("refused"), first("refused") == refused);
            told("sends", "nothing", first("sends"), of("sends").next().is_none());
        }
        ttl
    }

    /// Puts the command through a sidecar that lives at that instant, and looks at what the server has.
    fn check_live(&self, redis: &Redis, policies: &Path, ttl: u64) {
        let offset = self.at.as_millisecond() - jiff::Timestamp::now().as_millisecond();
        let sign = if offset < 0 { "-" } else { "" };
        let offset = format!("--clock-offset={sign}PT{}.{:03}S", offset.abs() / 1000, offset.abs() % 1000);
        let sidecar =
            Sidecar::serve(redis, &["--policy-folder", policies.to_str().unwrap(), "--workers", "1", &offset]);
        let reply = sidecar.client().ask(&self.command);
        assert!(reply.starts_with(['+', ':']), "{}\n{}\ngot {reply:?}", self.name, self.command);
        let key = self.command.split(' ').nth(1).unwrap();
        let mut direct = redis.client();
        let left = direct.ask(&format!("PTTL {key}"));
        let left: i64 = left.trim_start_matches(':').parse().unwrap();
        let ttl = i64::try_from(ttl).unwrap();
        assert!(
            (ttl - LATE_MS..=ttl).contains(&left),
            "{}\n{}\nPTTL is {left}, explain says {ttl}\n{}",
            self.name,
            self.command,
            sidecar.process.lines().join("\n")
        );
        direct.ask("FLUSHALL");
    }
}

/// The file that mounts a policy with settings.
fn settings(text: &str) -> String {
    let table: toml::Table = text.parse().unwrap();
    toml::Table::from_iter([("settings".to_owned(), toml::Value::Table(table))]).to_string()
}

#[test]
fn commands() {
    let rows = file().decision;
    // Two halves beside each other: most of the time goes into compiling the policies anew for every row.
    let half = |part: usize| {
        let redis = Redis::start();
        for row in rows.iter().skip(part).step_by(2) {
            let policies = row.policies();
            let ttl = row.check(&row.explained(policies.path()));
            if row.live {
                row.check_live(&redis, policies.path(), ttl.unwrap());
            }
        }
    };
    std::thread::scope(|scope| {
        let halves = [scope.spawn(|| half(0)), scope.spawn(|| half(1))];
        let ended = halves.map(|half| half.join().is_ok());
        assert_eq!(ended, [true, true], "rows failed; they are printed above");
    });
}

#[test]
fn markets() {
    let nowhere = folder(&[]);
    for row in file().market {
        let at = row.at.to_string();
        let output = run(&["market", &row.market, "--at", &at, "--json"], nowhere.path());
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let shown = format!("{} at {at}: {}\n{out}{err}", row.market, output.status);
        if let Some(error) = &row.error {
            assert_eq!((output.status.code(), err.trim_end()), (Some(1), &*format!("bellwether: {error}")), "{shown}");
            continue;
        }
        let got: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {shown}"));
        assert_eq!(output.status.code(), Some(0), "{shown}");
        for (field, expect) in &row.expect {
            assert_eq!(got[field].as_str(), expect.as_str(), "{field} of {shown}");
        }
    }
}

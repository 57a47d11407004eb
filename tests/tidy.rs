//! Rules over the source text that no compiler keeps. Each says why it is there and what to write instead.

use std::path::{Path, PathBuf};

/// A rule about files, and the lines that break it.
struct Rule {
    /// Why, and what to do instead.
    why: &'static str,
    /// Which files, by their path from the top.
    files: fn(&str) -> bool,
    /// The places that break it.
    broken: fn(&Source) -> Vec<String>,
}

/// One source file.
struct Source {
    path: String,
    text: String,
}

const LINE_CHARS_MAX: usize = 120;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;

// === impl Source ===

impl Source {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines without their comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(number, line)| (number, line.split_once("//").map_or(line, |(code, _)| code)))
    }

    /// The lines of code that hold one of these.
    fn holding(&self, words: &[&str]) -> Vec<String> {
        let holds = |line: &&str| words.iter().any(|word| line.contains(word));
        self.code().filter(|(_, line)| holds(line)).map(|(number, line)| self.at(number, line)).collect()
    }

    /// Uses of the crate's own modules other than these.
    fn using_other_than(&self, allowed: &[&str]) -> Vec<String> {
        let module = |rest: &str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(ToOwned::to_owned);
        let own = |line: &str| line.split("crate::").skip(1).filter_map(module).collect::<Vec<_>>();
        let foreign = |line: &str| own(line).iter().any(|module| !allowed.contains(&module.as_str()));
        self.code().filter(|(_, line)| foreign(line)).map(|(number, line)| self.at(number, line)).collect()
    }

    fn at(&self, number: usize, what: &str) -> String {
        format!("{}:{number}: {}", self.path, what.trim())
    }
}

fn broken_lengths(source: &Source) -> Vec<String> {
    // The row of a table in a comment cannot be broken.
    let breakable = |line: &str| !line.starts_with("//! |") && !line.trim_start().starts_with("/// |");
    let long = source.lines().filter(|(_, line)| line.chars().count() > LINE_CHARS_MAX && breakable(line));
    long.map(|(number, line)| source.at(number, &format!("{} characters", line.chars().count()))).collect()
}

/// A function ends where its indentation comes back to a closing brace.
fn broken_functions(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    let mut begun: Option<(usize, String, &str)> = None;
    for (number, line) in source.lines() {
        let indent = line.len() - line.trim_start().len();
        let opens = line.split_once("fn ").is_some_and(|(before, _)| {
            before
                .split_whitespace()
                .all(|word| word.starts_with("pub") || ["const", "async", "unsafe"].contains(&word))
        });
        if begun.is_none() && opens && !line.trim_end().ends_with(';') && !line.trim_end().ends_with('}') {
            begun = Some((number, format!("{}}}", " ".repeat(indent)), line));
        } else if let Some((from, end, head)) = &begun
            && line == end
        {
            let lines = number - from + 1;
            if lines > FUNCTION_LINES_MAX {
                broken.push(source.at(*from, &format!("{lines} lines: {}", head.trim())));
            }
            begun = None;
        }
    }
    broken
}

fn host(path: &str) -> bool {
    path.starts_with("host/src/")
}

fn not_tidy(path: &str) -> bool {
    path != "tests/tidy.rs"
}

/// How every file is written.
const FORM: [Rule; 4] = [
    Rule {
        why: "a file opens with `//!`: what it owns and what it must not know. Without it, nobody knows. Write it",
        files: |_| true,
        broken: |source| if source.text.starts_with("//! ") { vec![] } else { vec![source.at(1, "")] },
    },
    Rule {
        why: "lines have at most 120 characters, so that two files stand side by side. Break the line",
        files: |_| true,
        broken: broken_lengths,
    },
    Rule {
        why: "functions have at most 70 lines: one screen. Let the parent branch and its parts be pure functions",
        files: |_| true,
        broken: broken_functions,
    },
    Rule {
        why: "files have at most 500 lines: what is read at one sitting. Split it by what its parts own",
        files: |_| true,
        broken: |source| {
            let count = source.text.lines().count();
            if count > FILE_LINES_MAX { vec![source.at(1, &format!("{count} lines"))] } else { vec![] }
        },
    },
];

/// What nobody writes.
const WORDS: [Rule; 4] = [
    Rule {
        why: "a test that does not run tells nothing. Repair it, or take it out",
        files: not_tidy,
        broken: |source| source.holding(&["#[ignore"]),
    },
    Rule {
        why: "a sleep is too short on a busy machine and too long on any other. Poll with a deadline (`poll_for`)",
        files: |path| not_tidy(path) && path.starts_with("tests/"),
        broken: |source| source.holding(&["thread::sleep", "time::sleep"]),
    },
    Rule {
        why: "unfinished work is an issue, not a panic. Finish it, or return an error that names what is missing",
        files: not_tidy,
        broken: |source| source.holding(&["todo!", "unimplemented!", "dbg!"]),
    },
    Rule {
        why: "`anyhow!(\"{e}\")` cuts the chain of causes. Use `.context(…)`",
        files: host,
        broken: |source| source.holding(&["anyhow!(\"{e}\")", "anyhow!(\"{}\", e)", "anyhow!(\"{error}\")"]),
    },
];

/// Who knows what: design, section 3.
const LAYERS: [Rule; 8] = [
    Rule {
        why: "policy/ sees neither Redis nor the runtime, so that a decision can be asked anywhere. Pass values in",
        files: |path| path.starts_with("host/src/policy/"),
        broken: |source| source.holding(&["tokio::", "redis::", "crate::upstream", "crate::session", "crate::proxy"]),
    },
    Rule {
        why: "upstream/ sees no policy, so that a lane forwards bytes and nothing else. Decide in proxy",
        files: |path| path.starts_with("host/src/upstream"),
        broken: |source| source.holding(&["wasmtime::", "crate::policy", "crate::proxy", "crate::session"]),
    },
    Rule {
        why: "only policy/ knows wasmtime: generated types stop at its bindings. Add a type of ours to policy/mod.rs",
        files: |path| host(path) && !path.starts_with("host/src/policy/"),
        broken: |source| source.holding(&["wasmtime::"]),
    },
    Rule {
        why: "only proxy asks a policy about a key (cli explains what it asks, record compares). Call \
              `Policies::decide`",
        files: |path| {
            host(path)
                && !["proxy", "policy", "cli", "record"].iter().any(|of| path.starts_with(&format!("host/src/{of}")))
        },
        broken: |source| source.holding(&["Decider", "decider()"]),
    },
    Rule {
        why: "only rollout/published.rs puts a policy set in force, all or nothing. Hand it the change",
        files: |path| host(path) && path != "host/src/rollout/published.rs",
        broken: |source| source.holding(&["send_replace", "send_modify", "send_if_modified"]),
    },
    Rule {
        why: "oci/ brings files and sees no policy in them; only cli gives it a component's types. Pass values in",
        files: |path| path.starts_with("host/src/oci"),
        broken: |source| source.holding(&["crate::policy", "crate::upstream", "crate::session"]),
    },
    Rule {
        why: "only main reads the clock and the environment, so that tests need neither. Take `now` as a parameter",
        files: |path| host(path) && path != "host/src/main.rs",
        broken: |source| {
            source.holding(&["SystemTime::now", "std::env::", "env::var", "Timestamp::now", "Zoned::now", "UNIX_EPOCH"])
        },
    },
    Rule {
        why: "imports point down: cli, server, reload, admin → session, worker, retime → proxy → policy, upstream → \
              resp, command, namespace, config. Move what is shared down, or pass it in",
        files: host,
        broken: |source| layer(&source.path).map_or(vec![], |allowed| source.using_other_than(allowed)),
    },
];

/// The modules of the crate that a file may use. None: any.
fn layer(path: &str) -> Option<&'static [&'static str]> {
    let module = path.strip_prefix("host/src/")?.split(['/', '.']).next()?;
    Some(match module {
        "buffers" | "busy" | "clock" | "files" => &[],
        "tls" => &["tls", "files"],
        "users" => &["users", "files"],
        "resp" => &["resp"],
        "config" => &["config"],
        "namespace" => &["namespace"],
        "command" => &["command", "resp"],
        "lease" => &["lease", "namespace"],
        "near" => &["near", "resp"],
        "top" => &["top"],
        "oci" => &["oci", "reload", "tls", "files", "config"],
        "warm" => {
            &["warm", "worker", "clock", "proxy", "policy", "upstream", "tls", "files", "top", "metrics", "config"]
        }
        "policy" => &["policy", "command", "namespace", "config"],
        "metrics" => &["metrics", "command", "namespace", "policy"],
        "upstream" => &["upstream", "near", "lease", "tls", "buffers", "resp", "command", "config", "namespace"],
        "record" => &["record", "policy", "command"],
        "proxy" => &[
            "proxy",
            "record",
            "policy",
            "upstream",
            "near",
            "lease",
            "metrics",
            "resp",
            "command",
            "namespace",
            "config",
        ],
        "retime" => &["retime", "clock", "proxy", "policy", "upstream", "metrics", "namespace"],
        "rollout" => &["rollout", "record", "policy", "namespace", "config"],
        "reload" => &["reload", "rollout", "record", "clock", "policy", "metrics", "config"],
        "listen" => &["listen", "session", "tls", "config"],
        "session" | "worker" => &[
            "session",
            "worker",
            "buffers",
            "busy",
            "clock",
            "proxy",
            "record",
            "policy",
            "upstream",
            "near",
            "lease",
            "tls",
            "users",
            "top",
            "metrics",
            "resp",
            "command",
            "namespace",
            "config",
        ],
        _ => return None,
    })
}

fn sources() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut folders: Vec<PathBuf> =
        ["host", "policies", "tests", "examples"].iter().map(|name| top.join(name)).collect();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
                // cargo-component writes these beside every component; only the SDK's is ours, and kept.
                if path.ends_with("/src/bindings.rs") && path != "policies/sdk/src/bindings.rs" {
                    continue;
                }
                sources.push(Source { path, text });
            }
        }
    }
    assert!(sources.len() > 50, "only {} sources were found under {}", sources.len(), top.display());
    sources
}

#[test]
fn rules_are_kept() {
    let sources = sources();
    let broken = |rule: &Rule| {
        let all = sources.iter().filter(|source| (rule.files)(&source.path)).flat_map(rule.broken);
        let places: Vec<_> = all.collect();
        (!places.is_empty()).then(|| format!("{}:\n  {}", rule.why, places.join("\n  ")))
    };
    let told: Vec<_> = FORM.iter().chain(&WORDS).chain(&LAYERS).filter_map(broken).collect();
    assert!(told.is_empty(), "\n{}", told.join("\n"));
}

/// Every rule finds what it is there for.
#[test]
fn rules_can_be_broken() {
    let check = |path: &str, text: &str, expect: &str| {
        let source = Source { path: path.to_owned(), text: text.to_owned() };
        let rules = FORM.iter().chain(&WORDS).chain(&LAYERS).filter(|rule| (rule.files)(path));
        let told: Vec<_> = rules.filter(|rule| !(rule.broken)(&source).is_empty()).map(|rule| rule.why).collect();
        let is_told = told.iter().any(|why| why.contains(expect));
        assert!(if expect.is_empty() { told.is_empty() } else { is_told }, "{path}\n{text}\n{expect:?} {told:#?}");
    };
    let long = |lines: usize| format!("//! X.\nfn long() {{\n{}}}\n", "    x();\n".repeat(lines));
    check("host/src/a.rs", "//! X.\nfn main() {}\n", "");
    check("host/src/a.rs", "fn main() {}\n", "opens with `//!`");
    check("tests/a.rs", &format!("//! X.\n// {}\n", "x".repeat(120)), "120 characters");
    check("tests/a.rs", &long(68), "");
    check("tests/a.rs", &long(69), "70 lines");
    check("tests/a.rs", &format!("//! X.\n{}", "\n".repeat(500)), "500 lines");
    check("tests/a.rs", "//! X.\n#[ignore]\n", "does not run");
    check("tests/a.rs", "//! X.\nstd::thread::sleep(x);\n", "Poll with a deadline");
    check("host/src/a.rs", "//! X.\ntodo!()\n", "unfinished work");
    check("host/src/a.rs", "//! X.\nanyhow!(\"{e}\")\n", "chain of causes");
    check("host/src/policy/a.rs", "//! X.\nuse tokio::x;\n", "neither Redis nor the runtime");
    check("host/src/policy/a.rs", "//! X.\n// use tokio::x;\n", "");
    check("host/src/upstream/a.rs", "//! X.\nuse crate::policy::x;\n", "upstream/ sees no policy");
    check("host/src/proxy/a.rs", "//! X.\nuse wasmtime::x;\n", "only policy/ knows wasmtime");
    check("host/src/session/a.rs", "//! X.\nuse crate::policy::Decider;\n", "only proxy asks");
    check("host/src/retime/a.rs", "//! X.\nuse crate::policy::Decider;\n", "only proxy asks");
    check("host/src/cli/a.rs", "//! X.\nuse crate::policy::Decider;\n", "");
    check("host/src/server.rs", "//! X.\npublished.send_replace(set);\n", "only rollout/published.rs puts");
    check("host/src/proxy/a.rs", "//! X.\nSystemTime::now()\n", "only main reads");
    check("host/src/resp/a.rs", "//! X.\nuse crate::command::x;\n", "imports point down");
    check("host/src/resp/a.rs", "//! X.\nuse crate::resp::x;\n", "");
    check("host/src/worker.rs", "//! X.\nuse crate::server::x;\n", "imports point down");
    check("host/src/retime.rs", "//! X.\nuse crate::session::x;\n", "imports point down");
    check("host/src/oci/a.rs", "//! X.\nuse crate::policy::x;\n", "oci/ brings files");
    check("host/src/oci.rs", "//! X.\nuse crate::cli::x;\n", "imports point down");
}

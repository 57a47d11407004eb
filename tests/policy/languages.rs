//! Policies in every language: the commands of the author's guide from an empty folder, and the examples that decide
//! the same. `tests/run` has put the tools into `target/languages`, so that nothing is fetched here.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::check;
use crate::harness::{folder, run_with};

/// One place in the guide: commands, and what they print. Without an end of its own, a command may print anything.
struct Step {
    commands: String,
    expect: Option<String>,
}

const GUIDE: &str = include_str!("../../docs/authors-guide.md");

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What the tools need to find each other, and to fetch nothing.
fn variables() -> Vec<(&'static str, String)> {
    let languages = top().join("target/languages");
    assert!(languages.join("bin/node").is_file(), "the tools are missing; run tests/run once");
    let at = |path: &str| languages.join(path).display().to_string();
    let bellwether = Path::new(env!("CARGO_BIN_EXE_bellwether")).parent().unwrap().display().to_string();
    vec![
        ("PATH", format!("{bellwether}:{}:{}", at("bin"), std::env::var("PATH").unwrap())),
        ("CHECKOUT", top().display().to_string()),
        ("BELLWETHER_COMPILED_FOLDER", concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled").to_owned()),
        ("CARGO_NET_OFFLINE", "true".to_owned()),
        ("CARGO_TARGET_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/new").to_owned()),
        ("PIP_NO_INDEX", "1".to_owned()),
        ("PIP_FIND_LINKS", at("wheels")),
        ("npm_config_cache", at("npm")),
        ("npm_config_offline", "true".to_owned()),
    ]
}

/// The steps of a section of the guide.
fn steps(section: &str) -> Vec<Step> {
    let (_, text) = GUIDE.split_once(&format!("\n## {section}\n")).unwrap();
    let text = text.split("\n## ").next().unwrap();
    let mut steps: Vec<Step> = Vec::new();
    for block in text.split("\n```").skip(1).step_by(2) {
        let (kind, content) = block.split_once('\n').unwrap();
        match kind {
            "sh" => steps.push(Step { commands: content.to_owned(), expect: None }),
            "text" => steps.last_mut().unwrap().expect = Some(content.to_owned()),
            other => panic!("a block of {other:?} in the guide"),
        }
    }
    steps
}

/// Whether a line is as the guide shows it, `…` standing for anything.
fn fits(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    for part in parts {
        match (part, rest.find(part)) {
            ("", _) => rest = "",
            (_, Some(at)) => rest = &rest[at + part.len()..],
            (_, None) => return false,
        }
    }
    rest.is_empty()
}

/// The first line of the guide that what was printed does not have.
fn missing<'a>(expect: &'a str, printed: &str) -> Option<&'a str> {
    let mut lines = printed.lines();
    let mut any = false;
    for shown in expect.lines() {
        if shown == "…" {
            any = true;
            continue;
        }
        let found =
            if any { lines.any(|line| fits(shown, line)) } else { lines.next().is_some_and(|of| fits(shown, of)) };
        if !found {
            return Some(shown);
        }
        any = false;
    }
    if any || lines.next().is_none() { None } else { Some("(the end)") }
}

/// Runs a section of the guide in an empty folder.
fn check_guide(section: &str) {
    let there = folder(&[]);
    let steps = steps(section);
    assert!(!steps.is_empty(), "{section}");
    for step in steps {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &step.commands]).envs(variables()).current_dir(there.path());
        let output = bash.output().unwrap();
        let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let context = format!("{section}\n{}\n{printed}\n{errors}", step.commands);
        assert!(output.status.success(), "{context}");
        if let Some(line) = step.expect.as_deref().and_then(|expect| missing(expect, &printed)) {
            panic!("no {line:?} where the guide has it\n{context}");
        }
    }
}

#[test]
fn the_guide_in_rust() {
    check_guide("In Rust");
}

#[test]
fn the_guide_in_python() {
    check_guide("In Python");
}

#[test]
fn the_guide_in_javascript() {
    check_guide("In JavaScript");
}

#[test]
fn what_the_guide_shows_is_compared() {
    assert_eq!(missing("a …\n…\nc", "a b\nb\nb\nc"), None);
    assert_eq!(missing("a …", "a b\nb"), Some("(the end)"));
    assert_eq!(missing("…\nc", "a\nb"), Some("c"));
    assert!(fits("a … c", "a b c") && !fits("a … c", "a b d") && !fits("a", "ab") && fits("…b", "ab"));
}

/// The roles that the guide does not make: each passes the cases that it passes in Rust.
fn check_roles(lang: &str) {
    let variables = variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let there = tempfile::tempdir_in(top().join("target/languages")).unwrap();
    std::fs::create_dir(there.path().join("policies.d")).unwrap();
    for role in ["namespaces", "market-hours"] {
        let made = format!("{role} is a {role} policy: ");
        check(there.path(), &["new", role, "--lang", lang, "--role", role], 0, &[&made]);
        let out = format!("policies.d/{role}.wasm");
        let output = run_with(&variables, &["policy", "build", role, "--out", &out], there.path());
        assert!(output.status.success(), "{lang} {role}: {}", String::from_utf8_lossy(&output.stderr));
        check(there.path(), &["test", &out], 0, &[" passed, 0 failed; "]);
    }
    // Hundreds of changes are asked for in one call.
    let args = ["market", "DESK", "--at", "2026-11-23T10:00:00Z", "--policy-folder", "policies.d"];
    let output = run_with(&variables, &args, there.path());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let told = text(&output.stdout);
    let expect = "next open          Tue 2026-11-24 09:00";
    assert!(told.contains(expect), "{lang}: {told}{}", text(&output.stderr));
}

#[test]
fn every_role_in_python() {
    check_roles("python");
}

#[test]
fn every_role_in_javascript() {
    check_roles("js");
}

/// The same rules and the same cases, three times.
#[test]
fn the_examples_decide_the_same() {
    let variables = variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let rust = top().join("examples/first-policy");
    // Node looks for packages in the folders around the project, so a copy is built among the tools.
    let [python, js] = ["first-policy-python", "first-policy-js"].map(copied);
    for (project, more) in
        [(rust.as_path(), &["--", "--locked", "--profile", "policy"][..]), (python.path(), &[]), (js.path(), &[])]
    {
        let there = folder(&[]);
        let out = there.path().join("first-policy.wasm");
        let args = ["policy", "build", project.to_str().unwrap(), "--out", out.to_str().unwrap()];
        let output = run_with(&variables, &[&args, more].concat(), &top());
        assert!(output.status.success(), "{project:?}: {}", String::from_utf8_lossy(&output.stderr));
        check(there.path(), &["test", "first-policy.wasm"], 0, &[": 5 passed, 0 failed; "]);
    }
}

/// An example with all that it links to, where the tools are.
fn copied(example: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir_in(top().join("target/languages")).unwrap();
    for file in std::fs::read_dir(top().join("examples").join(example)).unwrap() {
        let from = file.unwrap().path();
        let to = copy.path().join(from.file_name().unwrap());
        if from.is_file() {
            std::fs::copy(from, to).unwrap();
        } else {
            std::os::unix::fs::symlink(std::fs::canonicalize(from).unwrap(), to).unwrap();
        }
    }
    copy
}

#[test]
fn what_is_missing_is_named() {
    let there = folder(&[]);
    check(there.path(), &["new", "py", "--lang", "python"], 0, &["Now type:  python3 -m venv py/.venv"]);
    check(there.path(), &["new", "js", "--lang", "js"], 0, &["Now type:  npm install --prefix js"]);
    check(there.path(), &["test", "py"], 1, &["py is not built; type: bellwether policy build py"]);
    let nothing = [("PATH", "")];
    let fails = |args: &[&str], expect: &str| {
        let output = run_with(&nothing, &[&["policy", "build"], args].concat(), there.path());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && told.contains(expect), "{args:?}: {told}");
    };
    fails(&["py"], "componentize-py is missing; type: python3 -m venv py/.venv && py/.venv/bin/pip install -r py/req");
    fails(&["js"], "node is missing; install Node.js 20 or later");
    fails(&["js", "--", "--x"], "takes no further arguments");
    std::fs::write(there.path().join("py/pyproject.toml"), "[project]\nname = \"py\"").unwrap();
    fails(&["py"], "py/pyproject.toml says no world for bellwether, such as ttl-policy");
    std::fs::write(there.path().join("js/package.json"), "{").unwrap();
    fails(&["js"], "js/package.json: EOF while parsing");
}

//! What the author of a policy types: `bellwether policy …`, on real components, well-formed and not.

mod cases;
mod check;
mod compiled;
mod languages;
mod limits;
mod one;
mod outside;
mod project;
mod replay;

use std::path::Path;

use crate::harness::run;

/// Runs a sub-verb in a folder: its exit code, all that is expected in what it printed, and what it printed.
fn check(folder: &Path, args: &[&str], code: i32, expect: &[&str]) -> String {
    let output = run(&[&["policy"], args].concat(), folder);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "policy {args:?}\n{shown}");
    for expect in expect {
        assert!(shown.contains(expect), "policy {args:?}\nno {expect:?} in\n{shown}");
    }
    shown
}

/// Runs a sub-verb with `--json`, and reads what it printed.
fn check_json(folder: &Path, args: &[&str], code: i32) -> serde_json::Value {
    let shown = check(folder, &[args, &["--json"]].concat(), code, &[]);
    serde_json::from_str(&shown).unwrap_or_else(|error| panic!("policy {args:?}: {error}\n{shown}"))
}

/// A component with one of its names replaced everywhere by another of the same length: what an author gets who built
/// for another contract.
fn renamed(component: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = component.to_vec();
    let places: Vec<_> = bytes.windows(from.len()).enumerate().filter(|(_, of)| *of == from.as_bytes()).collect();
    let places: Vec<_> = places.into_iter().map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "{from:?} is not in the component");
    for at in places {
        bytes.splice(at..at + to.len(), to.bytes());
    }
    bytes
}

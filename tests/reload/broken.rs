//! What does not load: it is refused with its reason, the old generation serves on, and a repair takes it back.

use std::path::Path;

use super::{generation, serve, ttl_of_a_quote};
use crate::harness::policies::{empty_component, hostile, put, ttl, ttl_module};
use crate::harness::process::{poll_for, poll_until};
use crate::harness::{Client, Redis, Sidecar, folder};

/// Files that do not load: which policy is at fault, how far it came, and why.
struct Broken {
    files: Vec<(&'static str, Vec<u8>)>,
    policy: Option<&'static str>,
    stage: &'static str,
    reason: &'static str,
}

// === impl Broken ===

impl Broken {
    /// Puts the files there and takes them away again: refused and said why, served on, taken back.
    fn check(&self, sidecar: &Sidecar, client: &mut Client, policies: &Path, number: usize) {
        let refused_before = sidecar.metric("bellwether_generations_refused_total");
        for (name, content) in &self.files {
            put(policies, name, content);
        }
        poll_for(&format!("{:?} ({}): {}", self.policy, self.stage, self.reason), || {
            let policies = sidecar.policies();
            let last = &policies["last_refused"];
            let is = |field: &str, expect: Option<&str>| last[field].as_str() == expect;
            let reason = last["reason"].as_str().unwrap_or_default();
            let same = is("stage", Some(self.stage)) && is("policy", self.policy) && reason.contains(self.reason);
            if same { Ok(()) } else { Err(last.to_string()) }
        });
        let names: Vec<_> = self.files.iter().map(|(name, _)| *name).collect();
        let logged = |line: &String| line.contains("refused, 1 serves on: ") && line.contains(self.reason);
        poll_until(&format!("a line about {names:?}"), || sidecar.process.lines().iter().any(logged));
        let refused = sidecar.metric("bellwether_generations_refused_total");
        assert!(refused > refused_before, "{names:?}: {refused} refused after {refused_before}");
        assert_eq!(sidecar.metric("bellwether_folder_refused"), 1.0, "{names:?}");
        assert_eq!(ttl_of_a_quote(client, &format!("fyntrix:general:{number}")), ":60", "{names:?}");
        for name in names {
            std::fs::remove_file(policies.join(name)).unwrap();
        }
        poll_for("the repair", || match &sidecar.policies()["last_refused"] {
            serde_json::Value::Null => Ok(()),
            still => Err(still.to_string()),
        });
        assert_eq!(sidecar.metric("bellwether_folder_refused"), 0.0);
    }
}

fn broken(file: &'static str, content: &[u8], stage: &'static str, reason: &'static str) -> Broken {
    let policy = file.split('.').next();
    Broken { files: vec![(file, content.to_vec())], policy, stage, reason }
}

fn broken_components() -> Vec<Broken> {
    let whole = ttl(1);
    let wasi = empty_component("wasi:nn/graph@0.2.0");
    vec![
        broken("ttl.wasm", whole.get(..whole.len() / 2).unwrap(), "compile", "out of bounds"),
        broken("ttl.wasm", ttl_module(), "compile", "this is a core module, not a component"),
        broken("ttl.wasm", b"(component)", "compile", "this is not a WebAssembly component"),
        broken("ttl.wasm", b"", "compile", "this is not a WebAssembly component"),
        broken("ttl.wasm", &wasi, "compile", "imports wasi:nn/graph@0.2.0, which this host does not offer"),
        broken("other.wasm", &empty_component(""), "compile", "exports none of bellwether:policy/namespaces"),
    ]
}

fn broken_settings() -> Vec<Broken> {
    let with_hostile = |settings: &str, stage, reason| Broken {
        files: vec![("hostile.wasm", hostile().to_vec()), ("hostile.toml", format!("[settings]\n{settings}").into())],
        policy: Some("hostile"),
        stage,
        reason,
    };
    vec![
        broken(
            "ttl.toml",
            b"[settings.namespaces.\"fyntrix:general\"]\nopen_ttl = 5",
            "configure",
            "unknown setting \"open_ttl\": did you mean \"open_ttl_ms\"?",
        ),
        broken("ttl.toml", b"setings = {}", "read", "did you mean settings"),
        broken("ttl.toml", b"enabled = \"no\"", "read", "invalid type"),
        broken("ttl.toml", b"component = ", "read", "ttl.toml is not what a policy's file is"),
        broken("ttl.toml", b"component = \"tll\"", "read", "there is no component \"tll\""),
        with_hostile("nonsense = 1", "configure", "unknown setting \"nonsense\""),
        with_hostile("configure = \"trap\"", "configure", "failed while it was configured"),
        with_hostile("configure = \"loop\"", "configure", "failed while it was configured"),
        with_hostile("configure = \"grow\"", "configure", "failed while it was configured"),
        with_hostile("describe = \"loop\"", "configure", "failed to describe itself"),
    ]
}

/// A second rule table whose only rule has the name of another's.
const SECOND_RULES: &str = "
    component = \"namespaces\"
    [settings]
    defaults = false
    symbols.defaults = false
    rules.\"fyntrix:general\".prefix = \"second:\"
";

fn broken_sets() -> Vec<Broken> {
    let rules = |settings: &str, reason| Broken {
        files: vec![("namespaces.toml", settings.into())],
        policy: None,
        stage: "assemble",
        reason,
    };
    let cases = b"[[case]]\nname = \"x\"\nrule = \"r\"\nnow = \"2026-11-23T10:00:00+05:30\"\nexpect = { after-ms = 1 }";
    vec![
        Broken {
            policy: Some("namespaces"),
            stage: "configure",
            ..rules("[settings.rules.twice]\nprefix = \"fyntrix:general:\"", "\"twice\"")
        },
        rules("[settings.rules.lost]\nprefix = \"l:\"\nttl_policy = \"tll\"", "there is no policy \"tll\" to decide"),
        rules("[settings.rules.lost]\nprefix = \"l:\"\nttl_policy = \"namespaces\"", "exports no ttl"),
        Broken {
            files: vec![("more.toml", SECOND_RULES.into())],
            ..rules("", "two rules are called \"fyntrix:general\"")
        },
        Broken {
            files: vec![("more.toml", b"component = \"namespaces\"\n[settings]\ndefaults = false".to_vec())],
            ..rules("", "stands twice in the symbol table")
        },
        Broken {
            files: vec![("second.toml", b"component = \"market-hours\"".to_vec())],
            ..rules("", "both export market-hours, and only one may")
        },
        broken("ttl.cases.toml", cases, "self-test", "case \"x\": expected { after-ms = 1 }, got"),
        broken("ttl.cases.toml", b"", "self-test", "the case file has no [[case]]"),
    ]
}

#[test]
fn what_is_broken_does_not() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let sidecar = serve(&redis, policies.path());
    let mut client = sidecar.client();
    let rows = broken_components().into_iter().chain(broken_settings()).chain(broken_sets());
    for (number, row) in rows.enumerate() {
        row.check(&sidecar, &mut client, policies.path(), number);
    }
    assert_eq!(generation(&sidecar), 1);
}

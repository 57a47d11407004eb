//! Policy sets in a real registry: pushed, pulled, signed, tampered with, and served from a pinned reference.

mod login;
mod pinned;
mod registry;
mod signed;

use std::path::Path;

use crate::harness::policies::{first_policy, ttl};
use crate::harness::{folder, run};
use registry::Registry;

const SETTINGS: &[u8] = b"[settings.namespaces.\"fyntrix:general\"]\nopen_ttl_ms = 5000";
const CASES: &[u8] = b"[[case]]\nname = \"x\"\nnow = \"2026-11-23T10:00:00+05:30\"\nrule = \"fyntrix:context\"\n\
                       expect = { after-ms = 7200000 }";

/// Runs a sub-verb of `policy` in a folder: its exit code, all that is expected of it, and what it printed.
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

/// Pushes with these flags, whether or not a sidecar would load it: what it printed, as JSON.
fn push(folder: &Path, from: &str, to: &str, flags: &[&str]) -> serde_json::Value {
    let shown = check(folder, &[&["push", from, to, "--unchecked", "--json"], flags].concat(), 0, &[]);
    serde_json::from_str(&shown).unwrap()
}

/// The digest in what a push printed.
fn digest(pushed: &serde_json::Value) -> String {
    pushed["digest"].as_str().unwrap().to_owned()
}

/// The digest and content of a manifest as the registry keeps it.
fn manifest(registry: &Registry, digest: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(registry.blob(digest)).unwrap()).unwrap()
}

#[test]
fn a_folder_goes_there_and_back() {
    let registry = Registry::start();
    let own = ttl(1);
    let files: [(&str, &[u8]); 4] =
        [("ttl.wasm", &own), ("ttl.toml", SETTINGS), ("ttl.cases.toml", CASES), ("README.md", b"no policy")];
    let there = folder(&[]);
    let set = folder(&files);
    let from = set.path().to_str().unwrap();
    let to = registry.reference("team/policies:v1");
    let told = "To serve it, and nothing else whatever becomes of the tag:\n  policy_folder = \"oci://127.0.0.1:";
    check(there.path(), &["push", from, &to], 0, &["ttl.cases.toml ", "ttl.toml ", "ttl.wasm ", "signed     no", told]);
    let first = digest(&push(there.path(), from, &to, &[]));
    // Other times, another order, another folder: the same files.
    let again = folder(&[files[2], files[0], files[1]]);
    assert_eq!(digest(&push(there.path(), again.path().to_str().unwrap(), &to, &[])), first);
    let pinned = registry.reference(&format!("team/policies@{first}"));
    check(there.path(), &["pull", &pinned, "--to", "a"], 0, &[&pinned, "not asked for", "ttl.wasm ", "It is in a."]);
    check(there.path(), &["pull", &to, "--to", "b"], 0, &[&pinned]);
    for (name, content) in &files[..3] {
        assert_eq!(std::fs::read(there.path().join("a").join(name)).unwrap(), *content, "{name}");
    }
    assert!(!there.path().join("a/README.md").exists());
    let shown = check(there.path(), &["check", "a/ttl.wasm"], 0, &["self-test  1 cases passed"]);
    assert!(shown.contains("open_ttl_ms"), "{shown}");

    // The tag comes to name something else; the digest does not.
    let other = folder(&[("ttl.toml", b"[settings]".as_slice())]);
    let second = digest(&push(there.path(), other.path().to_str().unwrap(), &to, &[]));
    assert_ne!(first, second);
    check(there.path(), &["pull", &to, "--to", "b"], 0, &[&second, "ttl.wasm                     removed"]);
    assert!(!there.path().join("b/ttl.wasm").exists());
    check(there.path(), &["pull", &pinned, "--to", "a"], 0, &[&first, "ttl.wasm "]);
    let none = format!("sha256:{}", "0".repeat(64));
    let nowhere = registry.reference(&format!("team/policies@{none}"));
    check(there.path(), &["pull", &nowhere], 1, &["has no artifact sha256:000", "in team/policies"]);
}

#[test]
fn what_would_be_refused_is_not_pushed() {
    let registry = Registry::start();
    let set = folder(&[("ttl.toml", b"[settings]\nopen_ttl = 3")]);
    let to = registry.reference("p:v1");
    let row = |args: &[&str], expect: &[&str]| {
        check(set.path(), &[&["push"], args].concat(), 1, expect);
    };
    row(&[".", &to], &["was not pushed, since a sidecar would refuse it (--unchecked", "policy \"ttl\" (configure)"]);
    row(&["ttl.toml", &to], &["ttl.toml is no component; push a component (NAME.wasm), or the folder"]);
    row(&["none.wasm", &to], &["cannot read none.wasm"]);
    row(&[".", "http://x/y"], &["\"http://x/y\" is not oci://HOST[:PORT]/REPOSITORY"]);
    row(&[".", &registry.reference("p"), "--unchecked"], &["name a tag, and no digest"]);
    row(&[".", &to, "--unchecked", "--policy-artifact-bytes-max", "5"], &["at most 5 are taken"]);
    row(&[".", "oci://127.0.0.1:1/p:v1", "--unchecked"], &["cannot connect to 127.0.0.1:1"]);
    let nothing = folder(&[]);
    check(nothing.path(), &["push", ".", &to], 1, &["there is nothing in it that a policy folder knows"]);
    push(set.path(), ".", &to, &[]);
}

/// As `wkg` and others do it: <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>.
#[test]
fn a_component_by_itself_is_what_other_tools_know() {
    let registry = Registry::start();
    let component = first_policy();
    let there = folder(&[("first-policy.wasm", &component)]);
    let to = registry.reference("wasm/first:v1");
    let pushed = push(there.path(), "first-policy.wasm", &to, &[]);
    let manifest = manifest(&registry, &digest(&pushed));
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!((layers.len(), &layers[0]["mediaType"]), (1, &"application/wasm".into()));
    let config = std::fs::read(registry.blob(manifest["config"]["digest"].as_str().unwrap())).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!((&config["architecture"], &config["os"]), (&"wasm".into(), &"wasip2".into()));
    assert_eq!(config["layerDigests"][0], layers[0]["digest"]);
    let exports = config["component"]["exports"].to_string();
    assert!(exports.contains("bellwether:policy/ttl@0.1.0"), "{exports}");
    check(there.path(), &["pull", &to, "--to", "p"], 0, &["first-policy.wasm"]);
    assert_eq!(std::fs::read(there.path().join("p/first-policy.wasm")).unwrap(), component);
}

/// Whatever is changed in the registry's own files is noticed, and nothing of the artifact is used.
#[test]
fn a_tampered_artifact_is_refused() {
    let registry = Registry::start();
    let there = folder(&[("ttl.toml", SETTINGS)]);
    let to = registry.reference("p:v1");
    let pushed = push(there.path(), ".", &to, &[]);
    let (digest, pinned) = (digest(&pushed), pushed["pinned"].as_str().unwrap().to_owned());
    let layer = manifest(&registry, &digest)["layers"][0]["digest"].as_str().unwrap().to_owned();
    let tampered = |of: &str, content: &[u8], expect: &[&str]| {
        let file = registry.blob(of);
        let before = std::fs::read(&file).unwrap();
        std::fs::write(&file, content).unwrap();
        check(there.path(), &["pull", &pinned, "--to", "out"], 1, &[&[pinned.as_str()], expect].concat());
        assert!(!there.path().join("out").exists());
        std::fs::write(&file, before).unwrap();
    };
    let other = String::from_utf8_lossy(SETTINGS).replace("5000", "9999");
    let changed = ["ttl.toml cannot be had as it was pushed; nothing of the artifact was used"];
    tampered(&layer, other.as_bytes(), &[&changed[..], &["its bytes have the digest sha256:"]].concat());
    tampered(&layer, b"x", &[&changed[..], &["it has 1 bytes, and the manifest says "]].concat());
    let text = std::fs::read_to_string(registry.blob(&digest)).unwrap();
    let swapped = text.replace("\"ttl.toml\"", "\"abc.toml\"");
    tampered(&digest, swapped.as_bytes(), &["was changed in the registry or on the way; nothing of it was used"]);
    check(there.path(), &["pull", &pinned, "--to", "out"], 0, &["ttl.toml"]);
}

/// A pull into a folder touches nothing of anybody else's.
#[test]
fn files_of_others_are_left_alone() {
    let registry = Registry::start();
    let set = folder(&[("ttl.toml", SETTINGS), ("namespaces.toml", b"[settings]")]);
    let to = registry.reference("p:v1");
    let from = set.path().to_str().unwrap();
    push(set.path(), from, &to, &[]);
    let there = folder(&[("market-hours.toml", b"[settings]"), ("ttl.toml", b"mine")]);
    let pull = |flags: &[&str], code: i32, expect: &[&str]| {
        check(there.path(), &[&["pull", &to, "--to", "."], flags].concat(), code, expect);
    };
    let read = |name: &str| std::fs::read(there.path().join(name)).ok();
    pull(&[], 1, &["ttl.toml is there already and is of no artifact that was pulled; move it away, or pull with"]);
    assert_eq!((read("ttl.toml"), read("namespaces.toml")), (Some(b"mine".to_vec()), None), "all or nothing");
    pull(&["--force"], 0, &["market-hours.toml            left alone: it is of no artifact"]);
    assert_eq!(read("ttl.toml").as_deref(), Some(SETTINGS));
    std::fs::write(there.path().join("ttl.toml"), "changed").unwrap();
    pull(&[], 1, &["ttl.toml is there already and was changed since it was pulled"]);
    // What the next set has not is removed, except what somebody has changed.
    std::fs::remove_file(set.path().join("ttl.toml")).unwrap();
    std::fs::write(set.path().join("namespaces.toml"), "[settings]\n").unwrap();
    push(set.path(), from, &to, &[]);
    pull(&[], 0, &["ttl.toml                     left alone"]);
    assert_eq!(read("ttl.toml").as_deref(), Some(b"changed".as_slice()));
    std::fs::write(there.path().join(".bellwether-artifact.json"), "{").unwrap();
    pull(&[], 1, &[".bellwether-artifact.json is not what a pull writes there"]);
}

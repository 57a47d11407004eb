//! A sidecar whose policy folder is a reference: what its digest names is served, and nothing else ever.

use std::path::Path;

use super::registry::{Keys, Registry};
use super::{digest, push};
use crate::harness::{Sidecar, folder, run};

const LENIENT: &[u8] = b"[settings]\njson = \"warn\"";
const STRICT: &[u8] = b"[settings]\njson = \"refuse\"";

/// Flags that name the policies, and where they are kept.
fn flags<'a>(pinned: &'a str, kept: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--policy-folder", pinned, "--policy-artifacts-folder", kept], more].concat()
}

/// What a sidecar with these flags says to a value that is no JSON.
fn answer(flags: &[&str]) -> String {
    Sidecar::start("dev", flags).client().ask("SET fyntrix:general:note plain")
}

/// A sidecar with these flags does not start, and says all of this.
fn refused(folder: &Path, flags: &[&str], expect: &[&str]) {
    let output = run(&[&["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"], flags].concat(), folder);
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{shown}");
    expect.iter().for_each(|expect| assert!(shown.contains(expect), "no {expect:?} in\n{shown}"));
}

#[test]
fn a_digest_is_served_whatever_becomes_of_its_tag() {
    let mut registry = Registry::start();
    let there = folder(&[("namespaces.toml", LENIENT)]);
    let to = registry.reference("team/policies:v1");
    let first = push(there.path(), ".", &to, &[]);
    let kept = there.path().join("kept").to_str().unwrap().to_owned();
    let tagged = format!("{to}@{}", digest(&first));
    refused(
        there.path(),
        &flags(&to, &kept, &[]),
        &["policy_folder (flag): ", "it has no digest, and a tag may come to name something else"],
    );
    let sidecar = Sidecar::start("dev", &flags(&tagged, &kept, &["--policy-poll-ms", "20"]));
    assert_eq!(sidecar.client().ask("SET fyntrix:general:note plain"), "+OK");
    let policies = sidecar.policies().to_string();
    assert!(policies.contains("\"generation\":1"), "{policies}");
    std::fs::write(there.path().join("namespaces.toml"), STRICT).unwrap();
    let second = push(there.path(), ".", &to, &[]);
    assert_ne!(digest(&first), digest(&second));
    assert_eq!(answer(&flags(&tagged, &kept, &[])), "+OK", "the tag moved");
    let strict = answer(&flags(second["pinned"].as_str().unwrap(), &kept, &[]));
    assert!(strict.starts_with("-ERR bellwether: rule"), "{strict}");

    // What is kept needs no registry, as long as it is what the digest says.
    registry.process.signal("KILL");
    registry.process.wait();
    assert_eq!(answer(&flags(&tagged, &kept, &[])), "+OK");
    let copy = Path::new(&kept).join(digest(&first).replace(':', "-"));
    let gone = ["policy_folder: oci://127.0.0.1:", "cannot connect to 127.0.0.1"];
    for (name, content) in [("namespaces.toml", STRICT), ("ttl.toml", b"[settings]"), (".manifest.json", b"{}")] {
        let before = std::fs::read(copy.join(name)).ok();
        std::fs::write(copy.join(name), content).unwrap();
        refused(there.path(), &flags(&tagged, &kept, &[]), &gone);
        match before {
            Some(before) => std::fs::write(copy.join(name), before).unwrap(),
            None => std::fs::remove_file(copy.join(name)).unwrap(),
        }
    }
    assert_eq!(answer(&flags(&tagged, &kept, &[])), "+OK");
    // A running sidecar does not take up what somebody does to its copy.
    std::fs::write(copy.join("namespaces.toml"), STRICT).unwrap();
    assert_eq!(sidecar.client().ask("SET fyntrix:general:note plain"), "+OK");
    assert_eq!(sidecar.policies()["generation"], 1);
}

#[test]
fn a_broken_copy_is_pulled_again() {
    let registry = Registry::start();
    let there = folder(&[("namespaces.toml", LENIENT)]);
    let pushed = push(there.path(), ".", &registry.reference("p:v1"), &[]);
    let kept = there.path().join("kept").to_str().unwrap().to_owned();
    let pinned = pushed["pinned"].as_str().unwrap();
    assert_eq!(answer(&flags(pinned, &kept, &[])), "+OK");
    let copy = Path::new(&kept).join(digest(&pushed).replace(':', "-"));
    std::fs::write(copy.join("namespaces.toml"), STRICT).unwrap();
    assert_eq!(answer(&flags(pinned, &kept, &[])), "+OK");
    assert_eq!(std::fs::read(copy.join("namespaces.toml")).unwrap(), LENIENT);
}

#[test]
fn keys_hold_for_what_is_served() {
    let mut registry = Registry::start();
    let there = folder(&[("namespaces.toml", LENIENT)]);
    let [ours, other] = ["ours", "other"].map(|name| Keys::new(there.path(), name));
    let to = registry.reference("p:v1");
    let pinned = push(there.path(), ".", &to, &[]);
    let pinned = pinned["pinned"].as_str().unwrap().to_owned();
    let kept = there.path().join("kept").to_str().unwrap().to_owned();
    let keys = |keys: &Keys| keys.public.to_str().unwrap().to_owned();
    let (ours_file, other_file) = (keys(&ours), keys(&other));
    let unsigned = format!("policy_folder: {pinned}: it is not signed");
    refused(there.path(), &flags(&pinned, &kept, &["--policy-keys-file", &ours_file]), &[&unsigned]);
    // Kept without a question, it is asked for its signature once there are keys; and may be signed since.
    assert_eq!(answer(&flags(&pinned, &kept, &[])), "+OK");
    refused(there.path(), &flags(&pinned, &kept, &["--policy-keys-file", &ours_file]), &[&unsigned]);
    push(there.path(), ".", &to, &["--sign", ours.private.to_str().unwrap()]);
    assert_eq!(answer(&flags(&pinned, &kept, &["--policy-keys-file", &ours_file])), "+OK");
    let wrong = "none of its signatures (1) is by a key in ";
    refused(there.path(), &flags(&pinned, &kept, &["--policy-keys-file", &other_file]), &[wrong, "other.pub"]);
    registry.process.signal("KILL");
    registry.process.wait();
    let mut sidecar = Sidecar::start("dev", &flags(&pinned, &kept, &["--policy-keys-file", &ours_file]));
    assert_eq!(sidecar.client().ask("SET fyntrix:general:note plain"), "+OK");
    let told = sidecar
        .process
        .wait_for("line about the policies", |line| line.contains("signed by key sha256:").then(|| line.to_owned()));
    assert!(told.contains(&pinned) && told.contains("kept from before"), "{told}");
}

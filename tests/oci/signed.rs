//! Signatures: who signed counts, what was signed counts, and what is not signed is refused where keys are set.

use super::registry::{Keys, Registry};
use super::{check, digest, manifest, push};
use crate::harness::folder;

#[test]
fn only_what_a_known_key_signed_is_taken() {
    let registry = Registry::start();
    let there = folder(&[("ttl.toml", b"[settings]")]);
    let path = there.path();
    let [ours, other] = ["ours", "other"].map(|name| Keys::new(path, name));
    let third = Keys::ed25519(path, "third");
    let both = path.join("both.pub");
    let text = |keys: &Keys| std::fs::read_to_string(&keys.public).unwrap();
    std::fs::write(&both, text(&other) + &text(&ours)).unwrap();
    let name = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let pull = |tag: &str, keys: &std::path::Path, code: i32, expect: &[&str]| {
        let reference = registry.reference(&format!("p:{tag}"));
        let args = ["pull", &reference, "--to", tag, "--policy-keys-file", &name(keys)];
        check(path, &args, code, expect);
        assert_eq!(path.join(tag).exists(), code == 0);
        if code == 0 {
            std::fs::remove_dir_all(path.join(tag)).unwrap();
        }
    };
    let set = |tag: &str, flags: &[&str]| {
        // Different sets, so that one's signatures are not another's.
        let set = folder(&[("ttl.toml", format!("[settings]\n# {tag}\n").as_bytes())]);
        push(path, set.path().to_str().unwrap(), &registry.reference(&format!("p:{tag}")), flags)
    };
    let unsigned = set("unsigned", &[]);
    pull(
        "unsigned",
        &ours.public,
        1,
        &["p:unsigned: it is not signed, and policy_keys_file asks for a signature; sign it"],
    );

    let signed = set("signed", &["--sign", &name(&ours.private)]);
    let by = signed["signed_by"].as_str().unwrap();
    pull("signed", &ours.public, 0, &[&format!("signed     by key {by}")]);
    pull("signed", &both, 0, &[by]);
    pull("signed", &other.public, 1, &["none of its signatures (1) is by a key in ", "other.pub"]);
    pull("signed", &third.public, 1, &["none of its signatures (1) is by a key in "]);

    // Signed again by the same key it has one signature, by others one more each.
    set("signed", &["--sign", &name(&ours.private)]);
    pull("signed", &other.public, 1, &["none of its signatures (1)"]);
    set("signed", &["--sign", &name(&third.private)]);
    pull("signed", &other.public, 1, &["none of its signatures (2)"]);
    pull("signed", &third.public, 0, &["signed     by key sha256:"]);
    pull("signed", &ours.public, 0, &[by]);

    // The signature of one set beside another.
    let sig = |of: &serde_json::Value| format!("{}.sig", digest(of).replace(':', "-"));
    let (from, to) = (registry.tag("p", &sig(&signed)), registry.tag("p", &sig(&unsigned)));
    std::fs::create_dir_all(to.join("current")).unwrap();
    std::fs::copy(from.join("current/link"), to.join("current/link")).unwrap();
    let moved = format!("it is signed, but what was signed is {}", digest(&signed));
    pull("unsigned", &ours.public, 1, &[&moved, "sign this one"]);
}

#[test]
fn a_changed_payload_is_no_signature() {
    let registry = Registry::start();
    let there = folder(&[("ttl.toml", b"[settings]")]);
    let keys = Keys::new(there.path(), "k");
    let to = registry.reference("p:v1");
    let pushed = push(there.path(), ".", &to, &["--sign", keys.private.to_str().unwrap()]);
    let link = registry.tag("p", &format!("{}.sig", digest(&pushed).replace(':', "-"))).join("current/link");
    let signatures = std::fs::read_to_string(link).unwrap();
    let layer = manifest(&registry, &signatures)["layers"][0].clone();
    assert_eq!(layer["mediaType"], "application/vnd.dev.cosign.simplesigning.v1+json");
    assert!(layer["annotations"]["dev.cosignproject.cosign/signature"].is_string(), "{layer}");
    let file = registry.blob(layer["digest"].as_str().unwrap());
    let payload = std::fs::read_to_string(&file).unwrap();
    // Byte for byte what cosign itself writes.
    let expect = format!(
        "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"127.0.0.1:{}/p\"}},\"image\":\
         {{\"docker-manifest-digest\":\"{}\"}},\"type\":\"cosign container image signature\"}},\"optional\":null}}",
        registry.port,
        digest(&pushed)
    );
    assert_eq!(payload, expect);
    std::fs::write(&file, payload.replace("127.0.0.1", "127.0.0.2")).unwrap();
    let pull = ["pull", &to, "--to", "p", "--policy-keys-file", keys.public.to_str().unwrap()];
    check(there.path(), &pull, 1, &["its signatures: its bytes have the digest sha256:"]);
}

#[test]
fn keys_that_are_none() {
    let there = folder(&[("ttl.toml", b"[settings]"), ("text", b"x")]);
    let path = there.path();
    let keys = Keys::new(path, "k");
    Keys::of(path, "p384", &rcgen::PKCS_ECDSA_P384_SHA384);
    let encrypted =
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n";
    std::fs::write(path.join("cosign.key"), encrypted).unwrap();
    let to = "oci://127.0.0.1:1/p:v1";
    let sign = |key: &str, expect: &[&str]| {
        check(path, &["push", ".", to, "--unchecked", "--sign", key], 1, expect);
    };
    sign("none", &["--sign: cannot read none"]);
    sign("text", &["text holds no private key (BEGIN PRIVATE KEY)"]);
    sign("k.pub", &["k.pub holds no private key (BEGIN PRIVATE KEY)"]);
    sign("p384.key", &["p384.key is a key neither of ECDSA on P-256 nor of Ed25519"]);
    sign("cosign.key", &["cosign.key is locked with a password", "sign --key cosign.key --tlog-upload=false"]);
    let verify = |keys: &str, expect: &[&str]| {
        check(path, &["pull", to, "--policy-keys-file", keys], 1, expect);
    };
    verify("none", &["policy_keys_file: cannot read none"]);
    verify("text", &["text holds no public key (BEGIN PUBLIC KEY)"]);
    verify(keys.private.to_str().unwrap(), &["holds no public key (BEGIN PUBLIC KEY)"]);
    verify("p384.pub", &["key 1 in p384.pub: it is neither of ECDSA on P-256, as cosign makes them, nor of Ed25519"]);
}

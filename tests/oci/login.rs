//! Registries that want to know who asks, and such that speak TLS.

use std::path::Path;

use super::push;
use super::registry::Registry;
use crate::endpoints::certificates::Authority;
use crate::harness::{folder, run_with};

/// `policies:secret`, hashed by `htpasswd -B`.
const USERS: &str = "policies:$2b$04$zQcA1IazIC25U4wSzrXA2.qrSKoPnpVakvjKLv.HqYk4bhwDQi.Q2\n";
/// `policies:secret`, as `docker login` writes it.
const AUTH: &str = "cG9saWNpZXM6c2VjcmV0";

/// Pushes in an environment: the exit code, and what was said.
fn check(folder: &Path, variables: &[(&str, &str)], to: &str, flags: &[&str], code: i32, expect: &str) {
    let args = [&["policy", "push", ".", to, "--unchecked"], flags].concat();
    let output = run_with(variables, &args, folder);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{variables:?} {flags:?}\n{shown}");
    assert!(shown.contains(expect), "{variables:?} {flags:?}\nno {expect:?} in\n{shown}");
    assert!(!shown.contains("secret") && !shown.contains(AUTH), "{shown}");
}

#[test]
fn users_and_passwords_are_those_of_docker() {
    let there = folder(&[("ttl.toml", b"[settings]"), ("users", USERS.as_bytes())]);
    let path = there.path();
    let users = path.join("users");
    let registry = Registry::start_with(&format!("auth: {{htpasswd: {{realm: x, path: {}}}}}", users.display()), "");
    let (host, to) = (format!("127.0.0.1:{}", registry.port), registry.reference("p:v1"));
    let nobody = [("HOME", path.to_str().unwrap()), ("DOCKER_CONFIG", "")];
    let unknown =
        format!("asks for a user and a password; no password is known for it: `docker login {host}` keeps one");
    check(path, &nobody, &to, &[], 1, &unknown);
    let put = |name: &str, content: &str| {
        let file = path.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, content).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let auths = |auth: &str| format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"{auth}\"}}}}}}");
    let named = put("named.json", &auths(AUTH));
    check(path, &nobody, &to, &["--policy-registry-auth-file", &named], 0, "digest     sha256:");
    let wrong = put("wrong.json", &auths("cG9saWNpZXM6d3Jvbmc="));
    let refused = "still asks who we are: 401 Unauthorized; it was asked as the user \"policies\"";
    check(path, &nobody, &to, &["--policy-registry-auth-file", &wrong], 1, refused);
    let helper = put("helper.json", "{\"credsStore\":\"desktop\"}");
    let not_run = "leaves its password to the program docker-credential-desktop, which is not run";
    check(path, &nobody, &to, &["--policy-registry-auth-file", &helper], 1, not_run);
    let none = put("none.json", "{");
    let not = "none.json is not what `docker login` writes";
    check(path, &nobody, &to, &["--policy-registry-auth-file", &none], 1, not);
    check(path, &nobody, &to, &["--policy-registry-auth-file", "gone.json"], 1, "cannot read gone.json");
    // Where docker has them by itself.
    put("docker/config.json", &auths(AUTH));
    check(path, &[("DOCKER_CONFIG", path.join("docker").to_str().unwrap())], &to, &[], 0, "digest     sha256:");
    put(".docker/config.json", &auths(AUTH));
    check(path, &nobody, &to, &[], 0, "digest     sha256:");
}

#[test]
fn tls_by_an_authority_of_ones_own() {
    let there = folder(&[("ttl.toml", b"[settings]")]);
    let path = there.path();
    let authority = Authority::new(path, "authority");
    let pair = authority.sign("localhost");
    let tls = format!(", tls: {{certificate: {}, key: {}}}", pair.certificate.display(), pair.key.display());
    let registry = Registry::start_with("", &tls);
    let to = format!("oci://localhost:{}/p:v1", registry.port);
    let ca = ["--policy-registry-ca-file", authority.file.to_str().unwrap()];
    push(path, ".", &to, &ca);
    check(path, &[], &to, &[], 1, "400 Bad Request");
    let other = Authority::new(path, "other");
    let wrong = ["--policy-registry-ca-file", other.file.to_str().unwrap()];
    check(path, &[], &to, &wrong, 1, "do not agree on TLS; policy_registry_ca_file names the authorities");
    let unnamed = format!("oci://127.0.0.1:{}/p:v1", registry.port);
    check(path, &[], &unnamed, &ca, 1, "do not agree on TLS");
    check(
        path,
        &[],
        &to,
        &["--policy-registry-ca-file", "none.crt"],
        1,
        "policy_registry_ca_file: cannot read none.crt",
    );
}

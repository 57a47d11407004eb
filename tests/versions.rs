//! Components that were built for released contracts, kept as they were: each still loads, still passes its cases, and
//! still decides for clients. `docs/versions.md` says what is promised.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bellwether::policy::contract;
use sha2::Digest;

use crate::harness::{Sidecar, run};

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/versions")
}

fn components(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|of| of == "wasm"));
    files.sort();
    files
}

/// What `policy check` says of the components of a contract.
fn check(version: &str) {
    let folder = kept().join(version);
    let files = components(&folder);
    let names: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let output = run(&[&["policy", "check", "--json"], names.as_slice()].concat(), &folder);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{version}: {shown}{}", String::from_utf8_lossy(&output.stderr));
    let all: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let mut used = BTreeSet::new();
    for file in all["files"].as_array().unwrap() {
        assert_eq!((&file["ok"], &file["contract"]), (&true.into(), &version.into()), "{file:#}");
        assert!(file["cases_passed"].as_u64().unwrap() > 0, "{file:#}");
        assert!(file["hosts"].as_str().unwrap().ends_with(" and later"), "{file:#}");
        used.extend(
            file["exports"].as_array().unwrap().iter().map(|name| format!("exports {}", name.as_str().unwrap())),
        );
        let imports = file["imports"].as_array().unwrap().iter();
        used.extend(imports.map(|import| format!("imports {}", import["name"].as_str().unwrap())));
    }
    // Of every interface there is a user.
    let exports = ["lifecycle", "market-hours", "namespaces", "ttl"].map(|name| ("exports", name));
    for (way, name) in exports.into_iter().chain(["log", "market-hours"].map(|name| ("imports", name))) {
        let name = format!("{way} bellwether:policy/{name}@{version}");
        assert!(used.contains(&name), "nothing {name} among {used:?}");
    }
}

#[test]
fn components_of_every_released_contract_load() {
    contract::RELEASED.iter().for_each(|(version, _)| check(version));
    let released: BTreeSet<_> = contract::RELEASED.iter().map(|(version, _)| (*version).to_owned()).collect();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let there: BTreeSet<_> = std::fs::read_dir(kept()).unwrap().map(name).collect();
    assert_eq!(there, released, "each released contract has its components in tests/versions, and no other");
    assert!(released.contains(contract::VERSION));
}

#[test]
fn components_of_every_released_contract_are_served() {
    for (version, _) in contract::RELEASED {
        let folder = kept().join(version);
        let sidecar = Sidecar::start("dev", &["--policy-folder", folder.to_str().unwrap()]);
        let policies = sidecar.policies().to_string();
        for file in components(&folder) {
            let digest = sha2::Sha256::digest(std::fs::read(&file).unwrap());
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(policies.contains(&digest), "{}: {digest} is not in {policies}", file.display());
        }
        let mut client = sidecar.client();
        assert_eq!(client.ask("SET fyntrix:scores:RELIANCE:persist {}"), "+OK");
        assert_eq!(client.ask("TTL fyntrix:scores:RELIANCE:persist"), ":86400");
    }
}

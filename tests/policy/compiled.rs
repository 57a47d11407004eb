//! The folder of compiled code: what is believed of it, and what is made anew.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::check_json;
use crate::harness::policies::{hostile, market, ttl};
use crate::harness::process::poll_until;
use crate::harness::{Sidecar, folder};

/// Whether the code of a component in a folder was on disk.
fn is_found(there: &Path, component: &str, flags: &[&str]) -> bool {
    let told = check_json(there, &[&["check", component, "--compiled-folder", "compiled"], flags].concat(), 0);
    told["files"][0]["code_found"].as_bool().unwrap()
}

/// The compiled code in a folder: each entry, and what is said of it.
fn entries(there: &Path) -> Vec<(PathBuf, PathBuf)> {
    let modules = std::fs::read_dir(there.join("compiled/code/modules")).into_iter().flatten();
    let files = modules.flat_map(|version| std::fs::read_dir(version.unwrap().path()).unwrap());
    let files = files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_none());
    let sum = |path: &Path| there.join("compiled/sums").join(path.file_name().unwrap());
    files.map(|path| (path.clone(), sum(&path))).collect()
}

/// Says of an entry that it is as it should be.
fn seal(entry: &(PathBuf, PathBuf)) {
    let name = entry.0.file_name().unwrap().to_str().unwrap();
    let content = [name.as_bytes(), &std::fs::read(&entry.0).unwrap()].concat();
    let sum: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(sum.len(), std::fs::read(&entry.1).unwrap().len());
    std::fs::write(&entry.1, sum).unwrap();
}

#[test]
fn what_was_compiled_once_is_found() {
    let own = ttl(1);
    let there = folder(&[("ttl.wasm", &own), ("hostile.wasm", hostile())]);
    assert!(!is_found(there.path(), "ttl.wasm", &[]));
    assert!(is_found(there.path(), "ttl.wasm", &[]));
    assert!(!is_found(there.path(), "hostile.wasm", &[]), "it is another component");
    assert_eq!(entries(there.path()).len(), 2);
    // Only the owner gets in.
    assert_eq!(std::fs::metadata(there.path().join("compiled")).unwrap().mode() & 0o777, 0o700);
    // What does not fit goes, with its sum; then there is nothing to be found.
    assert!(is_found(there.path(), "hostile.wasm", &[]));
    assert!(!is_found(there.path(), "ttl.wasm", &["--compiled-bytes-max", "1"]));
    assert!(!is_found(there.path(), "ttl.wasm", &["--compiled-bytes-max", "1"]));
    assert_eq!(std::fs::read_dir(there.path().join("compiled/sums")).unwrap().count(), 1);
    let empty = check_json(there.path(), &["check", "ttl.wasm", "--compiled-folder", ""], 0);
    assert_eq!(empty["files"][0]["code_found"], false);
}

#[test]
fn a_bad_entry_is_a_miss() {
    let there = folder(&[("one.wasm", hostile()), ("other.wasm", market())]);
    assert!(!is_found(there.path(), "other.wasm", &[]));
    let others = entries(there.path()).remove(0);
    assert!(!is_found(there.path(), "one.wasm", &[]));
    assert!(is_found(there.path(), "one.wasm", &[]));
    let bad = |spoil: &dyn Fn(&(PathBuf, PathBuf))| {
        spoil(entries(there.path()).iter().find(|entry| entry.0 != others.0).unwrap());
        assert!(!is_found(there.path(), "one.wasm", &[]));
        assert!(is_found(there.path(), "one.wasm", &[]), "it was made anew");
    };
    bad(&|entry| {
        // In the middle of what is packed, where it would unpack to other instructions.
        let mut bytes = std::fs::read(&entry.0).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&entry.0, bytes).unwrap();
    });
    bad(&|entry| {
        let bytes = std::fs::read(&entry.0).unwrap();
        std::fs::write(&entry.0, &bytes[..bytes.len() / 2]).unwrap();
    });
    bad(&|entry| std::fs::write(&entry.1, "no sum").unwrap());
    bad(&|entry| std::fs::remove_file(&entry.1).unwrap());
    bad(&|entry| {
        // As it was sealed, and yet nothing that this engine can take up.
        std::fs::write(&entry.0, "no code").unwrap();
        seal(entry);
    });
    bad(&|entry| {
        // Whole and sealed, but of another component or another engine: those have other names.
        std::fs::copy(&others.0, &entry.0).unwrap();
        std::fs::copy(&others.1, &entry.1).unwrap();
    });
    bad(&|entry| std::fs::set_permissions(&entry.0, PermissionsExt::from_mode(0o666)).unwrap());
    bad(&|entry| {
        std::fs::rename(&entry.0, there.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(there.path().join("elsewhere"), &entry.0).unwrap();
    });
}

#[test]
fn a_folder_that_is_not_ours_alone_is_not_used() {
    let there = folder(&[("file", b"")]);
    let open = there.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    // Root may write anywhere, and gives a folder away; others look at one of root's.
    let foreign = if std::fs::metadata(&open).unwrap().uid() == 0 {
        let foreign = there.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::os::unix::fs::chown(&foreign, Some(12345), None).unwrap();
        foreign
    } else {
        std::env::temp_dir()
    };
    let refused = |folder: &Path, expect: &str| {
        let folder = folder.to_str().unwrap();
        let sidecar = Sidecar::dev(&["--compiled-folder", folder]);
        let warned = sidecar
            .process
            .lines()
            .iter()
            .any(|line| line.contains("compiled code is not kept (compiled_folder): ") && line.contains(expect));
        assert!(warned, "{folder}: no {expect:?} in\n{}", sidecar.process.lines().join("\n"));
        assert_eq!(sidecar.client().ask("PING"), "+PONG");
        assert_eq!(sidecar.metric("bellwether_components_compiled_total"), 3.0);
    };
    refused(&open, "others may write to ");
    refused(&foreign, ", and this program runs as ");
    refused(&there.path().join("file"), "cannot make the folder ");
    refused(Path::new("/proc"), "cannot write to the folder /proc");
    assert_eq!(std::fs::read_dir(&open).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_sidecar_says_how_its_policies_came_by_their_code() {
    let there = folder(&[]);
    let compiled = there.path().join("a/b");
    let flags = ["--compiled-folder", compiled.to_str().unwrap()];
    let counts = |sidecar: &Sidecar| {
        ["compiled", "found"].map(|how| sidecar.metric(&format!("bellwether_components_{how}_total")))
    };
    assert_eq!(counts(&Sidecar::dev(&flags)), [3.0, 0.0]);
    assert_eq!(counts(&Sidecar::dev(&flags)), [0.0, 3.0]);
    // A reload counts too.
    let policies = folder(&[]);
    let flags = [flags.as_slice(), &["--policy-folder", policies.path().to_str().unwrap()]].concat();
    let sidecar = Sidecar::start("dev", &flags);
    crate::harness::policies::put(policies.path(), "ttl.wasm", &ttl(3));
    poll_until("the reload", || counts(&sidecar) == [1.0, 3.0]);
}

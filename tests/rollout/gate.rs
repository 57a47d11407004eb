//! A policy folder whose changes go through a gate before they come into force, also over restarts.

use std::path::Path;

use super::api::check_description;
use super::{check, monday, open_ttl, page, serve, ttl_of_a_quote, wait_for_states};
use crate::harness::policies::{put, ttl};
use crate::harness::process::poll_for;
use crate::harness::{Redis, Sidecar, folder, run};

/// Writes quotes until the comparison of a generation is over: how it ended.
fn write_until_ended(sidecar: &Sidecar, generation: u64) -> String {
    let mut client = sidecar.client();
    poll_for(&format!("the end of {generation}"), || {
        ttl_of_a_quote(&mut client);
        match &page(sidecar)["shadow"] {
            found if found["generation"] == generation && found["ended"] == true => Ok(found["said"].to_string()),
            found => Err(found.to_string()),
        }
    })
}

fn folder_is(sidecar: &Sidecar) -> String {
    page(sidecar)["folder"]["is"].as_str().unwrap().to_owned()
}

#[test]
fn a_folder_with_a_gate() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let sidecar = serve(&redis, policies.path(), &["--policy-gate", "1s 0.1%"]);
    // What changes too much is not let through, and left alone.
    put(policies.path(), "ttl.toml", open_ttl(15).as_bytes());
    wait_for_states(&sidecar, &[(1, "active"), (2, "shadowing")]);
    assert_eq!(folder_is(&sidecar), "in the shadow");
    check_description(&sidecar);
    let said = write_until_ended(&sidecar, 2);
    assert!(said.contains("rejected: the gate did not let it through: "), "{said}");
    wait_for_states(&sidecar, &[(1, "active"), (2, "rejected")]);
    assert_eq!((folder_is(&sidecar).as_str(), ttl_of_a_quote(&mut sidecar.client())), ("set aside", 60));
    put(policies.path(), "ttl.toml", format!("{}# Again.", open_ttl(15)).as_bytes());
    poll_for("the look", || match sidecar.process.lines() {
        lines if lines.iter().any(|line| line.contains("holds still what was set aside")) => Ok(()),
        lines => Err(lines.join("\n")),
    });
    wait_for_states(&sidecar, &[(1, "active"), (2, "rejected")]);
    // What changes nothing is.
    std::fs::remove_file(policies.path().join("ttl.toml")).unwrap();
    poll_for("the repair", || if folder_is(&sidecar) == "in force" { Ok(()) } else { Err(folder_is(&sidecar)) });
    put(policies.path(), "ttl.wasm", &ttl(1));
    let said = write_until_ended(&sidecar, 3);
    assert_eq!(said, "\"promoted\"");
    wait_for_states(&sidecar, &[(1, "retired"), (2, "rejected"), (3, "active")]);
    assert_eq!(folder_is(&sidecar), "in force");
    // It changes meanwhile: what it holds last counts.
    put(policies.path(), "ttl.toml", open_ttl(25).as_bytes());
    poll_for("a candidate", || if folder_is(&sidecar) == "in the shadow" { Ok(()) } else { Err(folder_is(&sidecar)) });
    put(policies.path(), "ttl.toml", b"broken");
    poll_for("a refusal", || if folder_is(&sidecar) == "refused" { Ok(()) } else { Err(folder_is(&sidecar)) });
    let states = super::states(&sidecar);
    let is = |number: u64| states.iter().find(|(of, _)| *of == number).map(|(_, state)| state.as_str());
    assert_eq!([is(3), is(4), is(5)], [Some("active"), Some("rejected"), Some("rejected")], "{states:?}");
    for (gate, expect) in [("10m", "one of the two is missing"), ("1s 2", "the share has no %"), ("1s 101%", "100%")] {
        let output = run(&["config", "--policy-gate", gate], Path::new("."));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expect) && said.contains("policy_gate"), "{gate}: {said}");
    }
}

/// A restart does not let through what the gate has not.
#[test]
fn a_restart_with_a_gate() {
    let (redis, monday) = (Redis::start(), monday());
    let (policies, state) = (folder(&[]), tempfile::tempdir().unwrap());
    let (folder, kept) = (policies.path().to_str().unwrap(), state.path().to_str().unwrap());
    let flags = ["--policy-folder", folder, "--state-dir", kept, "--clock-offset", &monday, "--policy-gate"];
    let start = |gate: &'static str| Sidecar::serve(&redis, &[flags.as_slice(), &[gate]].concat());
    let sidecar = start("1h 1%");
    put(policies.path(), "ttl.toml", open_ttl(15).as_bytes());
    wait_for_states(&sidecar, &[(1, "active"), (2, "shadowing")]);
    sidecar.process.signal("KILL");
    drop(sidecar);
    // It is compared again, from the start.
    let sidecar = start("1h 1%");
    assert_eq!(ttl_of_a_quote(&mut sidecar.client()), 60);
    wait_for_states(&sidecar, &[(1, "active"), (2, "shadowing")]);
    check(&sidecar, &["reject"], 0, "generation 2 is rejected");
    drop(sidecar);
    let sidecar = start("1h 1%");
    assert_eq!((folder_is(&sidecar).as_str(), ttl_of_a_quote(&mut sidecar.client())), ("set aside", 60));
    put(policies.path(), "ttl.toml", open_ttl(25).as_bytes());
    poll_for("a candidate", || if folder_is(&sidecar) == "in the shadow" { Ok(()) } else { Err(folder_is(&sidecar)) });
    check(&sidecar, &["promote"], 0, "is in force\n");
    assert_eq!((folder_is(&sidecar).as_str(), ttl_of_a_quote(&mut sidecar.client())), ("in force", 25));
    drop(sidecar);
    let sidecar = start("1h 1%");
    assert_eq!((folder_is(&sidecar).as_str(), ttl_of_a_quote(&mut sidecar.client())), ("in force", 25));
}

/// What was taken out of the folder meanwhile is compared too, and what stands in the program itself.
#[test]
fn a_restart_with_an_empty_folder() {
    let (redis, monday) = (Redis::start(), monday());
    let (policies, state) = (folder(&[("ttl.toml", open_ttl(15).as_bytes())]), tempfile::tempdir().unwrap());
    let (place, kept) = (policies.path().to_str().unwrap(), state.path().to_str().unwrap());
    let flags = ["--state-dir", kept, "--clock-offset", &monday, "--policy-gate", "1h 1%"];
    let watching = [flags.as_slice(), &["--policy-folder", place]].concat();
    let sidecar = Sidecar::serve(&redis, &watching);
    wait_for_states(&sidecar, &[(1, "active")]);
    drop(sidecar);
    std::fs::remove_file(policies.path().join("ttl.toml")).unwrap();
    let sidecar = Sidecar::serve(&redis, &watching);
    assert_eq!(ttl_of_a_quote(&mut sidecar.client()), 15);
    wait_for_states(&sidecar, &[(1, "active"), (2, "shadowing")]);
    drop(sidecar);
    // Without a folder nothing is watched, and the start is what puts it in force.
    let sidecar = Sidecar::serve(&redis, &flags);
    assert_eq!((ttl_of_a_quote(&mut sidecar.client()), folder_is(&sidecar).as_str()), (60, "none"));
}

/// What the folder comes to hold just before its candidate is promoted is neither lost nor let through with it.
#[test]
fn a_change_beside_a_promotion() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let (place, monday) = (policies.path().to_str().unwrap(), monday());
    let watching = ["--policy-folder", place, "--policy-poll-ms", "400", "--clock-offset", &monday];
    let sidecar = Sidecar::serve(&redis, &[watching.as_slice(), &["--policy-gate", "1h 1%"]].concat());
    put(policies.path(), "ttl.toml", open_ttl(15).as_bytes());
    wait_for_states(&sidecar, &[(1, "active"), (2, "shadowing")]);
    put(policies.path(), "ttl.toml", open_ttl(25).as_bytes());
    check(&sidecar, &["promote"], 0, "generation 2 is in force");
    wait_for_states(&sidecar, &[(1, "retired"), (2, "active"), (3, "shadowing")]);
    assert_eq!((folder_is(&sidecar).as_str(), ttl_of_a_quote(&mut sidecar.client())), ("in the shadow", 15));
}

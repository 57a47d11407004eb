//! What a restart serves: the last good generation where the folder is broken, and after the process was killed at any
//! step of a rollout.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::Digest;

use super::{check, monday, open_ttl, page, ttl_of_a_quote, wait_for_states};
use crate::harness::policies::{hostile, put, ttl};
use crate::harness::process::{PATIENCE, poll_for};
use crate::harness::{Redis, Sidecar, folder};

fn flags<'a>(policies: &'a Path, state: &'a Path, monday: &'a str) -> Vec<&'a str> {
    let (policies, state) = (policies.to_str().unwrap(), state.to_str().unwrap());
    let log = "info,bellwether::reload=debug,bellwether::rollout=debug";
    let watch = ["--policy-folder", policies, "--policy-poll-ms", "20", "--state-dir", state];
    // Room for what is meant to take long.
    let long = ["--policy-fuel-max", "1000000000000", "--policy-load-fuel-max", "1000000000000"];
    let more = ["--policy-call-ms-max", "60000", "--clock-offset", monday, "--log", log];
    [watch.as_slice(), &long, &more].concat()
}

fn kill(mut sidecar: Sidecar) -> Vec<String> {
    sidecar.process.signal("KILL");
    sidecar.process.wait();
    sidecar.process.lines()
}

#[test]
fn a_broken_folder() {
    let (redis, monday) = (Redis::start(), monday());
    let policies = folder(&[("ttl.toml", open_ttl(15).as_bytes()), ("ttl.wasm", &ttl(1))]);
    let state = tempfile::tempdir().unwrap();
    let flags = flags(policies.path(), state.path(), &monday);
    let start = || Sidecar::serve(&redis, &flags);
    let sidecar = start();
    assert_eq!(ttl_of_a_quote(&mut sidecar.client()), 15);
    let digest = page(&sidecar)["digest"].clone();
    drop(sidecar);
    put(policies.path(), "ttl.wasm", b"broken");
    let sidecar = start();
    // It serves what it served, and says so everywhere.
    assert_eq!((ttl_of_a_quote(&mut sidecar.client()), &page(&sidecar)["digest"]), (15, &digest));
    let why = "the policy folder was refused: policy \"ttl\" (compile): this is not a WebAssembly component";
    let line = format!("the last good generation 1 serves since the start: {why}");
    let logged = sidecar.process.lines().into_iter().find(|line| line.contains("the last good generation 1"));
    assert!(logged.is_some_and(|line| line.contains("ERROR") && line.contains(why)));
    let (status, ready) = sidecar.admin("/readyz");
    assert!(status == 200 && ready.starts_with("ready\n") && ready.contains(&line), "{status} {ready}");
    check(&sidecar, &["status"], 0, &line);
    let gauges = ["bellwether_last_good_served", "bellwether_folder_refused"].map(|name| sidecar.metric(name));
    assert_eq!(gauges, [1.0, 1.0]);
    wait_for_states(&sidecar, &[(1, "active"), (2, "rejected")]);
    // A repair is taken up, and nothing is left of it.
    put(policies.path(), "ttl.wasm", &ttl(2));
    wait_for_states(&sidecar, &[(1, "retired"), (2, "rejected"), (3, "active")]);
    assert_eq!(sidecar.admin("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(sidecar.metric("bellwether_last_good_served"), 0.0);
    // The same again keeps its number.
    drop(sidecar);
    let sidecar = start();
    wait_for_states(&sidecar, &[(1, "retired"), (3, "active")]);
    // What is kept is damaged: the newest that is whole serves.
    drop(sidecar);
    put(policies.path(), "ttl.wasm", b"broken");
    let damaged = std::fs::read_dir(state.path().join("objects")).unwrap().map(|entry| entry.unwrap().path());
    let damaged: Vec<_> = damaged.filter(|path| std::fs::read(path).unwrap() == ttl(2)).collect();
    std::fs::write(&damaged[0], b"damaged").unwrap();
    let sidecar = start();
    wait_for_states(&sidecar, &[(1, "active"), (4, "rejected")]);
    assert!(sidecar.process.lines().iter().any(|line| line.contains("what was kept of generation 3 is damaged")));
}

#[test]
fn without_a_last_good_one() {
    let (redis, monday) = (Redis::start(), monday());
    let policies = folder(&[("ttl.wasm", b"broken")]);
    let state = tempfile::tempdir().unwrap();
    let mut process = {
        let flags = flags(policies.path(), state.path(), &monday);
        let upstream = format!("redis://127.0.0.1:{}", redis.port);
        Sidecar::begin("serve", &[&["--upstream", &upstream], flags.as_slice()].concat(), &[])
    };
    assert_eq!(process.wait().code(), Some(1));
    let said = process.lines().join("\n");
    assert!(said.contains("policy \"ttl\" (compile): this is not a WebAssembly component"), "{said}");
}

#[test]
fn what_was_gone_back_from_stays_there() {
    let (redis, monday) = (Redis::start(), monday());
    let policies = folder(&[]);
    let state = tempfile::tempdir().unwrap();
    let flags = flags(policies.path(), state.path(), &monday);
    let start = || Sidecar::serve(&redis, &flags);
    let sidecar = start();
    put(policies.path(), "ttl.toml", open_ttl(15).as_bytes());
    wait_for_states(&sidecar, &[(1, "retired"), (2, "active")]);
    check(&sidecar, &["rollback"], 0, "generation 1 is in force");
    poll_for("what is kept", || {
        let kept = std::fs::read_to_string(state.path().join("generations.json")).unwrap();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        if kept["active"] == 1 { Ok(()) } else { Err(kept.to_string()) }
    });
    kill(sidecar);
    // However often it restarts.
    kill(start());
    let sidecar = start();
    assert_eq!(ttl_of_a_quote(&mut sidecar.client()), 60);
    assert_eq!(page(&sidecar)["folder"]["is"], "set aside");
    // And forward again, to what an earlier process loaded.
    check(&sidecar, &["rollback", "2"], 0, "SIDECAR: generation 2 is in force\n");
    assert_eq!(ttl_of_a_quote(&mut sidecar.client()), 15);
    check(&sidecar, &["rollback", "1"], 0, "generation 1 is in force");
    kill(sidecar);
    // A folder that changed meanwhile counts again.
    put(policies.path(), "ttl.toml", open_ttl(25).as_bytes());
    let sidecar = start();
    assert_eq!(
        (ttl_of_a_quote(&mut sidecar.client()), page(&sidecar)["folder"]["is"].as_str()),
        (25, Some("in force"))
    );
}

/// A step of a rollout: files that make it take long, the line after which the process is killed, and one that must not
/// have come by then.
struct Step {
    files: Vec<(&'static str, Vec<u8>)>,
    reached: &'static str,
    not_yet: &'static str,
    /// A file of the state folder in whose place there is a pipe that nobody reads: who opens it waits for ever.
    stuck: Option<String>,
}

/// A component with so many bytes that say nothing, of which each costs time to read, to hash and to keep.
fn large_ttl() -> Vec<u8> {
    const BYTES: usize = 48 << 20;
    let mut bytes = ttl(3);
    // A custom section: its id, its size in LEB128, a name, and the rest.
    let mut size = BYTES;
    bytes.push(0);
    while size > 0x7f {
        bytes.push(u8::try_from(size & 0x7f).unwrap() | 0x80);
        size >>= 7;
    }
    bytes.push(u8::try_from(size).unwrap());
    let mut filling = vec![7_u8; BYTES];
    filling[..2].copy_from_slice(&[1, b'x']);
    bytes.extend(filling);
    bytes
}

const SLOW_CASE: &[u8] = b"[[case]]\nname = \"slow\"\nrule = \"r\"\nkey = \"h:loop\"\nnow = \"2026-11-23T10:00:00Z\"\n\
    expect = { after-ms = 1 }\n";

fn steps() -> Vec<Step> {
    let hostile =
        |file: &'static str, content: &[u8]| vec![("hostile.wasm", hostile().to_vec()), (file, content.to_vec())];
    let large = || vec![("ttl.wasm", large_ttl()), ("ttl.toml", open_ttl(25).into_bytes())];
    let step = |files, reached, not_yet| Step { files, reached, not_yet, stuck: None };
    let quick = || vec![("ttl.wasm", ttl(4)), ("ttl.toml", open_ttl(25).into_bytes())];
    let object: String = sha2::Sha256::digest(ttl(4)).iter().map(|byte| format!("{byte:02x}")).collect();
    let kept = |stuck, reached| Step { stuck: Some(stuck), ..step(quick(), reached, "generation 2 is kept") };
    vec![
        step(large(), "the policy folder changed; reading it", "generation 2 is read"),
        step(large(), "generation 2 is read", "generation 2 is compiled"),
        step(hostile("hostile.toml", b"[settings]\nconfigure = \"loop\""), "generation 2 is linked", "2 is configured"),
        step(hostile("hostile.cases.toml", SLOW_CASE), "generation 2 is configured", "2 is self-tested"),
        kept(format!("objects/.{object}"), "generation 1 → 2"),
        kept(format!("objects/.{object}"), "generation 2 is being kept"),
        kept(".generations.json".to_owned(), "generation 2 is being kept"),
    ]
}

/// Killed there, with the folder broken afterwards: the restart serves the last good generation.
#[test]
fn killed_at_each_step() {
    let (redis, monday) = (Redis::start(), monday());
    for step in steps() {
        let policies = folder(&[("ttl.toml", open_ttl(15).as_bytes())]);
        let state = tempfile::tempdir().unwrap();
        let flags = flags(policies.path(), state.path(), &monday);
        let sidecar = Sidecar::serve(&redis, &flags);
        let pipe = step.stuck.as_ref().map(|stuck| state.path().join(stuck));
        if let Some(pipe) = &pipe {
            assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        }
        step.files.iter().for_each(|(name, content)| put(policies.path(), name, content));
        let deadline = std::time::Instant::now() + PATIENCE;
        while !sidecar.process.lines().iter().any(|line| line.contains(step.reached)) {
            assert!(std::time::Instant::now() < deadline, "{}: {:#?}", step.reached, sidecar.process.lines());
            std::thread::yield_now();
        }
        let lines = kill(sidecar);
        assert!(!lines.iter().any(|line| line.contains(step.not_yet)), "killed too late: {lines:#?}");
        pipe.into_iter().for_each(|pipe| std::fs::remove_file(pipe).unwrap());
        put(policies.path(), "namespaces.toml", b"broken");
        let sidecar = Sidecar::serve(&redis, &flags);
        let serves = ttl_of_a_quote(&mut sidecar.client());
        assert_eq!(serves, 15, "{}\n{:#?}", step.reached, sidecar.process.lines());
        let (_, ready) = sidecar.admin("/readyz");
        assert!(ready.contains("the last good generation"), "{}: {ready}", step.reached);
        // Nothing half written stays.
        let objects = std::fs::read_dir(state.path().join("objects")).unwrap();
        let half = objects.map(|entry| entry.unwrap().file_name()).find(|name| name.to_str().unwrap().starts_with('.'));
        assert_eq!(half, None, "{}", step.reached);
    }
}

/// Killed while a candidate is compared, and while it is promoted: a restart serves it only once it was kept.
#[test]
fn killed_with_a_candidate() {
    let (redis, monday) = (Redis::start(), monday());
    let object: String = sha2::Sha256::digest(open_ttl(25)).iter().map(|byte| format!("{byte:02x}")).collect();
    let (object, list) = (format!("objects/.{object}"), ".generations.json".to_owned());
    // Whether it is promoted, and the file at which keeping it stops.
    for (is_promoted, stuck) in [(false, None), (true, Some(object)), (true, Some(list)), (true, None)] {
        let policies = folder(&[("ttl.toml", open_ttl(15).as_bytes())]);
        let (state, mine) = (tempfile::tempdir().unwrap(), folder(&[("ttl.toml", open_ttl(25).as_bytes())]));
        let flags = flags(policies.path(), state.path(), &monday);
        let sidecar = Sidecar::serve(&redis, &flags);
        let file = mine.path().join("ttl.toml");
        check(&sidecar, &["shadow", file.to_str().unwrap(), "--for", "1h"], 0, "generation 2 is in the shadow of 1");
        assert_eq!(ttl_of_a_quote(&mut sidecar.client()), 15);
        poll_for("a comparison", || match &page(&sidecar)["shadow"] {
            found if found["differing"] == 1 => Ok(()),
            found => Err(found.to_string()),
        });
        let pipe = stuck.as_ref().map(|stuck| state.path().join(stuck));
        if let Some(pipe) = &pipe {
            assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        }
        let reached = match (is_promoted, &pipe) {
            (false, _) => "generation 2 is shadowing",
            (true, Some(_)) => "generation 2 is being kept",
            (true, None) => "generation 2 is kept",
        };
        let lines = std::thread::scope(|scope| {
            if is_promoted {
                // It ends with the process.
                scope.spawn(|| super::rollout(&sidecar, &["promote"]));
            }
            poll_for(reached, || match sidecar.process.lines() {
                lines if lines.iter().any(|line| line.contains(reached)) => Ok(()),
                lines => Err(lines.join("\n")),
            });
            sidecar.process.signal("KILL");
            sidecar.process.lines()
        });
        drop(sidecar);
        let is_kept = is_promoted && pipe.is_none();
        assert_eq!(lines.iter().any(|line| line.contains("generation 2 is kept")), is_kept, "{lines:#?}");
        pipe.into_iter().for_each(|pipe| std::fs::remove_file(pipe).unwrap());
        put(policies.path(), "namespaces.toml", b"broken");
        let sidecar = Sidecar::serve(&redis, &flags);
        let expect = if is_kept { 25 } else { 15 };
        assert_eq!(ttl_of_a_quote(&mut sidecar.client()), expect, "{reached} {stuck:?}");
        let (_, ready) = sidecar.admin("/readyz");
        assert!(ready.contains("the last good generation"), "{reached} {stuck:?}: {ready}");
    }
}

//! A plain proxy at once, and as before afterwards.

use std::path::Path;

use crate::harness::process::poll_for;
use crate::harness::{Client, Redis, Sidecar, folder, run};

const RULES: &[u8] = b"[settings]\ndefaults = false\njson = \"refuse\"\n\
    [settings.rules.near]\nprefix = \"n:\"\nnear_ms = 3600000\nttl_policy = \"ttl\"\n\
    [settings.rules.old]\nprefix = \"o:\"\nttl_policy = \"ttl\"\nlease_ms = 60000\nstale_ms = 60000\n\
    [settings.rules.closed]\nprefix = \"c:\"\naccess = \"denied\"\n";

fn bypass(sidecar: &Sidecar, is: &str, expect: &str) {
    let output = run(&["bypass", is, &format!("127.0.0.1:{}", sidecar.admin_port)], Path::new("."));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains(expect), "{said}");
}

fn check(client: &mut Client, command: &str, expect: &str) {
    assert_eq!(client.ask(command), expect, "{command}");
}

/// Asks for a key until its value comes from memory.
fn make_near(sidecar: &Sidecar, client: &mut Client, key: &str) {
    let hits = || sidecar.metric("bellwether_near_reads_total{rule=\"near\",result=\"hit\"}");
    let before = hits();
    poll_for("a value from memory", || {
        let got = client.ask(&format!("GET {key}"));
        if hits() > before { Ok(()) } else { Err(got) }
    });
}

#[test]
fn a_plain_proxy() {
    let redis = Redis::start();
    let ttl = b"[settings.namespaces.default]\nfixed_ttl_ms = 3600000";
    let policies = folder(&[("namespaces.toml", RULES), ("ttl.toml", ttl)]);
    let state = tempfile::tempdir().unwrap();
    let (policies, kept) = (policies.path().to_str().unwrap(), state.path().to_str().unwrap());
    let flags = ["--policy-folder", policies, "--state-dir", kept, "--unmatched-keys", "refuse", "--workers", "1"];
    let mut sidecar = Sidecar::serve(&redis, &flags);
    let (mut client, mut direct) = (sidecar.client(), redis.client());
    check(&mut client, "SET n:1 1", "+OK");
    check(&mut client, "TTL n:1", ":3600");
    make_near(&sidecar, &mut client, "n:1");
    assert!(client.ask("SET c:1 1").starts_with("-"), "access is denied");
    assert!(client.ask("SET u:1 1").starts_with("-"), "no rule covers it");

    bypass(&sidecar, "on", "bypass is on");
    bypass(&sidecar, "on", "bypass was on already");
    let hits = sidecar.metric("bellwether_near_reads_total{rule=\"near\",result=\"hit\"}");
    // Nothing is refused, no lifetime is given, no value checked, nothing comes from memory, nothing is kept beside.
    for key in ["n:1", "n:2", "o:1", "c:1", "u:1"] {
        check(&mut client, &format!("SET {key} no-json"), "+OK");
        check(&mut client, &format!("TTL {key}"), ":-1");
        check(&mut client, &format!("GET {key}"), "$7\r\nno-json");
        check(&mut client, &format!("GET {key}"), "$7\r\nno-json");
    }
    check(&mut direct, "DBSIZE", ":5");
    // Past the sidecar.
    check(&mut direct, "SET n:1 3", "+OK");
    check(&mut client, "GET n:1", "$1\r\n3");
    assert_eq!(sidecar.metric("bellwether_near_reads_total{rule=\"near\",result=\"hit\"}"), hits);
    // It shows.
    assert_eq!(sidecar.admin("/readyz"), (200, "ready\nbypass is on: policies are out of the path\n".to_owned()));
    assert_eq!(sidecar.metric("bellwether_bypass"), 1.0);
    assert_eq!(sidecar.policies()["bypass"], true);

    // It outlives the process.
    sidecar.process.signal("KILL");
    sidecar.process.wait();
    let sidecar = Sidecar::serve(&redis, &flags);
    let mut client = sidecar.client();
    check(&mut client, "SET n:3 no-json", "+OK");
    check(&mut client, "TTL n:3", ":-1");
    assert!(sidecar.process.lines().iter().any(|line| line.contains("bypass is on, as it was when the process ended")));

    bypass(&sidecar, "off", "bypass is off");
    check(&mut client, "GET n:1", "$1\r\n3");
    check(&mut client, "SET n:3 3", "+OK");
    check(&mut client, "TTL n:3", ":3600");
    make_near(&sidecar, &mut client, "n:3");
    assert!(client.ask("SET n:3 no-json").starts_with("-"), "values are checked again");
    assert_eq!((sidecar.admin("/readyz").1.as_str(), sidecar.metric("bellwether_bypass")), ("ready\n", 0.0));
}

/// Nobody is given from memory what was there before a write in between, by whatever way.
#[test]
fn memory_stays_true() {
    let redis = Redis::start();
    let policies = folder(&[("namespaces.toml", RULES)]);
    let sidecar = Sidecar::serve(&redis, &["--policy-folder", policies.path().to_str().unwrap(), "--workers", "1"]);
    let mut client = sidecar.client();
    for key in ["n:here", "n:past"] {
        check(&mut client, &format!("SET {key} 1"), "+OK");
        make_near(&sidecar, &mut client, key);
    }
    bypass(&sidecar, "on", "bypass is on");
    check(&mut client, "SET n:here 2", "+OK");
    check(&mut redis.client(), "SET n:past 2", "+OK");
    bypass(&sidecar, "off", "bypass is off");
    check(&mut client, "GET n:here", "$1\r\n2");
    poll_for("what was written past the sidecar", || match client.ask("GET n:past") {
        two if two == "$1\r\n2" => Ok(()),
        got => Err(got),
    });
}

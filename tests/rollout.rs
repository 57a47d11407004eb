//! Rolling policies out: generations with their states and reasons, going back, what a restart serves, plain proxying,
//! a fleet, and the admin server's requests behind all of it.

mod api;
mod bypass;
mod gate;
mod restart;
mod shadow;

use std::path::Path;

use serde_json::Value;

use crate::harness::policies::{put, ttl};
use crate::harness::process::poll_for;
use crate::harness::{Client, Redis, Sidecar, folder, run, run_with};

/// Monday morning in Mumbai, whenever the test runs: quotes live for a minute.
fn monday() -> String {
    let at: jiff::Timestamp = "2026-11-23T10:00:00+05:30".parse().unwrap();
    format!("{}s", at.as_second() - jiff::Timestamp::now().as_second())
}

/// A sidecar that looks at its folder often.
fn serve(redis: &Redis, policies: &Path, more: &[&str]) -> Sidecar {
    let (policies, monday) = (policies.to_str().unwrap(), monday());
    let flags = ["--policy-folder", policies, "--policy-poll-ms", "20", "--clock-offset", &monday, "--log", "info"];
    Sidecar::serve(redis, &[&flags, more].concat())
}

/// Settings by which a quote lives for so long.
fn open_ttl(seconds: u64) -> String {
    format!("[settings.namespaces.\"fyntrix:general\"]\nopen_ttl_ms = {seconds}000\n")
}

/// The lifetime that a new quote gets now, in seconds.
fn ttl_of_a_quote(client: &mut Client) -> i64 {
    assert_eq!(client.ask("SET fyntrix:general:quote {}"), "+OK");
    client.ask("TTL fyntrix:general:quote").trim_start_matches(':').parse().unwrap()
}

/// The page behind it all.
fn page(sidecar: &Sidecar) -> Value {
    let (status, body) = sidecar.admin("/rollout");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// What `bellwether rollout` prints of a sidecar, and its exit code.
fn rollout(sidecar: &Sidecar, args: &[&str]) -> (i32, String) {
    let address = format!("127.0.0.1:{}", sidecar.admin_port);
    let place: &[&str] = if ["status", "history"].contains(&args[0]) { &[&address] } else { &["--address", &address] };
    let output = run(&[&["rollout"], args, place].concat(), Path::new("."));
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap().replace(&address, "SIDECAR"))
}

fn check(sidecar: &Sidecar, args: &[&str], code: i32, expect: &str) {
    let (got, said) = rollout(sidecar, args);
    assert!(got == code && said.contains(expect), "{args:?}: {got}, and {said}; expected {code} and {expect}");
}

/// Number and state of each generation, the oldest first.
fn states(sidecar: &Sidecar) -> Vec<(u64, String)> {
    let page = page(sidecar);
    let of = |of: &Value| (of["generation"].as_u64().unwrap(), of["state"].as_str().unwrap().to_owned());
    page["generations"].as_array().unwrap().iter().map(of).collect()
}

fn wait_for_states(sidecar: &Sidecar, expect: &[(u64, &str)]) {
    let expect: Vec<_> = expect.iter().map(|(number, state)| (*number, (*state).to_owned())).collect();
    poll_for(&format!("{expect:?}"), || {
        let got = states(sidecar);
        if got == expect { Ok(()) } else { Err(format!("{got:?}\n{}", sidecar.process.lines().join("\n"))) }
    });
}

#[test]
fn there_and_back() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let sidecar = serve(&redis, policies.path(), &[]);
    let mut client = sidecar.client();
    assert_eq!(ttl_of_a_quote(&mut client), 60);
    check(&sidecar, &["rollback"], 1, "there is no earlier generation; those that can be gone back to: none");

    put(policies.path(), "ttl.toml", open_ttl(15).as_bytes());
    wait_for_states(&sidecar, &[(1, "retired"), (2, "active")]);
    assert_eq!(ttl_of_a_quote(&mut client), 15);
    check(&sidecar, &["status"], 0, "in force");

    // Back: the folder holds what was gone back from, and is left alone.
    check(&sidecar, &["rollback"], 0, "SIDECAR: generation 1 is in force; the policy folder holds something else");
    assert_eq!(ttl_of_a_quote(&mut client), 60);
    check(&sidecar, &["rollback", "1"], 1, "generation 1 is in force");
    check(&sidecar, &["rollback", "7"], 1, "generation 7 is not kept; those that can be gone back to: 2");
    check(&sidecar, &["status"], 0, "the policy folder is set aside: an operator put another generation in force");
    // Written anew, with what it held: nothing changes.
    put(policies.path(), "ttl.toml", format!("{}# Again.\n", open_ttl(15)).as_bytes());
    poll_for("the look", || {
        let looked = sidecar.process.lines().iter().any(|line| line.contains("holds still what was set aside"));
        if looked { Ok(()) } else { Err("nothing".to_owned()) }
    });
    assert_eq!((ttl_of_a_quote(&mut client), page(&sidecar)["folder"]["is"].as_str()), (60, Some("set aside")));
    // Something else: it is taken up.
    put(policies.path(), "ttl.toml", open_ttl(25).as_bytes());
    wait_for_states(&sidecar, &[(1, "retired"), (2, "retired"), (3, "active")]);
    assert_eq!((ttl_of_a_quote(&mut client), page(&sidecar)["folder"]["is"].as_str()), (25, Some("in force")));
    // To any that is kept, one of them compiled again.
    check(&sidecar, &["rollback", "2"], 0, "generation 2 is in force");
    assert_eq!(ttl_of_a_quote(&mut client), 15);
    check(&sidecar, &["rollback", "3"], 0, "SIDECAR: generation 3 is in force\n");
    assert_eq!((ttl_of_a_quote(&mut client), page(&sidecar)["folder"]["is"].as_str()), (25, Some("in force")));
    let (_, history) = rollout(&sidecar, &["history"]);
    let lines: Vec<_> = history.lines().skip(1).collect();
    assert!(lines[0].contains("3  active") && lines[1].contains("2  retired"), "{history}");
    assert!(lines[1].ends_with("folder; rolled back to generation 3"), "{history}");
    assert_eq!(sidecar.metric("bellwether_generation"), 3.0);
}

#[test]
fn uploads() {
    let redis = Redis::start();
    let (policies, mine) = (folder(&[]), folder(&[]));
    let sidecar = serve(&redis, policies.path(), &["--rollout-history-max", "3"]);
    let mut client = sidecar.client();
    let file = |name: &str, content: &[u8]| {
        put(mine.path(), name, content);
        mine.path().join(name).to_str().unwrap().to_owned()
    };
    check(&sidecar, &["publish", &file("ttl.toml", open_ttl(15).as_bytes())], 0, "SIDECAR: generation 2 is in force");
    assert_eq!(ttl_of_a_quote(&mut client), 15);
    check(&sidecar, &["publish", &file("ttl.toml", open_ttl(15).as_bytes())], 1, "generation 2 is made of the same");
    // A file is laid over what is in force, whatever the folder holds: the settings stay.
    check(&sidecar, &["publish", &file("ttl.wasm", &ttl(1))], 0, "generation 3 is in force");
    assert_eq!(ttl_of_a_quote(&mut client), 15);
    // What is broken is refused with its stage and its reason, and the one in force serves on.
    let refused = "generation 4 was refused: policy \"ttl\" (configure): refused its settings: unknown setting \"x\"";
    check(&sidecar, &["publish", &file("ttl.toml", b"[settings]\nx = 1")], 1, refused);
    check(&sidecar, &["publish", &file("other.wasm", b"")], 1, "policy \"other\" (compile): this is not a WebAssembly");
    check(&sidecar, &["publish", &file("notes.txt", b"")], 1, "notes.txt is no file of a policy folder");
    check(&sidecar, &["publish", "nowhere"], 1, "cannot read nowhere");
    assert_eq!((ttl_of_a_quote(&mut client), sidecar.metric("bellwether_generations_refused_total")), (15, 2.0));
    let page = page(&sidecar);
    let rejected = &page["generations"].as_array().unwrap()[3];
    assert_eq!((&rejected["rejected_at"], &rejected["policy"]), (&"configure".into(), &"ttl".into()), "{page:#}");
    // A folder takes the place of all of it; an empty one leaves the standard policies.
    let empty = folder(&[]);
    check(&sidecar, &["publish", empty.path().to_str().unwrap()], 0, "SIDECAR: generation 6 is in force\n");
    assert_eq!(ttl_of_a_quote(&mut client), 60);
    // No more are kept than may be.
    wait_for_states(&sidecar, &[(2, "retired"), (3, "retired"), (4, "rejected"), (5, "rejected"), (6, "active")]);
    check(&sidecar, &["rollback", "1"], 1, "generation 1 is not kept; those that can be gone back to: 2, 3");
}

#[test]
fn a_fleet() {
    let redis = Redis::start();
    let (one, two) = (folder(&[]), folder(&[]));
    let (first, second) = (serve(&redis, one.path(), &[]), serve(&redis, two.path(), &[]));
    let gone = crate::harness::process::free_port();
    let address = |port: u16| format!("127.0.0.1:{port}");
    let status = |ports: &[u16]| {
        let addresses: Vec<_> = ports.iter().map(|port| address(*port)).collect();
        let args: Vec<_> = ["rollout", "status"].into_iter().chain(addresses.iter().map(String::as_str)).collect();
        let output = run(&args, Path::new("."));
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let ports = [first.admin_port, second.admin_port];
    let (code, said) = status(&ports);
    assert!(code == 0 && said.lines().count() == 3, "{code}: {said}");
    put(two.path(), "ttl.toml", open_ttl(15).as_bytes());
    wait_for_states(&second, &[(1, "retired"), (2, "active")]);
    let (code, said) = status(&ports);
    assert!(code == 2 && said.ends_with("they do not serve the same\n"), "{code}: {said}");
    let (code, said) = status(&[ports[0], gone, ports[1]]);
    let line = said.lines().nth(2).unwrap();
    assert!(code == 1 && line.contains(&address(gone)) && line.contains("no sidecar tells at"), "{code}: {said}");
    // The same by their own count, and the same in fact.
    put(one.path(), "ttl.toml", open_ttl(15).as_bytes());
    wait_for_states(&first, &[(1, "retired"), (2, "active")]);
    assert_eq!(status(&ports).0, 0);
    // One that is a plain proxy does not serve the same.
    let bypassed = run(&["bypass", "on", &address(ports[0])], Path::new("."));
    assert!(bypassed.status.success(), "{bypassed:?}");
    let (code, said) = status(&ports);
    assert!(code == 2 && said.contains("bypass is on: policies are out of the path"), "{code}: {said}");
    let variables = [("BELLWETHER_ADMIN_LISTEN", address(ports[1]))];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let json = run_with(&variables, &["rollout", "status", "--json"], Path::new("."));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json[0]["rollout"]["generation"], &json[0]["address"]), (&2.into(), &variables[0].1.into()));
}

//! The policy folder of a running sidecar: what is put there comes into force, what is broken does not, and clients
//! notice neither.

mod broken;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::Digest;

use crate::harness::policies::{put, ttl};
use crate::harness::process::{PATIENCE, poll_until, poll_within};
use crate::harness::{Client, Redis, Sidecar, encoded, folder};

/// A sidecar that looks at its folder often.
fn serve(redis: &Redis, policies: &Path) -> Sidecar {
    serve_looking(redis, policies, "20")
}

/// A sidecar that looks at its folder every so many milliseconds.
fn serve_looking(redis: &Redis, policies: &Path, poll_ms: &str) -> Sidecar {
    let log = "info,bellwether::reload=debug";
    // Monday morning in Mumbai, whenever the test runs: quotes live for a minute.
    let at: jiff::Timestamp = "2026-11-23T10:00:00+05:30".parse().unwrap();
    let offset = format!("{}s", at.as_second() - jiff::Timestamp::now().as_second());
    let policies = policies.to_str().unwrap();
    let flags = ["--policy-folder", policies, "--policy-poll-ms", poll_ms, "--log", log, "--clock-offset", &offset];
    Sidecar::serve(redis, &flags)
}

/// What the admin server says of the generation in force.
fn generation(sidecar: &Sidecar) -> u64 {
    sidecar.policies()["generation"].as_u64().unwrap()
}

fn wait_for_generation(sidecar: &Sidecar, number: u64) {
    poll_until(&format!("generation {number}"), || generation(sidecar) == number);
}

/// The lifetime that a new quote gets now, in seconds.
fn ttl_of_a_quote(client: &mut Client, key: &str) -> String {
    assert_eq!(client.ask(&format!("SET {key} {{}}")), "+OK", "{key}");
    client.ask(&format!("TTL {key}"))
}

/// Puts files in a folder as a ConfigMap is changed: the files are links through `..data`, a link that moves.
fn swap_link(folder: &Path, files: &[(&str, &[u8])], number: usize) {
    let version = format!("..version-{number}");
    std::fs::create_dir(folder.join(&version)).unwrap();
    for (name, content) in files {
        std::fs::write(folder.join(&version).join(name), content).unwrap();
    }
    let link = |to: &Path, at: &str| {
        std::os::unix::fs::symlink(to, folder.join(".link")).unwrap();
        std::fs::rename(folder.join(".link"), folder.join(at)).unwrap();
    };
    link(Path::new(&version), "..data");
    for (name, _) in files {
        if !folder.join(name).is_symlink() {
            link(&Path::new("..data").join(name), name);
        }
    }
}

/// Writes and reads as fast as it can until it is told to stop: how many times it ran.
fn benchmark(port: u16, stop: &AtomicBool) -> usize {
    let commands: [&[&str]; 2] =
        [&["SET", "fyntrix:general:__rand_int__", "{\"a\":1}"], &["GET", "fyntrix:general:__rand_int__"]];
    let mut runs = 0;
    for command in commands.iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
        let mut benchmark = Command::new("redis-benchmark");
        let port = port.to_string();
        benchmark.args(["-h", "127.0.0.1", "-p", &port, "-n", "20000", "-c", "50", "-P", "16", "-r", "500"]);
        let output = benchmark.args(["--csv"]).args(*command).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !text.to_lowercase().contains("error"), "{command:?}: {text}");
        runs += 1;
    }
    runs
}

/// A pipeline of commands whose replies are known, until it is told to stop: how many batches it sent.
fn known_replies(sidecar: &Sidecar, stop: &AtomicBool) -> usize {
    let mut client = sidecar.client();
    let mut batch = 0;
    while !stop.load(Ordering::Relaxed) {
        let (mut sent, mut expect) = (Vec::new(), String::new());
        for number in 0..32 {
            let value = format!("{{\"batch\":{batch},\"number\":{number}}}");
            let (key, scores) = (format!("fyntrix:general:known:{number}"), format!("fyntrix:scores:{number}"));
            sent.extend(encoded(&["SET", &key, &value]));
            sent.extend(encoded(&["GET", &key]));
            expect += &format!("+OK\r\n${}\r\n{value}\r\n", value.len());
            sent.extend(encoded(&["DEL", &scores]));
            sent.extend(encoded(&["HSET", &scores, "f", &batch.to_string()]));
            sent.extend(encoded(&["NO-SUCH"]));
            expect += if batch == 0 { ":0\r\n" } else { ":1\r\n" };
            expect += ":1\r\n-ERR unknown command 'NO-SUCH', with args beginning with: \r\n";
        }
        client.send(&sent);
        let got: Vec<u8> = (0..32 * 5).flat_map(|_| client.reply()).collect();
        assert_eq!(String::from_utf8_lossy(&got), expect, "batch {batch}, sent:\n{}", sent.escape_ascii());
        batch += 1;
    }
    batch
}

/// Tells the load to stop when it is dropped, also where the test fails.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_hundred_generations_under_load() {
    const REPLACEMENTS: usize = 100;
    /// Every so many of them are another component, which gives way to the load while it is compiled; the others are
    /// other settings, for which nothing is compiled.
    const COMPONENT_EVERY: usize = 10;
    /// Components of the first generation.
    const STANDARD: usize = 3;
    let redis = Redis::start();
    let policies = folder(&[("ttl.wasm", &ttl(0))]);
    let mut sidecar = serve(&redis, policies.path());
    let digest = |build| sha2::Sha256::digest(ttl(build)).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let stop = AtomicBool::new(false);
    let port = sidecar.port;
    std::thread::scope(|scope| {
        let stopping = Stopping(&stop);
        let load = scope.spawn(|| benchmark(port, &stop));
        let replies = scope.spawn(|| known_replies(&sidecar, &stop));
        let ended = || load.is_finished() || replies.is_finished();
        for build in 1..=REPLACEMENTS {
            let component = build / COMPONENT_EVERY;
            if build % COMPONENT_EVERY > 0 {
                let settings = format!("settings.namespaces.\"fyntrix:general\".open_ttl_ms = {}", 60_000 + build);
                put(policies.path(), "ttl.toml", settings.as_bytes());
            } else {
                let content = ttl(component);
                match component % 3 {
                    0 => swap_link(policies.path(), &[("ttl.wasm", &content)], build),
                    1 => put(policies.path(), "ttl.wasm", &content),
                    _ => std::fs::write(policies.path().join("ttl.wasm"), &content).unwrap(),
                }
            }
            let line = format!("generation {build} → {} (ttl sha256:{:.8}", build + 1, digest(component));
            // What compiles gives way to the load, which takes all cores.
            poll_within(8 * PATIENCE, &line, || {
                let told = |logged: &String| logged.contains(&line) || logged.contains("ERROR");
                ended() || sidecar.process.lines().iter().any(told)
            });
            let wrong: Vec<_> = sidecar.process.lines().into_iter().filter(|line| line.contains("ERROR")).collect();
            assert!(wrong.is_empty(), "{line}: {wrong:#?}");
        }
        drop(stopping);
        for (what, thread) in [("the benchmark", load), ("known replies", replies)] {
            let times = thread.join().unwrap_or_else(|_| panic!("{what} failed"));
            assert!(times > 1, "{what} ran {times} times");
        }
    });
    assert_eq!(generation(&sidecar), 1 + REPLACEMENTS as u64);
    let compiled = sidecar.metric("bellwether_components_compiled_total");
    let found = sidecar.metric("bellwether_components_found_total");
    assert_eq!(compiled + found, (STANDARD + REPLACEMENTS / COMPONENT_EVERY) as f64);
    sidecar.process.signal("TERM");
    assert_eq!(sidecar.process.wait().code(), Some(0));
}

#[test]
fn what_is_changed_comes_into_force() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let mut sidecar = serve(&redis, policies.path());
    let mut client = sidecar.client();
    let embedded = digest_of_ttl(&sidecar);
    assert_eq!(ttl_of_a_quote(&mut client, "fyntrix:general:a"), ":60");

    put(policies.path(), "ttl.toml", b"[settings.namespaces.\"fyntrix:general\"]\nopen_ttl_ms = 15000");
    wait_for_generation(&sidecar, 2);
    assert_eq!(ttl_of_a_quote(&mut client, "fyntrix:general:b"), ":15");

    put(policies.path(), "ttl.toml", b"[settings.namespaces.\"fyntrix:general\"]\n# The same.\nopen_ttl_ms = 15000");
    sidecar.process.wait_for("look at the same settings", |line| line.contains("the policies did not").then_some(()));
    assert_eq!(generation(&sidecar), 2);

    // A file of the folder goes before the component of the same name that is part of the program.
    put(policies.path(), "ttl.wasm", &ttl(1));
    wait_for_generation(&sidecar, 3);
    assert_ne!(digest_of_ttl(&sidecar), embedded);
    assert_eq!(ttl_of_a_quote(&mut client, "fyntrix:general:c"), ":15");

    std::fs::remove_file(policies.path().join("ttl.wasm")).unwrap();
    wait_for_generation(&sidecar, 4);
    assert_eq!(digest_of_ttl(&sidecar), embedded);
    std::fs::remove_file(policies.path().join("ttl.toml")).unwrap();
    wait_for_generation(&sidecar, 5);
    assert_eq!(ttl_of_a_quote(&mut client, "fyntrix:general:d"), ":60");
}

fn digest_of_ttl(sidecar: &Sidecar) -> serde_json::Value {
    let policies = sidecar.policies();
    let ttl = policies["policies"].as_array().unwrap().iter().find(|policy| policy["name"] == "ttl");
    ttl.unwrap()["digest"].clone()
}

/// The files of a ConfigMap change together, or not at all; and the same under other names of version is no change.
#[test]
fn a_config_map() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let rules =
        |name: &str| format!("[settings.rules.map]\nprefix = \"map:\"\nttl_policy = \"{name}\"\nmarket = \"XNSE\"");
    let slow = |seconds: usize| {
        format!("component = \"ttl\"\n[settings.namespaces.default]\nopen_ttl_ms = {seconds}_000").into_bytes()
    };
    // Neither file loads without the other.
    let put = |name: &str, seconds: usize, build: usize, number: usize| {
        let (file, rules) = (format!("{name}.toml"), rules(name));
        let files = [(file.as_str(), slow(seconds)), ("namespaces.toml", rules.into()), ("ttl.wasm", ttl(build))];
        swap_link(policies.path(), &files.each_ref().map(|(name, content)| (*name, content.as_slice())), number);
    };
    put("one", 100, 1, 0);
    let mut sidecar = serve(&redis, policies.path());
    let mut client = sidecar.client();
    assert_eq!(ttl_of_a_quote(&mut client, "map:a"), ":100");
    for number in 1..20 {
        put("one", 100 + number, number, number);
        wait_for_generation(&sidecar, number as u64 + 1);
        assert_eq!(ttl_of_a_quote(&mut client, "map:a"), format!(":{}", 100 + number));
    }
    assert_eq!(sidecar.metric("bellwether_generations_refused_total"), 0.0);
    put("one", 119, 19, 20);
    sidecar.process.wait_for("look at the same files", |line| line.contains("the policies did not").then_some(()));
    assert_eq!((generation(&sidecar), sidecar.metric("bellwether_generations_total")), (20, 20.0));
    // A version whose files do not fit together is refused as a whole, and the next one that does is taken up.
    let lost = rules("two");
    swap_link(policies.path(), &[("namespaces.toml", lost.as_bytes()), ("one.toml", &slow(7))], 21);
    poll_until("the refusal", || !sidecar.policies()["last_refused"].is_null());
    assert_eq!(ttl_of_a_quote(&mut client, "map:a"), ":119");
    put("one", 200, 1, 22);
    poll_until("the repair", || ttl_of_a_quote(&mut client, "map:a") == ":200");
    assert_eq!(sidecar.policies()["last_refused"], serde_json::Value::Null);
}

/// Whoever writes a file in its place empties it first, which is no change of policies while the file is being written.
#[test]
fn a_file_that_is_written_in_its_place() {
    let redis = Redis::start();
    let settings = |seconds| format!("[settings.namespaces.\"fyntrix:general\"]\nopen_ttl_ms = {seconds}_000");
    let policies = folder(&[("ttl.toml", settings(15).as_bytes())]);
    let file = policies.path().join("ttl.toml");
    let sidecar = serve_looking(&redis, policies.path(), "1000");
    let mut client = sidecar.client();
    std::fs::write(&file, "").unwrap();
    assert_eq!(ttl_of_a_quote(&mut client, "fyntrix:general:a"), ":15");
    std::fs::write(&file, settings(25)).unwrap();
    wait_for_generation(&sidecar, 2);
    assert_eq!(ttl_of_a_quote(&mut client, "fyntrix:general:b"), ":25");
    // One that stays empty counts after a while.
    let (emptied, sidecar) = (std::time::Instant::now(), serve_looking(&redis, policies.path(), "50"));
    std::fs::write(&file, "").unwrap();
    wait_for_generation(&sidecar, 2);
    assert!(emptied.elapsed().as_millis() >= 8 * 50, "{:?}", emptied.elapsed());
    assert_eq!(ttl_of_a_quote(&mut sidecar.client(), "fyntrix:general:c"), ":60");
}

#[test]
fn one_component_serves_two_policies() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let sidecar = serve(&redis, policies.path());
    let mut client = sidecar.client();
    put(policies.path(), "slow.toml", b"component = \"ttl\"\n[settings.namespaces.default]\nopen_ttl_ms = 600_000");
    wait_for_generation(&sidecar, 2);
    put(
        policies.path(),
        "namespaces.toml",
        b"[settings.rules.slow]\nprefix = \"slow:\"\nttl_policy = \"slow\"\nmarket = \"XNSE\"",
    );
    wait_for_generation(&sidecar, 3);
    assert_eq!(ttl_of_a_quote(&mut client, "slow:a"), ":600");
    assert_eq!(ttl_of_a_quote(&mut client, "fyntrix:general:a"), ":60");

    // A policy that decides for a rule cannot go.
    std::fs::remove_file(policies.path().join("slow.toml")).unwrap();
    poll_until("the refusal", || !sidecar.policies()["last_refused"].is_null());
    assert_eq!(ttl_of_a_quote(&mut client, "slow:b"), ":600");

    put(policies.path(), "namespaces.toml", b"");
    // The one that was refused had a number of its own.
    wait_for_generation(&sidecar, 5);
    assert_eq!(sidecar.policies()["last_refused"], serde_json::Value::Null);
    assert_eq!(ttl_of_a_quote(&mut client, "slow:c"), ":-1");
}

//! `bellwether top` and the page behind it: the busy and the large keys of a running sidecar, and what its rules'
//! memory is good for.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::process::{free_port, poll_for};
use crate::harness::{Client, Redis, Sidecar, encoded, folder, run};

const KEYS: usize = 500;
/// Those that are asked for more than the rest.
const BUSY: usize = 10;

/// A sidecar that keeps the values of keys that begin with `n:`.
fn serve(redis: &Redis, policies: &tempfile::TempDir) -> Sidecar {
    let flags = ["--policy-folder", policies.path().to_str().unwrap(), "--workers", "2"];
    Sidecar::serve(redis, &flags)
}

fn policies() -> tempfile::TempDir {
    let rules =
        b"[settings]\ndefaults = false\njson = \"any\"\n[settings.rules.near]\nprefix = \"n:\"\nnear_ms = 3600000\n\
                  [settings.rules.far]\nprefix = \"f:\"";
    folder(&[("namespaces.toml", rules), ("ttl.toml", b"[settings.namespaces.default]\nfixed_ttl_ms = 3600000")])
}

/// What `bellwether top` prints of a sidecar.
fn top(sidecar: &Sidecar, flags: &[&str]) -> String {
    let address = format!("127.0.0.1:{}", sidecar.admin_port);
    let output = run(&[&["top", &address], flags].concat(), Path::new("."));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(sidecar: &Sidecar, flags: &[&str]) -> Value {
    let told: Value = serde_json::from_str(&top(sidecar, &[&["--json"], flags].concat())).unwrap();
    told[0].clone()
}

/// How often a key is asked for in a round, as in natural loads: few very often, and many now and then.
fn weight(number: usize) -> usize {
    if number <= BUSY { 400 / number } else { 8 }
}

/// One round, its keys mixed: each comes as often as its weight says.
fn round(client: &mut Client, prefix: &str) {
    let mut keys: Vec<_> = (1..=KEYS).flat_map(|number| (0..weight(number)).map(move |turn| (turn, number))).collect();
    keys.sort_by_key(|(turn, number)| (turn * 7919 + number * 104_729) % 65_537);
    for keys in keys.chunks(100) {
        let bytes: Vec<u8> =
            keys.iter().flat_map(|(_, number)| encoded(&["GET", &format!("{prefix}{number}")])).collect();
        client.send(&bytes);
        keys.iter().for_each(|_| drop(client.reply()));
    }
}

fn names(told: &Value) -> Vec<&str> {
    told["keys"].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap()).collect()
}

#[test]
fn the_busiest_keys() {
    let (redis, policies) = (Redis::start(), policies());
    let sidecar = serve(&redis, &policies);
    // One for each worker.
    let mut clients = [sidecar.client(), sidecar.client()];
    for number in 1..=BUSY {
        assert_eq!(clients[0].ask(&format!("SET n:{number} {number}")), "+OK");
    }
    let told = poll_for("the busiest keys", || {
        clients.iter_mut().for_each(|client| round(client, "n:"));
        let told = json(&sidecar, &["--limit", "10"]);
        let mut found = names(&told);
        found.sort_by_key(|name| name[2..].parse::<usize>().unwrap());
        let expect: Vec<_> = (1..=BUSY).map(|number| format!("n:{number}")).collect();
        let is_counted = told["commands_per_second"].as_f64() > Some(0.0);
        if found == expect && is_counted { Ok(told) } else { Err(format!("{told:#}")) }
    });
    let first = &told["keys"][0];
    assert_eq!((&first["key"], &first["rule"], &first["db"]), (&"n:1".into(), &"near".into(), &0.into()));
    assert_eq!((&first["near"], &first["bytes"], &first["key_bytes"]), (&true.into(), &Value::Null, &3.into()));
    let rate = |value: &Value, name: &str| value[name].as_f64().unwrap();
    assert!(rate(first, "reads_per_second") > 2.0 * rate(&told["keys"][9], "reads_per_second"), "{told:#}");
    let rule = |name: &str| told["rules"].as_array().unwrap().iter().find(|rule| rule["rule"] == name).unwrap();
    assert!(rate(rule("near"), "commands_per_second") > 0.0 && rate(rule("far"), "commands_per_second") == 0.0);
    assert!(rate(rule("near"), "hit_ratio") > 0.1 && rule("far")["hit_ratio"].is_null(), "{told:#}");
    assert_eq!(rule("near")["decisions"], BUSY);
    assert!(rate(&told, "commands_per_second") > 0.0 && told["clients"] == 2, "{told:#}");
    assert!(told["near"]["values"].as_u64().unwrap() >= BUSY as u64, "{told:#}");
    let upstream = &told["upstream"];
    assert_eq!(
        (&upstream["server"], &upstream["state"]),
        (&format!("127.0.0.1:{}", redis.port).into(), &"ready".into())
    );
    let text = top(&sidecar, &["--once", "--limit", "3"]);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].contains(" commands/s, 2 clients, ") && lines[0].contains(": ready, "), "{text}");
    assert_eq!(lines[1], "commands/s   hit ratio   decisions  rule");
    assert!(lines[2].ends_with("          10  near") && lines[2].contains(" %"), "{text}");
    assert_eq!((lines[3], lines.len()), ("   reads/s    writes/s       bytes  near  key", 7), "{text}");
    assert!(lines[4].contains("  yes   n:1"), "{text}");
}

#[test]
fn the_largest_values() {
    let (redis, policies) = (Redis::start(), policies());
    let sidecar = serve(&redis, &policies);
    let mut client = sidecar.client();
    for number in 1..=100_usize {
        let value = "x".repeat(number * 3_000);
        assert_eq!(client.ask_words(&[b"SET", format!("f:{number}").as_bytes(), value.as_bytes()]), "+OK");
    }
    let parts: Vec<String> = (0..1_000).map(|part| format!("{part:0>1000}")).collect();
    let words = ["RPUSH", "f:list"].into_iter().chain(parts.iter().map(String::as_str));
    client.send(&encoded(&words.collect::<Vec<_>>()));
    assert_eq!(client.reply(), b":1000\r\n");
    assert_eq!(client.ask_words(&[b"MSET", b"f:\xff\n", &[b'x'; 500_000], b"f:small", b"x"]), "+OK");
    // A copy in memory, of a value that another wrote.
    let value = [b'x'; 400_000];
    assert_eq!(redis.client().ask_words(&[b"SET", b"n:large", &value]), "+OK");
    let told = poll_for("large values", || {
        client.ask("GET n:large");
        let told = json(&sidecar, &["--by", "bytes", "--limit", "4"]);
        if names(&told) == ["f:list", "f:\\xff\\n", "n:large", "f:100"] { Ok(told) } else { Err(format!("{told:#}")) }
    });
    let bytes: Vec<_> = (0..4).map(|place| told["keys"][place]["bytes"].as_u64().unwrap()).collect();
    assert_eq!((bytes[0], bytes[1], bytes[3]), (1_000_000, 500_000, 300_000), "{told:#}");
    let near: Vec<_> = (0..4).map(|place| told["keys"][place]["near"] == true).collect();
    assert_eq!(near, [false, false, true, false]);
    let written = json(&sidecar, &["--by", "writes", "--limit", "1000"]);
    assert_eq!(names(&written).len(), 103, "{written:#}");
    assert!(top(&sidecar, &["--once", "--by", "bytes", "--limit", "1"]).contains("     1000000  no    f:list"));
}

#[test]
fn what_cannot_be_told() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &[]);
    let check = |path: &str, status: u16, expect: &str| {
        let (got, body) = sidecar.admin(path);
        assert!(got == status && body.contains(expect), "{path}: {got} {body}");
    };
    check("/top", 200, "\"keys\": []");
    check("/top?limit=0", 400, "limit is a number from 1 to 1000, and not \"0\"");
    check("/top?by=size", 400, "there is limit=N and by=reads|writes|bytes, and not \"by=size\"");
    let fails = |args: &[&str], code: i32, expect: &str| {
        let output = run(args, Path::new("."));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && told.contains(expect), "{args:?}: {told}");
    };
    let (gone, server) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", redis.port));
    fails(&["top", &gone, "--once"], 1, &format!("no sidecar tells at {gone}: Connection refused"));
    fails(&["top", &server, "--once"], 1, &format!("no sidecar tells at {server}: "));
    fails(&["top", "--admin-listen", "off", "--once"], 1, "admin_listen is off; name the ADDRESS");
    fails(&["top", &gone], 1, "top draws on a terminal, and the output is none; --once prints it once");
    fails(&["top", "--by", "size"], 64, "invalid value 'size' for '--by <by>'");
}

#[test]
fn the_live_page() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &[]);
    assert_eq!(sidecar.client().ask("GET live"), "$-1");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/market/watch.py");
    let mut command = Command::new("python3");
    let address = format!("127.0.0.1:{}", sidecar.admin_port);
    command.arg(script).args(["\\x1b[H", "2", env!("CARGO_BIN_EXE_bellwether"), "top", &address]);
    let output = command.env("TERM", "xterm").env("NO_COLOR", "1").output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.starts_with("\x1b[?1049h") && shown.ends_with("\x1b[?1049l"), "{shown:?}");
    assert!(shown.contains("  no    live"), "{shown:?}");
}

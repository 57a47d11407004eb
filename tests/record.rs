//! `bellwether record` and the page behind it: what is decided, as it is decided, to whoever asked to see it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::harness::policies::hostile;
use crate::harness::process::poll_for;
use crate::harness::{Client, Redis, Sidecar, encoded, folder, run};

const RULES: &str = "
    [settings.rules.hostile]
    prefix = \"hostile:\"
    ttl_policy = \"hostile\"
    fallback_ttl_ms = 7777
    [settings.rules.strict]
    prefix = \"strict:\"
    ttl_policy = \"hostile\"
    fallback_ttl_ms = \"none\"
    [settings.rules.free]
    prefix = \"free:\"
    ttl_policy = \"none\"
";

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn serve(redis: &Redis) -> (Sidecar, tempfile::TempDir) {
    let policies = folder(&[("hostile.wasm", hostile()), ("namespaces.toml", RULES.as_bytes())]);
    let flags = ["--policy-folder", policies.path().to_str().unwrap(), "--workers", "2"];
    (Sidecar::serve(redis, &flags), policies)
}

fn listens(sidecar: &Sidecar, listeners: f64) {
    poll_for(&format!("{listeners} listeners"), || match sidecar.metric("bellwether_record_listeners") {
        told if told == listeners => Ok(()),
        told => Err(told.to_string()),
    });
}

/// Records while something is written: what the verb said, and what it was.
pub fn record(sidecar: &Sidecar, there: &Path, flags: &[&str], write: impl FnOnce(&mut Client)) -> (String, i32) {
    let address = format!("127.0.0.1:{}", sidecar.admin_port);
    std::thread::scope(|scope| {
        let recording = scope.spawn(|| run(&[&["record", &address], flags].concat(), there));
        listens(sidecar, 1.0);
        write(&mut sidecar.client());
        let output = recording.join().unwrap();
        listens(sidecar, 0.0);
        (text(&output), output.status.code().unwrap())
    })
}

fn lines(trace: &str) -> Vec<Value> {
    trace.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn set(client: &mut Client, words: &str) -> String {
    client.ask(&format!("SET {words}"))
}

#[test]
fn a_trace_tells_what_was_decided_from_what() {
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis);
    let there = folder(&[]);
    // Nobody listens: nothing is recorded.
    assert_eq!(set(&mut sidecar.client(), "hostile:well:before x"), "+OK");
    let flags = ["--count", "7", "--out", "trace.jsonl"];
    let (said, code) = record(&sidecar, there.path(), &flags, |client| {
        for words in [
            "hostile:well:1 x",
            "hostile:well:1 x",
            "fyntrix:general:quote:RELIANCE {}",
            "free:1 x",
            "hostile:unreachable:1 x",
            "hostile:zero:1 x PX 100000",
            "unmatched x",
        ] {
            assert_eq!(set(client, words), "+OK", "{words}");
        }
        assert!(set(client, "strict:error:1 x").starts_with("-ERR"));
        assert_eq!(client.ask("HSET hostile:well:hash a b"), ":1");
    });
    assert_eq!((code, said.starts_with("trace.jsonl: 7 decisions in ")), (0, true), "{said}");
    assert!(said.ends_with(", 0 dropped\n"), "{said}");
    let path = there.path().join("trace.jsonl");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let told = lines(&std::fs::read_to_string(path).unwrap());
    let head = &told[0];
    assert_eq!(
        (&head["bellwether_trace"], &head["generation"], &head["sample"]),
        (&1.into(), &1.into(), &"1/1".into())
    );
    let field = |name: &str| told[1..].iter().map(|line| line[name].clone()).collect::<Vec<_>>();
    assert_eq!(field("id"), (1..=7).map(Value::from).collect::<Vec<_>>());
    assert_eq!(
        field("key"),
        [
            "hostile:well:1",
            "hostile:well:1",
            "fyntrix:general:quote:RELIANCE",
            "hostile:unreachable:1",
            "hostile:zero:1",
            "strict:error:1",
            "hostile:well:hash"
        ]
    );
    assert_eq!(field("memoized"), [false, true, false, false, false, false, false]);
    assert_eq!(field("rule"), ["hostile", "hostile", "fyntrix:general", "hostile", "hostile", "strict", "hostile"]);
    let null = Value::Null;
    assert_eq!(field("fallback_ms"), [&null, &null, &null, &7777.into(), &7777.into(), &null, &null].map(Clone::clone));
    assert_eq!(field("command")[6], "hash");
    check_lines(&sidecar, &told);
}

/// What the trace says of each decision.
fn check_lines(sidecar: &Sidecar, told: &[Value]) {
    let null = Value::Null;
    let (first, again, quote, trap, zero, strict) = (&told[1], &told[2], &told[3], &told[4], &told[5], &told[6]);
    assert_eq!((&first["decision"]["after_ms"], &first["decision"]["reason"]), (&60_000.into(), &"as asked".into()));
    assert_eq!((&again["decision"]["after_ms"], &again["fuel"], &again["ns"]), (&60_000.into(), &null, &null));
    assert!(first["fuel"].as_u64() > Some(0) && first["ns"].as_u64() > Some(0), "{first:#}");
    assert_eq!(
        (&first["policy"], &first["namespace"], &first["market"]),
        (&"hostile".into(), &"hostile:".into(), &null)
    );
    assert_eq!(first["digest"], sidecar.policies()["policies"][0]["digest"]);
    let market = &quote["market"];
    assert_eq!((&market["name"], &quote["value_bytes"]), (&"XNSE".into(), &2.into()), "{quote:#}");
    let (since, until) = (&market["session"]["since_ms"], &market["session"]["until_ms"]);
    let now = quote["now_ms"].as_i64();
    assert!(since.as_i64() <= now && now < until.as_i64(), "{quote:#}");
    assert!(trap["failure"].as_str().unwrap().contains("unreachable") && trap["decision"].is_null(), "{trap:#}");
    assert!(trap["fuel"].as_u64() > Some(0), "{trap:#}");
    assert_eq!(
        (&zero["client_ttl_ms"], &zero["failure"]),
        (&100_000.into(), &"expiry is 0 ms from now; at least 1 is allowed".into())
    );
    assert_eq!(strict["failure"], "no answer");
    assert_eq!(sidecar.metric("bellwether_records_total"), 7.0);
}

#[test]
fn a_sample_is_one_of_so_many_and_ends_in_time() {
    const WRITES: usize = 10_000;
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis);
    let there = folder(&[]);
    let (said, code) = record(&sidecar, there.path(), &["--for", "3s", "--sample", "1/20"], |client| {
        let batch: Vec<u8> =
            (0..WRITES).flat_map(|n| encoded(&["SET", &format!("hostile:well:{}", n % 50), "x"])).collect();
        client.send(&batch);
        (0..WRITES).for_each(|_| assert_eq!(client.reply(), b"+OK\r\n"));
    });
    let told = lines(&said);
    assert_eq!((code, &told[0]["sample"]), (0, &"1/20".into()), "{said}");
    let count = told.len() - 1;
    assert!((300..700).contains(&count), "{count} of {WRITES}, a twentieth of which is {}", WRITES / 20);
}

#[test]
fn who_does_not_read_holds_nobody_up() {
    const WRITES: usize = 60_000;
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis);
    let mut reader = Client::connect(sidecar.admin_port);
    reader.send(b"GET /record HTTP/1.1\r\nHost: sidecar\r\n\r\n");
    listens(&sidecar, 1.0);
    let mut client = sidecar.client();
    let key = "k".repeat(1000);
    let write = encoded(&["SET", &format!("hostile:well:{key}"), "x"]);
    // More than the queue and the socket hold.
    for _ in 0..WRITES / 1000 {
        client.send(&write.repeat(1000));
        (0..1000).for_each(|_| assert_eq!(client.reply(), b"+OK\r\n"));
    }
    poll_for("records that were dropped", || match sidecar.metric("bellwether_records_dropped_total") {
        0.0 => Err(sidecar.metric("bellwether_records_total").to_string()),
        _ => Ok(()),
    });
    drop(reader);
    listens(&sidecar, 0.0);
    assert_eq!(set(&mut client, "hostile:well:after x"), "+OK");
    assert_eq!(sidecar.metric("bellwether_records_total"), WRITES as f64);
}

#[test]
fn what_cannot_be_recorded() {
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis);
    let there = folder(&[("trace.jsonl", b"of before")]);
    let address = format!("127.0.0.1:{}", sidecar.admin_port);
    let check = |args: &[&str], expect: &str| {
        let output = run(&[&["record"], args].concat(), there.path());
        assert_eq!(output.status.code(), Some(1), "{args:?}\n{}", text(&output));
        assert!(text(&output).contains(expect), "{args:?}\nno {expect:?} in\n{}", text(&output));
    };
    check(&[&address, "--sample", "2/3"], "--sample takes 1/N, such as 1/100, and not \"2/3\"");
    check(&[&address, "--for", "ten"], "--for: \"ten\" is not a span such as 10s, 5m or 1h 30m");
    check(&["--admin-listen", "off"], "admin_listen is off; name the ADDRESS");
    check(&["127.0.0.1:1", "--out", "trace.jsonl"], "no sidecar tells at 127.0.0.1:1: ");
    assert_eq!(std::fs::read(there.path().join("trace.jsonl")).unwrap(), b"of before");
    assert_eq!(sidecar.admin("/record?sample=0").0, 400);
    assert_eq!(sidecar.admin_request("HEAD", "/record"), (200, String::new()));
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let mut reader = Client::connect(sidecar.admin_port);
            reader.send(b"GET /record HTTP/1.1\r\nHost: sidecar\r\n\r\n");
            reader
        })
        .collect();
    listens(&sidecar, 8.0);
    check(&[&address], "it says 503: 8 listen to decisions already; end one of them");
    drop(readers);
    listens(&sidecar, 0.0);
}

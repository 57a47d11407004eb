//! The admin server and the log: what an operator sees of a running sidecar.

use crate::harness::policies::put;
use crate::harness::process::poll_for;
use crate::harness::{Client, Redis, Sidecar, encoded, folder, run};

/// The buckets of a histogram of calls that take nanoseconds to microseconds, with time for one that does not end.
const CALL_SECONDS_FIRST_MAX: f64 = 1e-6;

const KNOWN: &str = "there are /healthz, /readyz, /metrics, /policies, /record, /rollout, /top and /openapi.json, \
                     which describes them and what can be changed\n";

fn check(sidecar: &Sidecar, request: &str, expect: (u16, &str)) {
    let (method, path) = request.split_once(' ').unwrap();
    let (status, body) = sidecar.admin_request(method, path);
    assert_eq!((status, body.as_str()), expect, "{request}");
}

#[test]
fn pages() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &[]);
    check(&sidecar, "GET /healthz", (200, "ok\n"));
    check(&sidecar, "GET /readyz", (200, "ready\n"));
    check(&sidecar, "HEAD /healthz", (200, ""));
    check(&sidecar, "GET /nothing", (404, KNOWN));
    check(&sidecar, "POST /policies", (405, "this is only told: GET and HEAD are allowed\n"));
    check(&sidecar, "DELETE /healthz", (405, "GET, HEAD and POST are allowed\n"));
    let policies = sidecar.policies();
    let names: Vec<_> = policies["policies"].as_array().unwrap().iter().map(|policy| &policy["name"]).collect();
    assert_eq!(names, ["market-hours", "namespaces", "ttl"], "{policies:#}");
    assert_eq!((policies["generation"].as_u64(), policies["rules"].as_u64()), (Some(1), Some(10)), "{policies:#}");
    for policy in policies["policies"].as_array().unwrap() {
        let digest = policy["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).unwrap();
        assert_eq!(digest.len(), 64, "{policy:#}");
        assert!(policy["cases_passed"].as_u64() > Some(0), "{policy:#}");
    }
}

#[test]
fn readiness_follows_the_server() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &[]);
    let port = redis.port.to_string();
    let readiness = |expect: (u16, &str)| {
        poll_for(&format!("{expect:?}"), || match sidecar.admin("/readyz") {
            (status, body) if (status, body.as_str()) == expect => Ok(()),
            got => Err(format!("{got:?}")),
        });
    };
    readiness((200, "ready\n"));
    redis.process.signal("KILL");
    readiness((503, "the server is lost\n"));
    assert_eq!(sidecar.admin("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(sidecar.metric("bellwether_ready"), 0.0);
    let _again = Redis::start_with(&["--port", &port]);
    readiness((200, "ready\n"));
    assert_eq!(sidecar.metric("bellwether_ready"), 1.0);
    assert!(sidecar.metric("bellwether_upstream_losses_total") >= 1.0);
    poll_for("a reply", || match sidecar.client().ask("PING") {
        pong if pong == "+PONG" => Ok(()),
        got => Err(got),
    });
}

/// OpenMetrics text, read as strictly as the format is: every sample belongs to a family that was described before.
fn parsed(text: &str) -> Vec<(String, f64)> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut families: Vec<(String, String)> = Vec::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            assert!(families.iter().all(|(known, _)| known != name), "{name} is described twice");
            families.push((name.to_owned(), kind.to_owned()));
        } else if !line.starts_with("# ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let (family, kind) = families.last().unwrap();
            let name = sample.split('{').next().unwrap();
            let end = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line} stands under {family}"));
            let ends: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(ends.contains(&end), "{line} is no sample of a {kind}");
            samples.push((sample.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line} has no number"))));
        }
    }
    samples
}

fn traffic(client: &mut Client) {
    for command in ["SET fyntrix:general:a {}", "SET fyntrix:general:b nonsense", "SET fyntrix:context:c {} EX 5"] {
        assert_eq!(client.ask(command), "+OK", "{command}");
    }
    assert_eq!(client.ask("GET fyntrix:general:a"), "$2\r\n{}");
    assert!(client.ask("NO-SUCH-COMMAND").starts_with("-ERR unknown command"));
}

#[test]
fn metrics() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &["--workers", "1"]);
    let mut client = sidecar.client();
    let before = parsed(&sidecar.admin("/metrics").1);
    traffic(&mut client);
    let after = parsed(&sidecar.admin("/metrics").1);
    let of = |samples: &[(String, f64)], name: &str| {
        samples
            .iter()
            .find(|(sample, _)| sample == name)
            .map(|(_, value)| *value)
            .unwrap_or_else(|| panic!("no {name}"))
    };
    let moved = |name: &str, expect: f64| {
        assert_eq!(of(&after, name) - of(&before, name), expect, "{name}: {} before", of(&before, name));
    };
    moved("bellwether_commands_total{kind=\"write\"}", 3.0);
    moved("bellwether_commands_total{kind=\"read\"}", 1.0);
    moved("bellwether_commands_total{kind=\"unknown\"}", 1.0);
    moved("bellwether_decisions_total{rule=\"fyntrix:general\",outcome=\"decided\"}", 1.0);
    moved("bellwether_decisions_total{rule=\"fyntrix:general\",outcome=\"remembered\"}", 1.0);
    moved("bellwether_decisions_total{rule=\"fyntrix:general\",outcome=\"not-json\"}", 1.0);
    moved("bellwether_decisions_total{rule=\"fyntrix:general\",outcome=\"fallback\"}", 0.0);
    moved("bellwether_decisions_total{rule=\"fyntrix:context\",outcome=\"client\"}", 1.0);
    moved("bellwether_policy_call_seconds_count", 1.0);
    for (gauge, expect) in [("ready", 1.0), ("generation", 1.0), ("folder_refused", 0.0), ("clients", 1.0)] {
        assert_eq!(of(&after, &format!("bellwether_{gauge}")), expect, "{gauge}");
    }
    assert!(of(&after, "bellwether_upstream_connections") >= 1.0);
    let bounds: Vec<f64> = after
        .iter()
        .filter_map(|(sample, _)| {
            sample.strip_prefix("bellwether_policy_call_seconds_bucket{le=\"")?.strip_suffix("\"}")
        })
        .map(|bound| if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() })
        .collect();
    assert!(bounds.is_sorted() && bounds.len() > 5, "{bounds:?}");
    assert!(bounds[0] <= CALL_SECONDS_FIRST_MAX && bounds[bounds.len() - 1].is_infinite(), "{bounds:?}");
    assert!(of(&after, "bellwether_policy_call_seconds_sum") > 0.0);
}

/// Where calendars end: of the markets that rules name, and of those that have been asked about; and symbols that
/// are not known.
#[test]
fn metrics_of_markets() {
    const DAY_MS: i64 = 86_400_000;
    let horizon = |market: &str| -> i64 {
        let output = run(&["market", market, "--at", "2026-11-23T12:00:00Z", "--json"], std::path::Path::new("."));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json["horizon"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
    };
    let (home, tokyo) = (horizon("XNSE"), horizon("XTKS"));
    // Half a day into the third day after the end: days are told apart from hours, whenever this runs.
    let now = home + 2 * DAY_MS + DAY_MS / 2;
    let offset = now - jiff::Timestamp::now().as_millisecond();
    let sign = if offset < 0 { "-" } else { "" };
    let offset = format!("--clock-offset={sign}PT{}S", offset.abs() / 1000);
    let rules = b"[settings.rules.app]\nprefix = \"app:\"\nmarket = \"XBOMB\"\njson = \"any\"";
    let policies = folder(&[("namespaces.toml", rules)]);
    let flags =
        ["--workers", "1", &offset, "--policy-poll-ms", "20", "--policy-folder", policies.path().to_str().unwrap()];
    let sidecar = Sidecar::start("dev", &flags);
    let days = |market: &str| {
        let sample = format!("bellwether_market_horizon_days{{market=\"{market}\"}}");
        parsed(&sidecar.admin("/metrics").1).into_iter().find(|(name, _)| *name == sample).map(|(_, days)| days)
    };
    assert_eq!((days("XNSE"), days("XBOMB"), days("XTKS"), days("XNYS")), (Some(-3.0), None, None, None));
    let told = |generation: u64, expect: &str| {
        let lines = sidecar.process.lines();
        let told = lines.iter().any(|line| line.contains("markets of rules: ") && line.contains(expect));
        assert!(told, "no {expect:?} of generation {generation} in {lines:#?}");
    };
    told(1, "XBOMB: no policy knows a market of this name; did you mean XBOM?; XNSE: the calendar ended 2 days ago (");
    let mut client = sidecar.client();
    for key in
        ["fyntrix:general:7203.T", "fyntrix:general:a", "fyntrix:general:b", "fyntrix:general:c:persist", "app:d"]
    {
        assert_eq!(client.ask(&format!("SET {key} {{}}")), "+OK", "{key}");
    }
    let tokyo_days = (tokyo - now).div_euclid(DAY_MS) as f64;
    assert_eq!((days("XTKS"), days("XBOMB"), days("XNSE")), (Some(tokyo_days), None, Some(-3.0)));
    let unknown = |rule: &str| sidecar.metric(&format!("bellwether_unknown_symbols_total{{rule=\"{rule}\"}}"));
    assert_eq!((unknown("fyntrix:general"), unknown("fyntrix:scores")), (2.0, 0.0));
    let (_, page) = sidecar.admin("/metrics");
    for without in ["app", "fyntrix:general:persist", "fyntrix:context"] {
        assert!(!page.contains(&format!("unknown_symbols_total{{rule=\"{without}\"}}")), "{without}: {page}");
    }
    // Another generation names another market, and knows what has been asked about.
    let rules = b"[settings.rules.app]\nprefix = \"app:\"\nmarket = \"XNYS\"\njson = \"any\"";
    put(policies.path(), "namespaces.toml", rules);
    poll_for("the market of the new rules", || match days("XNYS") {
        Some(_) => Ok(()),
        None => Err(sidecar.process.lines().join("\n")),
    });
    assert_eq!((days("XTKS"), days("XNSE")), (Some(tokyo_days), Some(-3.0)));
}

/// Someone who tries things out is told; a live application is not broken.
#[test]
fn dev_refuses_what_serve_passes_on() {
    let redis = Redis::start();
    let refused = "-ERR bellwether: rule \"fyntrix:general\" takes JSON values, and this one is not JSON; key \
                   \"fyntrix:general:a\" was not touched";
    for (sidecar, expect) in [(Sidecar::serve(&redis, &[]), "+OK"), (Sidecar::dev(&[]), refused)] {
        assert_eq!(sidecar.client().ask("SET fyntrix:general:a {a"), expect);
        assert_eq!(sidecar.metric("bellwether_ready"), 1.0);
    }
}

#[test]
fn logs_are_objects_without_values() {
    const SECRET: &str = "the-value-that-no-log-may-show";
    let redis = Redis::start_with(&["--requirepass", "the-password"]);
    let upstream = format!("redis://:the-password@127.0.0.1:{}", redis.port);
    let mut sidecar = Sidecar::start("serve", &["--upstream", &upstream, "--log-format", "json", "--log", "trace"]);
    let mut client = sidecar.client();
    assert_eq!(client.ask("AUTH the-password"), "+OK");
    let value = format!("\"{SECRET}\"");
    let commands: [&[&str]; 7] = [
        &["SET", "fyntrix:general:a", &value],
        &["SET", "fyntrix:general:b", SECRET],
        &["HSET", "fyntrix:scores:c", SECRET, SECRET],
        &["MSET", "fyntrix:general:d", SECRET, "elsewhere", SECRET],
        &["EVAL", "return ARGV[1]", "0", SECRET],
        &["NO-SUCH", SECRET],
        &["GET", "fyntrix:general:a"],
    ];
    for command in commands {
        client.send(&encoded(command));
        client.reply();
    }
    client.send(format!("*1\r\n!{SECRET}\r\n").as_bytes());
    client.reply();
    sidecar.process.signal("TERM");
    assert_eq!(sidecar.process.wait().code(), Some(0));
    let lines = sidecar.process.lines();
    let objects = lines.iter().filter(|line| line.starts_with('{'));
    let text = lines.iter().filter(|line| !line.starts_with('{'));
    for line in objects {
        let object: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let has = |field: &str| object[field].is_string();
        assert!(has("timestamp") && has("level") && has("message") && has("target"), "{line}");
        assert!(!line.contains(SECRET) && !line.contains("the-password"), "{line}");
    }
    // Only the greeting, on standard output, is for people.
    let known = ["bellwether listens on ", "Now type:", "and then:"];
    let strange: Vec<_> = text.filter(|line| !known.iter().any(|known| line.starts_with(known))).collect();
    assert!(strange.is_empty(), "{strange:#?}");
    let told = "a value is not JSON, and was passed on";
    let not_json = lines.iter().find(|line| line.contains(told)).unwrap_or_else(|| panic!("no {told:?}: {lines:#?}"));
    assert!(not_json.contains("\"prefix\":\"fyntrix:general:\""), "{not_json}");
    assert!(!not_json.contains("fyntrix:general:b"), "{not_json}");
}

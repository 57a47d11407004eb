//! The command line: what each verb prints, where values come from, and how mistakes are told.

use std::path::Path;
use std::process::Output;

use bellwether::config::SETTINGS;

use crate::harness::policies::{empty_component, ttl};
use crate::harness::{folder, run_with};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs with an environment: the exit code, and all that was printed holds what is expected.
fn check(variables: &[(&str, &str)], args: &[&str], folder: &Path, code: i32, expect: &[&str]) -> Output {
    let output = run_with(variables, args, folder);
    let shown = format!("{variables:?} {args:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{shown}");
    for expect in expect {
        assert!(shown.contains(expect), "no {expect:?} in\n{shown}");
    }
    output
}

#[test]
fn check_tells_what_each_policy_is() {
    let digest = |bytes: &[u8]| {
        use sha2::Digest;
        sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let own = ttl(7);
    let settings = b"[settings.namespaces.\"fyntrix:general\"]\nopen_ttl_ms = 5000";
    let policies = folder(&[("ttl.wasm", &own), ("ttl.toml", settings)]);
    let expect = [
        "ttl\n  is         ttl 0.1.0: lifetimes by namespace and market phase".to_owned(),
        format!("ttl.wasm, {} bytes", own.len()),
        format!("digest     sha256:{}", digest(&own)),
        "exports    bellwether:policy/lifecycle@0.1.0, bellwether:policy/ttl@0.1.0".to_owned(),
        "imports    bellwether:policy/".to_owned(),
        "settings   {\"namespaces\":{\"fyntrix:general\":{\"open_ttl_ms\":5000}}}".to_owned(),
        "self-test  no cases are shipped beside it".to_owned(),
        "from       part of this program".to_owned(),
        "cases passed, each on a fresh and on a warm instance".to_owned(),
        "fyntrix:scores:*:persist".to_owned(),
        "ok: 3 policies, 10 rules".to_owned(),
    ];
    let expect: Vec<_> = expect.iter().map(String::as_str).collect();
    check(&[], &["check", "--policy-folder", policies.path().to_str().unwrap()], policies.path(), 0, &expect);
}

#[test]
fn check_tells_what_is_broken() {
    let one = |files: &[(&str, &[u8])], expect: &str| {
        let policies = folder(files);
        let args = ["check", "--policy-folder", policies.path().to_str().unwrap()];
        check(&[], &args, policies.path(), 1, &[expect]);
    };
    one(&[("other.wasm", &empty_component(""))], "REFUSED policy \"other\" (compile): exports none of");
    one(
        &[("ttl.toml", b"[settings]\nx = 1")],
        "REFUSED policy \"ttl\" (configure): refused its settings: unknown setting",
    );
    one(&[("ttl.toml", b"nonsense = 1")], "policy \"ttl\" (read): ");
    one(
        &[("namespaces.toml", b"[settings.rules.a]\nprefix = \"a:\"\nttl_policy = \"b\"")],
        "the policy set (assemble): rule \"a\": there is no policy \"b\" to decide",
    );
}

/// As many as the contract allows, within what loading a policy may cost.
#[test]
fn ten_thousand_rules_load() {
    let rule = |number: u32| format!("[settings.rules.r{number}]\nprefix = \"r{number}:\"\n");
    let rules: String = (0..10_000).map(rule).collect();
    let settings = format!("[settings]\ndefaults = false\n{rules}");
    let policies = folder(&[("namespaces.toml", settings.as_bytes())]);
    let args = ["check", "--policy-folder", policies.path().to_str().unwrap()];
    check(&[], &args, policies.path(), 0, &["ok: 3 policies, 10000 rules"]);
}

/// How far the calendars of the markets in use reach: warnings are no failure.
#[test]
fn check_tells_how_far_calendars_reach() {
    let rules = b"[settings]\ndefaults = false\nsymbols = { defaults = false, suffix = { \".T\" = \"XTKS\" } }\n\
        [settings.rules.home]\nprefix = \"home:\"\nmarket = \"XBOM\"\n\
        [settings.rules.typo]\nprefix = \"typo:\"\nmarket = \"XTKSS\"\n\
        [settings.rules.strange]\nprefix = \"strange:\"\nmarket = \"NOWHERE\"";
    let policies = folder(&[("namespaces.toml", rules)]);
    let output = run_with(&[], &["market", "XBOM", "--json"], policies.path());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let horizon: jiff::Timestamp = json["horizon"].as_str().unwrap().parse().unwrap();
    let end = horizon.to_zoned(jiff::tz::TimeZone::get("Asia/Kolkata").unwrap()).date();
    let before = |days: i64| horizon.checked_sub(jiff::SignedDuration::from_hours(24 * days)).unwrap().to_string();
    let one = |at: &str, expect: &[&str]| {
        let args = ["check", "--policy-folder", policies.path().to_str().unwrap(), "--at", at];
        text(&check(&[], &args, policies.path(), 0, expect).stdout)
    };
    let shown = one(
        &before(59),
        &[
            &format!("WARNING XBOM: the calendar ends in 59 days ({end}); put a newer market-hours.wasm into"),
            "WARNING XTKSS: no policy knows a market of this name; did you mean XTKS?; its keys get",
            "WARNING NOWHERE: no policy knows a market of this name; its keys get the lifetimes that the ttl policy",
            "ok: 3 policies, 3 rules",
        ],
    );
    let line = |name: &str| shown.lines().find(|line| line.starts_with(&format!("  {name} "))).unwrap_or_default();
    assert!(line("XBOM").contains(&format!("   59 days to {end}, ")) && line("XBOM").ends_with(" home"), "{shown}");
    assert!(line("XTKS").ends_with(" the symbol table"), "{shown}");
    assert!(line("XTKSS").contains("not known") && line("XTKSS").ends_with(" typo"), "{shown}");
    // Every market that the standard policies name is known to them.
    let nowhere = folder(&[]);
    let standard = text(&check(&[], &["check"], nowhere.path(), 0, &["\nmarkets\n  24/"]).stdout);
    assert!(!standard.contains("no policy knows a market"), "{standard}");
    let past =
        ["   -3 days to ", "WARNING XBOM: the calendar ended 3 days ago (", "until a newer market-hours.wasm is in"];
    one(&before(-3), &past);
}

#[test]
fn the_strongest_source_wins() {
    let nowhere = folder(&[("b.toml", b"redis_host = \"file\"\nworkers = 3\nclients_max = 5")]);
    let file = nowhere.path().join("b.toml");
    let file = file.to_str().unwrap();
    let from_file = format!("clients_max = 5  # {file}");
    check(
        &[("REDIS_HOST", "general"), ("BELLWETHER_WORKERS", "4")],
        &["config", "--config", file, "--workers", "7"],
        nowhere.path(),
        0,
        &[
            "redis_host = \"general\"  # environment REDIS_HOST",
            "workers = 7  # flag",
            &from_file,
            "redis_port = 6379  # default",
            "log_format = \"text\"  # default",
        ],
    );
    let both = [("REDIS_HOST", "general"), ("BELLWETHER_REDIS_HOST", "own"), ("BELLWETHER_CONFIG", file)];
    let own = "redis_host = \"own\"  # environment BELLWETHER_REDIS_HOST";
    check(&both, &["config"], nowhere.path(), 0, &[own, &from_file, &format!("workers = 3  # {file}")]);
}

#[test]
fn what_config_prints_is_a_configuration() {
    let nowhere = tempfile::tempdir().unwrap();
    let variables = [("REDIS_PASSWORD", "the-secret"), ("BELLWETHER_CLIENT_PASSWORD", "the-secret-too")];
    let upstream = "redis://user:the-third-secret@127.0.0.1:7000/3";
    let args =
        ["config", "--log", "info,bellwether::policy=debug", "--clock-offset", "-3d", "--policy-folder", "a \"b\" é"];
    let whole = check(&variables, &args, nowhere.path(), 0, &["# environment REDIS_PASSWORD"]);
    assert!(!text(&whole.stdout).contains("the-secret"), "{}", text(&whole.stdout));
    let with_url = check(&[], &["config", "--upstream", upstream], nowhere.path(), 0, &["user"]);
    assert!(!text(&with_url.stdout).contains("the-third-secret"), "{}", text(&with_url.stdout));

    std::fs::write(nowhere.path().join("printed.toml"), &whole.stdout).unwrap();
    let again = check(&variables, &["config", "--config", "printed.toml"], nowhere.path(), 0, &[]);
    let values = |output: &Output| -> Vec<String> {
        let printed = text(&output.stdout);
        let set = printed.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        set.map(|line| line.rsplit_once("  # ").unwrap().0.to_owned()).collect()
    };
    assert_eq!(values(&whole), values(&again));
    // A secret that is not shown is not set by what is printed, either.
    std::fs::write(nowhere.path().join("printed.toml"), &with_url.stdout).unwrap();
    for printed in [&whole, &with_url] {
        let table: toml::Table = text(&printed.stdout).parse().unwrap();
        assert!(!table.values().any(|value| value.to_string().contains("not shown")), "{}", text(&printed.stdout));
        let shown: usize = SETTINGS.iter().filter(|setting| text(&printed.stdout).contains(setting.name)).count();
        assert_eq!(shown, SETTINGS.len());
    }
}

#[test]
fn mistakes() {
    let nowhere = folder(&[
        ("unknown.toml", b"worker = 2"),
        ("type.toml", b"workers = \"two\""),
        ("broken.toml", b"workers = "),
        ("range.toml", b"redis_port = 70000"),
    ]);
    let one = |args: &[&str], code: i32, expect: &str| drop(check(&[], args, nowhere.path(), code, &[expect]));
    one(&["config", "--config", "unknown.toml"], 1, "there is no setting worker (unknown.toml); did you mean workers?");
    one(&["config", "--config", "type.toml"], 1, "workers in type.toml is string; it takes an integer");
    one(&["config", "--config", "broken.toml"], 1, "broken.toml is not TOML");
    one(&["config", "--config", "range.toml"], 1, "redis_port (range.toml): \"70000\" is not ");
    one(&["config", "--config", "absent.toml"], 1, "cannot read absent.toml");
    one(&["serve", "--listen", "nowhere"], 1, "listen (flag): \"nowhere\" is not ");
    one(&["serve", "--log", "a=b=c"], 1, "log: \"a=b=c\" is not a filter");
    one(&["explain", "--at", "Monday", "GET", "a"], 1, "\"Monday\" is not an instant with its offset");
    one(&["explain"], 64, "<COMMAND>");
    one(&["no-such-verb"], 64, "no-such-verb");
    one(&["serve", "--no-such-flag"], 64, "--no-such-flag");
    one(&["config", "--worker", "2"], 64, "--workers");
    one(&[], 64, "Usage: bellwether");
    one(&["--help"], 0, "explain");
    one(&["--version"], 0, "bellwether 0.1.0");
}

#[test]
fn help_names_every_setting() {
    let nowhere = tempfile::tempdir().unwrap();
    for verb in ["serve", "dev", "check", "explain", "market", "config"] {
        let help = text(&check(&[], &[verb, "--help"], nowhere.path(), 0, &[]).stdout);
        for setting in SETTINGS {
            let flag = format!("--{} ", setting.name.replace('_', "-"));
            assert!(help.contains(&flag), "{verb} --help has no {flag}");
            assert!(setting.variable.is_empty() || help.contains(setting.variable), "{verb}: {}", setting.variable);
        }
    }
}

//! Values are read again before a market opens, as the policy says when that is.

use super::application::{Application, Does};
use super::{check_told, start, wait_until_ready};
use crate::harness::Sidecar;
use crate::harness::policies::{market, put};
use crate::harness::process::poll_until;

/// How far a sidecar's clock is ahead of ours, so that it is a Monday morning there.
struct Clock(i64);

impl Clock {
    fn new() -> Self {
        let at = "2026-11-23T09:00:00+08:00".parse::<jiff::Timestamp>().unwrap().as_second();
        Self(at - jiff::Timestamp::now().as_second())
    }

    fn flag(&self) -> String {
        format!("{}s", self.0)
    }

    /// A market that opens in so many seconds by that clock, and again on the next day.
    fn sessions(&self, seconds: i64) -> Vec<u8> {
        let open = jiff::Timestamp::now().as_second() + self.0 + seconds;
        let open = jiff::Timestamp::from_second(open).unwrap();
        let sessions = [
            ("first", "2026-11-20T09:30:00+08:00", "2026-11-20T16:00:00+08:00"),
            ("next", &open.to_string(), "2026-11-23T16:00:00+08:00"),
            ("later", "2026-11-24T09:30:00+08:00", "2026-11-24T16:00:00+08:00"),
        ];
        let session = |(name, open, close): (&str, &str, &str)| {
            format!("[settings.markets.XHKG.sessions.{name}]\nopen = {open}\nclose = {close}\n")
        };
        sessions.map(session).concat().into_bytes()
    }
}

#[test]
fn before_a_market_opens() {
    let (redis, policies) = start();
    let clock = Clock::new();
    put(policies.path(), "market-hours.wasm", market());
    put(policies.path(), "market-hours.toml", &clock.sessions(3600));
    let rule = "[[warm]]\npatterns = [\"n:1?\"]\nmarket = \"XHKG\"\nbefore_open_ms = 60000\n\
                [[warm]]\npatterns = [\"n:2?\"]";
    let flags = ["--warm", rule, "--clock-offset", &clock.flag(), "--policy-poll-ms", "20"];
    let mut sidecar = super::serve(&redis, &policies, &flags);
    wait_until_ready(&sidecar);
    check_told(&mut sidecar, "warmed the near cache: 20 of 20 keys of n:1?, n:2?");
    // Written meanwhile, so that what is in memory is not what is read now.
    assert_eq!(redis.client().ask("MSET n:10 new n:20 new"), "+OK");
    // The opening is moved to where it is due at once.
    put(policies.path(), "market-hours.toml", &clock.sessions(50));
    check_told(&mut sidecar, "warmed the near cache before the opening: 10 of 10 keys of n:1? in");
    assert_eq!(sidecar.client().ask("GET n:10"), "$3\r\nnew");
    assert_eq!(sidecar.metric("bellwether_near_reads_total{rule=\"near\",result=\"hit\"}"), 1.0);
    assert_eq!(sidecar.metric("bellwether_warm_runs_total"), 2.0);
    // Another one, and due at its own time.
    put(policies.path(), "market-hours.toml", &clock.sessions(63));
    poll_until("another fill", || sidecar.metric("bellwether_warm_runs_total") == 3.0);
}

/// As it opens all that was closed for ends at once: then the busiest are asked for, by one sidecar.
#[test]
fn as_a_market_opens() {
    let (redis, policies) = start();
    put(policies.path(), "market-hours.wasm", market());
    let clock = Clock::new();
    put(policies.path(), "market-hours.toml", &clock.sessions(3600));
    let application = Application::start(redis.port, Does::Writes);
    let folder = tempfile::tempdir().unwrap();
    let counts = folder.path().join("counts");
    std::fs::write(
        &counts,
        "bellwether counts 1\nrule 1 near%20%28the%20busiest%202%29%20of%20XHKG\n5 n%3A1\n4 n%3A2\n",
    )
    .unwrap();
    let rule = format!(
        "[[warm]]\nnamespace = \"near\"\ntop = 2\nmarket = \"XHKG\"\nbefore_open_ms = 0\nexpires_within_ms = 2000\n\
         url = \"http://127.0.0.1:{}/warm/{{key}}\"",
        application.port
    );
    let counts = counts.to_str().unwrap();
    let flags = ["--warm", &rule, "--clock-offset", &clock.flag(), "--policy-poll-ms", "20"];
    let flags = [&flags[..], &["--warm-counts-file", counts]].concat();
    let begin = || super::serve(&redis, &policies, &flags);
    let mut sidecars: [Sidecar; 2] =
        std::thread::scope(|scope| [scope.spawn(begin), scope.spawn(begin)].map(|begun| begun.join().unwrap()));
    for sidecar in &mut sidecars {
        check_told(sidecar, "warmed the near cache: 2 of 2 keys of near (the busiest 2)");
    }
    // As what lived until the opening.
    let mut client = redis.client();
    assert_eq!((client.ask("PEXPIRE n:1 100"), client.ask("PEXPIRE n:2 100")), (":1".into(), ":1".into()));
    put(policies.path(), "market-hours.toml", &clock.sessions(8));
    for sidecar in &mut sidecars {
        check_told(sidecar, "warmed the near cache before the opening: ");
    }
    assert_eq!(application.asked(), ["GET /warm/n%3A1 HTTP/1.1", "GET /warm/n%3A2 HTTP/1.1"]);
    assert_eq!(sidecars[0].client().ask("GET n:2"), "$5\r\nfresh");
}

#[test]
fn a_market_that_nobody_knows() {
    let (redis, policies) = start();
    let rule = "[[warm]]\npatterns = [\"n:1?\"]\nmarket = \"NOWHERE\"\nbefore_open_ms = 1000";
    let mut sidecar = super::serve(&redis, &policies, &["--warm", rule]);
    wait_until_ready(&sidecar);
    check_told(&mut sidecar, "when NOWHERE opens is not known; no values are read before");
    check_told(&mut sidecar, "market NOWHERE: unknown market");
}

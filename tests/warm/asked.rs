//! The busiest keys are known after a restart, and those that are about to end are asked for, each by one sidecar.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::application::{Application, Does};
use super::{KEYS, check_told, start, wait_until_ready};
use crate::endpoints::certificates::Authority;
use crate::harness::process::{free_port, poll_until};
use crate::harness::{Cluster, Redis, Sidecar};

/// Keys that were read most, the busiest first.
const BUSY: [&str; 6] = ["n:10", "n:11", "n:12", "n:13", "n:14", "n:15"];

/// A Redis and policies as in the other tests, and the counts that a sidecar has kept of [`BUSY`].
struct Stage {
    redis: Redis,
    policies: tempfile::TempDir,
    folder: tempfile::TempDir,
}

impl Stage {
    /// The counts are as a sidecar keeps them.
    fn new() -> Self {
        let (redis, policies) = start();
        let stage = Self { redis, policies, folder: tempfile::tempdir().unwrap() };
        let counted =
            BUSY.iter().enumerate().map(|(place, key)| format!("{} {}\n", 90 - place, key.replace(':', "%3A")));
        let counted: String = counted.collect();
        let text = format!("bellwether counts 1\nrule 0 near%20%28the%20busiest%206%29\n{counted}1 n%3A20\n1 f%3A1\n");
        std::fs::write(stage.counts(), text).unwrap();
        stage
    }

    fn counts(&self) -> PathBuf {
        self.folder.path().join("counts")
    }

    /// A sidecar that warms the busiest keys, with more in its rule.
    fn serve(&self, more: &str) -> Sidecar {
        self.serve_in(more, &[])
    }

    fn serve_in(&self, more: &str, variables: &[(&str, &str)]) -> Sidecar {
        let text = format!(
            "warm_counts_file = {:?}\n[[warm]]\nnamespace = \"near\"\ntop = {}\n{more}\n",
            self.counts(),
            BUSY.len()
        );
        let file = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        std::fs::write(file.path(), text).unwrap();
        let upstream = format!("redis://127.0.0.1:{}", self.redis.port);
        let flags = ["--config", path(file.path()), "--upstream", &upstream, "--policy-folder"];
        Sidecar::start_in("serve", &[flags.as_slice(), &[path(self.policies.path())]].concat(), variables)
    }

    /// Some of the busiest are gone, one is about to end; two stay.
    fn age(&self) {
        assert_eq!(self.redis.client().ask("DEL n:10 n:12 n:13"), ":3");
        assert_eq!(self.redis.client().ask("PEXPIRE n:11 30000"), ":1");
        assert_eq!(self.redis.client().ask("PEXPIRE n:14 300000"), ":1");
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn asked(sidecar: &Sidecar, result: &str) -> f64 {
    sidecar.metric(&format!("bellwether_warm_asked_total{{result=\"{result}\"}}"))
}

#[test]
fn the_busiest_survive_a_restart() {
    let stage = Stage::new();
    // Something else in the place of the counts is told, and written anew.
    std::fs::write(stage.counts(), "something else\n").unwrap();
    let mut sidecar = stage.serve("");
    check_told(&mut sidecar, "holds no counts of reads; it is written anew (warm_counts_file)");
    check_told(&mut sidecar, "warmed the near cache: 0 of 0 keys of near (the busiest 6)");
    let mut client = sidecar.client();
    let mut read = |key: &str, times: usize| (0..times).for_each(|_| drop(client.ask(&format!("GET {key}"))));
    // On the way, and once more at the end.
    poll_until("the counts", || {
        read("n:10", 1);
        std::fs::read_to_string(stage.counts()).is_ok_and(|text| text.contains("n%3A10"))
    });
    BUSY.iter().enumerate().for_each(|(place, key)| read(key, 100 - 15 * place));
    (20..30).for_each(|number| read(&format!("n:{number}"), 1));
    // Of another rule.
    read("f:1", 200);
    sidecar.process.signal("TERM");
    sidecar.process.wait();
    let mode = std::fs::metadata(stage.counts()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner may read it");
    assert!(!std::fs::exists(stage.folder.path().join("counts.new")).unwrap());
    let mut sidecar = stage.serve("");
    wait_until_ready(&sidecar);
    check_told(&mut sidecar, "warmed the near cache: 6 of 6 keys of near (the busiest 6)");
    for key in BUSY {
        assert_eq!(sidecar.client().ask(&format!("GET {key}")), "$5\r\nvalue");
    }
    assert_eq!(sidecar.metric("bellwether_near_reads_total{rule=\"near\",result=\"hit\"}"), BUSY.len() as f64);
    assert_eq!((sidecar.metric("bellwether_warm_runs_total"), sidecar.metric("bellwether_warming")), (1.0, 0.0));
}

#[test]
fn a_namespace() {
    let (redis, policies) = start();
    let rules = "[[warm]]\nnamespace = \"near\"\n[[warm]]\nnamespace = \"nowhere\"";
    let mut sidecar = super::serve(&redis, &policies, &["--warm", rules]);
    check_told(&mut sidecar, "a [[warm]] rule is about the namespace nowhere, and no policy has such a rule");
    check_told(&mut sidecar, &format!("warmed the near cache: {KEYS} of {} keys of near, nowhere", KEYS + 1));
}

/// Two sidecars that start at one time: each key is asked for once, and all that is asked for is in memory afterwards.
#[test]
fn what_ends_soon_is_asked_for_once() {
    let stage = Stage::new();
    stage.age();
    let application = Application::start(stage.redis.port, Does::Writes);
    let more = format!("url = \"http://127.0.0.1:{}/warm/{{key}}\"\nrequests_max = 2", application.port);
    let sidecars = std::thread::scope(|scope| {
        [scope.spawn(|| stage.serve(&more)), scope.spawn(|| stage.serve(&more))].map(|begun| begun.join().unwrap())
    });
    sidecars.iter().for_each(wait_until_ready);
    let expect = ["n%3A10", "n%3A11", "n%3A12", "n%3A13"].map(|key| format!("GET /warm/{key} HTTP/1.1"));
    assert_eq!(application.asked(), expect);
    let sum = |result: &str| sidecars.iter().map(|sidecar| asked(sidecar, result)).sum::<f64>();
    assert_eq!((sum("answered"), sum("failed")), (4.0, 0.0));
    // In the memory of both.
    for sidecar in &sidecars {
        for key in ["n:10", "n:11", "n:12", "n:13"] {
            assert_eq!(sidecar.client().ask(&format!("GET {key}")), "$5\r\nfresh");
        }
        assert_eq!(sidecar.metric("bellwether_near_reads_total{rule=\"near\",result=\"hit\"}"), 4.0);
    }
    // One that comes a little later asks for nothing that is there now, nor for what was asked for lately.
    assert_eq!(stage.redis.client().ask("DEL n:12"), ":1");
    let mut third = stage.serve(&more);
    check_told(&mut third, "warmed the near cache: 5 of 6 keys of near");
    check_told(&mut third, "; 1 to be asked for: 0 answered, 0 failed, 1 elsewhere");
    assert_eq!((application.asked().len(), asked(&third, "elsewhere")), (4, 1.0));
}

#[test]
fn with_post() {
    let stage = Stage::new();
    stage.age();
    let application = Application::start(stage.redis.port, Does::Writes);
    let mut sidecar = stage.serve(&format!("url = \"http://127.0.0.1:{}\"\nmethod = \"POST\"", application.port));
    check_told(&mut sidecar, "warmed the near cache: 6 of 6 keys of near");
    let expect = ["n:10", "n:11", "n:12", "n:13"].map(|key| format!("POST / HTTP/1.1 {key}"));
    assert_eq!(application.asked(), expect);
}

#[test]
fn over_tls() {
    let stage = Stage::new();
    stage.age();
    let authority = Authority::new(stage.folder.path(), "authority");
    let pair = authority.sign("localhost");
    let application = Application::start_tls(stage.redis.port, &pair.certificate, &pair.key);
    let more = |host: &str| format!("url = \"https://{host}:{}/warm/{{key}}\"", application.port);
    let trusted = [("SSL_CERT_FILE", path(&authority.file))];
    let mut sidecar = stage.serve_in(&more("127.0.0.1"), &trusted);
    wait_until_ready(&sidecar);
    check_told(&mut sidecar, "; 4 to be asked for: 0 answered, 4 failed, 0 elsewhere");
    check_told(
        &mut sidecar,
        "the server's certificate is not for 127.0.0.1; name one of its subject alternative names in",
    );
    assert_eq!(application.asked().len(), 0);
    // By the rule's own file.
    let more = format!("{}\nurl_ca_file = {:?}", more("localhost"), authority.file);
    let mut sidecar = stage.serve(&more);
    check_told(&mut sidecar, "; 4 to be asked for: 4 answered, 0 failed, 0 elsewhere");
    assert_eq!(application.asked().len(), 4);
}

/// An application that cannot be asked keeps no client out, and another sidecar may try.
#[test]
fn an_application_that_fails() {
    let stage = Stage::new();
    stage.age();
    let check = |url: &str, more: &str, told: &str| {
        let mut sidecar = stage.serve(&format!("url = \"{url}/warm/{{key}}\"\n{more}"));
        wait_until_ready(&sidecar);
        check_told(&mut sidecar, told);
        check_told(&mut sidecar, "; 4 to be asked for: 0 answered, 4 failed, 0 elsewhere");
        assert_eq!(asked(&sidecar, "failed"), 4.0);
        assert_eq!(sidecar.client().ask("GET n:15"), "$5\r\nvalue");
        assert_eq!(stage.redis.client().ask("EXISTS bw:w:{n:10} bw:w:{n:11} bw:w:{n:12} bw:w:{n:13}"), ":0");
    };
    check(&format!("http://127.0.0.1:{}", free_port()), "", "cannot connect");
    let serve = |does| Application::start(stage.redis.port, does);
    let elsewhere = serve(Does::Says("302 Found"));
    check(&format!("http://127.0.0.1:{}", elsewhere.port), "", "the answer is 302 Found");
    assert_eq!(elsewhere.asked().len(), 4);
    let silent = serve(Does::Nothing);
    let limit = "request_ms_max = 100";
    check(&format!("http://127.0.0.1:{}", silent.port), limit, "no answer within request_ms_max (100 ms)");
    // Who is silent for long does not keep the sidecar waiting longer than it is told to.
    let url = format!("url = \"http://127.0.0.1:{}/{{key}}\"", silent.port);
    let rule = format!("[[warm]]\nnamespace = \"near\"\ntop = 6\n{url}");
    let counts = stage.counts();
    let flags = ["--warm", &rule, "--warm-counts-file", path(&counts), "--warm-ms-max", "300"];
    let mut sidecar = super::serve(&stage.redis, &stage.policies, &flags);
    wait_until_ready(&sidecar);
    check_told(&mut sidecar, "the near cache was not warm within warm_ms_max: 0 of 0 keys of near (the busiest 6)");
}

#[test]
fn over_a_channel() {
    let stage = Stage::new();
    stage.age();
    let mut sidecar = stage.serve("channel = \"wanted\"");
    check_told(&mut sidecar, "nobody listens");
    let mut listener = stage.redis.client();
    listener.send(b"SUBSCRIBE wanted\r\n");
    listener.reply();
    let mut sidecar = stage.serve("channel = \"wanted\"");
    check_told(&mut sidecar, "; 4 to be asked for: 4 answered, 0 failed, 0 elsewhere");
    for key in ["n:10", "n:11", "n:12", "n:13"] {
        let told = String::from_utf8(listener.reply()).unwrap();
        assert_eq!(told, format!("*3\r\n$7\r\nmessage\r\n$6\r\nwanted\r\n$4\r\n{key}\r\n"));
    }
}

/// In a cluster each name is where its key is.
#[test]
fn in_a_cluster() {
    let (cluster, stage) = (Cluster::start(3, 0), Stage::new());
    let mut direct = cluster.client_of("n:14");
    assert_eq!(direct.ask("SET n:14 value"), "+OK");
    let application = Application::start(stage.redis.port, Does::Says("200 OK"));
    let (counts, policies) = (stage.counts(), stage.policies.path());
    let url = format!("url = \"http://127.0.0.1:{}/{{key}}\"", application.port);
    let rule = format!("[[warm]]\nnamespace = \"near\"\ntop = 6\n{url}");
    let flags = ["--warm", &rule, "--warm-counts-file", path(&counts), "--policy-folder", path(policies)];
    let mut sidecar = Sidecar::serve_cluster(&cluster, &flags);
    check_told(&mut sidecar, "; 5 to be asked for: 5 answered, 0 failed, 0 elsewhere");
    check_told(&mut sidecar, "warmed the near cache: 1 of 6 keys of near");
    assert_eq!(application.asked().len(), 5);
    for key in BUSY {
        let expect = if key == "n:14" { "$-1" } else { "$5\r\nasked" };
        assert_eq!(cluster.client_of(key).ask(&format!("GET bw:w:{{{key}}}")), expect);
    }
    assert_eq!(cluster.redirections(), 0);
}

/// The table that `bellwether config` prints is one that it takes.
#[test]
fn rules_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let print = |text: &str| {
        std::fs::write(folder.path().join("b.toml"), text).unwrap();
        let output = crate::harness::run(&["config", "--config", "b.toml"], folder.path());
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (good, first) = print("[[warm]]\npatterns = [\"a:*\"]\nmarket = \"XNSE\"\nbefore_open_ms = 60_000\n");
    assert!(good && first.contains("before_open_ms = 60000") && first.contains("# b.toml"), "{first}");
    let from = first.find("warm = \"\"\"").unwrap();
    let length = first[from..].find("# b.toml").unwrap();
    let (good, second) = print(&first[from..from + length]);
    assert!(good && second == first, "{second}");
    let (good, told) = print("[[warm]]\ntop = 3\nmarket = \"XNSE\"\n");
    let expect = "[[warm]] number 1: market needs before_open_ms: how long before it opens";
    assert!(!good && told.contains(expect), "{told}");
    let (good, told) = print("warm = [1]\n");
    assert!(!good && told.contains("warm in b.toml is array; it takes a string"), "{told}");
}

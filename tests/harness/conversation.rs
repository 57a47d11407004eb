//! Holds the conversations of a folder: with a server, then with a sidecar in front of it, whole and one byte at a
//! time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::client::{Client, Ending};
use super::process::PATIENCE;
use super::transcript::{Part, Reply, Setting, Step, Transcript, What, expanded};
use super::{Cluster, Redis, Sidecar};

/// Whom a conversation is held with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    Redis,
    Sidecar,
}

/// One way of holding a conversation.
#[derive(Clone, Copy, Debug)]
struct Way {
    with: With,
    port: u16,
    protocol: u8,
    bytewise: bool,
}

/// What a client got at each of its steps.
type Heard = Vec<Vec<u8>>;

/// Everyone who talks.
struct Talk<'a> {
    way: Way,
    redis: &'a Redis,
    cluster: Option<&'a Cluster>,
    clients: BTreeMap<char, Client>,
    /// What stands for the numbers of clients, and the numbers.
    numbers: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Above so many bytes, one at a time takes too long.
const BYTEWISE_BYTES_MAX: usize = 16 * 1024;

/// Holds every conversation of a folder below `tests`. Panics with all those that went otherwise.
pub fn check(folder: &str) {
    check_but(folder, None, &[]);
}

/// The same with a sidecar in front of a cluster, compared with a server alone. Those named are left out.
pub fn check_in_cluster(folder: &str, cluster: &Cluster, left_out: &[&str]) {
    check_but(folder, Some(cluster), left_out);
}

fn check_but(folder: &str, cluster: Option<&Cluster>, left_out: &[&str]) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("tests");
    let mut groups: BTreeMap<Setting, Vec<Transcript>> = BTreeMap::new();
    for path in files(&tests.join(folder)) {
        let transcript = Transcript::read(&path);
        // A cluster is started as it is.
        if left_out.contains(&&*transcript.name) || (cluster.is_some() && !transcript.setting.redis.is_empty()) {
            continue;
        }
        groups.entry(transcript.setting.clone()).or_default().push(transcript);
    }
    assert!(!groups.is_empty(), "{folder} has no transcripts");
    let failures: Vec<_> =
        groups.iter().flat_map(|(setting, group)| hold_all(setting, group, &tests, cluster)).collect();
    assert!(failures.is_empty(), "{} conversations went otherwise:\n\n{}", failures.len(), failures.join("\n"));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
}

/// Holds the conversations of one setting: what went otherwise.
fn hold_all(setting: &Setting, group: &[Transcript], tests: &Path, cluster: Option<&Cluster>) -> Vec<String> {
    let words = |words: &[String]| words.to_vec();
    let (options, mut flags) = (words(&setting.redis), words(&setting.sidecar));
    if let Some(policies) = &setting.policies {
        flags.extend(["--policy-folder".to_owned(), tests.join(policies).to_string_lossy().into_owned()]);
    }
    let redis = Redis::start_with(&options.iter().map(String::as_str).collect::<Vec<_>>());
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let sidecar = match cluster {
        None => Sidecar::serve(&redis, &flags),
        Some(cluster) => Sidecar::serve_cluster(cluster, &flags),
    };
    let mut failures = Vec::new();
    for transcript in group {
        for &protocol in &transcript.protocols {
            let way = |with, port, bytewise| Way { with, port, protocol, bytewise };
            let held = hold(transcript, way(With::Redis, redis.port, false), &redis, None, None).and_then(|direct| {
                hold(transcript, way(With::Sidecar, sidecar.port, false), &redis, cluster, Some(&direct))?;
                if transcript.bytewise {
                    hold(transcript, way(With::Sidecar, sidecar.port, true), &redis, cluster, Some(&direct))?;
                }
                Ok(())
            });
            failures.extend(held.err());
        }
    }
    failures
}

/// Holds a conversation in one way, compared with how direct Redis did: all replies, or what went otherwise.
fn hold(
    transcript: &Transcript,
    way: Way,
    redis: &Redis,
    cluster: Option<&Cluster>,
    direct: Option<&Heard>,
) -> Result<Heard, String> {
    match cluster {
        None => empty(redis),
        Some(cluster) => cluster.empty(),
    }
    let mut talk = Talk { way, redis, cluster, clients: BTreeMap::new(), numbers: BTreeMap::new() };
    let (mut heard, mut sent) = (Heard::new(), Vec::new());
    for step in &transcript.steps {
        let failed = |sent: &[u8], why: String| {
            let Way { with, protocol, bytewise, .. } = way;
            let name = format!("{}:{} ({})", transcript.name, step.line, step.client);
            let how = if bytewise { ", one byte at a time" } else { "" };
            format!("{name}, {with:?}, RESP{protocol}{how}\n  sent     {}\n{why}\n", shown(sent))
        };
        match &step.what {
            What::Send(_) => sent = talk.send(step),
            What::Learn => talk.learn(step.client),
            What::Close => drop(talk.clients.remove(&step.client)),
            What::Wait(line) if talk.waits(line) => {}
            What::Wait(line) => return Err(failed(&sent, format!("  waited too long for {line}"))),
            What::Ended => match talk.client(step.client).next() {
                Err(Ending::Closed) => {}
                other => return Err(failed(&sent, format!("  expected the end\n  got      {other:?}"))),
            },
            What::Receive(reply) => match talk.client(step.client).next() {
                Err(ending) => return Err(failed(&sent, format!("  expected {}\n  got      {ending:?}", told(reply)))),
                Ok(got) => {
                    let known = direct.and_then(|direct| direct.get(heard.len()));
                    differs(reply, way.with, &got, known).map_or(Ok(()), |why| Err(failed(&sent, why)))?;
                    heard.push(got);
                }
            },
        }
    }
    nothing_more(&mut talk).map_err(|why| format!("{}, {way:?}\n{why}\n", transcript.name))?;
    Ok(heard)
}

/// Why a reply is not the one that is expected.
fn differs(reply: &Reply, with: With, got: &[u8], direct: Option<&Vec<u8>>) -> Option<String> {
    let (expect, same) = match (reply, with, direct) {
        (Reply::AsRedis, With::Sidecar, Some(direct)) => (direct, direct == got),
        (Reply::Both(expect), _, _) | (Reply::Sidecar(expect), With::Sidecar, _) => (expect, is_like(expect, got)),
        _ => return None,
    };
    (!same).then(|| format!("  expected {}\n  got      {}", shown(expect), shown(got)))
}

/// No client is sent more than the conversation says.
fn nothing_more(talk: &mut Talk<'_>) -> Result<(), String> {
    for (name, client) in &mut talk.clients {
        let rest = client.rest();
        if !rest.is_empty() {
            return Err(format!("  {name} got more: {}", shown(&rest)));
        }
    }
    Ok(())
}

// === impl Talk ===

impl Talk<'_> {
    /// Waits until the server's INFO has a line. False: for too long.
    fn waits(&self, line: &str) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.says(line) {
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        false
    }

    /// Whether the server's INFO has a line, or that of any.
    fn says(&self, line: &str) -> bool {
        let has = |mut client: Client| client.ask("INFO").lines().any(|has| has == line);
        match self.cluster {
            None => has(self.redis.admin()),
            // Nobody waits any more when nobody does at any node.
            Some(cluster) if line.ends_with(":0") => cluster.nodes.iter().all(|node| has(node.client())),
            Some(cluster) => cluster.nodes.iter().any(|node| has(node.client())),
        }
    }

    /// The client of that name, which has said its protocol.
    fn client(&mut self, name: char) -> &mut Client {
        let way = self.way;
        self.clients.entry(name).or_insert_with(|| {
            let mut client = Client::connect(way.port);
            if way.protocol == 3 {
                client.command(&[b"HELLO", b"3"]);
                let hello = client.reply();
                // Where a password is asked for, the conversation itself says HELLO.
                assert!(hello.starts_with(b"%") || hello.starts_with(b"-NOAUTH"), "{}", shown(&hello));
            }
            client
        })
    }

    fn learn(&mut self, name: char) {
        let client = self.client(name);
        client.command(&[b"CLIENT", b"ID"]);
        let number = client.reply();
        self.numbers.insert(format!("{{id:{name}}}").into_bytes(), number[1..number.len() - 2].to_vec());
    }

    /// The number of a client in the place of what stands for it.
    fn named(&self, word: &[u8]) -> Vec<u8> {
        self.numbers.get(word).map_or_else(|| word.to_vec(), Clone::clone)
    }

    fn send(&mut self, step: &Step) -> Vec<u8> {
        let What::Send(parts) = &step.what else { return Vec::new() };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let mut bytes = Vec::new();
        for part in parts {
            match part {
                Part::Command(words) => Part::Command(words.iter().map(|word| self.named(word)).collect()),
                Part::Bytes(bytes) => Part::Bytes(bytes.clone()),
            }
            .write(i64::try_from(now).unwrap(), &mut bytes);
        }
        let split = self.way.bytewise && bytes.len() <= BYTEWISE_BYTES_MAX;
        let client = self.client(step.client);
        for chunk in bytes.chunks(if split { 1 } else { usize::MAX }) {
            // A server that has had enough closes; what it said before is still to be read.
            if !client.try_send(chunk) {
                break;
            }
        }
        bytes
    }
}

/// Leaves nothing of another conversation.
fn empty(redis: &Redis) {
    let mut client = redis.admin();
    for command in ["FLUSHALL", "FUNCTION FLUSH", "SCRIPT FLUSH", "CONFIG RESETSTAT"] {
        assert_eq!(client.ask(command), "+OK", "{command}");
    }
}

fn told(reply: &Reply) -> String {
    match reply {
        Reply::AsRedis => "a reply".to_owned(),
        Reply::Both(expect) | Reply::Sidecar(expect) => shown(expect),
    }
}

/// Bytes as text, cut.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 600;
    let head = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes).escape_ascii();
    if bytes.len() > SHOWN_BYTES_MAX { format!("{head}… ({} bytes)", bytes.len()) } else { head.to_string() }
}

/// Whether bytes are as a pattern says.
fn is_like(pattern: &[u8], bytes: &[u8]) -> bool {
    let pattern = expanded(pattern, 0);
    let (mut pattern, mut bytes) = (pattern.as_slice(), bytes);
    while let Some((&expect, after)) = pattern.split_first() {
        let end = if expect == b'{' { pattern.iter().position(|byte| *byte == b'}') } else { None };
        let found = end.and_then(|end| Some((Blank::parse(pattern.get(1..end)?)?, pattern.get(end + 1..)?)));
        if let Some((blank, after)) = found {
            let until = after.first().copied();
            let length = bytes.iter().take_while(|byte| Some(**byte) != until && **byte != b'\r').count();
            let (filled, rest) = bytes.split_at(length);
            if !blank.takes(filled) {
                return false;
            }
            (pattern, bytes) = (after, rest);
        } else if bytes.first() == Some(&expect) {
            (pattern, bytes) = (after, bytes.get(1..).unwrap_or_default());
        } else {
            return false;
        }
    }
    bytes.is_empty()
}

/// A place in a pattern.
enum Blank {
    Anything,
    Number(i64, i64),
}

// === impl Blank ===

impl Blank {
    fn parse(inner: &[u8]) -> Option<Self> {
        match std::str::from_utf8(inner).ok()? {
            "*" => Some(Self::Anything),
            text => text.split_once("..").and_then(|(a, b)| Some(Self::Number(a.parse().ok()?, b.parse().ok()?))),
        }
    }

    fn takes(&self, bytes: &[u8]) -> bool {
        let number = || std::str::from_utf8(bytes).ok()?.parse::<i64>().ok();
        match self {
            Self::Anything => true,
            Self::Number(from, to) => number().is_some_and(|number| (*from..=*to).contains(&number)),
        }
    }
}

//! The command table against a real server: names, arities, key positions and writing; and for every command that can
//! create a key, an example of `creates.txt` whose key has a lifetime afterwards.

mod newer;

use std::collections::{BTreeMap, BTreeSet};

use bellwether::command::{KeyUse, Kind, Row, Table};
use redis::Value;

use crate::harness::process::free_port;
use crate::harness::transcript::words;
use crate::harness::{Client, Redis, Sidecar, encoded, folder};

/// A command as COMMAND reports it.
#[derive(Debug)]
struct Reported {
    arity: i64,
    flags: BTreeSet<String>,
    /// Key positions as `table.txt` writes them, and whether the command writes there. None: the server does not know.
    keys: Vec<Option<(String, bool)>>,
}

/// Commands whose keys the server itself cannot say (`unknown` key specifications): the table says what their
/// documentation does.
const UNKNOWN_TO_THE_SERVER: [&str; 2] = ["sort", "sort_ro"];
/// It keeps what it has counted in the key, for which its key is marked; the command itself is not marked as writing.
const WRITES_WHAT_NOBODY_SEES: &str = "pfcount";
/// The command writes and none of its keys is named: nothing to decide about.
const WRITES_WITHOUT_KEYS: &str = "server";

// === impl Reported ===

impl Reported {
    /// All commands and subcommands, by name.
    fn all(port: u16) -> BTreeMap<String, Self> {
        let mut found = BTreeMap::new();
        for command in list(&commands_at(port)) {
            Self::take(command, &mut found);
            list(&list(command)[9]).iter().for_each(|sub| Self::take(sub, &mut found));
        }
        found
    }

    fn take(command: &Value, found: &mut BTreeMap<String, Self>) {
        let fields = list(command);
        let named = list(&fields[8]).iter().filter(|keys| !list(pairs(keys)["flags"]).iter().any(is_not_a_key));
        let keys = named.map(key_specification).collect();
        let flags = list(&fields[2]).iter().map(text).collect();
        found.insert(text(&fields[0]).to_ascii_lowercase(), Self { arity: integer(&fields[1]), flags, keys });
    }

    fn writes(&self) -> bool {
        self.flags.contains("write")
    }
}

/// A key specification in the notation of `table.txt`.
fn key_specification(value: &Value) -> Option<(String, bool)> {
    let fields = pairs(value);
    let flags: BTreeSet<String> = list(fields["flags"]).iter().map(text).collect();
    let part = |name: &str| {
        let part = pairs(fields[name]);
        (text(part["type"]), pairs(part["spec"]))
    };
    let ((begin, begin_at), (find, found_by)) = (part("begin_search"), part("find_keys"));
    let number = |spec: &BTreeMap<String, &Value>, name: &str| integer(spec[name]);
    let begin = match begin.as_str() {
        "index" => number(&begin_at, "index").to_string(),
        "keyword" => format!("{}@{}", text(begin_at["keyword"]), number(&begin_at, "startfrom")),
        _ => return None,
    };
    let place = match find.as_str() {
        "range" => {
            let (last, step, limit) =
                (number(&found_by, "lastkey"), number(&found_by, "keystep"), number(&found_by, "limit"));
            let range = if last == 0 { String::new() } else { format!("..{last}") };
            let step = if step == 1 { String::new() } else { format!("/{step}") };
            let limit = if limit == 0 { String::new() } else { format!("%{limit}") };
            format!("{begin}{range}{step}{limit}")
        }
        "keynum" => {
            let [count, first, step] = ["keynumidx", "firstkey", "keystep"].map(|name| number(&found_by, name));
            format!("{begin}#{count},{first},{step}")
        }
        _ => return None,
    };
    Some((place, !flags.contains("RO")))
}

/// The keys of a row as its line writes them.
fn written_keys() -> BTreeMap<&'static str, Vec<Option<(String, bool)>>> {
    let lines = include_str!("../host/src/command/table.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_ascii_whitespace();
            let name = words.next().unwrap();
            let key = |word: &str| Some((word.trim_end_matches(['+', '!']).to_owned(), word.ends_with(['+', '!'])));
            (name, words.skip(2).map(key).collect())
        })
        .collect()
}

/// Shard channels stand where keys do.
fn is_not_a_key(flag: &Value) -> bool {
    text(flag) == "not_key"
}

fn kind_writes(row: &Row) -> bool {
    match row.kind {
        Kind::Write | Kind::Create(_) | Kind::Set(_) | Kind::MultiSet | Kind::Restore | Kind::GetEx => true,
        Kind::Expire(_) | Kind::Persist | Kind::Block(_) => true,
        // XREADGROUP changes its group; XREAD changes nothing.
        Kind::BlockOption => row.name == "xreadgroup",
        _ => false,
    }
}

/// What a server answers to COMMAND.
fn commands_at(port: u16) -> Value {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    redis::cmd("COMMAND").query(&mut client.get_connection().unwrap()).unwrap()
}

#[test]
fn agrees_with_the_servers() {
    for (number, program) in Redis::programs().iter().enumerate() {
        let redis = Redis::start_program(program, free_port(), &[]);
        // The table is that of the server that is installed; younger ones have more, and take more arguments.
        let wrong = disagreements(&Reported::all(redis.port), number > 0);
        assert!(wrong.is_empty(), "the table and {program} differ:\n{}", wrong.join("\n"));
    }
}

fn disagreements(reported: &BTreeMap<String, Reported>, younger: bool) -> Vec<String> {
    let written = written_keys();
    let rows: BTreeMap<&str, _> = Table::of_redis().rows().map(|row| (&*row.name, row)).collect();
    let mut wrong = Vec::new();
    for name in reported.keys().filter(|name| !younger && !rows.contains_key(name.as_str())) {
        wrong.push(format!("{name}: the table has no row"));
    }
    for (&name, row) in &rows {
        let Some(server) = reported.get(name) else {
            wrong.push(format!("{name}: the server does not know it"));
            continue;
        };
        if server.arity != i64::from(row.arity) && !younger {
            wrong.push(format!("{name}: arity {}, at the server {}", row.arity, server.arity));
        }
        let (keys, known) = (&written[name], server.keys.iter().flatten().collect::<Vec<_>>());
        let differs = if UNKNOWN_TO_THE_SERVER.contains(&name) {
            !known.iter().all(|key| keys.contains(&Some((*key).clone())))
        } else if name == WRITES_WHAT_NOBODY_SEES {
            !keys.iter().zip(&server.keys).all(|(a, b)| a.as_ref().unwrap().0 == b.as_ref().unwrap().0)
        } else {
            *keys != server.keys
        };
        if differs {
            wrong.push(format!("{name}: keys {keys:?}, at the server {:?}", server.keys));
        }
        if kind_writes(row) != server.writes() && row.kind.label() != WRITES_WITHOUT_KEYS {
            wrong.push(format!("{name}: kind {:?}, at the server {:?}", row.kind, server.flags));
        }
        if row.kind.label() == WRITES_WITHOUT_KEYS && server.writes() && !row.keys.is_empty() {
            wrong.push(format!("{name}: the server writes its keys"));
        }
    }
    wrong
}

/// An example of `creates.txt`.
struct Example {
    name: &'static str,
    before: Vec<&'static str>,
    command: &'static str,
}

fn examples() -> Vec<Example> {
    let lines = include_str!("creates.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, commands) = line.split_once(": ").unwrap();
            let mut before: Vec<_> = commands.split(" ; ").collect();
            let command = before.pop().unwrap();
            Example { name, before, command }
        })
        .collect()
}

#[test]
fn every_creating_row_has_an_example() {
    let names: BTreeSet<_> = examples().iter().map(|example| example.name).collect();
    let creates = |row: &&Row| row.keys.iter().any(|keys| keys.used() == KeyUse::Create);
    let rows: BTreeSet<_> = Table::newest().rows().filter(creates).map(|row| &*row.name).collect();
    assert_eq!(names, rows, "rows that can create a key, and examples");
}

/// How an example is sent.
#[derive(Clone, Copy, Debug)]
enum Way {
    Alone,
    Pipeline,
    Transaction,
}

/// Sends an example: the replies, as many as it has commands.
fn send(client: &mut Client, command: &[Vec<u8>], way: Way) -> String {
    let one = encoded(command);
    let (bytes, replies) = match way {
        Way::Alone => (one, 1),
        Way::Pipeline => ([encoded(&["PING"]), one, encoded(&["PING"])].concat(), 3),
        Way::Transaction => ([encoded(&["MULTI"]), one, encoded(&["EXEC"])].concat(), 3),
    };
    client.send(&bytes);
    let replies: Vec<_> = (0..replies).map(|_| client.reply().escape_ascii().to_string()).collect();
    replies.join(" ")
}

#[test]
fn created_keys_have_a_lifetime() {
    let policies = folder(&[
        ("namespaces.toml", b"[settings]\ndefaults = false\njson = \"any\"\n[settings.rules.r]\nprefix = \"r:\""),
        ("ttl.toml", b"[settings.namespaces.default]\nfixed_ttl_ms = 100000"),
    ]);
    for program in Redis::programs() {
        let redis = Redis::start_program(&program, free_port(), &[]);
        let wrong = keys_without_a_lifetime(&redis, policies.path().to_str().unwrap());
        assert!(wrong.is_empty(), "{program}: keys without the lifetime of their rule:\n{}", wrong.join("\n"));
    }
}

fn keys_without_a_lifetime(redis: &Redis, policies: &str) -> Vec<String> {
    let reported = Reported::all(redis.port);
    let sidecar = Sidecar::serve(redis, &["--policy-folder", policies]);
    let (mut direct, mut client) = (redis.client(), sidecar.client());
    let mut wrong = Vec::new();
    for example in examples().iter().filter(|example| reported.contains_key(example.name)) {
        for way in [Way::Alone, Way::Pipeline, Way::Transaction] {
            assert_eq!(direct.ask("FLUSHALL"), "+OK");
            for command in &example.before {
                let words = words(command).unwrap();
                let reply = direct.ask_words(&words.iter().map(Vec::as_slice).collect::<Vec<_>>());
                assert!(!reply.starts_with('-'), "{command}: {reply}");
            }
            let replies = send(&mut client, &words(example.command).unwrap(), way);
            let left = direct.ask("PTTL r:new");
            let left_ms: i64 = left.trim_start_matches(':').parse().unwrap();
            if !(50_000..=100_000).contains(&left_ms) {
                wrong.push(format!("{way:?} {}: {replies}; PTTL {left}", example.command));
            }
        }
    }
    wrong
}

fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) | Value::Set(values) => values,
        other => panic!("not a list: {other:?}"),
    }
}

fn pairs(value: &Value) -> BTreeMap<String, &Value> {
    list(value).chunks(2).map(|pair| (text(&pair[0]), &pair[1])).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        Value::SimpleString(text) => text.clone(),
        other => panic!("not a text: {other:?}"),
    }
}

fn integer(value: &Value) -> i64 {
    if let Value::Int(number) = value { *number } else { panic!("not a number: {value:?}") }
}

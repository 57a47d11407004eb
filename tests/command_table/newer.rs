//! Commands that the built-in table does not know: what is made of a server's own COMMAND. Servers that are not
//! installed are played by a scripted one, with what Redis 8.0.2 and Valkey 8.1.1 reported (`tests/commands`; commands
//! of 7.0 are left out there) and with commands that no server has.

use std::collections::BTreeSet;

use bellwether::command::{Keys, Kind, Reported, Row, Table};
use bellwether::upstream::reported;
use serde_json::{Value, json};

use super::commands_at;
use crate::harness::process::{free_port, poll_for};
use crate::harness::scripted::Scripted;
use crate::harness::{Client, Redis, Sidecar, folder};

/// The recorded rows: of Redis 8.0.2, of Valkey 8.1.1, and of commands of Redis 8.4 and of nobody.
const RECORDED: [&str; 3] = [
    include_str!("../commands/redis-8.0.2.json"),
    include_str!("../commands/valkey-8.1.1.json"),
    include_str!("../commands/younger.json"),
];
/// Nothing is made of these as the table has it: their report says less, or that they can make their key, which they
/// cannot. The latter costs an expiry that does nothing.
const TABLE_KNOWS_BETTER: [&str; 10] =
    ["getex", "linsert", "lpushx", "lset", "migrate", "pfdebug", "rpushx", "sort", "xgroup|createconsumer", "xsetid"];
/// The same for the rows of `newer.txt`, which have kinds of their own.
const NEWER_KNOWS_BETTER: [&str; 6] =
    ["client|import-source", "client|no-touch", "client|setinfo", "hsetex", "msetex", "waitaof"];

fn recorded() -> Value {
    let rows = |text: &&str| serde_json::from_str::<Vec<Value>>(text).unwrap();
    RECORDED.iter().flat_map(rows).collect()
}

fn value(json: &Value) -> redis::Value {
    match json {
        Value::Array(values) => redis::Value::Array(values.iter().map(value).collect()),
        Value::String(text) => redis::Value::BulkString(text.clone().into_bytes()),
        other => redis::Value::Int(other.as_i64().unwrap()),
    }
}

/// The row that is made of a report, with nothing known of the command.
fn unknown(reported: &Reported) -> Row {
    let name = format!("new-{}", reported.name.to_ascii_lowercase());
    Table::of_server(&[Reported { name: name.clone(), ..reported.clone() }]).get(name.as_bytes()).unwrap().clone()
}

/// Whether a row that was made of a report does what the table's does: the same with each key, as the same kind.
fn is_as_good(known: &Row, made: &Row) -> bool {
    let uses = |row: &Row| row.keys.iter().map(Keys::used).collect::<Vec<_>>();
    let fits = match (known.kind, made.kind) {
        (Kind::Create(_) | Kind::Set(_) | Kind::MultiSet | Kind::Restore, Kind::Create(_)) => true,
        (Kind::Block(_), Kind::Block(_)) => true,
        (Kind::Write | Kind::Expire(_) | Kind::Persist, Kind::Write) => true,
        (known, made) => known == made,
    };
    fits && uses(known) == uses(made)
}

/// The commands with keys of which nothing as good as the table's row is made.
fn not_as_good(table: &Table, reported: &[Reported]) -> BTreeSet<String> {
    let known = |command: &&Reported| table.get(command.name.to_ascii_lowercase().as_bytes());
    let differ = |command: &&Reported| {
        known(command).is_some_and(|known| !known.keys.is_empty() && !is_as_good(known, &unknown(command)))
    };
    // What subscribes, watches or reads at will is a matter of its own.
    let special = |command: &&Reported| {
        known(command).is_some_and(|row| matches!(row.kind, Kind::Watch | Kind::BlockOption | Kind::Script))
    };
    reported.iter().filter(|command| !special(command) && differ(command)).map(|command| command.name.clone()).collect()
}

#[test]
fn reports_say_what_the_table_does() {
    for program in Redis::programs() {
        let redis = Redis::start_program(&program, free_port(), &[]);
        let found = not_as_good(Table::of_redis(), &reported(&commands_at(redis.port)));
        assert_eq!(found, TABLE_KNOWS_BETTER.map(str::to_owned).into(), "{program}");
    }
}

#[test]
fn newer_rows_are_what_servers_report() {
    let reported = reported(&value(&recorded()));
    let mut missing = Vec::new();
    for row in Table::newest().rows().filter(|row| Table::of_redis().get(row.name.as_bytes()).is_none()) {
        let Some(report) = reported.iter().find(|report| report.name.eq_ignore_ascii_case(&row.name)) else {
            missing.push(&*row.name);
            continue;
        };
        let as_reported = unknown(report);
        assert_eq!(i64::from(row.arity), report.arity, "{}", row.name);
        let same = row.kind == as_reported.kind && row.keys == as_reported.keys;
        let is_create = |row: &Row| matches!(row.kind, Kind::Create(_));
        let better = NEWER_KNOWS_BETTER.contains(&&*row.name);
        assert!(same || better && (!is_create(row) || is_create(&as_reported)), "{row:?}\n{as_reported:?}");
    }
    missing.sort_unstable();
    assert_eq!(missing, ["xackdel", "xdelex"], "rows that no recorded server reports");
}

/// In front of a server with the recorded commands: `ttl:` keys live 100 s, `cap:` at most that, `read:` are not
/// written, `no:` not used.
struct Talk {
    server: Scripted,
    _sidecar: Sidecar,
    client: Client,
    _policies: tempfile::TempDir,
}

impl Talk {
    fn begin(commands: &Value) -> Self {
        let rules = "[settings]\ndefaults = false\njson = \"any\"
            [settings.rules.r]\nprefix = \"ttl:\"\nclient_ttl = \"respect\"
            [settings.rules.cap]\nprefix = \"cap:\"\nclient_ttl = \"cap\"
            [settings.rules.read]\nprefix = \"read:\"\naccess = \"read-only\"
            [settings.rules.no]\nprefix = \"no:\"\naccess = \"denied\"";
        let policies = folder(&[
            ("namespaces.toml", rules.as_bytes()),
            ("ttl.toml", b"[settings.namespaces.default]\nfixed_ttl_ms = 100000"),
        ]);
        let server = Scripted::start(commands);
        let upstream = format!("redis://127.0.0.1:{}", server.port);
        let flags = ["--upstream", &upstream, "--workers", "1", "--policy-folder", policies.path().to_str().unwrap()];
        let sidecar = Sidecar::start("serve", &flags);
        let client = sidecar.client();
        Self { server, _sidecar: sidecar, client, _policies: policies }
    }

    /// Sends a command: the error that it gets, or the commands that arrive for it.
    fn ask(&mut self, line: &str) -> String {
        let reply = self.client.ask(line);
        let heard = self.heard();
        match reply.as_str() {
            "+OK" => heard.join(", "),
            refusal => format!("{refusal}{}", heard.join(", ")),
        }
    }

    /// What has arrived, once an expiry that follows must have, too.
    fn heard(&mut self) -> Vec<String> {
        assert_eq!(self.client.ask("ECHO end"), "+OK");
        let heard = self.server.heard();
        heard.into_iter().map(|(_, words)| words).filter(|words| words != "ECHO end").collect()
    }
}

#[test]
fn commands_that_only_the_server_knows() {
    let mut talk = Talk::begin(&recorded());
    let mut check = |line: &str, expect: &str| assert_eq!(talk.ask(line), expect, "{line}");
    let rule = |name: &str, does: &str, key: &str| {
        format!("-ERR bellwether: rule \"{name}\" {does}; key \"{key}\" was not touched")
    };
    let (only_read, denied) = ("only lets keys be read", "does not let clients use its keys");
    // Each key that may be made gets its lifetime, and no other.
    check("NEWSET ttl:a 1", "NEWSET ttl:a 1, PEXPIRE ttl:a 100000 NX");
    check("newset other:a 1", "newset other:a 1");
    check("NEWGET ttl:a", "NEWGET ttl:a");
    check("NEWMOVE ttl:a ttl:b", "NEWMOVE ttl:a ttl:b, PEXPIRE ttl:b 100000 NX");
    check(
        "NEWMANY 2 ttl:a ttl:b ttl:c",
        "NEWMANY 2 ttl:a ttl:b ttl:c, PEXPIRE ttl:a 100000 NX, PEXPIRE ttl:b 100000 NX",
    );
    check("NEWWAIT ttl:a 0", "NEWWAIT ttl:a 0, PEXPIRE ttl:a 100000 NX");
    check("NEWOLD ttl:a 1 ttl:b 2", "NEWOLD ttl:a 1 ttl:b 2, PEXPIRE ttl:a 100000 NX, PEXPIRE ttl:b 100000 NX");
    check("NEWTHINGS PUT ttl:a 1", "NEWTHINGS PUT ttl:a 1, PEXPIRE ttl:a 100000 NX");
    check("NEWSCRIPT ttl:a", "NEWSCRIPT ttl:a");
    check("NEWALL", "NEWALL");
    check("HSETEX ttl:a FIELDS 1 f v", "HSETEX ttl:a FIELDS 1 f v, PEXPIRE ttl:a 100000 NX");
    check("HEXPIRE ttl:a 5 FIELDS 1 f", "HEXPIRE ttl:a 5 FIELDS 1 f");
    check("VADD ttl:a VALUES 1 1 e", "VADD ttl:a VALUES 1 1 e, PEXPIRE ttl:a 100000 NX");
    check("DELEX ttl:a IFEQ 1", "DELEX ttl:a IFEQ 1");
    check("XADD ttl:a KEEPREF MAXLEN 5 * f v", "XADD ttl:a KEEPREF MAXLEN 5 * f v, PEXPIRE ttl:a 100000 NX");
    check("SET ttl:a 2 IFEQ 1", "SET ttl:a 2 PX 100000 IFEQ 1");
    check("SET ttl:a 2 GET IFNE 1", "SET ttl:a 2 PX 100000 IFNE 1 GET");
    // Access, by what becomes of each key.
    check("NEWGET read:a", "NEWGET read:a");
    check("NEWSET read:a 1", &rule("read", only_read, "read:a"));
    check("NEWMOVE ttl:a read:b", &rule("read", only_read, "read:b"));
    check("NEWTHINGS PUT read:a 1", &rule("read", only_read, "read:a"));
    check("NEWGET no:a", &rule("no", denied, "no:a"));
    check("NEWREAD x KEYS ttl:a no:b 1 2", &rule("no", denied, "no:b"));
    check("HEXPIRE read:a 5 FIELDS 1 f", &rule("read", only_read, "read:a"));
    // What would be for everyone on the lane.
    check("NEWLISTEN a", "-ERR bellwether does not pass NEWLISTEN on: it cannot work through a sidecar");
    check("CLIENT CAPA redirect", "-ERR bellwether does not pass CLIENT CAPA on: it cannot work through a sidecar");
    // Not known to anybody, or with another number of arguments: the server's to say.
    check("NOTHING no:a", "NOTHING no:a");
    check("NEWGET", "NEWGET");
}

#[test]
fn several_values_with_one_lifetime() {
    let mut talk = Talk::begin(&recorded());
    let mut check = |line: &str, expect: &str| assert_eq!(talk.ask(line), expect, "{line}");
    let follows = "PEXPIRE ttl:a 100000 NX, PEXPIRE cap:b 100000 NX";
    check("MSETEX 2 ttl:a 1 cap:b 2", &format!("MSETEX 2 ttl:a 1 cap:b 2, {follows}"));
    check("MSETEX 2 ttl:a 1 cap:b 2 NX KEEPTTL", &format!("MSETEX 2 ttl:a 1 cap:b 2 NX KEEPTTL, {follows}"));
    // The client's own, unless a rule says otherwise: then the shortest, since there is one for all.
    check("MSETEX 1 ttl:a 1 EX 500", "MSETEX 1 ttl:a 1 EX 500");
    check("MSETEX 2 ttl:a 1 cap:b 2 EX 500 XX", "MSETEX 2 ttl:a 1 cap:b 2 PX 100000 XX");
    check("MSETEX 2 ttl:a 1 cap:b 2 EX 5", "MSETEX 2 ttl:a 1 cap:b 2 EX 5");
    // What the server refuses, it refuses in its own words.
    for line in ["MSETEX 3 ttl:a 1 EX 5", "MSETEX x ttl:a 1", "MSETEX 1 ttl:a 1 EX 5 PX 5", "MSETEX 1 ttl:a 1 WHAT"] {
        check(line, line);
    }
    let denied = "-ERR bellwether: rule \"no\" does not let clients use its keys; key \"no:b\" was not touched";
    check("MSETEX 2 ttl:a 1 no:b 2", denied);
}

#[test]
fn what_blocks_has_a_connection_of_its_own() {
    let mut talk = Talk::begin(&recorded());
    talk.client.ask("NEWGET a");
    talk.client.ask("NEWWAIT a 0");
    let connections: Vec<_> = talk.server.heard().into_iter().map(|(connection, _)| connection).collect();
    assert!(matches!(connections[..], [shared, own] if shared != own), "{connections:?}");
}

#[test]
fn a_client_that_imports_has_a_connection_of_its_own() {
    let mut talk = Talk::begin(&recorded());
    for line in ["NEWGET a", "CLIENT IMPORT-SOURCE on", "NEWGET b", "CLIENT IMPORT-SOURCE off", "NEWGET c"] {
        assert_eq!(talk.client.ask(line), "+OK", "{line}");
    }
    let connections: Vec<_> = talk.server.heard().into_iter().map(|(connection, _)| connection).collect();
    assert!(matches!(connections[..], [shared, own, again] if shared != own && shared == again), "{connections:?}");
}

#[test]
fn a_server_that_comes_back_younger() {
    let mut talk = Talk::begin(&json!([]));
    assert_eq!(talk.ask("NEWSET ttl:a 1"), "NEWSET ttl:a 1");
    talk.server.restart(&recorded());
    let sidecar = &talk._sidecar;
    poll_for("the expiry of a command that it now has", || {
        let mut client = sidecar.client();
        let replies = [client.try_ask("NEWSET ttl:a 1"), client.try_ask("ECHO end")];
        let heard = talk.server.heard();
        let follows = heard.iter().any(|(_, words)| words == "PEXPIRE ttl:a 100000 NX");
        if follows { Ok(()) } else { Err(format!("{replies:?} {heard:?}")) }
    });
}

#[test]
fn a_server_that_does_not_say() {
    let mut talk = Talk::begin(&Value::Null);
    assert_eq!(talk.ask("NEWSET ttl:a 1"), "NEWSET ttl:a 1");
    assert_eq!(talk.ask("SADD ttl:a 1"), "SADD ttl:a 1, PEXPIRE ttl:a 100000 NX");
    assert_eq!(talk.ask("VADD ttl:a VALUES 1 1 e"), "VADD ttl:a VALUES 1 1 e, PEXPIRE ttl:a 100000 NX");
}

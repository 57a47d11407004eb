//! The users of the sidecar's own clients: from a file, beside the one password, and as the server's own ACL answers.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use super::certificates::put;
use super::check_refused;
use crate::harness::process::poll_until;
use crate::harness::{Client, Redis, Sidecar};

const ASKED: &str = "-NOAUTH Authentication required.";
const REFUSED: &str = "-WRONGPASS invalid username-password pair or user is disabled.";

fn hash(password: &str) -> String {
    Sha256::digest(password.as_bytes()).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// A file with `app`, who has two passwords, and `old`, who is disabled.
fn two_users() -> String {
    let (one, two) = (hash("one"), hash("two"));
    format!("[users.app]\nsha256 = [\"{one}\", \"#{two}\"]\n\n[users.old]\nsha256 = \"{one}\"\nenabled = false\n")
}

/// The same for the server itself.
const AT_THE_SERVER: [&str; 17] = [
    "--user", "app", "on", ">one", ">two", "~*", "&*", "+@all", "--user", "old", "off", ">one", "~*", "&*", "+@all",
    "--save", "",
];

fn folder_with(content: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(&folder.path().join("users.toml"), content);
    folder
}

fn file(folder: &tempfile::TempDir) -> String {
    folder.path().join("users.toml").to_str().unwrap().to_owned()
}

#[test]
fn users_are_answered_as_the_server_does() {
    // Each with a connection of its own: what is sent, one after the other.
    let conversations: [&[&str]; 14] = [
        &["PING", "AUTH app one", "PING", "AUTH app wrong", "PING"],
        &["AUTH app two", "GET a"],
        &["AUTH app three", "GET a"],
        &["AUTH old one", "GET a"],
        &["AUTH nobody one"],
        &["AUTH app"],
        &["AUTH default x", "GET a"],
        &["AUTH app one two", "AUTH"],
        &["HELLO 3 AUTH app wrong", "PING"],
        &["HELLO 3 AUTH old one"],
        &["HELLO 3 AUTH app", "HELLO 3 AUTH"],
        &["AUTH app one", "RESET", "GET a"],
        &["AUTH s3cret", "GET a"],
        &["AUTH default s3cret", "AUTH app one", "RESET", "GET a"],
    ];
    let folder = folder_with(&two_users());
    for password in [&[][..], &["--requirepass", "s3cret"]] {
        let redis = Redis::start_with(&[password, &AT_THE_SERVER].concat());
        let sidecar = Sidecar::serve(&redis, &["--users-file", &file(&folder)]);
        for conversation in conversations {
            let (mut direct, mut client) = (redis.client(), sidecar.client());
            for line in conversation {
                let (expect, got) = (direct.ask(line), client.ask(line));
                assert_eq!(got, expect, "{password:?} {conversation:?}: {line}");
            }
        }
        let mut client = sidecar.client();
        assert!(client.ask("HELLO 3 AUTH app one SETNAME mine").starts_with('%'));
        assert_eq!(client.ask("GET a"), "_");
        let listed = client.ask("CLIENT LIST");
        assert!(listed.contains(" name=mine ") && listed.contains(" user=app "), "{listed}");
    }
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &["--users-file", &file(&folder)]);
    let port = sidecar.port.to_string();
    let args = ["-p", &port, "--user", "app", "--pass", "two", "--no-auth-warning", "SET", "a", "1"];
    let cli = Command::new("redis-cli").args(args).output().unwrap();
    assert_eq!(cli.stdout, b"OK\n", "{cli:?}");
}

#[test]
fn the_default_user() {
    let check = |content: &str, server: &[&str], flags: &[&str], conversation: &[(&str, &str)]| {
        let folder = folder_with(content);
        let redis = Redis::start_with(server);
        let sidecar = Sidecar::serve(&redis, &[&["--users-file", &file(&folder)], flags].concat());
        let mut client = sidecar.client();
        for (command, expect) in conversation {
            assert_eq!(client.ask(command), *expect, "{content}{server:?} {flags:?}: {command}");
        }
        let open = sidecar.process.lines().iter().any(|line| line.contains("the default user has no password"));
        assert_eq!(open, conversation.first().is_some_and(|(_, reply)| *reply == "+PONG"), "a warning where it is due");
    };
    let (with, own) = (["--requirepass", "s3cret"], ["--client-password", "own"]);
    // Not named: as without a file.
    check("", &[], &[], &[("PING", "+PONG")]);
    check("", &with, &[], &[("PING", ASKED), ("AUTH s3cret", "+OK"), ("PING", "+PONG")]);
    check(&two_users(), &with, &own, &[("PING", ASKED), ("AUTH s3cret", REFUSED), ("AUTH own", "+OK")]);
    check(&two_users(), &with, &["--client-password", "none"], &[("PING", "+PONG"), ("AUTH app one", "+OK")]);
    // Named: as the file says.
    let named = format!("[users.default]\nsha256 = \"{}\"\n", hash("file"));
    check(&named, &with, &[], &[("PING", ASKED), ("AUTH s3cret", REFUSED), ("AUTH file", "+OK"), ("PING", "+PONG")]);
    check(&named, &[], &own, &[("PING", ASKED), ("AUTH own", REFUSED), ("AUTH default file", "+OK")]);
    let off = format!("[users.default]\nenabled = false\n{}", two_users());
    check(&off, &[], &[], &[("PING", ASKED), ("AUTH x", REFUSED), ("AUTH app one", "+OK"), ("PING", "+PONG")]);
}

#[test]
fn users_come_and_go_without_a_restart() {
    let folder = folder_with(&two_users());
    let path = folder.path().join("users.toml");
    let redis = Redis::start();
    let mut sidecar = Sidecar::serve(&redis, &["--users-file", &file(&folder), "--files-poll-ms", "20"]);
    let as_user = |sidecar: &Sidecar, login: &str| -> Option<Client> {
        let mut client = sidecar.client();
        (client.ask(login) == "+OK").then_some(client)
    };
    let mut app = as_user(&sidecar, "AUTH app one").unwrap();
    let mut anonymous = sidecar.client();
    assert_eq!(anonymous.ask("PING"), "+PONG");
    assert!(as_user(&sidecar, "AUTH new three").is_none());
    put(&path, &format!("{}[users.new]\nsha256 = \"{}\"\n", two_users(), hash("three")));
    poll_until("the new user", || as_user(&sidecar, "AUTH new three").is_some());
    let mut new = as_user(&sidecar, "AUTH new three").unwrap();
    // A bad file changes nothing, and neither does none.
    put(&path, "[users.new]\nsha256 = \"three\"\n");
    sidecar.process.wait_for("refusal", |line| {
        let told = line.contains("the users_file cannot be taken up") && line.contains("64 hexadecimal digits");
        told.then_some(())
    });
    assert!(as_user(&sidecar, "AUTH app one").is_some() && as_user(&sidecar, "AUTH new three").is_some());
    std::fs::remove_file(&path).unwrap();
    sidecar.process.wait_for("refusal", |line| line.contains("users.toml: No such file").then_some(()));
    assert!(as_user(&sidecar, "AUTH app one").is_some() && as_user(&sidecar, "AUTH new three").is_some());
    // Who is taken out or disabled does not stay; the others notice nothing.
    put(&path, &format!("[users.app]\nsha256 = \"{}\"\n[users.new]\nenabled = false\n", hash("two")));
    assert_eq!(new.try_reply(), None, "a disabled user is still in");
    assert!(as_user(&sidecar, "AUTH new three").is_none() && as_user(&sidecar, "AUTH app one").is_none());
    assert!(as_user(&sidecar, "AUTH app two").is_some());
    assert_eq!((app.ask("PING").as_str(), anonymous.ask("PING").as_str()), ("+PONG", "+PONG"));
    put(&path, "[users.default]\nenabled = false\n");
    assert_eq!((app.try_reply(), anonymous.try_reply()), (None, None));
    assert_eq!(sidecar.client().ask("PING"), ASKED);
}

#[test]
fn mistakes_in_the_file() {
    let check = |content: &str, expect: &str| {
        let folder = folder_with(content);
        let flags = ["--upstream", "redis://127.0.0.1:1", "--users-file", &file(&folder)];
        check_refused(&flags, &format!("users.toml (users_file): {expect}"));
    };
    let wanted = "a password is given as 64 hexadecimal digits, which `printf %s PASSWORD | sha256sum` makes";
    check("[users.a]\nsha256 = \"s3cret\"\n", &format!("user \"a\": {wanted}"));
    check(&format!("[users.a]\nsha256 = [\"{}\", 5]\n", hash("x")), &format!("user \"a\": {wanted}"));
    check(
        &format!("[users.a]\nsha256 = \"{}\"\n", hash("x").replace(|c: char| c.is_ascii_digit(), "é")),
        wanted_of("a").as_str(),
    );
    check("[users.a]\n", "user \"a\": it has no password; give it `sha256 = \"…\"`, or `enabled = false`");
    check("[users.a]\nsha256 = []\n", "user \"a\": it has no password");
    check("[users.\"a b\"]\nenabled = false\n", "user \"a b\": a name is not empty and has no blanks");
    check(
        "[users.a]\npassword = \"s3cret\"\n",
        "near line 2: unknown field `password`, expected `sha256` or `enabled`",
    );
    check("[user.a]\n", "near line 1: unknown field `user`, expected `users`");
    check("[users.a]\nenabled = false\n[users.a]\n", "near line 3: duplicate key");
    check("[users.a]\nsha256 = s3cret\n", "near line 2: ");
    check_refused(&["--users-file", "/no/such.toml"], "cannot read /no/such.toml: No such file");
    check_refused(&["--users-file", Path::new("/").to_str().unwrap()], "cannot read /: Is a directory");
}

fn wanted_of(user: &str) -> String {
    format!("user {user:?}: a password is given as 64 hexadecimal digits")
}

/// CLIENT KILL knows the users that the server does not.
#[test]
fn clients_are_killed_by_their_user() {
    let (redis, folder) = (Redis::start(), folder_with(&two_users()));
    let sidecar = Sidecar::serve(&redis, &["--users-file", &file(&folder)]);
    let logged_in = || {
        let mut client = sidecar.client();
        assert_eq!(client.ask("AUTH app one"), "+OK");
        client
    };
    let (mut one, mut two, mut three) = (logged_in(), logged_in(), logged_in());
    assert_eq!(three.ask("CLIENT KILL USER nobody"), "-ERR No such user 'nobody'");
    assert_eq!(three.ask("CLIENT KILL TYPE normal USER app"), ":2");
    assert_eq!((one.try_ask("PING"), two.try_ask("PING")), (None, None));
}

//! How clients reach the sidecar and how the sidecar reaches Redis: unix sockets, TLS, users.

mod backlog;
pub mod certificates;
mod client_tls;
mod unix;
mod upstream_tls;
mod users;

use crate::harness::{Client, Sidecar, encoded};

/// Everything that travels over a connection in another way: a little, much, at once, unasked.
fn check_traffic(mut connect: impl FnMut() -> Client) {
    const VALUE_BYTES: usize = 3_000_000;
    let (mut client, mut other) = (connect(), connect());
    assert_eq!(client.ask("SET a 1"), "+OK");
    assert_eq!(other.ask("GET a"), "$1\r\n1");
    let value = "x".repeat(VALUE_BYTES);
    assert_eq!(client.ask_words(&[b"SET", b"large", value.as_bytes()]), "+OK");
    assert_eq!(other.ask("GET large"), format!("${VALUE_BYTES}\r\n{value}"));
    // One that reads late gets everything.
    assert_eq!(client.ask_words(&[b"SET", b"b", &[b'y'; 50_000]]), "+OK");
    client.send(&encoded(&["GET", "b"]).repeat(200));
    assert_eq!(other.ask("GET a"), "$1\r\n1");
    for number in 0..200 {
        assert_eq!(client.reply().len(), 50_000 + 10, "reply {number}");
    }
    client.send(&encoded(&["INCR", "n"]).repeat(2_000));
    for expect in 1..=2_000 {
        assert_eq!(client.reply(), format!(":{expect}\r\n").as_bytes());
    }
    assert_eq!(client.ask("MULTI"), "+OK");
    assert_eq!(client.ask("INCR n"), "+QUEUED");
    assert_eq!(client.ask("EXEC"), "*1\r\n:2001");
    assert_eq!(client.ask("BLPOP nothing 0.01"), "*-1");
    assert!(client.ask("SUBSCRIBE ch").contains("subscribe"));
    assert_eq!(other.ask("PUBLISH ch hello"), ":1");
    assert!(String::from_utf8(client.reply()).unwrap().contains("hello"));
    assert!(other.ask("HELLO 3").starts_with('%'));
    assert_eq!(other.ask("GET a"), "$1\r\n1");
    assert_eq!(other.ask("QUIT"), "+OK");
    assert_eq!(other.try_reply(), None, "closed after QUIT");
}

/// A `serve` that ends with an error that says `expect`.
fn check_refused(flags: &[&str], expect: &str) {
    let mut process = Sidecar::begin("serve", flags, &[]);
    let status = process.wait();
    let told = process.lines().join("\n");
    assert!(!status.success() && told.contains(expect), "{flags:?}\nexpected {expect}\ngot      {told}");
}

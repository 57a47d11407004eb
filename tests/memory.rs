//! What clients keep of what went through them, once they are idle: next to nothing.

use crate::harness::process::poll_for;
use crate::harness::{Client, Redis, Sidecar};

const CLIENTS: usize = 64;
const VALUE_BYTES: usize = 4 * 1024 * 1024;
/// Of all that went through. The allocator keeps some of it, as much for one client as for many.
const KEPT_BYTES_MAX: u64 = (CLIENTS * VALUE_BYTES / 2) as u64;

#[test]
fn idle_clients_keep_nothing_of_large_values() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &["--workers", "1"]);
    let value = vec![b'v'; VALUE_BYTES];
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| sidecar.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("PING"), "+PONG"));
    let before = sidecar.process.resident_bytes();
    for client in &mut clients {
        assert_eq!(client.ask_words(&[b"SET", b"large", &value]), "+OK");
        client.command(&[b"GET", b"large"]);
        assert_eq!(client.reply().len(), format!("${VALUE_BYTES}\r\n\r\n").len() + VALUE_BYTES);
    }
    poll_for("memory", || match sidecar.process.resident_bytes().saturating_sub(before) {
        kept if kept <= KEPT_BYTES_MAX => Ok(()),
        kept => Err(format!("{kept} bytes for {CLIENTS} idle clients, of values with {VALUE_BYTES} bytes")),
    });
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("PING"), "+PONG"));
}

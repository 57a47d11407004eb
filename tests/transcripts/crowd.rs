//! Many commands and many clients at once: every reply reaches the one who asked, in order.

use std::collections::HashMap;

use crate::harness::process::poll_until;
use crate::harness::{Client, Redis, Sidecar, encoded};

/// Numbers that look random and are the same in every run (xorshift64).
struct Random(u64);

// === impl Random ===

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What one client's keys hold.
#[derive(Default)]
struct Model {
    values: HashMap<String, String>,
    counters: HashMap<String, i64>,
}

// === impl Model ===

impl Model {
    /// A random command on the keys of one client, with the reply it must get.
    fn step(&mut self, random: &mut Random, prefix: &str, step: usize) -> (Vec<String>, String) {
        let key = format!("{prefix}{}", random.below(8));
        let bulk = |value: Option<&String>| value.map_or("$-1\r\n".into(), |v| format!("${}\r\n{v}\r\n", v.len()));
        let (words, reply): (Vec<&str>, _) = match random.below(6) {
            0 => {
                let value = format!("[{step}]");
                let words = vec!["SET".to_owned(), key.clone(), value.clone()];
                self.values.insert(key, value);
                return (words, "+OK\r\n".into());
            }
            1 => (vec!["GET", &key], bulk(self.values.get(&key))),
            2 => {
                let counter = self.counters.entry(format!("{key}:n")).or_default();
                *counter += 1;
                return (vec!["INCR".into(), format!("{key}:n")], format!(":{counter}\r\n"));
            }
            3 => (vec!["DEL", &key], format!(":{}\r\n", u8::from(self.values.remove(&key).is_some()))),
            4 => {
                let other = format!("{prefix}0");
                let reply = format!("*2\r\n{}{}", bulk(self.values.get(&key)), bulk(self.values.get(&other)));
                return (vec!["MGET".into(), key, other], reply);
            }
            _ => (vec!["ECHO", &key], bulk(Some(&key))),
        };
        (words.into_iter().map(str::to_owned).collect(), reply)
    }
}

/// One client's life: batches of random commands, each reply compared with the model's.
fn live(port: u16, number: u64, commands: usize) {
    let mut client = Client::connect(port);
    let (mut random, mut model) = (Random(0x9E37_79B9_7F4A_7C15 ^ (number + 1)), Model::default());
    let prefix =
        if number.is_multiple_of(2) { format!("plain:{number}:") } else { format!("fyntrix:general:{number}:") };
    let mut done = 0;
    while done < commands {
        let size = (1 + random.below(9)) as usize;
        let batch: Vec<_> = (done..done + size).map(|step| model.step(&mut random, &prefix, step)).collect();
        client.send(&batch.iter().flat_map(|(words, _)| encoded(words)).collect::<Vec<_>>());
        for (words, expect) in &batch {
            let got = client.reply();
            assert_eq!(String::from_utf8_lossy(&got), expect.as_str(), "client {number}: {words:?}");
        }
        done += size;
    }
}

#[test]
fn no_swapped_reply() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &[]);
    let port = sidecar.port;
    let clients: Vec<_> = (0..50).map(|number| std::thread::spawn(move || live(port, number, 500))).collect();
    let failed: Vec<_> = clients.into_iter().filter_map(|client| client.join().err()).collect();
    let told: Vec<_> = failed.iter().filter_map(|panic| panic.downcast_ref::<String>()).collect();
    assert!(failed.is_empty(), "{} of 50 clients failed: {told:#?}", failed.len());
}

#[test]
fn twenty_thousand_commands_in_one_write() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &[]);
    // More than `client_pipeline_max`.
    for key in ["n", "fyntrix:general:n"] {
        let mut client = sidecar.client();
        let batch: Vec<u8> =
            (0..10_000).flat_map(|n| [encoded(&["INCR", key]), encoded(&["ECHO", &n.to_string()])].concat()).collect();
        client.send(&batch);
        for n in 0..10_000_usize {
            let expect = (format!(":{}\r\n", n + 1), format!("${}\r\n{n}\r\n", n.to_string().len()));
            let got = (client.reply(), client.reply());
            let got = (String::from_utf8(got.0).unwrap(), String::from_utf8(got.1).unwrap());
            assert_eq!(got, expect, "pair {n} of {key}");
        }
    }
}

#[test]
fn clients_end_each_other() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &[]);
    let mut me = sidecar.client();
    let address = |client: &mut Client| {
        let info = client.ask("CLIENT INFO");
        info.split_once("addr=").and_then(|(_, rest)| rest.split(' ').next()).unwrap().to_owned()
    };
    let id = |client: &mut Client| client.ask("CLIENT ID").trim_start_matches(':').to_owned();
    let mut check = |command: &dyn Fn(&mut Client) -> String, expect: &str| {
        let mut other = sidecar.client();
        let command = command(&mut other);
        assert_eq!(me.ask(&command), expect, "{command}");
        assert_eq!(other.try_reply(), None, "{command}: the other client is still there");
        poll_until("one client", || me.ask("CLIENT LIST").matches("id=").count() == 1);
    };
    check(&|other| format!("CLIENT KILL ID {}", id(other)), ":1");
    check(&|other| format!("CLIENT KILL ADDR {}", address(other)), ":1");
    check(&|other| format!("CLIENT KILL {}", address(other)), "+OK");
    check(&|other| format!("CLIENT KILL ID {} ADDR {} SKIPME yes", id(other), address(other)), ":1");
    let own = id(&mut me);
    assert_eq!(me.ask(&format!("CLIENT KILL ID {own}")), ":0", "SKIPME is yes where it is not said");
    let ended = me.ask(&format!("CLIENT KILL ID {own} SKIPME no"));
    assert_eq!((ended.as_str(), me.try_reply()), (":1", None), "it ends itself, and is told before");
}

//! Clients that write and read all the time and check every reply: it is the one to their own command, or an error that
//! says what is known. What was acknowledged is kept, so that it can be looked for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::process::{PATIENCE, poll_until};
use super::{Client, encoded};

/// Running clients.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    port: u16,
    stop: AtomicBool,
    /// Rounds of each client in which every command was answered without an error.
    good: Vec<AtomicUsize>,
    /// Connections that were closed.
    closed: AtomicUsize,
    /// The different errors.
    errors: Mutex<BTreeMap<String, usize>>,
    /// Values that were acknowledged, and not written since, by key.
    acknowledged: Mutex<BTreeMap<String, String>>,
}

/// What a load has seen.
#[derive(Debug)]
pub struct Seen {
    /// Connections that were closed.
    pub closed: usize,
    /// The different errors, and how often each came.
    pub errors: BTreeMap<String, usize>,
    /// Values that were acknowledged, and not written since, by key.
    pub acknowledged: BTreeMap<String, String>,
}

/// One client's own side.
struct Worker<'a> {
    shared: &'a Shared,
    number: usize,
    round: usize,
    client: Client,
}

/// How a round went.
enum Round {
    Good,
    Errors,
    Closed,
}

/// Keys of each client. Few, so that they are written again and again.
const KEYS: usize = 8;

impl Load {
    /// Starts so many clients.
    pub fn start(port: u16, clients: usize) -> Self {
        let shared = Arc::new(Shared {
            port,
            stop: AtomicBool::new(false),
            good: (0..clients).map(|_| AtomicUsize::new(0)).collect(),
            closed: AtomicUsize::new(0),
            errors: Mutex::default(),
            acknowledged: Mutex::default(),
        });
        let start = |number| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.run(number))
        };
        let threads = (0..clients).map(start).collect();
        Self { shared, threads }
    }

    /// Waits until every client has had so many more good rounds.
    pub fn wait_for_rounds(&self, more: usize) {
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let begun: Vec<_> = self.shared.good.iter().map(of).collect();
        poll_until("good rounds of every client", || {
            let ended = self.threads.iter().any(JoinHandle::is_finished);
            ended || self.shared.good.iter().zip(&begun).all(|(good, begun)| of(good) >= begun + more)
        });
    }

    /// How many connections were closed and errors came so far.
    pub fn troubles(&self) -> usize {
        self.shared.closed.load(Ordering::Relaxed) + self.shared.errors.lock().unwrap().values().sum::<usize>()
    }

    /// Ends the clients: what they have seen. Panics where one got a reply that was not its own.
    pub fn stop(self) -> Seen {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let shared = &self.shared;
        Seen {
            closed: shared.closed.load(Ordering::Relaxed),
            errors: std::mem::take(&mut *shared.errors.lock().unwrap()),
            acknowledged: std::mem::take(&mut *shared.acknowledged.lock().unwrap()),
        }
    }
}

impl Shared {
    fn run(&self, number: usize) {
        let mut worker = Worker { shared: self, number, round: 0, client: self.connect(number) };
        while !self.stop.load(Ordering::Relaxed) {
            worker.round += 1;
            // One in three is a transaction.
            match if (worker.round + number).is_multiple_of(3) { worker.transaction() } else { worker.pipeline() } {
                Round::Good => drop(self.good[number].fetch_add(1, Ordering::Relaxed)),
                Round::Errors => {}
                Round::Closed => {
                    self.closed.fetch_add(1, Ordering::Relaxed);
                    worker.client = self.connect(number);
                }
            }
        }
    }

    /// Every other client speaks RESP3. The sidecar answers that itself.
    fn connect(&self, number: usize) -> Client {
        let mut client = Client::connect(self.port);
        if number % 2 == 1 {
            client.command(&[b"HELLO", b"3"]);
            assert!(client.reply().starts_with(b"%7\r\n"));
        }
        client
    }
}

impl Worker<'_> {
    fn key(&self) -> String {
        format!("t:{}:{}", self.number, self.round % KEYS)
    }

    fn value(&self) -> String {
        format!("value-{}-{}", self.number, self.round)
    }

    /// A write, a reply that is nobody else's, the value back.
    fn pipeline(&mut self) -> Round {
        let (key, value) = (self.key(), self.value());
        self.forget(&key);
        let commands =
            [&["SET", &key, &value][..], &["ECHO", &value], &["GET", &key], &["HSET", "t:hash", &key, &value]];
        let Some(replies) = self.ask(&commands) else { return Round::Closed };
        let [set, echo, get, hset] = &replies[..] else { unreachable!() };
        let bulk = format!("${}\r\n{value}", value.len());
        let mut good = self.expect(set, |reply| reply == "+OK");
        good &= self.expect(echo, |reply| reply == bulk);
        let written = good;
        good &= self.expect(get, |reply| !written || reply == bulk);
        good &= self.expect(hset, |reply| reply == ":0" || reply == ":1");
        if set == "+OK" {
            self.acknowledge(key, value);
        }
        if good { Round::Good } else { Round::Errors }
    }

    fn transaction(&mut self) -> Round {
        let (key, value) = (self.key(), self.value());
        self.forget(&key);
        let commands = [&["MULTI"][..], &["SET", &key, &value], &["ECHO", &value], &["EXEC"]];
        let Some(replies) = self.ask(&commands) else { return Round::Closed };
        let expect = format!("*2\r\n+OK\r\n${}\r\n{value}", value.len());
        let mut good = true;
        for (reply, expect) in replies.iter().zip(["+OK", "+QUEUED", "+QUEUED", &expect]) {
            good &= self.expect(reply, |reply| reply == expect);
        }
        if good {
            self.acknowledge(key, value);
        }
        if good { Round::Good } else { Round::Errors }
    }

    /// Sends commands at once. None: the connection was closed before all were answered.
    fn ask(&mut self, commands: &[&[&str]]) -> Option<Vec<String>> {
        let bytes: Vec<u8> = commands.iter().flat_map(|words| encoded(words)).collect();
        if !self.client.try_send(&bytes) {
            return None;
        }
        let reply = |_: &&[&str]| Some(String::from_utf8_lossy(&self.client.try_reply()?).trim_end().to_owned());
        commands.iter().map(reply).collect()
    }

    /// Whether a reply is the expected one. False: it is an error, which is counted. Panics where it is another's.
    fn expect(&self, reply: &str, is: impl FnOnce(&str) -> bool) -> bool {
        if let Some(error) = reply.strip_prefix('-') {
            *self.shared.errors.lock().unwrap().entry(error.to_owned()).or_default() += 1;
            return false;
        }
        assert!(is(reply), "client {} in round {} got another's reply: {reply}", self.number, self.round);
        true
    }

    fn forget(&self, key: &str) {
        self.shared.acknowledged.lock().unwrap().remove(key);
    }

    fn acknowledge(&self, key: String, value: String) {
        self.shared.acknowledged.lock().unwrap().insert(key, value);
    }
}

impl Seen {
    /// Looks for all that was acknowledged.
    pub fn is_all_there(&self, client: &mut Client) {
        assert!(!self.acknowledged.is_empty(), "nothing was acknowledged in {PATIENCE:?}");
        for (key, value) in &self.acknowledged {
            assert_eq!(client.ask(&format!("GET {key}")), format!("${}\r\n{value}", value.len()), "{key}");
        }
    }
}

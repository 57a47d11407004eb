//! A server that says what a test tells it to: for what no installed server does. It answers what the sidecar asks at
//! its start or what it was told to, OK to everything else, and remembers what it was asked.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bellwether::resp::request::{Limits, Scanned, Scanner};
use serde_json::Value;

/// A running scripted server. It ends with its test.
pub struct Scripted {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The answer to COMMAND.
    commands: Mutex<Vec<u8>>,
    /// The answers to commands that begin with these words.
    answers: Mutex<BTreeMap<String, Vec<u8>>>,
    /// The connection and the words of every command that is not the sidecar's own.
    heard: Mutex<Vec<(usize, String)>>,
    /// How many seconds its clock is ahead.
    clock: Mutex<u64>,
    sockets: Mutex<Vec<TcpStream>>,
    ended: Mutex<bool>,
}

impl Scripted {
    /// Starts one that answers COMMAND with these rows, as JSON.
    pub fn start(commands: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { commands: Mutex::new(encoded(commands)), ..Shared::default() });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for (number, socket) in listener.incoming().map_while(Result::ok).enumerate() {
                if *serving.ended.lock().unwrap() {
                    return;
                }
                serving.sockets.lock().unwrap().push(socket.try_clone().unwrap());
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || serve(&shared, number, socket));
            }
        });
        Self { port, shared }
    }

    /// Ends every connection, and goes on as a server with other commands.
    pub fn restart(&self, commands: &Value) {
        *self.shared.commands.lock().unwrap() = encoded(commands);
        self.end_connections();
    }

    /// Answers commands that begin with these words so from now on.
    pub fn answer(&self, words: &str, value: &Value) {
        self.shared.answers.lock().unwrap().insert(words.to_owned(), encoded(value));
    }

    /// Its clock is so many seconds ahead from now on.
    pub fn set_clock(&self, ahead: u64) {
        *self.shared.clock.lock().unwrap() = ahead;
    }

    /// What it was asked since the last time, with the number of the connection.
    pub fn heard(&self) -> Vec<(usize, String)> {
        std::mem::take(&mut *self.shared.heard.lock().unwrap())
    }

    fn end_connections(&self) {
        for socket in self.shared.sockets.lock().unwrap().drain(..) {
            // Gone already is just as well.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        *self.shared.ended.lock().unwrap() = true;
        self.end_connections();
        // So that the listener looks up.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn serve(shared: &Shared, number: usize, mut socket: TcpStream) {
    let limits = Limits { args_max: 1024, bulk_bytes_max: 1 << 20, command_bytes_max: 1 << 20 };
    let (mut scanner, mut bytes, mut chunk) = (Scanner::new(limits), Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = socket.read(&mut chunk) {
        bytes.extend_from_slice(chunk.get(..count).unwrap());
        while let Ok(Scanned::Command(length)) = scanner.scan(&bytes) {
            let words: Vec<_> = scanner.args().iter().map(|arg| String::from_utf8_lossy(arg.of(&bytes))).collect();
            let words = words.join(" ");
            if socket.write_all(&answer(shared, number, words)).is_err() {
                return;
            }
            bytes.drain(..length);
            scanner.reset();
        }
    }
}

fn answer(shared: &Shared, number: usize, words: String) -> Vec<u8> {
    const INFO: &str = "redis_version:99.0.0\r\nredis_mode:standalone\r\n";
    let told = shared
        .answers
        .lock()
        .unwrap()
        .iter()
        .find(|(begin, _)| words.starts_with(*begin))
        .map(|(_, told)| told.clone());
    if let Some(told) = told {
        return told;
    }
    match words.split(' ').next().unwrap_or_default() {
        "INFO" => format!("${}\r\n{INFO}\r\n", INFO.len()).into_bytes(),
        "TIME" => {
            let ahead = Duration::from_secs(*shared.clock.lock().unwrap());
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + ahead;
            encoded(&serde_json::json!([now.as_secs().to_string(), now.subsec_micros().to_string()]))
        }
        "CONFIG" => b"*2\r\n$9\r\ndatabases\r\n$2\r\n16\r\n".to_vec(),
        "COMMAND" => shared.commands.lock().unwrap().clone(),
        "CLIENT" | "HELLO" | "SELECT" => b"+OK\r\n".to_vec(),
        _ => {
            shared.heard.lock().unwrap().push((number, words));
            b"+OK\r\n".to_vec()
        }
    }
}

/// A value as RESP2. Null is for an error.
pub fn encoded(value: &Value) -> Vec<u8> {
    match value {
        Value::Number(number) => format!(":{number}\r\n").into_bytes(),
        Value::String(text) => format!("${}\r\n{text}\r\n", text.len()).into_bytes(),
        Value::Array(values) => {
            let head = format!("*{}\r\n", values.len()).into_bytes();
            std::iter::once(head).chain(values.iter().map(encoded)).flatten().collect()
        }
        _ => b"-NOPERM this user may not\r\n".to_vec(),
    }
}

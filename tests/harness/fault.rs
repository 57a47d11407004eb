//! A link between the sidecar and its server that breaks in the way a test says: what a network does, and a server that
//! is not quite one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of the server's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They pass.
    None,
    /// So many of them pass, then the connection is closed in good order.
    Cut(usize),
    /// The same, and the connection is reset.
    Reset(usize),
    /// Others come first.
    Garbage(&'static [u8]),
    /// Others come behind them, in the same breath.
    GarbageBehind(&'static [u8]),
    /// They come late.
    Delay(Duration),
    /// They come one at a time.
    Drip,
    /// They pass, and those of the sidecar pass slowly: 2 MB a second.
    SlowUpload,
    /// Nothing passes in either direction, and nothing is closed.
    HalfOpen,
    /// The same for ever for the connections that are open; others pass.
    Dead,
    /// Connections are closed as soon as they are opened; those that are open are closed, too.
    Refuse,
}

/// A link. It ends with its test.
pub struct FaultLink {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server_port: u16,
    fault: Mutex<Fault>,
    /// How often the fault has struck.
    struck: AtomicUsize,
    ended: AtomicBool,
}

/// How long one side is waited for before the other is looked at.
const LOOK: Duration = Duration::from_millis(1);

impl FaultLink {
    /// A link to a server on this machine.
    pub fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let fault = Mutex::new(Fault::None);
        let shared = Shared { server_port, fault, struck: AtomicUsize::new(0), ended: AtomicBool::new(false) };
        let shared = Arc::new(shared);
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if accepting.ended.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || shared.carry(socket));
            }
        });
        Self { port, shared }
    }

    /// From now on this becomes of the server's bytes.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
        self.shared.struck.store(0, Ordering::Relaxed);
    }

    /// How often the fault has struck.
    pub fn struck(&self) -> usize {
        self.shared.struck.load(Ordering::Relaxed)
    }
}

impl Drop for FaultLink {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // So that the listener looks up.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    fn strike(&self) {
        self.struck.fetch_add(1, Ordering::Relaxed);
    }

    /// Carries one connection until it ends.
    fn carry(&self, mut client: TcpStream) {
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", self.server_port)) else { return };
        for socket in [&client, &server] {
            socket.set_nodelay(true).unwrap();
            socket.set_read_timeout(Some(LOOK)).unwrap();
        }
        let (mut chunk, mut spoilt, mut dead) = (vec![0; 65536], false, false);
        while !self.ended.load(Ordering::Relaxed) {
            let fault = self.fault();
            if fault == Fault::Refuse {
                return self.strike();
            }
            dead |= fault == Fault::Dead;
            if dead || fault == Fault::HalfOpen {
                if !std::mem::replace(&mut spoilt, true) {
                    self.strike();
                }
                std::thread::park_timeout(LOOK);
                continue;
            }
            let Some(count) = read(&mut client, &mut chunk) else { break };
            if server.write_all(&chunk[..count]).is_err() {
                break;
            }
            if fault == Fault::SlowUpload {
                std::thread::park_timeout(Duration::from_secs_f64(count as f64 / 2e6));
            }
            let Some(count) = read(&mut server, &mut chunk) else { break };
            if count > 0 && !self.deliver(&mut client, &chunk[..count], &mut spoilt) {
                return;
            }
        }
        // The other side is to know, too.
        drop((client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both)));
    }

    /// Gives the sidecar bytes of the server, or what is made of them. False: the connection is over.
    fn deliver(&self, client: &mut TcpStream, bytes: &[u8], spoilt: &mut bool) -> bool {
        let fault = self.fault();
        let part = |count: usize| &bytes[..count.min(bytes.len() - 1)];
        match fault {
            Fault::Cut(count) | Fault::Reset(count) => {
                drop(client.write_all(part(count)));
                if let Fault::Reset(_) = fault {
                    socket2::SockRef::from(&*client).set_linger(Some(Duration::ZERO)).unwrap();
                }
                self.strike();
                return false;
            }
            Fault::Garbage(garbage) if !*spoilt => {
                *spoilt = true;
                self.strike();
                drop(client.write_all(garbage));
            }
            Fault::GarbageBehind(garbage) => {
                self.strike();
                return client.write_all(&[bytes, garbage].concat()).is_ok();
            }
            Fault::Delay(time) => {
                self.strike();
                std::thread::park_timeout(time);
            }
            Fault::Drip => {
                self.strike();
                return bytes.chunks(1).all(|byte| client.write_all(byte).is_ok());
            }
            Fault::None | Fault::Garbage(_) | Fault::HalfOpen => {}
            Fault::SlowUpload | Fault::Dead | Fault::Refuse => {}
        }
        client.write_all(bytes).is_ok()
    }
}

/// Reads what is there. None: the connection is over.
fn read(socket: &mut TcpStream, chunk: &mut [u8]) -> Option<usize> {
    match socket.read(chunk) {
        Ok(0) => None,
        Ok(count) => Some(count),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Some(0),
        Err(_) => None,
    }
}

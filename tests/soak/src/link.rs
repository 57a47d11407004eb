//! The way between the sidecar and its server, which breaks as it is told. Two threads a connection, which wait and do
//! not look, so that it costs little for an hour. It must not know why.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::replies::Replies;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They pass.
    None,
    /// So many of a chunk of the server's pass, then the connection is closed in good order.
    Cut(usize),
    /// The same, and the connection is reset.
    Reset(usize),
    /// Others come first, between two replies, once a connection.
    Garbage(&'static [u8]),
    /// The server's come late.
    Delay(Duration),
    /// The server's come in little pieces.
    Drip,
    /// Nothing passes in either direction, and nothing is closed.
    HalfOpen,
    /// The same for the connections that are open; others pass.
    Dead,
    /// Connections are closed as soon as they are opened; those that are open are closed, too.
    Refuse,
    /// Two replies of a connection, once, change their places. Only to show that it is seen.
    Swap,
}

/// The link. It ends with the program.
#[derive(Clone)]
pub struct Link {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server_port: u16,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    fault: Fault,
    /// How often it has struck since it was set.
    struck: u64,
    /// The open connections: both sockets, and whether it is dead.
    open: BTreeMap<u64, Pair>,
    next: u64,
}

struct Pair {
    client: TcpStream,
    server: TcpStream,
    dead: bool,
}

// === impl Link ===

impl Link {
    /// A link to a server on this machine.
    pub fn start(server_port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let state = State { fault: Fault::None, struck: 0, open: BTreeMap::new(), next: 0 };
        let shared = Arc::new(Shared { server_port, state: Mutex::new(state), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                // One that cannot be carried is closed, as one that is refused.
                drop(accepting.begin(socket));
            }
        });
        Ok(Self { port, shared })
    }

    /// From now on this becomes of bytes.
    pub fn set(&self, fault: Fault) {
        let mut state = self.shared.state();
        (state.fault, state.struck) = (fault, 0);
        match fault {
            Fault::Dead => state.open.values_mut().for_each(|pair| pair.dead = true),
            Fault::Refuse => state.end(|_| true),
            _ => {}
        }
        self.shared.changed.notify_all();
    }

    /// Ends the connections that are dead, or all.
    pub fn sever(&self, all: bool) {
        self.shared.state().end(|pair| all || pair.dead);
        self.shared.changed.notify_all();
    }

    /// How often the fault has struck since it was set.
    pub fn struck(&self) -> u64 {
        self.shared.state().struck
    }
}

// === impl State ===

impl State {
    fn end(&mut self, which: impl Fn(&Pair) -> bool) {
        for pair in self.open.values_mut().filter(|pair| which(pair)) {
            // So that the threads that wait for it find it ended.
            pair.dead = false;
            drop((pair.client.shutdown(Shutdown::Both), pair.server.shutdown(Shutdown::Both)));
            self.struck += 1;
        }
    }
}

// === impl Shared ===

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn begin(self: &Arc<Self>, client: TcpStream) -> std::io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", self.server_port))?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (up, down) = ((client.try_clone()?, server.try_clone()?), (server.try_clone()?, client.try_clone()?));
        let mut state = self.state();
        if state.fault == Fault::Refuse {
            state.struck += 1;
            return Ok(());
        }
        let number = state.next;
        state.next += 1;
        state.open.insert(number, Pair { client, server, dead: false });
        drop(state);
        let (one, other) = (Arc::clone(self), Arc::clone(self));
        std::thread::spawn(move || {
            one.carry(number, up.0, up.1, None);
            one.end(number);
        });
        std::thread::spawn(move || {
            other.carry(number, down.0, down.1, Some(Replies::default()));
            other.end(number);
        });
        Ok(())
    }

    fn end(&self, number: u64) {
        if let Some(pair) = self.state().open.remove(&number) {
            // The other side is to know, too.
            drop((pair.client.shutdown(Shutdown::Both), pair.server.shutdown(Shutdown::Both)));
        }
    }

    /// Waits while nothing passes. The fault of now, or None where the connection has ended meanwhile.
    fn gate(&self, number: u64) -> Option<Fault> {
        let mut state = self.state();
        let mut waited = false;
        loop {
            let dead = state.open.get(&number)?.dead;
            if state.fault != Fault::HalfOpen && !dead {
                return Some(state.fault);
            }
            if !std::mem::replace(&mut waited, true) {
                state.struck += 1;
            }
            state = self.changed.wait(state).unwrap();
        }
    }

    fn strike(&self) {
        self.state().struck += 1;
    }

    /// Carries one direction; the server's has its replies looked at.
    fn carry(&self, number: u64, mut from: TcpStream, mut to: TcpStream, mut replies: Option<Replies>) {
        let (mut chunk, mut spoilt) = (vec![0; 65536], false);
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            let Some(fault) = self.gate(number) else { return };
            let bytes = &mut chunk[..count];
            let passed = match &mut replies {
                None => to.write_all(bytes).is_ok(),
                Some(replies) => self.deliver(&mut to, bytes, replies, fault, &mut spoilt),
            };
            if !passed {
                return;
            }
        }
    }

    /// Gives the sidecar bytes of the server, or what is made of them. False: the connection is over.
    fn deliver(
        &self,
        to: &mut TcpStream,
        bytes: &mut [u8],
        replies: &mut Replies,
        fault: Fault,
        spoilt: &mut bool,
    ) -> bool {
        let between = replies.is_between();
        let ends = replies.feed(bytes);
        match fault {
            Fault::Cut(count) | Fault::Reset(count) => {
                drop(to.write_all(&bytes[..count.min(bytes.len() - 1)]));
                if let Fault::Reset(_) = fault {
                    drop(socket2::SockRef::from(&*to).set_linger(Some(Duration::ZERO)));
                }
                self.strike();
                return false;
            }
            Fault::Garbage(garbage) if between && !*spoilt => {
                *spoilt = true;
                self.strike();
                drop(to.write_all(garbage));
            }
            Fault::Delay(time) => {
                self.strike();
                std::thread::park_timeout(time);
            }
            Fault::Drip => {
                self.strike();
                return bytes.chunks(1 + bytes.len() / 50).all(|piece| to.write_all(piece).is_ok());
            }
            Fault::Swap if between && ends.len() > 1 && !*spoilt => {
                let (first, second) = (bytes[..ends[0]].to_vec(), bytes[ends[0]..ends[1]].to_vec());
                // Two that are alike would be no fault, and others may be the sidecar's own business.
                if first != second && first[0] == b'$' && second[0] == b'$' {
                    bytes[..ends[1]].copy_from_slice(&[second, first].concat());
                    *spoilt = true;
                    self.strike();
                }
            }
            _ => {}
        }
        to.write_all(bytes).is_ok()
    }
}

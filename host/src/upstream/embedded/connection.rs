//! One connection: reads what is there, runs every command of it, writes the replies at once.

use std::{cell::RefCell, rc::Rc};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::resp::{
    Span,
    request::{Limits, ProtocolError, Scanned, Scanner},
    write,
};

use super::{Clock, session::Session, store::Store};

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// Replies are written when there are so many bytes of them, even though more commands wait.
const WRITE_BYTES: usize = 64 * 1024;

/// A connection and what it runs on.
pub(super) struct Connection {
    stream: DuplexStream,
    store: Rc<RefCell<Store>>,
    clock: Clock,
    request_limits: Limits,
    input: BytesMut,
    output: Vec<u8>,
}

/// What one look at the input gave.
enum Step {
    /// A command was run.
    Ran,
    /// The rest of a command is missing.
    Starved,
    /// The connection ends behind what is written.
    Ended,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(stream: DuplexStream, store: Rc<RefCell<Store>>, clock: Clock, request_limits: Limits) -> Self {
        Self { stream, store, clock, request_limits, input: BytesMut::new(), output: Vec::new() }
    }

    /// Serves until either side ends. What goes wrong on the way is only the client gone.
    pub(super) async fn serve(mut self) {
        let begun = self.store.borrow_mut().begin();
        let Some(mut session) = begun else {
            write::error(&mut self.output, "ERR max number of clients reached");
            // The client may be gone already; it is told nothing then.
            let _ = self.flush().await;
            return;
        };
        // The connection ends either way, and an error has nobody to go to.
        let _ = self.converse(&mut session).await;
        self.store.borrow_mut().end(&mut session);
    }

    async fn converse(&mut self, session: &mut Session) -> std::io::Result<()> {
        let mut scanner = Scanner::new(self.request_limits);
        loop {
            match self.step(session, &mut scanner) {
                Step::Ran if self.output.len() < WRITE_BYTES => {}
                Step::Ran => self.flush().await?,
                Step::Starved => {
                    self.flush().await?;
                    self.input.reserve(READ_BYTES);
                    if self.stream.read_buf(&mut self.input).await? == 0 {
                        return Ok(());
                    }
                }
                Step::Ended => return self.flush().await,
            }
        }
    }

    /// Runs the command at the front of the input.
    fn step(&mut self, session: &mut Session, scanner: &mut Scanner) -> Step {
        let length = match scanner.scan(&self.input) {
            Ok(Scanned::Incomplete) => return Step::Starved,
            Ok(Scanned::Empty(length)) => length,
            Ok(Scanned::Command(length)) => {
                self.run(session, scanner.args(), None);
                length
            }
            Ok(Scanned::Inline(length, encoded)) => {
                let mut inner = Scanner::new(self.request_limits);
                match inner.scan(&encoded) {
                    Ok(_) => self.run(session, inner.args(), Some(&encoded)),
                    Err(error) => return self.refuse(&error),
                }
                length
            }
            Err(error) => return self.refuse(&error),
        };
        self.input.advance(length);
        scanner.reset();
        if session.closing { Step::Ended } else { Step::Ran }
    }

    /// Runs a command whose arguments stand in `encoded`, or else in the input.
    fn run(&mut self, session: &mut Session, spans: &[Span], encoded: Option<&[u8]>) {
        let bytes = encoded.unwrap_or(&self.input);
        let args: Vec<&[u8]> = spans.iter().map(|span| span.of(bytes)).collect();
        self.store.borrow_mut().execute(session, &args, (self.clock)(), &mut self.output);
    }

    fn refuse(&mut self, error: &ProtocolError) -> Step {
        write::error(&mut self.output, &format!("ERR {error}"));
        Step::Ended
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        // One large reply must not be kept in memory for the rest of the connection's life.
        self.output.shrink_to(WRITE_BYTES);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use crate::upstream::embedded::{
        EmbeddedStore,
        tests::{LIMITS, encode},
    };

    #[test]
    fn connections_are_served_and_bounded() {
        let now_ms = Arc::new(AtomicI64::new(5000));
        let clock = Arc::clone(&now_ms);
        let store = EmbeddedStore::start_within(LIMITS, Arc::new(move || clock.load(Ordering::Relaxed))).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut one = store.connect();
            // Commands in pieces and in batches, more replies than the pipe holds, and a line typed by hand.
            let (mut reader, mut writer) = tokio::io::split(&mut one);
            let batch = encode("ECHO 0123456789").repeat(100);
            let write = async {
                for piece in batch.chunks(37) {
                    writer.write_all(piece).await.unwrap();
                }
                writer.write_all(b"SET k v PX 50\r\n").await.unwrap();
            };
            let expect = format!("{}+OK\r\n", "$10\r\n0123456789\r\n".repeat(100));
            let mut read = vec![0; expect.len()];
            let (_, result) = tokio::join!(write, reader.read_exact(&mut read));
            result.unwrap();
            assert_eq!(String::from_utf8_lossy(&read), expect);

            now_ms.store(6000, Ordering::Relaxed);
            let mut two = store.connect();
            assert_eq!(ask(&mut two, b"GET k\r\nQUIT\r\nPING\r\n").await, "$-1\r\n+OK\r\n");
            let mut three = store.connect();
            assert_eq!(ask(&mut three, b"*1\r\n:1\r\n").await, "-ERR Protocol error: expected '$', got ':'\r\n");

            let _two = store.connect();
            let mut refused = store.connect();
            assert_eq!(ask(&mut refused, b"").await, "-ERR max number of clients reached\r\n");
            drop(store);
            assert_eq!(ask(&mut one, b"").await, "");
        });
    }

    /// Sends bytes and reads to the end of the stream.
    async fn ask(connection: &mut DuplexStream, bytes: &[u8]) -> String {
        connection.write_all(bytes).await.unwrap();
        let mut reply = String::new();
        connection.read_to_string(&mut reply).await.unwrap();
        reply
    }
}

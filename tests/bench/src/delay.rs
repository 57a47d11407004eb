//! A way that is longer, and no narrower: what comes in goes out after half of the delay, in each direction. Every
//! direction of every connection has a thread that reads and one that writes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;

/// Bytes, and when they are to go on.
type Held = (Instant, Vec<u8>);

const READ_BYTES: usize = 256 * 1024;
/// Pieces on the way: it reads no further where the other side takes nothing.
const HELD_MAX: usize = 1024;

/// Serves until the process ends.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) fn run(listen: SocketAddr, to: SocketAddr, delay: Duration) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    // Threads wake as exactly as the one that began them.
    crate::verbs::wake_on_time();
    crate::verbs::print(&serde_json::json!({ "listening": listener.local_addr()?.to_string() }))?;
    loop {
        let (client, _) = listener.accept()?;
        // A server that is away is a connection that ends, as it would be without the way between.
        let Ok(server) = crate::verbs::connect(to) else { continue };
        client.set_nodelay(true)?;
        for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            let (sender, receiver) = sync_channel(HELD_MAX);
            std::thread::spawn(move || read(from, &sender, delay / 2));
            std::thread::spawn(move || write(to, &receiver));
        }
    }
}

/// The channel closes when there is nothing more to read.
fn read(mut from: TcpStream, held: &SyncSender<Held>, delay: Duration) {
    let mut memory = vec![0; READ_BYTES];
    while let Ok(bytes) = from.read(&mut memory)
        && bytes > 0
    {
        let piece = memory.get(..bytes).unwrap_or_default().to_vec();
        if held.send((Instant::now() + delay, piece)).is_err() {
            break;
        }
    }
}

fn write(mut to: TcpStream, held: &Receiver<Held>) {
    while let Ok((due, piece)) = held.recv() {
        while let Some(wait) = due.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero()) {
            std::thread::park_timeout(wait);
        }
        if to.write_all(&piece).is_err() {
            // The other direction ends too, and with it the connection.
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

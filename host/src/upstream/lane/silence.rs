//! A connection that owes replies and says nothing is compared with a fresh one: where that is answered, the server is
//! well and the old connection is dead, as behind a balancer that lost its way to the server. Clients that connect
//! again would find it again, so it is given up. Where the fresh one is not answered either, the server is busy or
//! stopped, and all wait, as they would without a sidecar.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Route, Shared};
use crate::resp::reply::Splitter;
use crate::resp::{Protocol, write};

/// How often is looked, and how long the fresh connection is waited for.
const LOOK: Duration = Duration::from_secs(2);
/// So many looks in a row that find a reply owed and nothing heard, before a fresh connection is asked; with the last
/// look behind it, a connection is dead after 8 to 10 seconds.
const LOOKS: u32 = 4;

/// Watches a lane's connection until it is dropped, or found dead.
pub(super) async fn watch(shared: Rc<Shared>, route: Rc<Route>) {
    let is_silent =
        |since: u64| shared.heard.get() == since && !shared.waits.get() && !shared.queue.borrow().is_empty();
    let mut looks = 0;
    loop {
        let since = shared.heard.get();
        tokio::time::sleep(LOOK).await;
        looks = if is_silent(since) { looks + 1 } else { 0 };
        if looks >= LOOKS && is_answered(&route).await {
            // The server may have gone on just now, with this connection next.
            tokio::time::sleep(LOOK).await;
            if is_silent(since) {
                shared.dead.set(true);
                route.state.found_dead();
                return shared.wake();
            }
        }
    }
}

/// Whether a fresh connection is answered.
async fn is_answered(route: &Route) -> bool {
    let asked = async {
        let mut stream = route.target.connect(route.connect_timeout).await.ok()?;
        let mut out = BytesMut::new();
        let mut owed = route.opening(&mut out, Protocol::Resp2, 0, false).len() + 1;
        // A write, since a server that holds writes back (CLIENT PAUSE) is to hold this one back, too.
        write::array(&mut out, 2);
        write::bulk(&mut out, b"PERSIST");
        write::bulk(&mut out, b"bw:probe");
        stream.write_all(&out).await.ok()?;
        let (mut bytes, mut splitter) = (BytesMut::new(), Splitter::default());
        while owed > 0 {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
            while let Some(length) = splitter.split(&bytes).ok()? {
                bytes.advance(length);
                owed = owed.saturating_sub(1);
            }
        }
        Some(())
    };
    matches!(tokio::time::timeout(LOOK, asked).await, Ok(Some(())))
}

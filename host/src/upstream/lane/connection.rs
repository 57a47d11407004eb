//! The life of a lane's connections: connect, open, write what waits, read what comes, and again when one is lost.

use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::super::stream::Stream;
use super::{Entry, Expect, Lost, Outbox, REFUSED, Route, Shared, silence};
use crate::buffers::Quiet;
use crate::near::Touched;
use crate::resp::reply::Splitter;
use crate::upstream::sentinel::Moved;

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// The life of a lane's connections.
pub(super) async fn run(shared: Rc<Shared>, route: Rc<Route>, again: bool) {
    let mut attempt = 0;
    loop {
        let lost = match route.target.connect_followed(route.connect_timeout).await {
            Ok((stream, follows)) => {
                shared.life.borrow().begin(follows);
                route.state.connected();
                let lost = serve(&shared, &route, again, stream).await;
                route.state.disconnected();
                // A server that took a command is well again: the next attempt is made at once.
                attempt = if lost.sent { 0 } else { attempt };
                lost
            }
            Err(error) => Lost { reason: error.to_string(), sent: false, refusal: None },
        };
        if shared.released.get() {
            break;
        }
        route.state.ended_by_server();
        tracing::warn!(target = %route.target, reason = %lost.reason, "lost the server");
        shared.lose(&lost, &route);
        if !again {
            break;
        }
        tokio::time::sleep(route.back_off.after(attempt)).await;
        attempt += 1;
    }
    shared.ended.set(true);
}

/// Serves one connection until it ends, or until the handle is dropped.
async fn serve(shared: &Rc<Shared>, route: &Rc<Route>, again: bool, mut stream: Stream) -> Lost {
    let (mut unwritten, mut bytes, mut splitter) = (BytesMut::new(), BytesMut::new(), Splitter::default());
    let lane = Rc::new(Outbox::new(0));
    let mut openings = route.opening(&mut unwritten, shared.protocol.get(), shared.db, shared.near.is_some());
    if !again {
        // Clients of the sidecar ask about each other by numbers that are not the server's.
        unwritten.extend_from_slice(b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n");
        openings.push(Expect::Number);
    }
    for expect in openings.into_iter().rev() {
        lane.owe(1);
        let outbox = Rc::clone(&lane);
        shared.queue.borrow_mut().push_front(Entry { outbox, expect, touched: Touched::Nothing, count: 1 });
    }
    let (mut opened, mut quiet) = (false, Quiet::default());
    shared.dead.set(false);
    shared.full.set(false);
    let watching = tokio::task::spawn_local(silence::watch(Rc::clone(shared), Rc::clone(route)));
    let moved = shared.life.borrow().moved();
    let following = moved.map(|moved| tokio::task::spawn_local(follow(Rc::clone(shared), moved)));
    let reason = std::future::poll_fn(|cx| {
        if shared.released.get() {
            return Poll::Ready("released".into());
        }
        if shared.dead.get() {
            return Poll::Ready("the connection is not answered, and others are".into());
        }
        let over = shared.life.borrow().over();
        if let Some(reason) = over {
            return Poll::Ready(reason);
        }
        shared.waker.set(Some(cx.waker().clone()));
        loop {
            // Commands wait for the opening: in the wrong database they would do harm.
            opened |= lane.owed() == 0;
            if let Err(error) = poll_out(shared, &mut stream, &mut unwritten, opened, cx) {
                return Poll::Ready(error.to_string());
            }
            bytes.reserve(READ_BYTES);
            match pin!(stream.read_buf(&mut bytes)).poll(cx) {
                Poll::Pending => {
                    shared.rest(cx, &mut quiet, &mut unwritten, &mut bytes);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => return Poll::Ready("the server closed the connection".into()),
                Poll::Ready(Ok(_)) => {
                    shared.hear();
                    quiet.disturb();
                    if let Err(reason) = shared.replies(&mut bytes, &mut splitter) {
                        return Poll::Ready(reason);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(error.to_string()),
            }
        }
    })
    .await;
    watching.abort();
    following.iter().for_each(tokio::task::JoinHandle::abort);
    let refusal = reason.strip_prefix(REFUSED).map(ToOwned::to_owned);
    Lost { reason, sent: opened, refusal }
}

/// Sees to it that a connection ends when its server is no longer the one to be connected to.
async fn follow(shared: Rc<Shared>, mut moved: Moved) {
    moved.wait().await;
    shared.wake();
}

/// Writes as much as the stream takes.
fn poll_out(
    shared: &Shared,
    stream: &mut Stream,
    unwritten: &mut BytesMut,
    opened: bool,
    cx: &mut Context<'_>,
) -> io::Result<()> {
    loop {
        if unwritten.is_empty() && opened {
            std::mem::swap(unwritten, &mut *shared.out.borrow_mut());
            shared.wake_stalled();
        }
        if unwritten.is_empty() {
            return Ok(());
        }
        match Pin::new(&mut *stream).poll_write(cx, unwritten) {
            Poll::Pending => {
                shared.full.set(true);
                return Ok(());
            }
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(written)) => {
                if shared.full.replace(false) {
                    shared.hear();
                }
                unwritten.advance(written);
            }
            Poll::Ready(Err(error)) => return Err(error),
        }
    }
}

//! A connection to one node: opened when it is first needed, with what has been said of the connection before. Splits
//! what comes; what it means, its router knows.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::Instant;

use super::redirect::Job;
use super::topology::NodeAddress;
use crate::buffers::release;
use crate::resp::reply::Splitter;
use crate::upstream::lane::BUFFER_KEPT_BYTES;
use crate::upstream::stream::Stream;

/// A node, and the connection to it.
pub(super) struct Node {
    pub(super) address: NodeAddress,
    link: Link,
    /// What waits to be written.
    out: BytesMut,
    /// What has been begun to be written.
    unwritten: BytesMut,
    bytes: BytesMut,
    splitter: Splitter,
    /// The replies that are owed.
    pub(super) queue: VecDeque<Sent>,
    /// Replies that are owed to what opens the connection. Nothing else is written until they are there.
    openings: usize,
    /// When something was last heard, or first owed.
    pub(super) heard: Instant,
    /// The last reply that it has given.
    pub(super) answered: Option<u64>,
    /// Channels and patterns that the connection is subscribed to.
    pub(super) channels: i64,
    /// The same of shard channels.
    pub(super) shards: i64,
}

/// What a reply is for.
#[derive(Debug)]
pub(super) enum Sent {
    /// A command, or a part of one.
    Job(Job),
    /// Nobody asked.
    Swallow,
    /// The client, which is told as it is.
    Tell(u64),
    /// What opens the connection; where it is refused and must not be, the connection is of no use.
    Opening { needed: bool },
    /// A command that subscribes: so many confirmations, and the place that ends with them.
    Subscribe { place: u64, confirmations: Option<usize>, job: Option<Job> },
    /// A part of the transaction of this number, and whom it is told.
    Transaction(u64, Option<u64>),
}

/// How far the connection is.
enum Link {
    Closed,
    Connecting(Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>),
    Open(Stream),
}

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

// === impl Node ===

impl Node {
    /// A node that has not been needed yet.
    pub(super) fn new(address: NodeAddress) -> Self {
        Self {
            address,
            link: Link::Closed,
            out: BytesMut::new(),
            unwritten: BytesMut::new(),
            bytes: BytesMut::new(),
            splitter: Splitter::default(),
            queue: VecDeque::new(),
            openings: 0,
            heard: Instant::now(),
            answered: None,
            channels: 0,
            shards: 0,
        }
    }

    /// The same, connected.
    pub(super) fn connected(address: NodeAddress, stream: Stream) -> Self {
        Self { link: Link::Open(stream), ..Self::new(address) }
    }

    /// Whether there is a connection, or soon.
    pub(super) fn is_used(&self) -> bool {
        !matches!(self.link, Link::Closed)
    }

    /// Whether commands have been written to it.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.link, Link::Open(_)) && self.openings == 0
    }

    /// Begins to connect. The commands that open the connection are written first, each with whether it is needed.
    pub(super) fn open<'a>(
        &mut self,
        connecting: impl Future<Output = io::Result<Stream>> + Send + 'static,
        opening: impl Iterator<Item = (&'a Bytes, bool)>,
    ) {
        self.link = Link::Connecting(Box::pin(connecting));
        for (bytes, needed) in opening {
            self.unwritten.extend_from_slice(bytes);
            self.queue.push_back(Sent::Opening { needed });
            self.openings += 1;
        }
    }

    /// Writes a command as soon as it can be; its reply is for `sent`.
    pub(super) fn send(&mut self, bytes: &[u8], sent: Sent) {
        if self.queue.is_empty() {
            self.heard = Instant::now();
        }
        self.out.extend_from_slice(bytes);
        self.queue.push_back(sent);
    }

    /// A reply to what opens the connection has come.
    pub(super) fn opened(&mut self) {
        self.openings = self.openings.saturating_sub(1);
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.out.len() + self.unwritten.len()
    }

    /// Goes on connecting. True: the connection is there now.
    ///
    /// # Errors
    /// It cannot be had.
    pub(super) fn poll_connect(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let Link::Connecting(connecting) = &mut self.link else { return Ok(false) };
        let Poll::Ready(connected) = connecting.as_mut().poll(cx) else { return Ok(false) };
        self.link = Link::Open(connected?);
        self.heard = Instant::now();
        Ok(true)
    }

    /// Writes as much as the connection takes.
    ///
    /// # Errors
    /// It is lost.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Link::Open(stream) = &mut self.link else { return Ok(()) };
        loop {
            if self.unwritten.is_empty() && self.openings == 0 {
                std::mem::swap(&mut self.unwritten, &mut self.out);
            }
            if self.unwritten.is_empty() {
                return Ok(());
            }
            match Pin::new(&mut *stream).poll_write(cx, &self.unwritten) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => self.unwritten.advance(written),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
    }

    /// Reads once. True: there is more than before.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let Link::Open(stream) = &mut self.link else { return Ok(false) };
        self.bytes.reserve(READ_BYTES);
        match pin!(stream.read_buf(&mut self.bytes)).poll(cx) {
            Poll::Pending => {
                for buffer in [&mut self.out, &mut self.unwritten, &mut self.bytes] {
                    release(buffer, BUFFER_KEPT_BYTES);
                }
                Ok(false)
            }
            Poll::Ready(Ok(0)) => Err(io::Error::other("the server closed the connection")),
            Poll::Ready(Ok(_)) => {
                self.heard = Instant::now();
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    /// The next whole frame of what has been read.
    ///
    /// # Errors
    /// The bytes are not RESP.
    pub(super) fn frame(&mut self) -> io::Result<Option<Bytes>> {
        let length = self.splitter.split(&self.bytes).map_err(io::Error::other)?;
        Ok(length.map(|length| self.bytes.split_to(length).freeze()))
    }

    /// The connection is gone: what was owed, and whether it had been written.
    pub(super) fn close(&mut self) -> (VecDeque<Sent>, bool) {
        let written = self.is_open();
        let queue = std::mem::take(&mut self.queue);
        *self = Self::new(self.address.clone());
        (queue, written)
    }
}

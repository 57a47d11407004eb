//! The lane that reads for the near cache: what it sends, and what the replies tell the cache. The server watches on it
//! what was read, and says on it what has changed.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;

use super::{Expect, Lane, Outbox, Route};
use crate::lease::span_of;
use crate::near::{Fill, Near};
use crate::resp::{Protocol, reply, write};

/// A lane that reads for the near cache, and who is owed its replies.
#[derive(Debug)]
pub(super) struct NearLane {
    lane: Lane,
    outbox: Rc<Outbox>,
    /// Frames that had come when it was last looked at.
    heard: u64,
}

/// How often a lane of the near cache is looked at, and how long it may be silent.
pub const PING_EVERY: Duration = Duration::from_secs(1);
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// Lets the server watch the key of the next command.
const CACHING: &[u8] = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n";

// === impl NearLane ===

impl NearLane {
    pub(super) fn open(route: &Rc<Route>, db: u32, near: &Rc<RefCell<Near>>) -> Self {
        let lane = Lane::open(route, Protocol::Resp3, db, true, Some(Rc::clone(near)));
        Self { lane, outbox: Rc::new(Outbox::new(0)), heard: 0 }
    }

    /// Reads a value, and how long it has to live.
    pub(super) fn read(&self, fill: &Rc<Fill>) {
        let command = |out: &mut BytesMut, name: &[u8]| {
            write::array(out, 2);
            write::bulk(out, name);
            write::bulk(out, fill.key());
        };
        let (lane, outbox) = (&self.lane, &self.outbox);
        if let Some(name) = span_of(fill.key()).filter(|_| fill.needs_span()) {
            lane.send(outbox, Expect::Span(Rc::clone(fill)), |out| {
                write::array(out, 2);
                write::bulk(out, b"GET");
                write::bulk(out, &name);
            });
        }
        lane.send(outbox, Expect::Swallow, |out| out.extend_from_slice(CACHING));
        lane.send(outbox, Expect::Value(Rc::clone(fill)), |out| command(out, b"GET"));
        lane.send(outbox, Expect::Lifetime(Rc::clone(fill)), |out| command(out, b"PTTL"));
    }

    /// False: the server has been silent since this was last asked, although it owed a reply.
    pub(super) fn is_heard(&mut self, db: u32, near: &Rc<RefCell<Near>>) -> bool {
        let before = std::mem::replace(&mut self.heard, self.lane.heard());
        if !near.borrow().tracks(db) {
            return true;
        }
        let silent = self.outbox.owed() > 0 && before == self.heard;
        if silent {
            tracing::warn!(db, "the server is silent; nothing is served from the near cache until it answers");
            near.borrow_mut().give_up(db);
        } else if self.outbox.owed() == 0 {
            self.lane.send(&self.outbox, Expect::Swallow, |out| out.extend_from_slice(PING));
        }
        !silent
    }
}

/// Hands the near cache what a reply tells it.
pub(super) fn heard(near: &mut Near, expect: &Expect, frame: &[u8], db: u32) {
    match expect {
        Expect::Tracking if frame == b"+OK\r\n" => near.track(db),
        Expect::Tracking => {
            let error = String::from_utf8_lossy(reply::text(frame).unwrap_or_default()).into_owned();
            tracing::warn!(%error, "the server does not watch keys for us; nothing is served from the near cache");
        }
        Expect::Span(fill) => near.span_came(fill, frame),
        Expect::Value(fill) => near.value_came(fill, frame),
        Expect::Lifetime(fill) => near.lifetime_came(fill, frame),
        _ => {}
    }
}

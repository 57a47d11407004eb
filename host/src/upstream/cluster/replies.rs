//! The replies that a cluster owes, in the order of their commands: a place for each, filled when its node answers, and
//! given when all before it are. Pure.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::merge::Merge;
use crate::resp::Protocol;

/// The replies that are owed, and those that can be given.
#[derive(Debug, Default)]
pub(super) struct Replies {
    places: VecDeque<Place>,
    /// The number of the first place.
    first: u64,
    /// Bytes that wait for a reply before them.
    waiting_bytes: usize,
    /// What can be given.
    ready: BytesMut,
    ended: bool,
}

/// The place of one reply.
#[derive(Debug)]
struct Place {
    reply: Reply,
    /// What a node said unasked behind it, and what is to stand there instead of a reply.
    behind: Vec<u8>,
}

#[derive(Debug)]
enum Reply {
    Owed,
    Parts(Box<Parts>),
    Given(Bytes),
    /// It will not come, and what is behind it neither.
    Lost,
}

#[derive(Debug)]
struct Parts {
    merge: Merge,
    parts: Vec<Bytes>,
    missing: usize,
}

/// Smaller replies are copied when they have to wait.
const COPIED_BYTES_MAX: usize = 16 * 1024;

// === impl Replies ===

impl Replies {
    /// A place for a reply: its number.
    pub(super) fn owe(&mut self) -> u64 {
        self.push(Reply::Owed)
    }

    /// A place for a reply that is made of those of several nodes.
    pub(super) fn owe_parts(&mut self, merge: Merge, count: usize) -> u64 {
        self.push(Reply::Parts(Box::new(Parts { merge, parts: vec![Bytes::new(); count], missing: count })))
    }

    /// A reply that no node gives.
    pub(super) fn give(&mut self, frame: impl Into<Bytes>) {
        let number = self.owe();
        self.fill(number, 0, frame.into(), Protocol::Resp2);
    }

    /// A node has answered: the reply of a place, or a part of it.
    pub(super) fn fill(&mut self, number: u64, part: usize, frame: Bytes, protocol: Protocol) {
        if number == self.first
            && let Some(Place { reply: Reply::Owed, behind }) = self.places.front()
        {
            // The common case: nothing waits, and nothing is kept.
            self.ready.extend_from_slice(&frame);
            self.ready.extend_from_slice(behind);
            self.waiting_bytes -= behind.len();
            self.places.pop_front();
            self.first += 1;
            return self.advance();
        }
        self.waiting_bytes += frame.len();
        // A small part of a large buffer is not to keep all of it.
        let frame = if frame.len() < COPIED_BYTES_MAX { Bytes::copy_from_slice(&frame) } else { frame };
        let Some(place) = self.place(number) else { return };
        match &mut place.reply {
            Reply::Owed => place.reply = Reply::Given(frame),
            Reply::Parts(parts) => {
                if let Some(slot) = parts.parts.get_mut(part) {
                    *slot = frame;
                    parts.missing = parts.missing.saturating_sub(1);
                }
                if parts.missing == 0 {
                    let whole = parts.merge.of(&parts.parts, protocol);
                    let before: usize = parts.parts.iter().map(Bytes::len).sum();
                    let after = whole.len();
                    place.reply = Reply::Given(whole);
                    self.waiting_bytes = (self.waiting_bytes + after).saturating_sub(before);
                }
            }
            Reply::Given(_) | Reply::Lost => {}
        }
        self.advance();
    }

    /// The reply of a place will not come, and the connection ends there.
    pub(super) fn lose(&mut self, number: u64) {
        if let Some(place) = self.place(number) {
            place.reply = Reply::Lost;
        }
        self.advance();
    }

    /// What a node said unasked: behind the reply of a place that has not been given yet, or at once.
    pub(super) fn tell(&mut self, behind: Option<u64>, frame: &[u8]) {
        match behind.and_then(|number| self.place(number)) {
            Some(place) => {
                place.behind.extend_from_slice(frame);
                self.waiting_bytes += frame.len();
            }
            None => self.ready.extend_from_slice(frame),
        }
    }

    /// Whether a reply is still owed.
    pub(super) fn is_owed(&self, number: u64) -> bool {
        let place = number.checked_sub(self.first).and_then(|index| self.places.get(usize::try_from(index).ok()?));
        place.is_some_and(|place| matches!(place.reply, Reply::Owed | Reply::Parts(_)))
    }

    /// The number of the reply that all others wait for.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// How many are owed.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes that wait for a reply before them.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// What can be given, to be taken off its front.
    pub(super) fn ready(&mut self) -> &mut BytesMut {
        &mut self.ready
    }

    /// All that can be given has been made ready, and nothing follows.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn push(&mut self, reply: Reply) -> u64 {
        self.places.push_back(Place { reply, behind: Vec::new() });
        self.first + self.places.len() as u64 - 1
    }

    fn place(&mut self, number: u64) -> Option<&mut Place> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.places.get_mut(index)
    }

    fn advance(&mut self) {
        while !self.ended {
            match self.places.front() {
                Some(Place { reply: Reply::Given(frame), behind }) => {
                    self.ready.extend_from_slice(frame);
                    self.ready.extend_from_slice(behind);
                    self.waiting_bytes = self.waiting_bytes.saturating_sub(frame.len() + behind.len());
                    self.places.pop_front();
                    self.first += 1;
                }
                Some(Place { reply: Reply::Lost, .. }) => self.ended = true,
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Merge, Replies};
    use crate::resp::Protocol;

    #[test]
    fn replies_are_given_in_order() {
        let mut replies = Replies::default();
        let (a, b, c, d) = (replies.owe(), replies.owe_parts(Merge::Sum, 2), replies.owe(), replies.owe());
        let fill = |replies: &mut Replies, number, part, frame: &'static str| {
            replies.fill(number, part, Bytes::from_static(frame.as_bytes()), Protocol::Resp2);
        };
        let check = |replies: &mut Replies, expect: &str, waiting: usize| {
            assert_eq!(String::from_utf8_lossy(&replies.ready().split()), expect);
            assert_eq!(replies.waiting_bytes(), waiting);
        };
        fill(&mut replies, c, 0, "+c\r\n");
        fill(&mut replies, b, 1, ":1\r\n");
        replies.tell(Some(c), b">push");
        replies.tell(None, b">now");
        check(&mut replies, ">now", 13);
        fill(&mut replies, a, 0, "+a\r\n");
        check(&mut replies, "+a\r\n", 13);
        assert!(!replies.is_owed(a) && replies.is_owed(b) && !replies.is_owed(c) && replies.is_owed(d));
        fill(&mut replies, b, 0, ":2\r\n");
        check(&mut replies, ":3\r\n+c\r\n>push", 0);
        replies.give("+e\r\n");
        assert_eq!((replies.first(), replies.len(), replies.has_ended()), (d, 2, false));
        replies.lose(d);
        check(&mut replies, "", 4);
        assert!(replies.has_ended());
    }
}

//! Places in the order of a session's replies that are kept for replies which come later than those behind them.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::BytesMut;

use super::outbox::{Fate, Outbox};
use crate::lease::Look;
use crate::resp::Protocol;

/// A place that is kept for a reply. Whoever has it fills it. Dropped unfilled, it ends the session, whose client would
/// otherwise take each later reply for the one before it.
pub struct Hole {
    outbox: Rc<Outbox>,
    number: u64,
    filled: bool,
}

/// A key that was not there, and the place of the reply that would say so.
#[derive(Debug)]
pub struct Missed {
    /// What was asked for.
    pub look: Rc<Look>,
    /// In which the reply is to be.
    pub protocol: Protocol,
    /// Its place.
    pub hole: Hole,
}

/// The places that are kept, and the replies behind each.
#[derive(Debug, Default)]
pub(super) struct Holes {
    /// In the order of replies. The first one is never filled: it would have gone, with what is behind it.
    kept: VecDeque<Kept>,
    /// The number of the first.
    first: u64,
    /// Bytes that wait here.
    bytes: usize,
}

/// A place, and what is behind it, up to the next.
#[derive(Debug, Default)]
struct Kept {
    filling: Option<Box<[u8]>>,
    behind: BytesMut,
}

// === impl Hole ===

impl Hole {
    /// The handle on a place that is kept.
    pub(super) fn of(outbox: &Rc<Outbox>, number: u64) -> Self {
        Self { outbox: Rc::clone(outbox), number, filled: false }
    }

    /// Gives the reply that the place was kept for.
    pub fn fill(mut self, reply: &[u8]) {
        self.filled = true;
        self.outbox.fill_hole(self.number, reply);
    }

    /// Whether the client may do something about the reply.
    pub fn is_asker_there(&self) -> bool {
        self.outbox.stays()
    }
}

impl Drop for Hole {
    fn drop(&mut self) {
        if !self.filled {
            self.outbox.end(Fate::UpstreamLost);
            self.outbox.fill_hole(self.number, &[]);
        }
    }
}

impl std::fmt::Debug for Hole {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Hole").field("number", &self.number).finish_non_exhaustive()
    }
}

// === impl Holes ===

impl Holes {
    /// Keeps the place behind all that is here: its number.
    pub(super) fn keep(&mut self) -> u64 {
        self.kept.push_back(Kept::default());
        self.first + self.kept.len() as u64 - 1
    }

    /// Appends replies behind the last place.
    pub(super) fn push(&mut self, replies: &[u8]) {
        if let Some(last) = self.kept.back_mut() {
            last.behind.extend_from_slice(replies);
            self.bytes += replies.len();
        }
    }

    /// Fills a place. What is no longer behind any goes to `out`.
    pub(super) fn fill(&mut self, number: u64, reply: &[u8], out: &mut BytesMut) {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let Some(kept) = place.and_then(|place| self.kept.get_mut(place)) else { return };
        kept.filling = Some(reply.into());
        self.bytes += reply.len();
        while let Some(Kept { filling: Some(filling), behind }) = self.kept.pop_front_if(|kept| kept.filling.is_some())
        {
            self.first += 1;
            self.bytes -= filling.len() + behind.len();
            out.extend_from_slice(&filling);
            out.extend_from_slice(&behind);
        }
    }

    /// Drops every place and what is behind it; filling one is of no effect from now on.
    pub(super) fn clear(&mut self) {
        self.first += self.kept.len() as u64;
        self.kept.clear();
        self.bytes = 0;
    }

    /// Bytes that wait here.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    use super::{Fate, Hole, Outbox};

    /// What happens to an outbox.
    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Open,
        /// The hole with that place among those that are open, counted round and round.
        Fill(usize, u8),
        /// The client reads so many bytes.
        Read(usize),
    }

    /// A reply in the model.
    enum Reply {
        There(Vec<u8>),
        Missing(Hole),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => any::<u8>().prop_map(Step::Push),
            2 => Just(Step::Open),
            3 => (any::<usize>(), any::<u8>()).prop_map(|(place, byte)| Step::Fill(place, byte)),
            1 => (0..16_usize).prop_map(Step::Read),
        ]
    }

    /// A reply that is told from others: its byte, one to four times.
    fn reply(byte: u8) -> Vec<u8> {
        vec![byte; usize::from(byte % 4) + 1]
    }

    /// All that may be read now, as it should be.
    fn readable(model: &[Reply]) -> Vec<u8> {
        let there = model.iter().map_while(|reply| match reply {
            Reply::There(bytes) => Some(bytes.as_slice()),
            Reply::Missing(_) => None,
        });
        there.collect::<Vec<_>>().concat()
    }

    fn run(steps: Vec<Step>) {
        let outbox = Rc::new(Outbox::new(usize::MAX));
        let (mut model, mut read) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Push(byte) => {
                    outbox.push(&reply(byte));
                    model.push(Reply::There(reply(byte)));
                }
                Step::Open => model.push(Reply::Missing(Hole::of(&outbox, outbox.open_hole()))),
                Step::Fill(place, byte) => {
                    let is_open = |reply: &&mut Reply| matches!(reply, Reply::Missing(_));
                    let open = model.iter_mut().filter(is_open).count().max(1);
                    if let Some(found) = model.iter_mut().filter(is_open).nth(place % open)
                        && let Reply::Missing(hole) = std::mem::replace(found, Reply::There(reply(byte)))
                    {
                        hole.fill(&reply(byte));
                    }
                }
                Step::Read(count) => outbox.drain(|bytes| {
                    let count = count.min(bytes.len());
                    read.extend_from_slice(&bytes.split_to(count));
                }),
            }
            let open = model.iter().filter(|reply| matches!(reply, Reply::Missing(_))).count();
            assert_eq!((outbox.owed(), outbox.owed_by_lane()), (open, 0));
            let now = outbox.drain(|bytes| [&read[..], bytes].concat());
            assert_eq!(now, readable(&model));
            let there = model.iter().map(|reply| if let Reply::There(bytes) = reply { bytes.len() } else { 0 });
            assert_eq!(outbox.len(), there.sum::<usize>() - read.len());
        }
        assert_eq!(outbox.fate(), Fate::Alive);
        // Those that are left are dropped: the session cannot go on.
        let left = model.iter().any(|reply| matches!(reply, Reply::Missing(_)));
        drop(model);
        assert_eq!(outbox.fate(), if left { Fate::UpstreamLost } else { Fate::Alive });
        assert_eq!(outbox.owed(), 0);
    }

    proptest! {
        #[test]
        fn replies_keep_their_order(steps in proptest::collection::vec(step(), 0..64)) {
            run(steps);
        }
    }

    /// What is behind a hole counts, and so does what fills it.
    #[test]
    fn the_limit_holds_behind_holes() {
        let full = |fill: usize, push: usize| {
            let outbox = Rc::new(Outbox::new(10));
            outbox.push(b"four");
            let hole = Hole::of(&outbox, outbox.open_hole());
            outbox.push(&vec![b'x'; push]);
            let before = outbox.fate();
            hole.fill(&vec![b'y'; fill]);
            (before, outbox.fate(), outbox.len(), outbox.owed())
        };
        assert_eq!(full(3, 3), (Fate::Alive, Fate::Alive, 10, 0));
        assert_eq!(full(4, 3), (Fate::Alive, Fate::Overflowed, 0, 0));
        assert_eq!(full(0, 7), (Fate::Overflowed, Fate::Overflowed, 0, 0));
    }
}

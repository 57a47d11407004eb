//! Replies that a lane is owed, and those that have come and are handed on together.

use std::rc::Rc;

use crate::near::Touched;
use crate::upstream::Expect;
use crate::upstream::outbox::Outbox;

/// A reply that is owed, or several that are the same to us.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) outbox: Rc<Outbox>,
    pub(super) expect: Expect,
    /// What the command may have changed.
    pub(super) touched: Touched,
    /// How many replies, of which more than one only where they are handed on and nothing is touched.
    pub(super) count: usize,
}

/// Replies that have come and follow each other to the same session: they are handed on in one piece.
#[derive(Default)]
pub(super) struct Run(Option<(Rc<Outbox>, usize, usize)>);

// === impl Entry ===

impl Entry {
    /// Replies that are handed on to this session, of commands that touch nothing.
    pub(super) fn is_plain_of(&self, outbox: &Rc<Outbox>) -> bool {
        matches!((&self.expect, &self.touched), (Expect::Forward, Touched::Nothing)) && Rc::ptr_eq(&self.outbox, outbox)
    }
}

// === impl Run ===

impl Run {
    /// One more, which begins at `from`; one to another session ends what was there.
    pub(super) fn extend(&mut self, outbox: &Rc<Outbox>, bytes: &[u8], from: usize) {
        match &mut self.0 {
            Some((of, _, count)) if Rc::ptr_eq(of, outbox) => *count += 1,
            _ => {
                self.finish(bytes, from);
                self.0 = Some((Rc::clone(outbox), from, 1));
            }
        }
    }

    /// Hands on what ends before `end`.
    pub(super) fn finish(&mut self, bytes: &[u8], end: usize) {
        if let Some((outbox, start, count)) = self.0.take() {
            outbox.push(bytes.get(start..end).unwrap_or_default());
            outbox.settle(count);
            outbox.wake();
        }
    }
}

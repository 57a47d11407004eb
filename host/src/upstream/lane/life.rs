//! Whether a connection is still there, for those who wrote on it.

use std::cell::{Cell, RefCell};

use crate::upstream::sentinel::Moved;

/// Whether a connection is still there.
#[derive(Debug)]
pub(in crate::upstream) struct Life {
    lasts: Cell<bool>,
    /// Tells whether the server is still the one to be connected to, where that may change.
    moved: RefCell<Option<Moved>>,
}

// === impl Life ===

impl Life {
    /// Of a connection that is being made, or of none.
    pub(in crate::upstream) fn new() -> Self {
        Self { lasts: Cell::new(true), moved: RefCell::default() }
    }

    /// The connection is made.
    pub(super) fn begin(&self, moved: Option<Moved>) {
        self.moved.replace(moved);
    }

    /// The connection is lost.
    pub(super) fn end(&self) {
        self.lasts.set(false);
    }

    /// Whether nothing is known against it.
    pub(in crate::upstream) fn lasts(&self) -> bool {
        self.lasts.get() && self.over().is_none()
    }

    /// Why the server is no longer the one to be connected to.
    pub(super) fn over(&self) -> Option<String> {
        self.moved.borrow().as_ref().and_then(Moved::reason)
    }

    pub(super) fn moved(&self) -> Option<Moved> {
        self.moved.borrow().clone()
    }

    /// The server has said something by which it may no longer be the one to be connected to.
    pub(super) fn doubt(&self) {
        self.moved.borrow().iter().for_each(Moved::look);
    }
}

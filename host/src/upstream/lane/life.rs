//! Whether a connection is still there, for those who wrote on it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::upstream::sentinel::Moved;

/// Whether a connection is still there.
#[derive(Debug)]
pub(in crate::upstream) struct Life {
    lasts: Cell<bool>,
    follows: RefCell<Follows>,
}

/// What tells that something is gone behind a connection that is there.
#[derive(Clone, Debug, Default)]
pub(in crate::upstream) enum Follows {
    /// A connection to one server, which ends with it.
    #[default]
    Nothing,
    /// The server may no longer be the one to be connected to.
    Master(Moved),
    /// There are several servers behind it: how many have been lost, and how many of them before.
    Nodes(Losses, u64),
}

/// How many servers have been lost that a connection led to.
#[derive(Clone, Debug, Default)]
pub(in crate::upstream) struct Losses(Arc<AtomicU64>);

// === impl Losses ===

impl Losses {
    /// One more.
    pub(in crate::upstream) fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

// === impl Life ===

impl Life {
    /// Of a connection that is being made, or of none.
    pub(in crate::upstream) fn new() -> Self {
        Self { lasts: Cell::new(true), follows: RefCell::default() }
    }

    /// The connection is made.
    pub(super) fn begin(&self, follows: Follows) {
        self.follows.replace(follows);
    }

    /// The connection is lost.
    pub(super) fn end(&self) {
        self.lasts.set(false);
    }

    /// Whether nothing is known against it.
    pub(in crate::upstream) fn lasts(&self) -> bool {
        self.lasts.get() && self.over().is_none() && self.after_loss().is_none()
    }

    /// Why the server is no longer the one to be connected to.
    pub(super) fn over(&self) -> Option<String> {
        if let Follows::Master(moved) = &*self.follows.borrow() { moved.reason() } else { None }
    }

    pub(super) fn moved(&self) -> Option<Moved> {
        if let Follows::Master(moved) = &*self.follows.borrow() { Some(moved.clone()) } else { None }
    }

    /// The life of what is left, for who writes from now on. None: nothing has been lost.
    pub(super) fn after_loss(&self) -> Option<Rc<Self>> {
        let Follows::Nodes(losses, before) = &*self.follows.borrow() else { return None };
        let count = losses.count();
        let next = || Self { lasts: Cell::new(true), follows: RefCell::new(Follows::Nodes(losses.clone(), count)) };
        (count != *before).then(|| Rc::new(next()))
    }

    /// The server has said something by which it may no longer be the one to be connected to.
    pub(super) fn doubt(&self) {
        if let Follows::Master(moved) = &*self.follows.borrow() {
            moved.look();
        }
    }
}

//! Generations of policies from their files to their end: which there are, how far each came and why, what is in force,
//! and what operators order. Knows how they are kept and compared; how they are loaded and where their files come from
//! is [`crate::reload`]'s.

pub mod content;
mod gate;
mod history;
mod keep;
mod published;
mod shadow;
pub mod tar;

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

pub use content::{Content, Files};
pub use gate::{Gate, Verdict};
pub use history::{Board, Came, Earlier, FolderIs, Generation, State};
pub use keep::{Keep, Kept, KeptGeneration};
pub use published::Published;
pub use shadow::{Comparison, Difference, Found, Shadow, Side};

/// What the one who loads policies and those who ask about them share.
pub struct Rollout {
    orders: Mutex<Sender<Asked>>,
    received: Mutex<Option<Receiver<Asked>>>,
    board: Mutex<Board>,
    /// What the workers serve with.
    pub published: Published,
    keep: Mutex<Option<Keep>>,
}

/// What an operator orders.
#[derive(Debug)]
pub enum Order {
    /// Load a candidate, and compare it with what is in force before it comes into force.
    Shadow(Candidate, Gate),
    /// Load a candidate, and put it in force.
    Publish(Candidate),
    /// Put the candidate in force.
    Promote,
    /// Drop the candidate.
    Reject,
    /// Put an earlier generation in force: the one of this number, or the last one.
    Rollback(Option<u64>),
    /// Load nothing more.
    Stop,
}

/// Files that are to be a generation.
#[derive(Debug)]
pub struct Candidate {
    /// The files.
    pub files: Files,
    /// They are laid over what is in force, and not over the standard policies alone.
    pub over: bool,
}

/// An order, and who waits for what becomes of it.
#[derive(Debug)]
pub struct Asked {
    /// The order.
    pub order: Order,
    /// Told what became of it.
    pub answer: oneshot::Sender<Result<Done, Denied>>,
}

/// An order that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The generation that it is about.
    pub generation: u64,
    /// What became of it, for people.
    pub said: String,
}

/// Why an order was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It does not fit to how things are; the text says how.
    Conflict(String),
    /// The candidate does not load.
    Refused {
        /// The generation that it would have been.
        generation: u64,
        /// How far it came, and why it came no further.
        said: String,
    },
}

// === impl Rollout ===

impl Rollout {
    /// No generation yet. `history_max`: how many may be gone back to, in at most so many bytes.
    pub fn new(history_max: usize, history_bytes_max: usize) -> Self {
        let (orders, received) = mpsc::channel();
        Self {
            orders: Mutex::new(orders),
            received: Mutex::new(Some(received)),
            board: Mutex::new(Board::new(history_max, history_bytes_max)),
            published: Published::default(),
            keep: Mutex::default(),
        }
    }

    /// What there is to tell.
    pub fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an order: what is returned tells what became of it.
    pub fn order(&self, order: Order) -> oneshot::Receiver<Result<Done, Denied>> {
        let (answer, told) = oneshot::channel();
        // Where nobody takes orders any more, the answer never comes, and its receiver says so.
        drop(self.orders.lock().unwrap_or_else(PoisonError::into_inner).send(Asked { order, answer }));
        told
    }

    /// The orders, for the one who carries them out.
    pub fn take_orders(&self) -> Option<Receiver<Asked>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps generations in a folder from now on.
    pub fn set_keep(&self, keep: Keep) {
        *self.keep.lock().unwrap_or_else(PoisonError::into_inner) = Some(keep);
    }

    /// Where generations are kept.
    pub fn keep(&self) -> Option<Keep> {
        self.keep.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is not as it should be although commands are served, a line each.
    pub fn remarks(&self) -> Vec<String> {
        let bypass = self.published.bypass().then(|| "bypass is on: policies are out of the path".to_owned());
        let board = self.board();
        let last_good = board
            .last_good
            .as_ref()
            .map(|why| format!("the last good generation {} serves since the start: {why}", board.active));
        let unkept = board.unkept.as_ref().map(|why| format!("a restart cannot fall back to this generation: {why}"));
        bypass.into_iter().chain(last_good).chain(unkept).collect()
    }

    /// Takes policies out of the path or back into it, and keeps that for a restart. False: nothing changes.
    ///
    /// # Errors
    /// It is so, but a restart would not know.
    pub fn set_bypass(&self, bypass: bool) -> anyhow::Result<bool> {
        // Until both are done: of two orders at once one is the last for both.
        let keep = self.keep.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.published.set_bypass(bypass)?;
        match (changed, bypass) {
            (false, _) => {}
            (true, true) => tracing::warn!("bypass is on: a plain proxy, policies are out of the path"),
            (true, false) => tracing::info!("bypass is off: policies decide again"),
        }
        if let Some(keep) = &*keep {
            keep.set_bypass(bypass)?;
        }
        Ok(changed)
    }
}

// === impl Gate ===

impl Gate {
    /// How long is left.
    pub fn left(&self, elapsed: Duration) -> Duration {
        self.span.saturating_sub(elapsed)
    }
}

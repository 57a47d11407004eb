//! Replies that are not the server's: in their turn, in the client's protocol, and not where it wants none.

use super::{Muted, Session};
use crate::resp::{Protocol, write};
use crate::upstream::Expect;

// === impl Session ===

impl Session {
    /// A reply that is not the server's, behind all that is owed.
    pub(super) fn answer(&mut self, fill: impl FnOnce(&mut Vec<u8>, Protocol)) {
        if self.is_muted() {
            return;
        }
        let mut reply = Vec::new();
        fill(&mut reply, self.protocol);
        if let Some(captured) = &mut self.captured {
            captured.extend(reply);
            return;
        }
        match self.held.current() {
            Some(lane) => lane.answer(&self.outbox, &reply),
            None => self.outbox.push(&reply),
        }
    }

    /// An error that is not the server's; in a transaction it makes EXEC fail.
    pub(super) fn refuse(&mut self, error: &str) {
        self.answer(|out, _| write::error(out, error));
        self.held.refused();
    }

    /// What is done with a reply: the client has it, unless it asked not to.
    pub(super) fn wanted(&self) -> Expect {
        if self.is_muted() { Expect::Swallow } else { Expect::Forward }
    }

    pub(super) fn is_muted(&self) -> bool {
        matches!(self.muted, Muted::This | Muted::All)
    }
}

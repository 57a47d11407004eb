//! What has been said of the connection, which every node is told that is spoken to now or later; and the scripts that
//! have been shown.

use bytes::Bytes;

use super::merge::Merge;
use super::node::Node;
use super::redirect::{Job, Then};
use super::router::Router;
use crate::command::Command;

/// What was said of the connection.
pub(super) struct Said {
    about: &'static str,
    bytes: Bytes,
    /// The place of its reply.
    place: u64,
    /// So many nodes are still to answer.
    missing: usize,
    refused: bool,
}

// === impl Said ===

impl Said {
    /// What it is about, and its words.
    pub(super) fn words(&self) -> (&'static str, &Bytes) {
        (self.about, &self.bytes)
    }
}

// === impl Router ===

impl Router {
    /// What a script is remembered by, and what is to be done if a node does not know it.
    pub(super) fn script(&mut self, command: &Command<'_>) -> Then {
        let is = |name: &[u8], index: usize| command.arg(index).is_some_and(|arg| arg.eq_ignore_ascii_case(name));
        let text = match command.arg(1) {
            Some(text) if is(b"EVAL", 0) || is(b"EVAL_RO", 0) => Some(text),
            Some(digest) if is(b"EVALSHA", 0) || is(b"EVALSHA_RO", 0) => {
                return Then::Script(Bytes::copy_from_slice(digest));
            }
            _ if is(b"SCRIPT", 0) && is(b"LOAD", 1) => command.arg(2),
            _ if is(b"SCRIPT", 0) && is(b"FLUSH", 1) => {
                self.seen.clear();
                self.cluster.scripts().forget();
                None
            }
            _ => None,
        };
        /// A hash of more texts than are remembered is of no use.
        const SEEN_MAX: usize = 1000;
        if let Some(text) = text {
            let hash = std::hash::BuildHasher::hash_one(&rustc_hash::FxBuildHasher, text);
            if self.seen.len() >= SEEN_MAX {
                self.seen.clear();
            }
            if self.seen.insert(hash) {
                self.cluster.scripts().remember(text);
            }
        }
        Then::Nothing
    }

    /// Sends a command about the connection to every node that is spoken to. Others are told when they are.
    pub(super) fn say(&mut self, about: &'static str, bytes: &Bytes) {
        let home = self.home();
        let is_told = |(index, node): (usize, &Node)| (node.is_used() || index == home).then_some(index);
        let told: Vec<_> = self.nodes.iter().enumerate().filter_map(is_told).collect();
        let place = self.replies.owe_parts(Merge::First, told.len());
        for (part, index) in told.iter().enumerate() {
            let job = Job::new(bytes.clone(), None, place);
            self.transmit(*index, Job { part, fixed: true, then: Then::Connection, ..job }, false);
        }
        let missing = told.len();
        self.said.push(Said { about, bytes: bytes.clone(), place, missing, refused: false });
    }

    /// A node has answered what was said. What is refused changes nothing: what was said of it before holds on.
    pub(super) fn answered_said(&mut self, place: u64, refused: bool) {
        let Some(at) = self.said.iter().position(|said| said.place == place) else { return };
        let Some(said) = self.said.get_mut(at) else { return };
        said.refused |= refused;
        said.missing = said.missing.saturating_sub(1);
        if said.missing > 0 {
            return;
        }
        if said.refused {
            self.said.remove(at);
        } else {
            let about = said.about;
            self.said.retain(|said| said.about != about || said.place >= place);
        }
    }

    /// CLIENT CACHING: good for the next command, wherever that goes.
    pub(super) fn say_before_next(&mut self, bytes: &Bytes, command: &Command<'_>) {
        let wanted: &[u8] =
            if command.arg(2).is_some_and(|arg| arg.eq_ignore_ascii_case(b"YES")) { b"OPTIN" } else { b"OPTOUT" };
        let has = |said: &Bytes| {
            let upper = said.to_ascii_uppercase();
            memchr::memmem::find(&upper, wanted).is_some()
        };
        if self.tracking().is_some_and(has) {
            self.before_next = Some(bytes.clone());
            self.replies.give(&b"+OK\r\n"[..]);
        } else {
            // Where it is of no use, a node says so.
            let place = self.replies.owe();
            self.dispatch(Job::new(bytes.clone(), None, place));
        }
    }

    /// The CLIENT TRACKING that is in force.
    pub(super) fn tracking(&self) -> Option<&Bytes> {
        let said = self.said.iter().rfind(|said| said.about == "client|tracking").map(|said| &said.bytes)?;
        let upper = said.to_ascii_uppercase();
        memchr::memmem::find(&upper, b"\r\nON\r\n").map(|_| said)
    }
}

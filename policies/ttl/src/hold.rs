//! The arithmetic of one stretch of a session: a lifetime, an end it may not cross, and what to do close to that end.
//!
//! Pure, and the only place where a duration and an instant meet. An answer here says until when it is the answer, so
//! that a remembered one equals a fresh one at every instant.

use bellwether_sdk::{Expiry, Instant, Millis};

/// What holds during one stretch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// How long a value lives where no end is near.
    pub(crate) ttl_ms: Millis,
    /// Where values must have ended. None: nowhere.
    pub(crate) end: Option<Instant>,
    /// Over how long before the end values end.
    pub(crate) spread_ms: Millis,
    /// How long a value lives that is written within the spread: it may cross the end.
    pub(crate) near_ttl_ms: Millis,
}

/// How a value lives that is written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) shape: Shape,
    pub(crate) expiry: Expiry,
    pub(crate) spread_ms: Millis,
    /// From then on the shape is another one. None: it stays for the whole stretch.
    pub(crate) until: Option<Instant>,
}

/// Which of the three a hold is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The end is further away than the lifetime.
    Short,
    /// The end cuts the lifetime.
    Cut,
    /// The end is so near that the value may cross it.
    Near,
}

impl Stretch {
    /// The hold of a value written at `now`.
    pub(crate) fn at(self, now: Instant) -> Hold {
        let Some(end) = self.end else {
            return Hold { shape: Shape::Short, expiry: Expiry::After(self.ttl_ms), spread_ms: 0, until: None };
        };
        let near_from = end.saturating_sub_unsigned(self.spread_ms);
        let cut_from = end.saturating_sub_unsigned(self.ttl_ms);
        if now >= near_from {
            Hold { shape: Shape::Near, expiry: Expiry::After(self.near_ttl_ms), spread_ms: 0, until: None }
        } else if now >= cut_from {
            Hold { shape: Shape::Cut, expiry: Expiry::At(end), spread_ms: self.spread_ms, until: Some(near_from) }
        } else {
            let until = Some(cut_from.min(near_from));
            Hold { shape: Shape::Short, expiry: Expiry::After(self.ttl_ms), spread_ms: 0, until }
        }
    }
}

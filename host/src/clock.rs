//! Time enters here: the system's clock, shifted by the configured offset. Everything else takes `now` as a value.

/// The sidecar's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    system: fn() -> i64,
    offset_ms: i64,
}

// === impl Clock ===

impl Clock {
    /// A clock over the one that `system` reads, in milliseconds since 1970, shifted by `offset_ms`.
    pub fn new(system: fn() -> i64, offset_ms: i64) -> Self {
        Self { system, offset_ms }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z. Never before it.
    pub fn now(&self) -> i64 {
        (self.system)().saturating_add(self.offset_ms).max(0)
    }
}

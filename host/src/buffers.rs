//! Buffers that were large for once: after a while of quiet they give back what they took.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Sleep;

/// Waits for quiet. Whoever is busy wants the same room again and again, and to grow it anew each time costs more than
/// to keep it.
#[derive(Debug, Default)]
pub struct Quiet(Option<Pin<Box<Sleep>>>);

/// How long nothing must have happened.
const QUIET: Duration = Duration::from_secs(1);

// === impl Quiet ===

impl Quiet {
    /// Something happened.
    pub fn disturb(&mut self) {
        self.0 = None;
    }

    /// Nothing is to be done now. Once it has been quiet for long enough, gives back the memory of those buffers that
    /// are empty and have more than `kept` bytes of it, and is ready.
    pub fn poll(&mut self, cx: &mut Context<'_>, buffers: &mut [&mut BytesMut], kept: usize) -> Poll<()> {
        if !buffers.iter_mut().any(|buffer| is_large(buffer, kept)) {
            self.disturb();
            return Poll::Pending;
        }
        let timer = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(QUIET)));
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.disturb();
        buffers.iter_mut().for_each(|buffer| release(buffer, kept));
        Poll::Ready(())
    }
}

/// Gives back the memory of an empty buffer that has more than `kept` bytes of it.
pub fn release(buffer: &mut BytesMut, kept: usize) {
    if is_large(buffer, kept) {
        *buffer = BytesMut::new();
    }
}

/// Whether a buffer is empty and has more than `kept` bytes of memory. Its own `capacity` does not tell: what was taken
/// off the front is not in it, and still there.
fn is_large(buffer: &mut BytesMut, kept: usize) -> bool {
    buffer.is_empty() && buffer.try_reclaim(kept + 1)
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, BytesMut};

    use super::{is_large, release};

    const KEPT: usize = 1000;

    fn check(written: usize, taken: usize, large: bool) {
        let mut buffer = BytesMut::new();
        buffer.extend_from_slice(&vec![0; written]);
        buffer.advance(taken);
        assert_eq!(is_large(&mut buffer, KEPT), large, "{written} written, {taken} taken");
        release(&mut buffer, KEPT);
        assert!(!is_large(&mut buffer, KEPT), "{written} written, {taken} taken: still there");
        assert_eq!(buffer.len(), written - taken, "{written} written, {taken} taken");
    }

    #[test]
    fn what_is_large_and_empty_is_given_back() {
        check(0, 0, false);
        check(KEPT, KEPT, false);
        check(4 * KEPT, KEPT, false);
        check(4 * KEPT, 4 * KEPT, true);
        check(100 * KEPT, 100 * KEPT, true);
    }
}

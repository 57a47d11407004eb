//! Buffers that were large for once: they give back what they took.

use bytes::BytesMut;

/// Gives back the memory of an empty buffer that has more than `kept` bytes of it. Its own `capacity` does not tell:
/// what was taken off the front is not in it, and still there.
pub fn release(buffer: &mut BytesMut, kept: usize) {
    if buffer.is_empty() && buffer.try_reclaim(kept + 1) {
        *buffer = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, BytesMut};

    use super::release;

    const KEPT: usize = 1000;

    fn check(written: usize, taken: usize) {
        let mut buffer = BytesMut::new();
        buffer.extend_from_slice(&vec![0; written]);
        buffer.advance(taken);
        release(&mut buffer, KEPT);
        assert_eq!(buffer.len(), written - taken, "{written} written, {taken} taken");
        let is_there = buffer.is_empty() && buffer.try_reclaim(KEPT + 1);
        assert!(!is_there, "{written} written, {taken} taken: still there");
    }

    #[test]
    fn what_is_large_and_empty_is_given_back() {
        check(0, 0);
        check(KEPT, KEPT);
        check(4 * KEPT, KEPT);
        check(4 * KEPT, 4 * KEPT);
        check(100 * KEPT, 100 * KEPT);
    }
}

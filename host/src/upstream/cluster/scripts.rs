//! The scripts that clients have shown a server, so that a node that does not know one can be told. Bounded. Pure.

use std::collections::VecDeque;

use bytes::Bytes;
use rustc_hash::FxHashMap;

/// Texts of scripts by their digests, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    texts: FxHashMap<Digest, Bytes>,
    order: VecDeque<Digest>,
    bytes: usize,
}

/// SHA-1 of a script, as hexadecimal digits in lower case.
pub(super) type Digest = [u8; 40];

const SCRIPTS_MAX: usize = 1000;
const BYTES_MAX: usize = 16 * 1024 * 1024;
const TEXT_BYTES_MAX: usize = 1024 * 1024;

// === impl Scripts ===

impl Scripts {
    /// Remembers a script; the oldest are forgotten for it.
    pub(super) fn remember(&mut self, text: &[u8]) {
        if text.len() > TEXT_BYTES_MAX {
            return;
        }
        let digest = digest(text);
        if self.texts.contains_key(&digest) {
            return;
        }
        self.bytes += text.len();
        self.texts.insert(digest, Bytes::copy_from_slice(text));
        self.order.push_back(digest);
        while self.order.len() > SCRIPTS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            self.bytes -= self.texts.remove(&oldest).map_or(0, |text| text.len());
        }
    }

    /// The text of a script, by its digest as a client writes it.
    pub(super) fn text(&self, digest: &[u8]) -> Option<Bytes> {
        let digest: Digest = digest.to_ascii_lowercase().try_into().ok()?;
        self.texts.get(&digest).cloned()
    }

    /// The servers were told to forget them.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// SHA-1 (FIPS 180-4), by which servers name scripts. Nothing is kept safe by it.
fn digest(text: &[u8]) -> Digest {
    let mut state: [u32; 5] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
    let mut padded = text.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend_from_slice(&(text.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        rounds(&mut state, block);
    }
    let mut out = [0; 40];
    let digits = state.iter().flat_map(|word| (0..8).rev().map(move |at| (word >> (at * 4)) & 0xF));
    for (out, digit) in out.iter_mut().zip(digits) {
        *out = char::from_digit(digit, 16).map_or(b'0', |digit| digit as u8);
    }
    out
}

fn rounds(state: &mut [u32; 5], block: &[u8]) {
    let mut words: Vec<u32> = Vec::with_capacity(80);
    words.extend(block.chunks_exact(4).map(|word| word.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte))));
    for at in 16..80 {
        let of = |back: usize| words.get(at - back).copied().unwrap_or_default();
        words.push((of(3) ^ of(8) ^ of(14) ^ of(16)).rotate_left(1));
    }
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    for (round, word) in words.iter().enumerate() {
        let (mixed, constant) = match round {
            0..20 => ((b & c) | (!b & d), 0x5A82_7999),
            20..40 => (b ^ c ^ d, 0x6ED9_EBA1),
            40..60 => ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC),
            _ => (b ^ c ^ d, 0xCA62_C1D6_u32),
        };
        let next = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e).wrapping_add(constant).wrapping_add(*word);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
    }
    for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
        *sum = sum.wrapping_add(part);
    }
}

#[cfg(test)]
mod tests {
    use super::{SCRIPTS_MAX, Scripts, digest};

    /// As SCRIPT LOAD says; lengths on both sides of a block's end.
    #[test]
    fn digests() {
        for (text, expect) in [
            (String::new(), "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            ("abc".into(), "a9993e364706816aba3e25717850c26c9cd0d89d"),
            ("return 1".into(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"),
            ("a".repeat(55), "c1c8bbdc22796e28c0e15163d20899b65621d65a"),
            ("a".repeat(56), "c2db330f6083854c99d4b5bfb6e8f29f201be699"),
            ("a".repeat(64), "0098ba824b5c16427bd7a1122a5a442a25ec644d"),
        ] {
            assert_eq!(String::from_utf8_lossy(&digest(text.as_bytes())), expect, "{}", text.len());
        }
    }

    #[test]
    fn scripts_are_bounded() {
        let mut scripts = Scripts::default();
        scripts.remember(b"abc");
        assert_eq!(scripts.text(b"A9993E364706816ABA3E25717850C26C9CD0D89D").as_deref(), Some(&b"abc"[..]));
        assert_eq!(scripts.text(b"short"), None);
        for number in 0..SCRIPTS_MAX {
            scripts.remember(format!("return {number}").as_bytes());
        }
        assert_eq!(scripts.text(b"a9993e364706816aba3e25717850c26c9cd0d89d"), None);
        assert_eq!(scripts.texts.len(), SCRIPTS_MAX);
        scripts.forget();
        assert_eq!(scripts.texts.len(), 0);
    }
}

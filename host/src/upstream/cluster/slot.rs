//! Which of the cluster's slots a key is in. Pure.

/// How many slots there are.
pub(super) const SLOTS: usize = 16_384;

/// The slot of a key, or of a shard channel: of what stands in its first braces, where something does.
pub(in crate::upstream) fn key_slot(key: &[u8]) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(tag(key)) % SLOTS as u16
}

fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    let rest = key.get(open + 1..).unwrap_or_default();
    match memchr::memchr(b'}', rest) {
        None | Some(0) => key,
        Some(length) => rest.get(..length).unwrap_or(key),
    }
}

#[cfg(test)]
mod tests {
    use super::key_slot;

    /// As CLUSTER KEYSLOT says.
    #[test]
    fn slots_of_keys() {
        for (key, slot) in [
            ("", 0),
            ("a", 15_495),
            ("123456789", 12_739),
            ("{user1000}.following", 3443),
            ("user1000", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
            ("bar", 5061),
            ("{", 4092),
        ] {
            assert_eq!(key_slot(key.as_bytes()), slot, "{key}");
        }
    }
}

//! The names under which old values and leases are kept beside their keys, and what is asked about a key that was not
//! there. Pure: when they are written and read is told by others.
//!
//! A name has the key's own cluster slot, since it has the same hash tag: the key's, or the whole key. Clients that use
//! such names reach what is kept under them, as they would without a sidecar; KEYS, SCAN and DBSIZE count them. No rule
//! may cover them.

use crate::namespace::RuleId;

/// A key that is asked for, and what is to be done if it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The key.
    pub key: Box<[u8]>,
    /// Its database.
    pub db: u32,
    /// Its version when it was asked for.
    pub stamp: u64,
    /// Its rule.
    pub rule: RuleId,
    /// How long one client has to write it anew, before another one may.
    pub lease_ms: u64,
    /// How long the others wait for that.
    pub wait_ms: u64,
    /// Whether its old value is kept.
    pub keeps_copy: bool,
}

/// How a key's slot follows from it.
enum Tag {
    /// A part of it in braces says.
    Own,
    /// All of it does, and it can stand in braces.
    Whole,
    /// All of it does, and it has a brace in it that would end the tag too early.
    Unfit,
}

/// The name of a key's old value. None: a key with a `}` in it that closes no hash tag has none.
pub fn copy_of(key: &[u8]) -> Option<Vec<u8>> {
    name(b"bw:s:", key)
}

/// The name of the lease on a key. None: as above.
pub fn lease_of(key: &[u8]) -> Option<Vec<u8>> {
    name(b"bw:l:", key)
}

/// The name under which a key's whole lifetime is kept, in milliseconds. None: as above.
pub fn span_of(key: &[u8]) -> Option<Vec<u8>> {
    name(b"bw:t:", key)
}

/// The name under which stands that somebody has been asked for a key before clients do. None: as above.
pub fn asked_of(key: &[u8]) -> Option<Vec<u8>> {
    name(b"bw:w:", key)
}

fn name(kind: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    Some(match tag(key) {
        // The colon tells it from the name of the key that is the tag alone.
        Tag::Own => [kind, b":", key].concat(),
        Tag::Whole => [kind, b"{", key, b"}"].concat(),
        Tag::Unfit => return None,
    })
}

/// A tag is what stands between the first `{` and the first `}` behind it, if anything does.
fn tag(key: &[u8]) -> Tag {
    if memchr::memchr(b'}', key).is_none() {
        return if key.is_empty() { Tag::Unfit } else { Tag::Whole };
    }
    let behind = memchr::memchr(b'{', key).and_then(|open| key.get(open + 1..)).unwrap_or_default();
    if memchr::memchr(b'}', behind).is_some_and(|length| length > 0) { Tag::Own } else { Tag::Unfit }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_oneof, proptest};
    use proptest::strategy::{Just, Strategy};

    use super::{asked_of, copy_of, lease_of, span_of};

    /// A key's slot, as <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/> has it.
    fn slot(key: &[u8]) -> u16 {
        let open = key.iter().position(|byte| *byte == b'{');
        let inner = open.and_then(|open| {
            let rest = &key[open + 1..];
            let length = rest.iter().position(|byte| *byte == b'}').filter(|length| *length > 0)?;
            Some(&rest[..length])
        });
        // CRC16/XMODEM, bit by bit.
        let crc = inner.unwrap_or(key).iter().fold(0_u16, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc >> 15 == 1 { 0x1021 } else { 0 })
        });
        crc % 16384
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(b'{'), Just(b'}'), Just(b'a'), Just(b':'), any::<u8>()];
        proptest::collection::vec(byte, 1..12)
    }

    proptest! {
        #[test]
        fn names_are_in_the_slot_of_their_key(key in key()) {
            for name in copy_of(&key).into_iter().chain(lease_of(&key)).chain(span_of(&key)).chain(asked_of(&key)) {
                assert_eq!(slot(&name), slot(&key), "{} {}", name.escape_ascii(), key.escape_ascii());
            }
        }

        #[test]
        fn names_are_told_apart(one in key(), other in key()) {
            let names = |key: &[u8]| {
                [copy_of(key), lease_of(key), span_of(key), asked_of(key)].into_iter().flatten().collect::<Vec<_>>()
            };
            let (of_one, of_other) = (names(&one), names(&other));
            assert!(one == other || of_one.iter().all(|name| !of_other.contains(name)));
        }
    }

    #[test]
    fn names() {
        assert_eq!(slot(b"123456789"), 0x31C3);
        let check = |key: &str, expect: &str| {
            let name = copy_of(key.as_bytes()).map(|name| String::from_utf8(name).unwrap_or_default());
            assert_eq!(name.unwrap_or_default(), expect, "{key}");
        };
        check("fyntrix:scores:TCS", "bw:s:{fyntrix:scores:TCS}");
        check("scores:{TCS}:1d", "bw:s::scores:{TCS}:1d");
        check("{a}", "bw:s::{a}");
        check("a{b", "bw:s:{a{b}");
        check("a}b", "");
        check("{}a", "");
        check("a}{b}", "bw:s::a}{b}");
        check("", "");
    }
}

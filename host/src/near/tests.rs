//! What becomes of a value on its way: everything that may happen between the question and the reply.

use std::rc::Rc;
use std::sync::Arc;

use super::{Fill, Near, Touched, Versions};

const DB: u32 = 3;
const SPAN: u64 = 3_600_000;
const ASKED: i64 = 1_000;
const VALUE: &[u8] = b"$1\r\nv\r\n";
const FLUSHED: &[u8] = b">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// Something that happens.
enum Event {
    Value(&'static [u8]),
    Lifetime(&'static [u8]),
    Push(&'static [u8]),
    /// A write through the sidecar.
    Write(&'static str),
    WriteAny,
    Lost,
    Tracked,
}

fn near() -> (Near, Arc<Versions>) {
    let versions = Arc::<Versions>::default();
    let mut near = Near::new(Arc::clone(&versions), 1 << 20);
    near.track(DB);
    (near, versions)
}

/// Asks as often as it takes until the value is worth reading.
fn begin(near: &mut Near, key: &str) -> Rc<Fill> {
    assert!(near.begin(DB, key.as_bytes(), SPAN, None, ASKED).is_none(), "it was asked for once");
    let fill = near.begin(DB, key.as_bytes(), SPAN, None, ASKED).unwrap();
    assert!(near.begin(DB, key.as_bytes(), SPAN, None, ASKED).is_none(), "it is being read");
    fill
}

/// Key `k` is asked for, this happens, and it is read at that time.
fn check(events: &[Event], at: i64, expect: bool) {
    let (mut near, versions) = near();
    let fill = begin(&mut near, "k");
    for event in events {
        match event {
            Event::Value(frame) => near.value_came(&fill, frame),
            Event::Lifetime(frame) => near.lifetime_came(&fill, frame),
            Event::Push(frame) => near.push_came(DB, frame),
            Event::Write(key) => versions.bump(&Touched::keys([key.as_bytes()].into_iter())),
            Event::WriteAny => versions.bump(&Touched::All),
            Event::Lost => near.lose(DB),
            Event::Tracked => near.track(DB),
        }
    }
    let found = near.get(DB, b"k", SPAN, at).map(<[u8]>::to_vec);
    assert_eq!(found, expect.then(|| VALUE.to_vec()));
    assert_eq!(near.get(DB + 1, b"k", SPAN, at), None);
}

#[test]
fn values_on_their_way() {
    use Event::{Lifetime, Lost, Push, Tracked, Value, Write, WriteAny};
    const OF_K: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\nj\r\n$1\r\nk\r\n";
    const OF_J: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nj\r\n";
    const NO_END: &[u8] = b":-1\r\n";
    check(&[Value(VALUE), Lifetime(NO_END)], ASKED, true);
    check(&[Value(VALUE)], ASKED, false);
    // How long it may be served, and how long there is such a key.
    check(&[Value(VALUE), Lifetime(NO_END)], ASKED + SPAN as i64 - 1, true);
    check(&[Value(VALUE), Lifetime(NO_END)], ASKED + SPAN as i64, false);
    check(&[Value(VALUE), Lifetime(b":50\r\n")], ASKED + 49, true);
    check(&[Value(VALUE), Lifetime(b":50\r\n")], ASKED + 50, false);
    check(&[Value(VALUE), Lifetime(b":0\r\n")], ASKED, false);
    check(&[Value(VALUE), Lifetime(b":-2\r\n")], ASKED, false);
    check(&[Value(VALUE), Lifetime(b"-ERR\r\n")], ASKED, false);
    // A clock that was set back.
    check(&[Value(VALUE), Lifetime(NO_END)], ASKED - 1, false);
    // What is not a value.
    check(&[Value(b"_\r\n"), Lifetime(NO_END)], ASKED, false);
    check(&[Value(b"$-1\r\n"), Lifetime(NO_END)], ASKED, false);
    check(&[Value(b"-WRONGTYPE\r\n"), Lifetime(NO_END)], ASKED, false);
    // The server tells of a change: before the value it is about an older one.
    check(&[Push(OF_K), Value(VALUE), Lifetime(NO_END)], ASKED, true);
    check(&[Value(VALUE), Push(OF_K), Lifetime(NO_END)], ASKED, false);
    check(&[Value(VALUE), Lifetime(NO_END), Push(OF_K)], ASKED, false);
    check(&[Value(VALUE), Push(OF_J), Lifetime(NO_END)], ASKED, true);
    check(&[Value(VALUE), Push(FLUSHED), Lifetime(NO_END)], ASKED, false);
    check(&[Value(VALUE), Lifetime(NO_END), Push(FLUSHED)], ASKED, false);
    check(&[Value(VALUE), Lifetime(NO_END), Push(b">2\r\n+message\r\n+x\r\n")], ASKED, true);
    // Writes through the sidecar, at any time after the question.
    check(&[Write("k"), Value(VALUE), Lifetime(NO_END)], ASKED, false);
    check(&[Value(VALUE), Write("k"), Lifetime(NO_END)], ASKED, false);
    check(&[Value(VALUE), Lifetime(NO_END), Write("k")], ASKED, false);
    check(&[Value(VALUE), Lifetime(NO_END), Write("other")], ASKED, true);
    check(&[Value(VALUE), Lifetime(NO_END), WriteAny], ASKED, false);
    // The connection ends.
    check(&[Value(VALUE), Lifetime(NO_END), Lost], ASKED, false);
    check(&[Value(VALUE), Lost, Lifetime(NO_END)], ASKED, false);
    check(&[Value(VALUE), Lost, Tracked, Lifetime(NO_END)], ASKED, false);
    check(&[Value(VALUE), Lifetime(NO_END), Lost, Tracked], ASKED, false);
}

/// What was left over when the server was lost.
#[test]
fn values_left_over() {
    let check = |before: &[&str], after: &[&str], asked_at: &[i64], expect: bool| {
        let (mut near, versions) = near();
        let fill = begin(&mut near, "k");
        near.value_came(&fill, VALUE);
        near.lifetime_came(&fill, b":1\r\n");
        let write = |key: &&str| versions.bump(&Touched::keys([key.as_bytes()].into_iter()));
        before.iter().for_each(write);
        near.lose(DB);
        after.iter().for_each(write);
        let mut found = false;
        for at in asked_at {
            found = near.get_left_over(DB, b"k", 100, *at).is_some();
        }
        assert_eq!(found, expect, "{before:?} {after:?} {asked_at:?}");
        near.track(DB);
        assert_eq!(near.get_left_over(DB, b"k", 100, ASKED), None);
    };
    check(&[], &[], &[9_000], true);
    check(&[], &[], &[9_000, 9_050], true);
    check(&[], &[], &[9_000, 9_100], false);
    check(&[], &[], &[9_000, 8_999], false);
    check(&["k"], &[], &[9_000], false);
    check(&[], &["k"], &[9_000], false);
    check(&[], &["other"], &[9_000], true);
}

/// Many clients ask for many keys once: none of that is read twice.
#[test]
fn what_is_asked_for_once_is_not_kept() {
    let (mut near, _) = near();
    let begun = (0..1_000).filter(|key| near.begin(DB, format!("key:{key}").as_bytes(), SPAN, None, ASKED).is_some());
    assert_eq!(begun.count(), 0);
    // Asked for in one stretch of time and in another is asked for once.
    assert!(near.begin(DB, b"key:1", SPAN, None, ASKED + SPAN as i64).is_none());
    assert!(near.begin(DB, b"key:1", SPAN, None, ASKED + SPAN as i64).is_some());
}

/// A value of which it is known how long it lives in all: in its last part it is given out by another way, and one
/// client of the worker is to try to recompute it.
#[test]
fn the_last_part_of_a_life() {
    let late = |span: &'static [u8], left: &'static [u8], after: i64| {
        let (mut near, versions) = near();
        let _ = near.begin(DB, b"k", SPAN, Some(20), ASKED);
        let fill = near.begin(DB, b"k", SPAN, Some(20), ASKED).unwrap();
        near.span_came(&fill, span);
        near.value_came(&fill, VALUE);
        near.lifetime_came(&fill, left);
        let at = ASKED + after;
        let seen = (near.get(DB, b"k", SPAN, at).is_some(), near.get_late(DB, b"k", SPAN, at).map(|(_, tried)| tried));
        near.try_late(DB, b"k");
        if seen.1.is_some() {
            assert_eq!(near.get_late(DB, b"k", SPAN, at), Some((VALUE, true)));
            versions.bump(&Touched::keys([&b"k"[..]].into_iter()));
            assert_eq!(near.get_late(DB, b"k", SPAN, at), None);
        }
        seen
    };
    let whole = b"$4\r\n1000\r\n";
    assert_eq!(late(whole, b":1000\r\n", 0), (true, None));
    assert_eq!(late(whole, b":1000\r\n", 799), (true, None));
    assert_eq!(late(whole, b":1000\r\n", 800), (false, Some(false)));
    assert_eq!(late(whole, b":1000\r\n", 999), (false, Some(false)));
    assert_eq!(late(whole, b":1000\r\n", 1000), (false, None));
    assert_eq!(late(whole, b":100\r\n", 0), (false, Some(false)));
    assert_eq!(late(whole, b":-1\r\n", 100_000), (true, None));
    // It was not written by the sidecar, or the name holds something else.
    assert_eq!(late(b"_\r\n", b":1000\r\n", 999), (true, None));
    assert_eq!(late(b"$1\r\nx\r\n", b":1000\r\n", 999), (true, None));
    assert_eq!(late(b"$20\r\n18446744073709551615\r\n", b":1000\r\n", 0), (false, Some(false)));
}

//! Listeners among each other: samples, bounds, ends.

use std::sync::Arc;
use std::time::Duration;

use super::{CAPACITY_MAX, LISTENERS_MAX, Line, Listener, Record, Records, Sample, Tap};
use crate::command::Data;
use crate::policy::Expiry;

fn record(key: &str) -> Record {
    Record {
        id: 0,
        time: 1,
        generation: 1,
        policy: "p".into(),
        digest: "00".into(),
        rule: "r".into(),
        namespace: "r:".into(),
        key: key.into(),
        command: Data::Value,
        value_bytes: 2,
        client_ttl: None,
        now: 3,
        market: None,
        decision: Ok(super::Decided { expiry: Expiry::Keep, spread_ms: 0, valid_until: None, reason: String::new() }),
        cost: None,
        memoized: true,
        fallback: None,
    }
}

/// So many decisions, as a worker makes them: those that were recorded.
fn decide(tap: &mut Tap, decisions: usize) -> usize {
    (0..decisions).filter(|number| tap.wants().then(|| tap.push(record(&number.to_string()))).is_some()).count()
}

fn taken(listener: &Listener) -> usize {
    std::iter::from_fn(|| listener.try_recv()).count()
}

#[test]
fn listeners_come_and_go() {
    let records = Arc::<Records>::default();
    let mut tap = records.tap(0);
    assert_eq!(decide(&mut tap, 100), 0);
    let all = records.listen(Sample::ALL, 1000).unwrap();
    assert_eq!((decide(&mut tap, 10), taken(&all), records.listeners()), (10, 10, 1));
    let some = records.listen(Sample::parse("1/10").unwrap(), CAPACITY_MAX).unwrap();
    decide(&mut tap, 10_000);
    let sampled = taken(&some);
    assert!((700..1300).contains(&sampled), "{sampled} of 10000 at {}", "1/10");
    // The one that does not take them loses what there is no room for, and the other does not.
    assert_eq!((taken(&all), all.dropped(), some.dropped(), records.dropped()), (1000, 9000, 0, 9000));
    drop(all);
    let alone = decide(&mut tap, 10_000);
    assert_eq!(taken(&some), alone);
    drop(some);
    assert_eq!((decide(&mut tap, 100), records.listeners(), records.dropped()), (0, 0, 9000));
    let many: Vec<_> = (0..LISTENERS_MAX).map(|_| records.listen(Sample::ALL, 1).unwrap()).collect();
    assert!(records.listen(Sample::ALL, 1).unwrap_err().to_string().starts_with("8 listen to decisions already"));
    assert_eq!(decide(&mut tap, 1), 1);
    assert!(many.iter().all(|listener| taken(listener) == 1));
}

#[test]
fn what_waits_has_a_bound_in_bytes() {
    let records = Arc::<Records>::default();
    let mut tap = records.tap(0);
    let all = records.listen(Sample::ALL, CAPACITY_MAX).unwrap();
    let long = "k".repeat(1024 * 1024);
    let mut push =
        |times: usize| (0..times).for_each(|_| assert!(tap.wants().then(|| tap.push(record(&long))).is_some()));
    // Each has its key and some bytes more.
    push(20);
    assert_eq!((all.dropped(), taken(&all)), (5, 15));
    push(15);
    assert_eq!((all.dropped(), taken(&all)), (5, 15));
}

#[test]
fn a_listener_waits_no_longer_than_it_says() {
    let records = Arc::<Records>::default();
    let listener = records.listen(Sample::ALL, 8).unwrap();
    assert_eq!(listener.recv(Duration::from_millis(1)), None);
    let mut tap = records.tap(1);
    let worker = std::thread::spawn(move || decide(&mut tap, 1));
    assert_eq!(listener.recv(Duration::from_secs(60)).map(|record| record.id), Some(1));
    assert_eq!(worker.join().unwrap(), 1);
}

#[test]
fn samples() {
    let check = |text: &str, expect: Option<&str>| {
        assert_eq!(Sample::parse(text).map(|sample| sample.to_string()).as_deref(), expect, "{text}");
    };
    check("1", Some("1/1"));
    check("1/1", Some("1/1"));
    check("1/100", Some("1/100"));
    ["", "0", "1/0", "2/3", "1/", "1/x", "1/-1", "10", "1/99999999999"].iter().for_each(|text| check(text, None));
}

#[test]
fn lines_that_are_none() {
    let check = |text: &str, expect: &str| {
        let told = Line::read(text).map_or_else(|error| format!("{error:#}"), |line| line.write());
        assert!(told.starts_with(expect), "{text}\nexpected {expect}\ngot {told}");
    };
    check("{\"dropped\":3}", "{\"dropped\":3}\n");
    check("{\"later\":true}", "{}\n");
    check("x", "it is not JSON: expected value");
    check("7", "it is no JSON object");
    check("{\"bellwether_trace\":2}", "it is of version 2 of the format; this bellwether reads version 1");
    check("{\"bellwether_trace\":1}", "it is not the first line of a trace: missing field");
    check("{\"id\":1}", "it is not a recorded decision: missing field");
    let line = Line::Record(Box::new(record("k"))).write();
    check(&line, &line);
    check(&line.replace("\"keep\":true,", ""), "a decision must have one of after_ms, at_ms, keep and never");
    check(&line.replace("\"value\"", "\"valu\""), "there is no kind of command \"valu\"");
    check(&line.replace("\"failure\":null", "\"failure\":\"x\""), "record 0 must have either a decision or a failure");
}

//! Busy polling: a worker that has had something to do goes on looking for so long, and then sleeps.

use std::time::{Duration, Instant};

use crate::harness::process::poll_for;
use crate::harness::{Redis, Sidecar};

/// Looks at a sidecar whose worker goes on for so long, after each of a few commands, until it is as it should be: told
/// how long the worker ran since the command, since the look before, and when that was.
fn check(busy_poll_us: &str, is: impl Fn(Duration, Duration, Duration) -> bool) {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &["--workers", "1", "--busy-poll-us", busy_poll_us]);
    let mut client = sidecar.client();
    for number in 0..3 {
        assert_eq!(client.ask(&format!("SET fyntrix:context:{number} {{}}")), "+OK");
        assert_eq!(client.ask(&format!("GET fyntrix:context:{number}")), "$2\r\n{}");
        let began = sidecar.process.thread_time("worker-0");
        let mut before = (Instant::now(), began);
        poll_for(busy_poll_us, || {
            let now = (Instant::now(), sidecar.process.thread_time("worker-0"));
            let (more, span) = (now.1 - before.1, now.0 - before.0);
            before = now;
            if is(now.1 - began, more, span) { Ok(()) } else { Err(format!("it ran for {more:?} of {span:?}")) }
        });
    }
}

#[test]
fn a_worker_goes_on_looking() {
    check("60000000", |all, _, _| all > Duration::from_millis(200));
}

#[test]
fn and_then_sleeps() {
    for busy_poll_us in ["0", "2000"] {
        check(busy_poll_us, |_, more, span| more < span / 10);
    }
}

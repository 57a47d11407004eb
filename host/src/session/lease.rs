//! Keys that were asked for and are not there: one client of all, also of other sidecars, is told so and recomputes the
//! value; the others are given the old one, or wait. One task for each such key of a worker, as long as somebody waits.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use rustc_hash::FxHashMap;
use tokio::time::{Instant, sleep};

use super::{Session, Shared};
use crate::command::{Command, Kind, Row};
use crate::lease::{Look, copy_of, lease_of};
use crate::metrics::Leased;
use crate::proxy::Plan;
use crate::proxy::lease::{Verdict, verdict};
use crate::resp::{Protocol, reply, write};
use crate::upstream::{Expect, Fate, Kept, Lane, Missed, Outbox};

/// The keys of a worker that clients wait for.
#[derive(Debug, Default)]
pub struct Leases {
    keys: RefCell<FxHashMap<Key, Rc<Asked>>>,
}

/// A database and a key.
type Key = (u32, Box<[u8]>);

/// A key that clients wait for.
#[derive(Debug)]
struct Asked {
    /// Those that have come since the server was last asked.
    arrived: RefCell<Vec<Waiter>>,
    /// Where the server's replies arrive.
    outbox: Rc<Outbox>,
}

/// A client that waits.
#[derive(Debug)]
struct Waiter {
    missed: Missed,
    /// It is told that the key is not there.
    until: Instant,
}

/// What the server was asked, and its replies.
struct Asking {
    lease: Rc<Kept>,
    value: Rc<Kept>,
    copy: Rc<Kept>,
}

/// Writes past this sidecar are looked for so often, less and less.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// The server is asked no more often than that, however often something is written.
const PAUSE_MIN: Duration = Duration::from_millis(1);

// === impl Session ===

impl Session {
    /// What is to be done if a key that is asked for is not there. None: that is its reply.
    pub(super) fn look(&self, command: &Command<'_>, row: &Row, lane: &Lane, now: i64) -> Option<Rc<Look>> {
        let policies = self.shared.policies.borrow();
        let asks = matches!(row.kind, Kind::Read | Kind::GetEx) && policies.is_leased();
        if !asks || !["get", "getex"].contains(&&*row.name) || self.held.is_exclusive(&self.outbox) {
            return None;
        }
        let key = command.arg(1).filter(|_| !self.is_paused(now))?;
        policies.look(self.db, key, || lane.versions().stamp(key))
    }

    /// Taking a lease is a write, which the server may hold back.
    fn is_paused(&self, now: i64) -> bool {
        let until = self.shared.clients.paused_until();
        until != 0 && now < until
    }

    /// What is sent in the place of reading a value that is in memory and near its end. None: it is not, or somebody
    /// has been here before.
    pub(super) fn refresh_ahead(&self, command: &Command<'_>, row: &Row, now: i64) -> Option<Plan<'static>> {
        let policies = self.shared.policies.borrow();
        if !policies.is_ahead() || row.name != "get" || self.held.is_exclusive(&self.outbox) || self.is_muted() {
            return None;
        }
        let (key, near) = (command.arg(1).filter(|_| !self.is_paused(now))?, self.shared.near.borrow());
        let (value, _) =
            near.get_late(self.db, key, policies.near(key)?.near_ms, now).filter(|(_, is_tried)| !is_tried)?;
        near.try_late(self.db, key);
        policies.refresh_ahead(key, value)
    }

    /// Lets those keys be looked for further that were not there.
    pub(super) fn look_again(&self) {
        for missed in self.outbox.take_missed() {
            let wait = Duration::from_millis(missed.look.wait_ms);
            let key = (missed.look.db, missed.look.key.clone());
            let waiter = Waiter { missed, until: Instant::now() + wait };
            let mut keys = self.shared.leases.keys.borrow_mut();
            if let Some(asked) = keys.get(&key) {
                asked.arrived.borrow_mut().push(waiter);
                asked.outbox.wake();
                continue;
            }
            let outbox = Rc::new(Outbox::new(self.shared.config.client_output_bytes_max));
            let asked = Rc::new(Asked { arrived: RefCell::new(vec![waiter]), outbox });
            keys.insert(key.clone(), Rc::clone(&asked));
            tokio::task::spawn_local(serve(Rc::clone(&self.shared), key, asked));
        }
    }
}

// === impl Leases ===

impl Leases {
    /// Lets everyone who waits see that the sidecar drains.
    pub fn wake(&self) {
        self.keys.borrow().values().for_each(|asked| asked.outbox.wake());
    }
}

/// Asks for a key until nobody waits for it any more.
async fn serve(shared: Rc<Shared>, key: Key, asked: Rc<Asked>) {
    let lane = shared.lanes.shared(Protocol::Resp2, key.0);
    let waker = std::future::poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let _watch = lane.versions().watch(&key.1, waker);
    let (mut waiting, mut pause) = (Vec::new(), PAUSE_FIRST);
    loop {
        waiting.append(&mut asked.arrived.borrow_mut());
        // Who sends nothing more is most likely gone, and could recompute nothing.
        let draining = shared.draining.get();
        let leaving = waiting.extract_if(.., |waiter: &mut Waiter| draining || !waiter.missed.hole.is_asker_there());
        leaving.for_each(|waiter| waiter.tell_missed(&shared));
        let Some(look) = waiting.first().map(|waiter| Rc::clone(&waiter.missed.look)) else { break };
        let stamp = lane.versions().stamp(&key.1);
        let Some(asking) = Asking::send(&lane, &asked.outbox, &look) else { break };
        answered(&asked.outbox).await;
        if asked.outbox.fate() != Fate::Alive {
            // The server was lost: who waits is dropped, which ends the sessions.
            break;
        }
        waiting = asking.settle(&shared, &lane, &asked.outbox, waiting);
        if !waiting.is_empty() {
            sleep(PAUSE_MIN).await;
            let until = waiting.iter().map(|waiter| waiter.until).min();
            let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            let is_new = || lane.versions().stamp(&key.1) != stamp || !asked.arrived.borrow().is_empty();
            quiet(&shared, &asked, pause.min(left), is_new).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
    shared.leases.keys.borrow_mut().remove(&key);
}

/// Waits until the server has answered, or is lost.
async fn answered(outbox: &Rc<Outbox>) {
    std::future::poll_fn(|cx| {
        outbox.register(cx.waker());
        if outbox.owed() == 0 || outbox.fate() != Fate::Alive { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Waits for so long, or until there is something new.
async fn quiet(shared: &Shared, asked: &Asked, time: Duration, is_new: impl Fn() -> bool) {
    let mut sleeping = pin!(sleep(time));
    std::future::poll_fn(|cx| {
        asked.outbox.register(cx.waker());
        if is_new() || shared.draining.get() { Poll::Ready(()) } else { sleeping.as_mut().poll(cx) }
    })
    .await;
}

// === impl Asking ===

impl Asking {
    /// Asks for the lease, the key and its old value in one go. None: the key has no such names.
    fn send(lane: &Lane, outbox: &Rc<Outbox>, look: &Look) -> Option<Self> {
        let (lease, copy) = (lease_of(&look.key)?, copy_of(&look.key)?);
        let asking = Self { lease: Rc::default(), value: Rc::default(), copy: Rc::default() };
        let ms = look.lease_ms.to_string();
        let send = |kept: &Rc<Kept>, args: &[&[u8]]| {
            lane.send(outbox, Expect::Keep(Rc::clone(kept)), |out| command(out, args));
        };
        send(&asking.lease, &[b"SET", &lease, b"1", b"NX", b"PX", ms.as_bytes()]);
        // In that order: whoever writes the key gives the lease back behind it, so that it is seen, or its lease is.
        send(&asking.value, &[b"GET", &look.key]);
        if look.keeps_copy {
            send(&asking.copy, &[b"GET", &copy]);
        }
        Some(asking)
    }

    /// Answers whom the replies let answer: who waits on.
    fn settle(self, shared: &Shared, lane: &Lane, outbox: &Rc<Outbox>, mut waiting: Vec<Waiter>) -> Vec<Waiter> {
        let take = |kept: Rc<Kept>| kept.take().unwrap_or_default();
        let (lease, value, copy) = (take(self.lease), take(self.value), take(self.copy));
        let is_taken = lease.first() == Some(&b'+');
        let (mut is_used, key) = (false, waiting.first().map(|waiter| waiter.missed.look.key.clone()));
        let copy = match verdict(&lease, &value, &copy) {
            Verdict::There(found) => {
                let is_error = found.first() == Some(&reply::kind::ERROR);
                let result = if is_error { Leased::Missed } else { Leased::New };
                waiting.drain(..).for_each(|waiter| waiter.tell(shared, found, result));
                None
            }
            Verdict::Refused => {
                waiting.drain(..).for_each(|waiter| waiter.tell_missed(shared));
                None
            }
            Verdict::Lost(copy) => copy,
            Verdict::Won(copy) => {
                // Whose client has gone meanwhile can recompute nothing.
                if let Some(place) = waiting.iter().position(|waiter| waiter.missed.hole.is_asker_there()) {
                    waiting.remove(place).tell_nil(shared, Leased::Won);
                    is_used = true;
                }
                copy
            }
        };
        if let Some(lease) = key.filter(|_| is_taken && !is_used).and_then(|key| lease_of(&key)) {
            lane.send(outbox, Expect::Swallow, |out| command(out, &[b"UNLINK", &lease]));
        }
        let now = Instant::now();
        let mut left = Vec::new();
        for waiter in waiting {
            match copy {
                Some(copy) => waiter.tell(shared, copy, Leased::Stale),
                None if waiter.until <= now => waiter.tell_missed(shared),
                None => left.push(waiter),
            }
        }
        left
    }
}

// === impl Waiter ===

impl Waiter {
    fn tell(self, shared: &Shared, reply: &[u8], result: Leased) {
        shared.policies.borrow().count_leased(self.missed.look.rule, result);
        self.missed.hole.fill(reply);
    }

    fn tell_nil(self, shared: &Shared, result: Leased) {
        let mut nil = Vec::new();
        write::nil(&mut nil, self.missed.protocol);
        self.tell(shared, &nil, result);
    }

    fn tell_missed(self, shared: &Shared) {
        self.tell_nil(shared, Leased::Missed);
    }
}

fn command(out: &mut BytesMut, args: &[&[u8]]) {
    write::array(out, args.len());
    args.iter().for_each(|arg| write::bulk(out, arg));
}

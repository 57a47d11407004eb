//! The lanes of one worker: a shared one for each protocol and database, and a pool of pinned ones.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::near_lane::NearLane;
use super::{Lane, Route, Target};
use crate::near::Near;
use crate::resp::Protocol;

/// What a lane is opened with.
type Kind = (Protocol, u32);

/// The lanes of one worker.
#[derive(Debug)]
pub struct Lanes {
    route: Rc<Route>,
    shared: RefCell<FxHashMap<Kind, Rc<Lane>>>,
    idle: RefCell<FxHashMap<Kind, Vec<Rc<Lane>>>>,
    /// Those that read for the near cache, by database.
    near_lanes: RefCell<FxHashMap<u32, NearLane>>,
    near: Rc<RefCell<Near>>,
}

// === impl Lanes ===

impl Lanes {
    /// No lanes yet.
    pub fn new(route: Route, near: Rc<RefCell<Near>>) -> Self {
        Self {
            route: Rc::new(route),
            shared: RefCell::default(),
            idle: RefCell::default(),
            near_lanes: RefCell::default(),
            near,
        }
    }

    /// Takes note that a key was asked for whose value is not near, and reads it where that is worth while.
    pub fn note(&self, db: u32, key: &[u8], near_ms: u64, ahead_percent: Option<u8>, now: i64) {
        if !self.near.borrow().tracks(db) {
            self.open_near(db);
            return;
        }
        let Some(fill) = self.near.borrow_mut().begin(db, key, near_ms, ahead_percent, now) else { return };
        if let Some(lane) = self.near_lanes.borrow().get(&db) {
            lane.read(&fill);
        }
    }

    /// Reads a value that nobody has asked for yet. False: the server does not watch keys yet, which it is asked to.
    pub fn warm(&self, db: u32, key: &[u8], ahead_percent: Option<u8>, now: i64) -> bool {
        if !self.near.borrow().tracks(db) {
            self.open_near(db);
            return false;
        }
        let fill = self.near.borrow_mut().fill(db, key, ahead_percent, now);
        if let (Some(fill), Some(lane)) = (fill, self.near_lanes.borrow().get(&db)) {
            lane.read(&fill);
        }
        true
    }

    /// Whether the server is gone, as far as anyone can tell.
    pub fn is_lost(&self) -> bool {
        self.route.state.connections() == 0
    }

    fn open_near(&self, db: u32) {
        let mut lanes = self.near_lanes.borrow_mut();
        if !matches!(self.route.target, Target::Embedded(_)) {
            lanes.entry(db).or_insert_with(|| NearLane::open(&self.route, db, &self.near));
        }
    }

    /// Sees whether the server still watches keys; to be called every [`PING_EVERY`](super::PING_EVERY). Where it was
    /// silent for so long although it owed a reply, what it should have told of is forgotten.
    pub fn ping_near(&self) {
        self.near_lanes.borrow_mut().retain(|db, lane| lane.is_heard(*db, &self.near));
    }

    /// The lane that sessions of this protocol and database share.
    pub fn shared(&self, protocol: Protocol, db: u32) -> Rc<Lane> {
        let mut shared = self.shared.borrow_mut();
        let lane =
            shared.entry((protocol, db)).or_insert_with(|| Rc::new(Lane::open(&self.route, protocol, db, true, None)));
        Rc::clone(lane)
    }

    /// A lane for one session alone.
    pub fn pin(&self, protocol: Protocol, db: u32) -> Rc<Lane> {
        let mut idle = self.idle.borrow_mut();
        let pool = idle.entry((protocol, db)).or_default();
        pool.retain(|lane| !lane.has_ended() && !lane.is_suspect(&self.route));
        pool.pop().unwrap_or_else(|| Rc::new(Lane::open(&self.route, protocol, db, false, None)))
    }

    /// A lane for one session alone, known to the server by a name and password that the session's client gave. It
    /// never comes back.
    pub fn pin_as(&self, protocol: Protocol, db: u32, user: Option<String>, password: String) -> Rc<Lane> {
        let route = Route { user, password: Some(password), ..Route::clone(&self.route) };
        Rc::new(Lane::open(&Rc::new(route), protocol, db, false, None))
    }

    /// Takes a lane back that holds no session's state any more.
    pub fn unpin(&self, protocol: Protocol, db: u32, lane: Rc<Lane>) {
        lane.unlisten();
        let mut idle = self.idle.borrow_mut();
        let pool = idle.entry((protocol, db)).or_default();
        if !lane.has_ended() && pool.len() < self.route.idle_lanes_max {
            pool.push(lane);
        }
    }
}

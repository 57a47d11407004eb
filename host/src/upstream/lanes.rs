//! The lanes of one worker: a shared one for each protocol and database, and a pool of pinned ones.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::{Lane, Route};
use crate::resp::Protocol;

/// What a lane is opened with.
type Kind = (Protocol, u32);

/// The lanes of one worker.
#[derive(Debug)]
pub struct Lanes {
    route: Rc<Route>,
    shared: RefCell<FxHashMap<Kind, Rc<Lane>>>,
    idle: RefCell<FxHashMap<Kind, Vec<Rc<Lane>>>>,
}

// === impl Lanes ===

impl Lanes {
    /// No lanes yet.
    pub fn new(route: Route) -> Self {
        Self { route: Rc::new(route), shared: RefCell::default(), idle: RefCell::default() }
    }

    /// The lane that sessions of this protocol and database share.
    pub fn shared(&self, protocol: Protocol, db: u32) -> Rc<Lane> {
        let mut shared = self.shared.borrow_mut();
        let lane = shared.entry((protocol, db)).or_insert_with(|| Rc::new(Lane::open(&self.route, protocol, db, true)));
        Rc::clone(lane)
    }

    /// A lane for one session alone.
    pub fn pin(&self, protocol: Protocol, db: u32) -> Rc<Lane> {
        let mut idle = self.idle.borrow_mut();
        let pool = idle.entry((protocol, db)).or_default();
        pool.retain(|lane| !lane.has_ended());
        pool.pop().unwrap_or_else(|| Rc::new(Lane::open(&self.route, protocol, db, false)))
    }

    /// A lane for one session alone, known to the server by a name and password that the session's client gave. It
    /// never comes back.
    pub fn pin_as(&self, protocol: Protocol, db: u32, user: Option<String>, password: String) -> Rc<Lane> {
        let route = Route { user, password: Some(password), ..Route::clone(&self.route) };
        Rc::new(Lane::open(&Rc::new(route), protocol, db, false))
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

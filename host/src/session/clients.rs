//! Every client of the process, for CLIENT LIST and CLIENT KILL. Touched when a client comes, goes or is asked about.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its number, from 1, never used twice.
    pub id: u64,
    /// Its address.
    pub peer: String,
    /// The address it came to.
    pub local: String,
    /// When it came.
    pub since: i64,
    /// The worker it is with.
    pub worker: usize,
    name: Mutex<String>,
    user: Mutex<Option<Arc<str>>>,
}

/// Every client of the process.
#[derive(Default)]
pub struct Clients {
    last: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
    /// Ends a client of a worker.
    kill: std::sync::OnceLock<Box<dyn Fn(usize, u64) + Send + Sync>>,
}

// === impl Client ===

impl Client {
    /// The name it gave itself.
    pub fn name(&self) -> String {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives it a name.
    pub fn set_name(&self, name: &str) {
        name.clone_into(&mut self.name.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The user it has authenticated as. None: it has not.
    pub fn user(&self) -> Option<Arc<str>> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says who it is from now on.
    pub fn set_user(&self, user: Option<Arc<str>>) {
        *self.user.lock().unwrap_or_else(PoisonError::into_inner) = user;
    }

    /// Its line in CLIENT LIST, with the fields that mean something here.
    pub fn line(&self, now: i64) -> String {
        let age = now.saturating_sub(self.since).max(0) / 1000;
        format!(
            "id={} addr={} laddr={} fd=0 name={} age={age} idle=0 flags=N db=0 user={} worker={}\n",
            self.id,
            self.peer,
            self.local,
            self.name(),
            self.user().as_deref().unwrap_or("default"),
            self.worker
        )
    }
}

// === impl Clients ===

impl Clients {
    /// Takes in a client.
    pub fn add(&self, peer: String, local: String, worker: usize, now: i64) -> Arc<Client> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let client =
            Arc::new(Client { id, peer, local, since: now, worker, name: Mutex::default(), user: Mutex::default() });
        self.all.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&client));
        client
    }

    /// Lets a client go.
    pub fn remove(&self, id: u64) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The lines of CLIENT LIST for the clients that `which` picks.
    pub fn lines(&self, now: i64, which: impl Fn(&Client) -> bool) -> String {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().filter(|client| which(client)).map(|client| client.line(now)).collect()
    }

    /// Says how a client of a worker is ended. Once, before the first client.
    pub fn on_kill(&self, kill: impl Fn(usize, u64) + Send + Sync + 'static) {
        // A second one would be a second server in one process, which there is not.
        drop(self.kill.set(Box::new(kill)));
    }

    /// Ends the clients of users that are no more.
    pub fn end_users(&self, is_gone: impl Fn(&str) -> bool) {
        self.kill(|client| client.user().is_some_and(|user| is_gone(&user)));
    }

    /// Ends the clients that `which` picks: how many.
    pub fn kill(&self, which: impl Fn(&Client) -> bool) -> usize {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let picked: Vec<_> = all.values().filter(|client| which(client)).cloned().collect();
        drop(all);
        if let Some(kill) = self.kill.get() {
            picked.iter().for_each(|client| kill(client.worker, client.id));
        }
        picked.len()
    }
}

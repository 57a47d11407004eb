//! Every client of the process, for CLIENT LIST and CLIENT KILL. Touched when a client comes, goes, changes what it
//! holds or is asked about.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::resp::Protocol;

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
    /// When it last sent something.
    active: AtomicI64,
    /// Bytes that it has sent, bytes that it has been sent, commands that it has sent.
    traffic: [AtomicU64; 3],
    about: Mutex<About>,
}

/// What a client has said of itself, and what it holds.
#[derive(Clone, Debug)]
pub struct About {
    /// The name it gave itself.
    pub name: String,
    /// The user it has authenticated as.
    pub user: String,
    /// The sidecar itself knows that user and let it in.
    pub ours: bool,
    /// The name of its library.
    pub library: String,
    /// The version of its library.
    pub library_version: String,
    /// The last command that was worth noting.
    pub command: Cow<'static, str>,
    /// What it holds.
    pub standing: Standing,
    /// The number that the server has given the connection it has for itself. 0: it has none.
    pub at_server: Arc<AtomicU64>,
}

/// What a client holds at the server, as far as others may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its database.
    pub db: u32,
    /// Its protocol.
    pub protocol: Protocol,
    /// Channels, patterns and shard channels that it is subscribed to.
    pub subscribed: [i64; 3],
    /// Commands that its transaction has queued. None: it is in none.
    pub queued: Option<usize>,
    /// It waits in a blocking command.
    pub blocked: bool,
    /// It sees all commands.
    pub monitoring: bool,
    /// Its reads are tracked.
    pub tracking: bool,
    /// The client that is told what has changed, in its place. -1: tracking is off; 0: it is told itself.
    pub redirect: i64,
    /// It asked not to be evicted.
    pub stays: bool,
    /// Its reads do not count as use.
    pub untouching: bool,
    /// It copies data in, and expires nothing.
    pub importing: bool,
}

/// Which clients are asked about. What is None is not asked.
#[derive(Debug, Default)]
pub struct Filter {
    /// One of these numbers.
    pub ids: Option<Vec<u64>>,
    /// This address.
    pub addr: Option<String>,
    /// Come to this address.
    pub laddr: Option<String>,
    /// This user.
    pub user: Option<String>,
    /// Of this kind.
    pub kind: Option<ClientKind>,
    /// At least this old.
    pub age_seconds_min: Option<i64>,
    /// Not this one.
    pub but: Option<u64>,
}

/// What CLIENT LIST and CLIENT KILL call a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// Anything else.
    Normal,
    /// It is subscribed.
    PubSub,
    /// A server, of which the sidecar has none among its clients.
    Server,
}

/// Every client of the process.
#[derive(Default)]
pub struct Clients {
    last: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
    /// Until when the server holds commands back, as far as our own clients have asked for it. 0: it does not.
    paused_until: AtomicI64,
    /// Tells a client of a worker something.
    call: std::sync::OnceLock<Box<Calling>>,
}

/// Tells the client of that number, of that worker, something.
type Calling = dyn Fn(usize, u64, Call) + Send + Sync;

/// What one client has another one told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It ends.
    End,
    /// It takes a connection of its own to the server, and has this client of this worker told when it has one.
    Own(usize, u64),
    /// The client that was asked has one, or is gone.
    Told,
}

// === impl Client ===

impl Client {
    /// What it has said of itself.
    pub fn about(&self) -> MutexGuard<'_, About> {
        self.about.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has sent something.
    pub fn is_active(&self, now: i64) {
        self.active.store(now, Ordering::Relaxed);
    }

    /// So much has gone back and forth: bytes in, bytes out, commands.
    pub fn counted(&self, traffic: [u64; 3]) {
        for (counter, count) in self.traffic.iter().zip(traffic) {
            counter.store(count, Ordering::Relaxed);
        }
    }

    /// Its line in CLIENT LIST. `pattern` is the server's line about a client of its own: which fields there are, in
    /// which order, and what stands in those that mean nothing here.
    pub fn line(&self, now: i64, pattern: &str) -> String {
        let about = self.about();
        let standing = about.standing;
        let seconds = |since: i64| (now.saturating_sub(since).max(0) / 1000).to_string();
        let [channels, patterns, shards] = standing.subscribed;
        let [bytes_in, bytes_out, commands] = self.traffic.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        let fields = pattern.trim_end().split(' ').map(|field| {
            let (name, other) = field.split_once('=').unwrap_or((field, ""));
            let value = match name {
                "id" => self.id.to_string(),
                "addr" => self.peer.clone(),
                "laddr" => self.local.clone(),
                "name" => about.name.clone(),
                "age" => seconds(self.since),
                "idle" => seconds(self.active.load(Ordering::Relaxed)),
                "flags" => standing.flags(),
                "db" => standing.db.to_string(),
                "sub" => channels.to_string(),
                "psub" => patterns.to_string(),
                "ssub" => shards.to_string(),
                "multi" => standing.queued.map_or_else(|| "-1".to_owned(), |queued| queued.to_string()),
                // Valkey reads into a buffer that all clients share.
                "qbuf" if pattern.contains(" capa=") => "0".to_owned(),
                "tot-net-in" => bytes_in.to_string(),
                "tot-net-out" => bytes_out.to_string(),
                // One that waits is counted when it is done.
                "tot-cmds" => commands.saturating_sub(u64::from(standing.blocked)).to_string(),
                "cmd" => about.command.to_string(),
                "user" => about.user.clone(),
                "redir" => standing.redirect.to_string(),
                "resp" => if standing.protocol == Protocol::Resp3 { "3" } else { "2" }.to_owned(),
                "lib-name" => about.library.clone(),
                "lib-ver" => about.library_version.clone(),
                _ => other.to_owned(),
            };
            format!("{name}={value}")
        });
        fields.collect::<Vec<_>>().join(" ") + "\n"
    }
}

// === impl Standing ===

impl Standing {
    /// As the server writes them.
    fn flags(self) -> String {
        let flags = [
            (self.monitoring, 'O'),
            (self.subscribed != [0; 3], 'P'),
            (self.queued.is_some(), 'x'),
            (self.blocked, 'b'),
            (self.tracking, 't'),
            (self.importing, 'I'),
            (self.stays, 'e'),
            (self.untouching, 'T'),
        ];
        let set: String = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).collect();
        if set.is_empty() { "N".to_owned() } else { set }
    }

    fn kind(self) -> ClientKind {
        if self.subscribed == [0; 3] { ClientKind::Normal } else { ClientKind::PubSub }
    }
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            db: 0,
            protocol: Protocol::Resp2,
            subscribed: [0; 3],
            queued: None,
            blocked: false,
            monitoring: false,
            tracking: false,
            redirect: -1,
            stays: false,
            untouching: false,
            importing: false,
        }
    }
}

// === impl About ===

impl Default for About {
    fn default() -> Self {
        Self {
            name: String::new(),
            user: "default".to_owned(),
            ours: false,
            library: String::new(),
            library_version: String::new(),
            command: Cow::Borrowed("NULL"),
            standing: Standing::default(),
            at_server: Arc::default(),
        }
    }
}

// === impl ClientKind ===

impl ClientKind {
    /// Reads its name.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        match () {
            () if is("normal") => Some(Self::Normal),
            () if is("pubsub") => Some(Self::PubSub),
            () if is("master") || is("replica") || is("slave") => Some(Self::Server),
            () => None,
        }
    }
}

// === impl Filter ===

impl Filter {
    fn picks(&self, client: &Client, now: i64) -> bool {
        let about = client.about();
        self.ids.as_ref().is_none_or(|ids| ids.contains(&client.id))
            && self.addr.as_ref().is_none_or(|addr| client.peer == *addr)
            && self.laddr.as_ref().is_none_or(|laddr| client.local == *laddr)
            && self.user.as_ref().is_none_or(|user| about.user == *user)
            && self.kind.is_none_or(|kind| about.standing.kind() == kind)
            && self.age_seconds_min.is_none_or(|age| now.saturating_sub(client.since) / 1000 >= age)
            && self.but != Some(client.id)
    }
}

// === impl Clients ===

impl Clients {
    /// Takes in a client.
    pub fn add(&self, peer: String, local: String, worker: usize, now: i64) -> Arc<Client> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (active, traffic, about) = (AtomicI64::new(now), <[AtomicU64; 3]>::default(), Mutex::default());
        let client = Arc::new(Client { id, peer, local, since: now, worker, active, traffic, about });
        self.all().insert(id, Arc::clone(&client));
        client
    }

    /// A client has asked the server to hold commands back until then. 0: no longer.
    pub fn pause(&self, until: i64) {
        if until == 0 {
            self.paused_until.store(0, Ordering::Relaxed);
        } else {
            // Of two pauses the longer one stands.
            self.paused_until.fetch_max(until, Ordering::Relaxed);
        }
    }

    /// Until when the server holds commands back. 0: it does not.
    pub fn paused_until(&self) -> i64 {
        self.paused_until.load(Ordering::Relaxed)
    }

    /// Lets a client go.
    pub fn remove(&self, id: u64) {
        self.all().remove(&id);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all().len()
    }

    /// The client of that number.
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.all().get(&id).cloned()
    }

    /// The lines of CLIENT LIST for the clients that the filter picks.
    pub fn lines(&self, now: i64, pattern: &str, filter: &Filter) -> String {
        self.picked(now, filter).iter().map(|client| client.line(now, pattern)).collect()
    }

    /// Says how a client of a worker is told something. Once, before the first client.
    pub fn on_call(&self, call: impl Fn(usize, u64, Call) + Send + Sync + 'static) {
        // A second one would be a second server in one process, which there is not.
        drop(self.call.set(Box::new(call)));
    }

    /// Ends the clients of users that are no more. Those whom the server itself let in are its business.
    pub fn end_users(&self, is_gone: impl Fn(&str) -> bool) {
        let all: Vec<_> = self.all().values().cloned().collect();
        let gone = all.iter().filter(|client| {
            let about = client.about();
            about.ours && is_gone(&about.user)
        });
        gone.for_each(|client| self.call(client.worker, client.id, Call::End));
    }

    /// Tells a client of a worker something.
    pub fn call(&self, worker: usize, id: u64, what: Call) {
        if let Some(call) = self.call.get() {
            call(worker, id, what);
        }
    }

    /// Ends the clients that the filter picks, other than `me`, which ends itself when it has been answered: how many,
    /// and whether it is one of them.
    pub fn kill(&self, now: i64, filter: &Filter, me: u64) -> (usize, bool) {
        let picked = self.picked(now, filter);
        picked
            .iter()
            .filter(|client| client.id != me)
            .for_each(|client| self.call(client.worker, client.id, Call::End));
        // Who lists them now does not find them any more, though their ends come one by one.
        picked.iter().for_each(|client| self.remove(client.id));
        (picked.len(), picked.iter().any(|client| client.id == me))
    }

    fn picked(&self, now: i64, filter: &Filter) -> Vec<Arc<Client>> {
        self.all().values().filter(|client| filter.picks(client, now)).cloned().collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

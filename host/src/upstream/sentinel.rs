//! A server that sentinels watch: whichever they call the master now. Every connection is made to the one that they
//! name when it is made, and ends when they name another.

mod ask;
mod follow;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::BackOff;
use super::stream::{Stream, connect_tcp, connect_tls};
use crate::tls;
use ask::{Answer, Talk};

/// The sentinels of one master, and what is known of it. Shared by all workers.
#[derive(Clone)]
pub struct Sentinels(Arc<Parts>);

/// What sentinels are reached with.
#[derive(Clone, Debug)]
pub struct SentinelStart {
    /// Host and port of those that the settings name.
    pub places: Vec<(String, u16)>,
    /// What they call the master.
    pub name: String,
    /// How sentinels let us in.
    pub sentinel: Login,
    /// How the servers do.
    pub server: Login,
    /// With what sentinels and servers are encrypted, and whether their certificates are for their own hosts.
    pub tls: Option<(tls::Client, bool)>,
    /// How long to wait before the sentinels are asked again.
    pub back_off: BackOff,
}

/// A name and a password. None: nothing is asked for.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The user; none: the default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
}

/// Tells when the master is no longer the one that a connection was made to.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    sentinels: Sentinels,
    place: Place,
    current: watch::Receiver<Option<Master>>,
}

struct Parts {
    start: SentinelStart,
    /// Those that are asked: the one that answered last comes first.
    places: Mutex<Vec<Place>>,
    current: watch::Sender<Option<Master>>,
    /// Kept, since what nobody listens to is not remembered.
    known: watch::Receiver<Option<Master>>,
    /// Somebody has seen that the master may be another.
    look: Notify,
}

/// Where a server or a sentinel is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
}

/// A master, as the sentinels name it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Master {
    place: Place,
    /// Counts the failovers: who knows of fewer is behind.
    epoch: u64,
    /// All sentinels know of fewer than there were: they have been set up anew.
    anew: bool,
}

/// Sentinels that are remembered, those of the settings among them.
const PLACES_MAX: usize = 32;

// === impl Sentinels ===

impl Sentinels {
    /// Nobody is asked yet.
    pub fn new(start: SentinelStart) -> Self {
        let places = start.places();
        let (current, known) = watch::channel(None);
        Self(Arc::new(Parts { start, places: Mutex::new(places), current, known, look: Notify::new() }))
    }

    /// What the connections are encrypted with.
    pub fn tls(&self) -> Option<&tls::Client> {
        self.0.start.tls.as_ref().map(|(tls, _)| tls)
    }

    /// A connection to the master, and what tells when it is no longer that.
    ///
    /// # Errors
    /// No sentinel names a master, or the one that they name cannot be reached or is none, for the whole of `time`.
    pub(super) async fn connect(&self, time: Duration) -> io::Result<(Stream, Moved)> {
        let deadline = Instant::now() + time;
        let mut attempt = 0;
        loop {
            let mut master = self.resolve(time).await?;
            let known = self.0.known.borrow().clone().filter(|_| master.anew);
            if let Some(known) = known
                && matches!(timeout(time / 4, self.reach(&known)).await, Ok(Ok(_)))
            {
                // It still is one, and whoever says otherwise is behind.
                master = known;
            }
            // One that does not answer leaves time to ask once more.
            let reached = timeout_at(deadline.min(Instant::now() + time / 2), self.reach(&master)).await;
            let why = match reached.unwrap_or_else(|_| Err(io::Error::other("does not answer"))) {
                Ok(stream) => {
                    let (current, place) = (self.0.current.subscribe(), master.place.clone());
                    self.learn(master);
                    return Ok((stream, Moved { sentinels: self.clone(), place, current }));
                }
                Err(error) => format!("{}, the master {}, {error}", master.place, self.0.start.name),
            };
            let wait = self.0.start.back_off.after(attempt);
            attempt += 1;
            if Instant::now() + wait >= deadline {
                return Err(io::Error::other(why));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Connects to a server and sees whether it is a master.
    async fn reach(&self, master: &Master) -> io::Result<Stream> {
        let mut talk = Talk::new(self.open(&master.place).await.map_err(explained)?);
        if talk.is_master(&self.0.start.server).await? {
            talk.into_stream()
        } else {
            Err(io::Error::other("says that it is none"))
        }
    }

    /// Asks the sentinels in turn which server is the master. Each gets its part of `time`.
    async fn resolve(&self, time: Duration) -> io::Result<Master> {
        let places = self.places();
        let each = time / u32::try_from(places.len() + 1).unwrap_or(u32::MAX);
        let (mut failures, mut behind) = (Vec::new(), None::<Master>);
        for place in places {
            match timeout(each, self.ask(&place)).await {
                Ok(Ok(Answer { master, others })) => {
                    self.remember(&place, others);
                    if master.epoch >= self.epoch() {
                        return Ok(master);
                    }
                    // Who was cut off from the others knows an earlier master. Or all have been set up anew.
                    behind = behind.filter(|behind| behind.epoch >= master.epoch).or(Some(master));
                }
                Ok(Err(error)) => failures.push(format!("{place} {error}")),
                Err(_) => failures.push(format!("{place} does not answer")),
            }
        }
        let name = &self.0.start.name;
        let behind = behind.map(|master| Master { anew: true, ..master });
        behind.ok_or_else(|| {
            io::Error::other(format!("no sentinel says which server is the master {name}: {}", failures.join("; ")))
        })
    }

    async fn ask(&self, place: &Place) -> io::Result<Answer> {
        let mut talk = Talk::new(self.open(place).await.map_err(explained)?);
        talk.log_in(&self.0.start.sentinel).await?;
        talk.ask_for(&self.0.start.name).await
    }

    async fn open(&self, place: &Place) -> io::Result<Stream> {
        let socket = connect_tcp(&place.host, place.port).await?;
        match &self.0.start.tls {
            None => Ok(Stream::Tcp(socket)),
            Some((tls, false)) => connect_tls(tls, socket).await,
            Some((tls, true)) => {
                let named = tls.named(&place.host).map_err(|error| io::Error::other(format!("{error:#}")))?;
                connect_tls(&named, socket).await
            }
        }
    }

    /// Takes note of the master that was reached: connections to an earlier one end.
    fn learn(&self, master: Master) {
        // Held, so that of two who learn at the same time the one that is behind does not come last.
        let _places = self.0.places.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.0.known.borrow().clone();
        if known.as_ref().is_some_and(|known| known.epoch > master.epoch && !master.anew) {
            return;
        }
        if known.as_ref().is_none_or(|known| known.place != master.place) {
            tracing::info!("master {} is now {}", self.0.start.name, master.place);
        }
        if known.as_ref() != Some(&master) {
            // It fails only where nobody listens, and we do.
            drop(self.0.current.send(Some(master)));
        }
    }

    fn epoch(&self) -> u64 {
        self.0.known.borrow().as_ref().map_or(0, |master| master.epoch)
    }

    fn places(&self) -> Vec<Place> {
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A sentinel has answered: it comes first, those of the settings and those that it knows follow.
    fn remember(&self, first: &Place, others: Vec<Place>) {
        let mut places = self.0.places.lock().unwrap_or_else(PoisonError::into_inner);
        let mut renewed = vec![first.clone()];
        for place in self.0.start.places().into_iter().chain(others) {
            if renewed.len() < PLACES_MAX && !renewed.contains(&place) {
                renewed.push(place);
            }
        }
        *places = renewed;
    }
}

/// The master, by its name and where it is; until it is found, its sentinels.
impl std::fmt::Display for Sentinels {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.0.start.name)?;
        match &*self.0.known.borrow() {
            Some(master) => write!(out, " ({})", master.place),
            None => {
                let places: Vec<_> = self.0.start.places().iter().map(ToString::to_string).collect();
                write!(out, " (by the sentinels {})", places.join(", "))
            }
        }
    }
}

impl std::fmt::Debug for Sentinels {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Sentinels").field(&self.0.start).finish()
    }
}

// === impl SentinelStart ===

impl SentinelStart {
    fn places(&self) -> Vec<Place> {
        self.places.iter().map(|(host, port)| Place { host: host.clone(), port: *port }).collect()
    }
}

// === impl Login ===

impl std::fmt::Debug for Login {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

// === impl Moved ===

impl Moved {
    /// Whether it is over with the connection, and why. No reply that comes from now on is the master's.
    pub(super) fn reason(&self) -> Option<String> {
        let current = self.current.borrow();
        let other = current.as_ref().filter(|master| master.place != self.place)?;
        Some(format!("master {} is now {}", self.sentinels.0.start.name, other.place))
    }

    /// The server has said something by which it may no longer be the master.
    pub(super) fn look(&self) {
        self.sentinels.0.look.notify_one();
    }

    /// Waits until it is over with the connection.
    pub(super) async fn wait(&mut self) {
        while self.reason().is_none() {
            if self.current.changed().await.is_err() {
                // The sender lives as long as the sentinels, of which this is one holder.
                return std::future::pending().await;
            }
        }
    }
}

// === impl Place ===

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { write!(out, "[{host}]:{port}") } else { write!(out, "{host}:{port}") }
    }
}

/// So that it reads on behind the name of a server.
fn explained(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot be reached: {error}"))
}

//! The keys that are there already: which there are, how long each lives, and another end for those that no client
//! wrote meanwhile. On a connection of its own, so that lanes do not wait for it. Does not know who decides the ends.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

use super::Route;
use super::control::login;
use crate::command::Data;

/// A connection for walking the keys of one database.
pub struct Keys {
    server: MultiplexedConnection,
}

/// One step of a walk.
#[derive(Debug)]
pub struct Page {
    /// Keys; one may come in two pages.
    pub keys: Vec<Vec<u8>>,
    /// Where the next step begins. None: this was the last.
    pub next: Option<u64>,
}

/// What is asked about keys.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Whether they are to be changed: then each is watched, until it is changed or let go.
    pub watch: bool,
    /// Whether to ask what kind of data they hold.
    pub data: bool,
    /// Whether to ask how large they are.
    pub value_bytes: bool,
}

/// A key as it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub key: Vec<u8>,
    /// Milliseconds that are left of its lifetime. None: it has no end.
    pub left_ms: Option<u64>,
    /// What it holds; `Other` where it was not asked.
    pub data: Data,
    /// The size of a string; 0 where it was not asked, and for all that is not a string.
    pub value_bytes: u64,
}

/// Another end for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In so many milliseconds.
    In(u64),
    /// None.
    Never,
}

/// A server that answers nothing must not hold a walk up for ever; one that is busy may take its time.
const ANSWER_MAX: Duration = Duration::from_secs(10);

// === impl Keys ===

impl Keys {
    /// Connects to one database. On a tokio runtime, which it needs for as long as it lives.
    ///
    /// # Errors
    /// The server is not there, or refuses us.
    pub async fn connect(route: &Route, db: u32) -> anyhow::Result<Self> {
        let stream = route.target.connect(route.connect_timeout).await.context("cannot connect")?;
        let settings = login(route).set_db(i64::from(db));
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_MAX));
        let opened = MultiplexedConnection::new_with_config(&settings, stream, config);
        let opened = tokio::time::timeout(route.connect_timeout + ANSWER_MAX, opened).await;
        let (server, driver) = opened.context("it does not answer")?.context("it refuses us")?;
        // It ends with the connection.
        drop(tokio::spawn(driver));
        let mut keys = Self { server };
        // For people who look at the server's CLIENT LIST; a server that does not know it is no worse.
        let named: redis::RedisResult<()> =
            redis::cmd("CLIENT").arg("SETNAME").arg("bellwether-retime").query_async(&mut keys.server).await;
        drop(named);
        Ok(keys)
    }

    /// How many keys there are.
    ///
    /// # Errors
    /// The server does not answer as it should, as for all that follows.
    pub async fn count(&mut self) -> anyhow::Result<u64> {
        redis::cmd("DBSIZE").query_async(&mut self.server).await.context("DBSIZE")
    }

    /// The databases that have keys.
    ///
    /// # Errors
    /// As [`Keys::count`].
    pub async fn databases(&mut self) -> anyhow::Result<Vec<u32>> {
        let info: String =
            redis::cmd("INFO").arg("keyspace").query_async(&mut self.server).await.context("INFO keyspace")?;
        let number = |line: &str| line.strip_prefix("db")?.split_once(':')?.0.parse().ok();
        Ok(info.lines().filter_map(number).collect())
    }

    /// The keys of one step, about `count` of them, from where the last step ended; 0 is the beginning.
    ///
    /// # Errors
    /// As [`Keys::count`].
    pub async fn page(&mut self, from: u64, count: usize) -> anyhow::Result<Page> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(from).arg("COUNT").arg(count);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut self.server).await.context("SCAN")?;
        Ok(Page { keys, next: (next != 0).then_some(next) })
    }

    /// Looks at keys: each as it is, in their order. None: it is gone.
    ///
    /// # Errors
    /// As [`Keys::count`].
    pub async fn look(&mut self, keys: &[Vec<u8>], look: Look) -> anyhow::Result<Vec<Option<Found>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked = redis::pipe();
        if look.watch {
            asked.cmd("WATCH").arg(keys).ignore();
        }
        for key in keys {
            asked.cmd("PTTL").arg(key);
        }
        let left: Vec<i64> = asked.query_async(&mut self.server).await.context("PTTL")?;
        ensure!(left.len() == keys.len(), "{} answers about {} keys", left.len(), keys.len());
        let data = if look.data || look.value_bytes { self.data(keys).await? } else { vec![Data::Other; keys.len()] };
        let mut found = Vec::with_capacity(keys.len());
        for ((key, left), data) in keys.iter().zip(left).zip(data) {
            let left_ms = match left {
                -2 => {
                    found.push(None);
                    continue;
                }
                -1 => None,
                left => Some(u64::try_from(left).context("PTTL")?),
            };
            found.push(Some(Found { key: key.clone(), left_ms, data, value_bytes: 0 }));
        }
        if look.value_bytes {
            self.measure(&mut found).await?;
        }
        Ok(found)
    }

    /// Gives keys that are watched other ends, all or none. False: a client wrote one of them since it was looked at,
    /// and nothing was done. No key is watched any more.
    ///
    /// # Errors
    /// As [`Keys::count`].
    pub async fn change(&mut self, ends: &[(&[u8], End)]) -> anyhow::Result<bool> {
        let mut changes = redis::pipe();
        changes.atomic();
        for (key, end) in ends {
            match end {
                End::In(ms) => changes.cmd("PEXPIRE").arg(key).arg(ms),
                End::Never => changes.cmd("PERSIST").arg(key),
            };
        }
        let answers: Option<Vec<i64>> = changes.query_async(&mut self.server).await.context("PEXPIRE")?;
        Ok(answers.is_some())
    }

    /// Lets all keys go that are watched.
    ///
    /// # Errors
    /// As [`Keys::count`].
    pub async fn let_go(&mut self) -> anyhow::Result<()> {
        redis::cmd("UNWATCH").query_async(&mut self.server).await.context("UNWATCH")
    }

    async fn data(&mut self, keys: &[Vec<u8>]) -> anyhow::Result<Vec<Data>> {
        let mut asked = redis::pipe();
        for key in keys {
            asked.cmd("TYPE").arg(key);
        }
        let types: Vec<String> = asked.query_async(&mut self.server).await.context("TYPE")?;
        let data = |name: &String| match name.as_str() {
            "string" => Data::Value,
            "hash" => Data::Hash,
            "zset" => Data::SortedSet,
            "set" => Data::Set,
            "list" => Data::List,
            "stream" => Data::Stream,
            _ => Data::Other,
        };
        if types.len() != keys.len() {
            bail!("{} answers about {} keys", types.len(), keys.len());
        }
        Ok(types.iter().map(data).collect())
    }

    async fn measure(&mut self, found: &mut [Option<Found>]) -> anyhow::Result<()> {
        let mut strings: Vec<_> = found.iter_mut().flatten().filter(|found| found.data == Data::Value).collect();
        if strings.is_empty() {
            return Ok(());
        }
        let mut asked = redis::pipe();
        // A key that is something else by now is one that a client wrote meanwhile.
        asked.ignore_errors();
        for found in &strings {
            asked.cmd("STRLEN").arg(&found.key);
        }
        let bytes: Vec<redis::RedisResult<u64>> = asked.query_async(&mut self.server).await.context("STRLEN")?;
        for (found, bytes) in strings.iter_mut().zip(bytes) {
            found.value_bytes = bytes.unwrap_or(0);
        }
        Ok(())
    }
}

/// Whether the server said no in a way that asking again does not change: it does not let us, or does not know how.
pub fn is_refusal(error: &anyhow::Error) -> bool {
    let answer = error.chain().find_map(|cause| cause.downcast_ref::<redis::RedisError>());
    answer.is_some_and(|answer| match answer.code() {
        Some("NOPERM" | "NOAUTH" | "WRONGPASS") => true,
        Some("ERR") => answer.detail().is_some_and(|detail| detail.starts_with("unknown command")),
        _ => false,
    })
}

//! The keys that are there already: which there are, how long each lives, and another end for those that no client
//! wrote meanwhile. On a connection of its own, so that lanes do not wait for it. Does not know who decides the ends.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

use super::cluster::key_slot;
use super::control::connect;
use super::{Route, Target};
use crate::command::Data;

/// A connection for walking the keys of one database.
pub struct Keys {
    pub(super) server: MultiplexedConnection,
    /// The keys are those of a cluster.
    pub(super) cluster: bool,
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
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_MAX));
        let server = connect(route, db, config).await?;
        let cluster = matches!(route.target, Target::Cluster(_));
        let mut keys = Self { server, cluster };
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
        if self.cluster {
            return Ok(vec![0]);
        }
        let info: String =
            redis::cmd("INFO").arg("keyspace").query_async(&mut self.server).await.context("INFO keyspace")?;
        let number = |line: &str| line.strip_prefix("db")?.split_once(':')?.0.parse().ok();
        Ok(info.lines().filter_map(number).collect())
    }

    /// Only keys of which this is the same can be watched and changed together.
    pub fn together(&self, key: &[u8]) -> u16 {
        if self.cluster { key_slot(key) } else { 0 }
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

    /// The same of the keys that match a pattern. A page may be empty and not the last.
    ///
    /// # Errors
    /// As [`Keys::count`].
    pub async fn page_of(&mut self, pattern: &[u8], from: u64, count: usize) -> anyhow::Result<Page> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(from).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{End, Found, Keys, Look};
    use crate::command::Data;
    use crate::upstream::embedded::EmbeddedStore;
    use crate::upstream::{BackOff, Loss, Route, Target};

    fn route() -> Route {
        Route {
            target: Target::Embedded(EmbeddedStore::start(Arc::new(|| 1_000)).unwrap()),
            user: None,
            password: None,
            connect_timeout: Duration::from_secs(10),
            back_off: BackOff { first: Duration::ZERO, max: Duration::ZERO, seed: 0 },
            loss: Loss::Close,
            lane_bytes_max: 0,
            idle_lanes_max: 0,
            state: Arc::default(),
            versions: Arc::default(),
        }
    }

    async fn ask(keys: &mut Keys, line: &str) {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        let () = command.query_async(&mut keys.server).await.unwrap();
    }

    fn found(key: &str, left_ms: Option<u64>, data: Data, value_bytes: u64) -> Option<Found> {
        Some(Found { key: key.into(), left_ms, data, value_bytes })
    }

    #[test]
    fn keys_are_looked_at_and_changed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let route = route();
            let (mut keys, mut client) =
                (Keys::connect(&route, 0).await.unwrap(), Keys::connect(&route, 0).await.unwrap());
            assert_eq!((keys.count().await.unwrap(), keys.databases().await.unwrap()), (0, vec![]));
            let lines = ["SET a hello PX 500", "HSET b f v", "ZADD c 1 m", "SADD d m", "RPUSH e m", "PEXPIRE e 9"];
            for line in lines {
                ask(&mut client, line).await;
            }
            assert_eq!((keys.count().await.unwrap(), keys.databases().await.unwrap()), (5, vec![0]));
            let page = keys.page(0, 100).await.unwrap();
            assert_eq!((page.keys.len(), page.next), (5, None));

            let names: Vec<Vec<u8>> = "abcdef".bytes().map(|name| vec![name]).collect();
            let plain = Look { watch: false, data: false, value_bytes: false };
            let expect = |of: fn(Data) -> Data, bytes| {
                vec![
                    found("a", Some(500), of(Data::Value), bytes),
                    found("b", None, of(Data::Hash), 0),
                    found("c", None, of(Data::SortedSet), 0),
                    found("d", None, of(Data::Set), 0),
                    found("e", Some(9), of(Data::List), 0),
                    None,
                ]
            };
            assert_eq!(keys.look(&names, plain).await.unwrap(), expect(|_| Data::Other, 0));
            assert_eq!(keys.look(&names, Look { data: true, ..plain }).await.unwrap(), expect(|data| data, 0));
            assert_eq!(keys.look(&names, Look { value_bytes: true, ..plain }).await.unwrap(), expect(|data| data, 5));
            assert_eq!(keys.look(&[], plain).await.unwrap(), vec![]);

            let watch = Look { watch: true, ..plain };
            let ends: [(&[u8], End); 2] = [(b"a", End::Never), (b"b", End::In(70))];
            // All or none: a client writes one of them meanwhile.
            keys.look(&names, watch).await.unwrap();
            ask(&mut client, "HSET b f w").await;
            assert!(!keys.change(&ends).await.unwrap());
            assert_eq!(keys.look(&names[..2], plain).await.unwrap(), expect(|_| Data::Other, 0)[..2]);
            // Let go, a key is no longer watched.
            keys.look(&names, watch).await.unwrap();
            keys.let_go().await.unwrap();
            ask(&mut client, "HSET b f x").await;
            assert!(keys.change(&ends).await.unwrap());
            let left: Vec<_> = keys.look(&names[..2], plain).await.unwrap().into_iter().flatten().collect();
            assert_eq!(left.iter().map(|found| found.left_ms).collect::<Vec<_>>(), [None, Some(70)]);
        });
    }
}

//! The control connection: what has to be known of the server, asked with the `redis` crate. Not on the path of
//! commands.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

use super::stream::Stream;
use super::{Login, Route, Target, reported};
use crate::command::Table;

/// What is known of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version.
    pub version: String,
    /// How many databases it has.
    pub databases: u32,
    /// What it calls itself and its version in HELLO.
    pub hello: (String, String),
    /// Its line about a client of its own (CLIENT INFO): which fields this version has, and in which order.
    pub client_line: String,
    /// The database of clients that do not select one.
    pub db: u32,
    /// How far its clock is ahead of ours at least, in milliseconds.
    pub skew_ms: i64,
    /// What commands it has.
    pub commands: Arc<Table>,
}

/// Asks the server about itself.
#[derive(Debug)]
pub struct Control<'a> {
    route: &'a Route,
}

/// PEXPIRE … NX, which TTLs of hashes, lists and the like rest on, came with this version.
const VERSION_MIN: u32 = 7;
/// How long a server may take to answer the login; one that is busy may take its time.
const OPENING_MAX: Duration = Duration::from_secs(10);
const DATABASES_DEFAULT: u32 = 16;
/// What Redis 7.0 says of a client, for a server that does not tell.
const CLIENT_LINE: &str = "id=0 addr= laddr= fd=8 name= age=0 idle=0 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=26 \
                           qbuf-free=20448 argv-mem=10 multi-mem=0 rbs=1024 rbp=0 obl=0 oll=0 omem=0 tot-mem=22298 \
                           events=r cmd=client|info user=default redir=-1 resp=2";

// === impl ServerFacts ===

impl ServerFacts {
    /// Whether clients find the same server. Its clock, and what its line says of one connection, may be others.
    pub fn is_like(&self, other: &Self) -> bool {
        let names =
            |line: &str| line.split(' ').map(|field| field.split('=').next().map(str::to_owned)).collect::<Vec<_>>();
        self.version == other.version
            && self.databases == other.databases
            && self.hello == other.hello
            && names(&self.client_line) == names(&other.client_line)
            && self.commands == other.commands
    }
}

// === impl Control ===

impl<'a> Control<'a> {
    /// A control connection along a route.
    pub fn new(route: &'a Route) -> Self {
        Self { route }
    }

    /// Asks once. `now` reads our own clock, without any offset.
    ///
    /// # Errors
    /// The server is not there, refuses us, or is too old.
    pub async fn facts(&self, db: u32, now: fn() -> i64) -> anyhow::Result<ServerFacts> {
        if let Target::Embedded(_) = self.route.target {
            let version = super::embedded::VERSION.to_owned();
            let hello = ("redis".to_owned(), version.clone());
            let (client_line, commands) = (CLIENT_LINE.to_owned(), Arc::new(Table::of_redis().clone()));
            return Ok(ServerFacts { version, databases: 1, hello, client_line, db, skew_ms: 0, commands });
        }
        let asked = self.ask(db, now);
        // Connecting has a limit of its own; a server that answers nothing must not hold us up for ever.
        tokio::time::timeout(self.route.connect_timeout + Duration::from_secs(5), asked)
            .await
            .context("it does not answer")?
    }

    async fn ask(&self, db: u32, now: fn() -> i64) -> anyhow::Result<ServerFacts> {
        let mut server = connect(self.route, 0, AsyncConnectionConfig::new().set_response_timeout(None)).await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut server).await.context("INFO")?;
        let version = info_field(&info, "redis_version").context("INFO names no redis_version")?.to_owned();
        let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default();
        if major < VERSION_MIN {
            bail!("it is version {version}; bellwether needs 7.0 or later, for PEXPIRE … NX");
        }
        // Valkey has a name of its own for it.
        let mode = info_field(&info, "redis_mode").or_else(|| info_field(&info, "server_mode"));
        if mode == Some("sentinel") {
            bail!("it is a sentinel; use redis-sentinel://host:port/NAME, where NAME is what it calls the master");
        }
        let cluster = if let Target::Cluster(cluster) = &self.route.target { Some(cluster) } else { None };
        match (mode, cluster) {
            (Some("cluster"), None) => bail!("it is part of a cluster; use redis-cluster://host:port"),
            (Some("cluster"), Some(_)) | (_, None) => {}
            (_, Some(_)) => bail!("it is no cluster; use redis://host:port"),
        }
        let before = now();
        let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut server).await.context("TIME")?;
        let after = now().max(before);
        // Hosted servers forbid CONFIG; then it is the usual number.
        let databases: Result<Vec<String>, _> =
            redis::cmd("CONFIG").arg("GET").arg("databases").query_async(&mut server).await;
        let databases = databases.ok().and_then(|pair| pair.get(1)?.parse().ok()).unwrap_or(DATABASES_DEFAULT);
        let databases = if cluster.is_some() { 1 } else { databases };
        if db >= databases {
            bail!("it has {databases} databases, so there is no database {db}");
        }
        let line: Result<String, _> = redis::cmd("CLIENT").arg("INFO").query_async(&mut server).await;
        let client_line = line.ok().unwrap_or_else(|| CLIENT_LINE.to_owned());
        let said: Result<Vec<redis::Value>, _> = redis::cmd("HELLO").arg(2).query_async(&mut server).await;
        let said = said.unwrap_or_default();
        let hello = |name: &str| {
            let texts = said.iter().map(|value| redis::from_redis_value_ref::<String>(value).unwrap_or_default());
            let mut behind = texts.skip_while(|text| text != name);
            behind.nth(1)
        };
        let server_name = hello("server").unwrap_or_else(|| "redis".to_owned());
        let hello = (server_name, hello("version").unwrap_or_else(|| version.clone()));
        // It answered in between: a slow round trip is no skew.
        let server_ms = seconds * 1000 + micros / 1000;
        let skew_ms = server_ms - server_ms.clamp(before, after);
        let commands = Arc::new(Self::commands(&mut server).await);
        if let Some(cluster) = cluster {
            cluster.has_commands(Arc::clone(&commands));
        }
        Ok(ServerFacts { version, databases, hello, client_line, db, skew_ms, commands })
    }

    /// The table of the server's commands. One that may not be asked is taken to have all that are known.
    async fn commands(server: &mut redis::aio::MultiplexedConnection) -> Table {
        match redis::cmd("COMMAND").query_async::<redis::Value>(server).await {
            Ok(answer) => Table::of_server(&reported(&answer)),
            Err(error) => {
                tracing::warn!(%error, "the server does not say which commands it has; newer ones may not be known");
                Table::newest().clone()
            }
        }
    }
}

/// A connection of the `redis` crate along a route, over the same streams as lanes.
pub(super) async fn connect(
    route: &Route,
    db: u32,
    config: AsyncConnectionConfig,
) -> anyhow::Result<MultiplexedConnection> {
    let stream = route.target.connect(route.connect_timeout).await.context("cannot connect")?;
    let who = Login { user: route.user.clone(), password: route.password.clone() };
    let settings = login(&who).set_db(i64::from(db));
    over(stream, &settings, route.connect_timeout + OPENING_MAX, config).await
}

/// A connection of the `redis` crate over a stream.
pub(super) async fn over(
    stream: Stream,
    settings: &redis::RedisConnectionInfo,
    timeout: Duration,
    config: AsyncConnectionConfig,
) -> anyhow::Result<MultiplexedConnection> {
    let opened = MultiplexedConnection::new_with_config(settings, stream, config);
    let opened = tokio::time::timeout(timeout, opened).await;
    let (server, driver) = opened.context("it does not answer")?.context("it refuses us")?;
    // It ends with the connection.
    drop(tokio::spawn(driver));
    Ok(server)
}

/// How the `redis` crate logs in.
pub(super) fn login(who: &Login) -> redis::RedisConnectionInfo {
    let mut settings = redis::RedisConnectionInfo::default();
    if let Some(user) = &who.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &who.password {
        settings = settings.set_password(password);
    }
    settings
}

fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

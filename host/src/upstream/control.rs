//! The control connection: what has to be known of the server, asked with the `redis` crate. Not on the path of
//! commands.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

use super::{Route, Target, reported};
use crate::command::Table;

/// What is known of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version.
    pub version: String,
    /// How many databases it has.
    pub databases: u32,
    /// The database of clients that do not select one.
    pub db: u32,
    /// How far its clock is ahead of ours, in milliseconds.
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
            let commands = Arc::new(Table::of_redis().clone());
            return Ok(ServerFacts { version, databases: 1, db, skew_ms: 0, commands });
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
        if info_field(&info, "redis_mode") == Some("cluster") {
            bail!("it is part of a cluster, which bellwether does not speak yet; use a server of its own");
        }
        let before = now();
        let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut server).await.context("TIME")?;
        let middle = before + (now() - before) / 2;
        // Hosted servers forbid CONFIG; then it is the usual number.
        let databases: Result<Vec<String>, _> =
            redis::cmd("CONFIG").arg("GET").arg("databases").query_async(&mut server).await;
        let databases = databases.ok().and_then(|pair| pair.get(1)?.parse().ok()).unwrap_or(DATABASES_DEFAULT);
        if db >= databases {
            bail!("it has {databases} databases, so there is no database {db}");
        }
        let commands = Arc::new(Self::commands(&mut server).await);
        Ok(ServerFacts { version, databases, db, skew_ms: seconds * 1000 + micros / 1000 - middle, commands })
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
    let settings = login(route).set_db(i64::from(db));
    let opened = MultiplexedConnection::new_with_config(&settings, stream, config);
    let opened = tokio::time::timeout(route.connect_timeout + OPENING_MAX, opened).await;
    let (server, driver) = opened.context("it does not answer")?.context("it refuses us")?;
    // It ends with the connection.
    drop(tokio::spawn(driver));
    Ok(server)
}

/// How the `redis` crate logs in along a route.
fn login(route: &Route) -> redis::RedisConnectionInfo {
    let mut settings = redis::RedisConnectionInfo::default();
    if let Some(user) = &route.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &route.password {
        settings = settings.set_password(password);
    }
    settings
}

fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

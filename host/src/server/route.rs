//! The way to the server, and the door for clients that speak TLS, out of the settings.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::clock::Clock;
use crate::config::{self, Address, ClientCertificates, Config, LossChoice, Secret, Upstream};
use crate::tls::{Client, ClientFiles, ClientSettings, Identity, Server, ServerFiles};
use crate::upstream::embedded::EmbeddedStore;
use crate::upstream::{
    BackOff, Cluster, ClusterRoute, Login, Loss, Route, SentinelStart, Sentinels, Target, UpstreamState,
};

/// The way to the server, the database of clients that select none, and the password that clients must give.
///
/// # Errors
/// There is no thread for the embedded store, or the files of TLS are not what they should be.
pub fn route(config: &Config, clock: Clock) -> anyhow::Result<(Route, u32, Option<String>)> {
    let (target, db, user, password) = match &config.upstream {
        Some(Upstream::Embedded) => {
            let store =
                EmbeddedStore::start(Arc::new(move || clock.now())).context("cannot start the embedded store")?;
            (Target::Embedded(store), 0, None, None)
        }
        Some(Upstream::Redis { address, db, user, password }) => {
            let login = Login { user: user.clone(), password: password.as_ref().map(text) };
            (target(address.clone(), login, config)?, *db, user.clone(), password.clone())
        }
        Some(Upstream::Cluster { seeds, tls, user, password }) => {
            let login = Login { user: user.clone(), password: password.as_ref().map(text) };
            (cluster(seeds, *tls, login, config)?, 0, user.clone(), password.clone())
        }
        None => {
            let (host, port) = (config.redis_host.clone(), config.redis_port);
            let address = if config.redis_tls { Address::Tls { host, port } } else { Address::Tcp { host, port } };
            (
                target(address, Login::default(), config)?,
                config.redis_db,
                config.redis_user.clone(),
                config.redis_password.clone(),
            )
        }
    };
    let password = password.as_ref().map(text);
    let client_password = match &config.client_password {
        None => password.clone(),
        Some(own) if own.reveal() == "none" => None,
        Some(own) => Some(own.reveal().to_owned()),
    };
    let route = Route {
        target,
        user,
        password,
        connect_timeout: Duration::from_millis(config.upstream_connect_ms_max),
        back_off: back_off(config),
        loss: loss(config),
        lane_bytes_max: config.lane_bytes_max,
        idle_lanes_max: config.idle_lanes_max,
        state: Arc::new(UpstreamState::default()),
        versions: Arc::default(),
    };
    Ok((route, db, client_password))
}

/// What clients that speak TLS are let in with. None: there is no such listener.
///
/// # Errors
/// The settings contradict each other, or the files are not what they should be.
pub(super) fn door(config: &Config) -> anyhow::Result<Option<Server>> {
    let (certificate, key) = (&config.listen_tls_certificate_file, &config.listen_tls_key_file);
    let identity = Identity::of("listen_tls", certificate.as_ref(), key.as_ref())?;
    match (config.listen_tls, identity) {
        (None, None) => Ok(None),
        (None, Some(_)) => bail!("listen_tls_certificate_file is set, and listen_tls is off; set the address"),
        (Some(_), None) => bail!("listen_tls needs listen_tls_certificate_file and listen_tls_key_file"),
        (Some(_), Some(identity)) => {
            let anonymous = config.listen_tls_client_certificates == ClientCertificates::Optional;
            let authorities = config.listen_tls_client_ca_file.clone();
            Server::new(ServerFiles { identity, authorities, anonymous }).map(Some)
        }
    }
}

fn back_off(config: &Config) -> BackOff {
    BackOff {
        first: Duration::from_millis(config.upstream_back_off_ms_first),
        max: Duration::from_millis(config.upstream_back_off_ms_max),
        seed: u64::from(std::process::id()),
    }
}

fn text(secret: &Secret) -> String {
    secret.reveal().to_owned()
}

/// Whatever server the sentinels call the master, which lets us in as `server` says.
fn sentinel_target(sentinels: config::Sentinels, server: Login, config: &Config) -> anyhow::Result<Target> {
    let config::Sentinels { places, name, tls } = sentinels;
    let tls = if tls {
        let first = places.first().map_or("", |(host, _)| host);
        Some((client(first, config)?, config.upstream_tls_server_name.is_none()))
    } else {
        nothing_of_tls(config)?;
        None
    };
    let sentinel = Login { user: config.sentinel_user.clone(), password: config.sentinel_password.as_ref().map(text) };
    Ok(Target::Sentinel(Sentinels::new(SentinelStart {
        places,
        name,
        sentinel,
        server,
        tls,
        back_off: back_off(config),
    })))
}

/// What a way to `host` that is encrypted is encrypted with.
fn client(host: &str, config: &Config) -> anyhow::Result<Client> {
    let (certificate, key) = (&config.upstream_tls_certificate_file, &config.upstream_tls_key_file);
    let identity = Identity::of("upstream_tls", certificate.as_ref(), key.as_ref())?;
    let authorities = config.upstream_tls_ca_file.clone();
    let files = ClientFiles { authorities, identity, settings: ClientSettings::Upstream };
    Client::new(files, config.upstream_tls_server_name.as_deref().unwrap_or(host))
}

/// Where the server is. `login` is what a server that sentinels name is asked with whether it is the master.
fn target(address: Address, login: Login, config: &Config) -> anyhow::Result<Target> {
    if !matches!(address, Address::Sentinel(_)) {
        nothing_of_sentinels(config)?;
    }
    Ok(match address {
        Address::Sentinel(sentinels) => sentinel_target(sentinels, login, config)?,
        Address::Tls { host, port } => {
            let tls = client(&host, config)?;
            Target::Tls { host, port, tls }
        }
        Address::Tcp { host, port } => {
            nothing_of_tls(config)?;
            Target::Tcp { host, port }
        }
        Address::Unix(path) => {
            nothing_of_tls(config)?;
            Target::Unix(path)
        }
    })
}

fn cluster(seeds: &[(String, u16)], tls: bool, login: Login, config: &Config) -> anyhow::Result<Target> {
    nothing_of_sentinels(config)?;
    let tls = match seeds.first() {
        Some((host, _)) if tls => Some((client(host, config)?, config.upstream_tls_server_name.is_none())),
        _ => {
            nothing_of_tls(config)?;
            None
        }
    };
    Ok(Target::Cluster(Cluster::new(ClusterRoute {
        seeds: seeds.to_vec(),
        tls,
        login,
        connect_timeout: Duration::from_millis(config.upstream_connect_ms_max),
        loss: loss(config),
        bytes_max: config.lane_bytes_max,
    })))
}

fn loss(config: &Config) -> Loss {
    match config.on_upstream_lost {
        LossChoice::Close => Loss::Close,
        LossChoice::Error => Loss::Error,
    }
}

/// A password that is given to nobody is one that was meant for somebody.
fn nothing_of_sentinels(config: &Config) -> anyhow::Result<()> {
    match (&config.sentinel_password, &config.sentinel_user) {
        (None, None) => Ok(()),
        (password, _) => {
            let name = if password.is_some() { "sentinel_password" } else { "sentinel_user" };
            bail!("{name} is set, and no sentinels are; use upstream = \"redis-sentinel://host:port/NAME\"")
        }
    }
}

/// Who sets one of these wants no plain text on the wire.
fn nothing_of_tls(config: &Config) -> anyhow::Result<()> {
    let settings = [
        ("upstream_tls_ca_file", config.upstream_tls_ca_file.is_some()),
        ("upstream_tls_certificate_file", config.upstream_tls_certificate_file.is_some()),
        ("upstream_tls_key_file", config.upstream_tls_key_file.is_some()),
        ("upstream_tls_server_name", config.upstream_tls_server_name.is_some()),
    ];
    match settings.iter().find(|(_, set)| *set) {
        None => Ok(()),
        Some((name, _)) => {
            bail!("{name} is set, and the way to the server is not TLS; use rediss://, or redis_tls = \"on\"")
        }
    }
}

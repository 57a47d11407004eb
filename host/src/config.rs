//! The configuration: one table of settings, from which come the file's keys, the flags, the environment variables and
//! their documentation. Raw text in, a validated [`Config`] out; nothing is read from the outside here.

mod reference;
mod texts;
mod url;
mod values;
pub mod warm;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use reference::{Digest, Reference, is_loopback};
pub use texts::{Shown, Texts};
pub use values::{
    Address, ClientCertificates, ClockOffset, FileMode, FolderGate, KeyChoice, LogFormat, LossChoice, PolicyFolder,
    Secret, Sentinels, Upstream, Value,
};
use warm::WarmRules;

/// One setting, as it is documented.
#[derive(Debug)]
pub struct Setting {
    /// Its key in the file; the flag is the same with dashes.
    pub name: &'static str,
    /// What it means.
    pub docs: &'static str,
    /// Its default, as text. Empty: not set.
    pub default: &'static str,
    /// A variable it is read from besides `BELLWETHER_<NAME>`. Empty: none.
    pub variable: &'static str,
    /// What it takes.
    pub takes: &'static str,
    /// Whether it is a number in the file, not a text.
    pub number: bool,
    /// Whether it is never shown.
    pub secret: bool,
}

/// Where a value came from, the weakest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table.
    Default,
    /// What the verb (`dev`) changes.
    Verb(&'static str),
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag,
}

macro_rules! settings {
    ($($(#[doc = $docs:literal])+ $name:ident: $type:ty = $default:literal $(, $variable:literal)?;)+) => {
        /// The configuration, validated.
        #[derive(Clone, Debug)]
        pub struct Config {
            $($(#[doc = $docs])+ pub $name: $type,)+
        }

        /// Every setting there is.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            name: stringify!($name),
            docs: concat!($($docs),+),
            default: $default,
            variable: concat!($($variable)?),
            takes: <$type as Value>::TAKES,
            number: <$type as Value>::NUMBER,
            secret: <$type as Value>::SECRET,
        }),+];

        impl Config {
            /// Reads every setting from its text.
            ///
            /// # Errors
            /// A text is not what its setting takes; the message names the setting, where the text came from and what
            /// it takes.
            pub fn from_texts(texts: &Texts) -> anyhow::Result<Self> {
                Ok(Self { $($name: texts.read(stringify!($name))?,)+ })
            }
        }
    };
}

settings! {
    /// Address the sidecar listens on for Redis clients. `off`: none.
    listen: Option<SocketAddr> = "127.0.0.1:6380";
    /// Path of a unix socket the sidecar listens on, beside `listen` or instead of it. Empty: none.
    listen_unix: Option<PathBuf> = "";
    /// Who may connect to the unix socket, as file permissions. Empty: what the process's umask leaves.
    listen_unix_mode: Option<FileMode> = "";
    /// Address the sidecar listens on for clients that speak TLS. `off`: none.
    listen_tls: Option<SocketAddr> = "off";
    /// File (PEM) of the certificate that these clients are shown, followed by those between it and its authority.
    listen_tls_certificate_file: Option<PathBuf> = "";
    /// File (PEM) of that certificate's private key.
    listen_tls_key_file: Option<PathBuf> = "";
    /// File (PEM) of the authorities that may have signed the certificates of clients. Empty: clients show none.
    listen_tls_client_ca_file: Option<PathBuf> = "";
    /// Whether clients must show a certificate, where listen_tls_client_ca_file is set.
    listen_tls_client_certificates: ClientCertificates = "required";
    /// Connections that may wait to be accepted, on each address. The kernel has a limit of its own, which is the least
    /// of the two (net.core.somaxconn).
    listen_backlog: u32 = "4096";
    /// Milliseconds that a client may take to agree on the encryption.
    listen_tls_handshake_ms_max: u64 = "10000";
    /// Address of the admin server: /healthz, /readyz, /metrics. `off`: none.
    admin_listen: Option<SocketAddr> = "127.0.0.1:9180";
    /// Token that requests to the admin server that change something must carry, and that `bellwether rollout` and
    /// `bypass` send. Empty: such requests are taken from this machine alone.
    admin_token: Option<Secret> = "";
    /// Bytes of a request to the admin server: of the policies that are uploaded.
    admin_body_bytes_max: usize = "134217728";
    /// The server: a URL, of which all but the host may be left out, or `embedded` for the store inside this program.
    /// When it is set, the redis_… settings are not used.
    upstream: Option<Upstream> = "";
    /// Password that the sentinels of a redis-sentinel:// upstream ask for, beside the server's own in the URL. Empty:
    /// none.
    sentinel_password: Option<Secret> = "";
    /// User of the sentinels. Empty: the default user.
    sentinel_user: Option<String> = "";
    /// Host of the Redis server.
    redis_host: String = "localhost", "REDIS_HOST";
    /// Port of the Redis server.
    redis_port: u16 = "6379", "REDIS_PORT";
    /// Database of clients that do not SELECT one.
    redis_db: u32 = "0", "REDIS_DB";
    /// Password of the Redis server. Empty: none.
    redis_password: Option<Secret> = "", "REDIS_PASSWORD";
    /// User of the Redis server. Empty: the default user.
    redis_user: Option<String> = "", "REDIS_USER";
    /// Whether the Redis server at redis_host speaks TLS; with `upstream` the URL says so.
    redis_tls: bool = "off";
    /// File (PEM) of the authorities that may have signed the server's certificate. Empty: those the system trusts.
    upstream_tls_ca_file: Option<PathBuf> = "";
    /// File (PEM) of the certificate that a server that asks for one is shown.
    upstream_tls_certificate_file: Option<PathBuf> = "";
    /// File (PEM) of that certificate's private key.
    upstream_tls_key_file: Option<PathBuf> = "";
    /// Name that the server's certificate must be for. Empty: the host's.
    upstream_tls_server_name: Option<String> = "";
    /// Milliseconds between two looks at the files of certificates and users; they are taken up as they change.
    files_poll_ms: u64 = "1000";
    /// Password that the sidecar's own clients must give. Not set: the server's own, so that an application changes
    /// host and port only. `none`: none.
    client_password: Option<Secret> = "";
    /// File (TOML) of the users that clients authenticate as: [users.NAME] with `sha256`, one or several hashes of
    /// passwords, and `enabled`. It is taken up as it changes. One called `default` replaces client_password.
    users_file: Option<PathBuf> = "";
    /// Worker threads. 0: one for each core.
    workers: usize = "0";
    /// Microseconds for which a worker that has just had something to do goes on looking for more before it sleeps. To
    /// be woken takes longer than most requests, so that latencies are shorter, at the cost of up to a whole processor
    /// for each worker: where there is one to spare. 0: it sleeps at once.
    busy_poll_us: u64 = "0";
    /// Folder with policies: NAME.wasm replaces or adds a component, NAME.toml gives settings. It is watched. Or an
    /// artifact in a registry, pinned by its digest, that is pulled at the start. Empty: only the standard policies.
    policy_folder: Option<PolicyFolder> = "";
    /// Folder in which pulled artifacts are kept, by digest, so that the next start needs no registry.
    policy_artifacts_folder: PathBuf = "policies.oci";
    /// Bytes of all files of an artifact together.
    policy_artifact_bytes_max: u64 = "268435456";
    /// File (PEM) of public keys, as cosign writes them: an artifact must be signed by one of them. Empty: signatures
    /// are not looked at.
    policy_keys_file: Option<PathBuf> = "";
    /// File with the users and passwords of registries, as `docker login` writes it. Empty: config.json in the folder
    /// that DOCKER_CONFIG names, or in ~/.docker.
    policy_registry_auth_file: Option<PathBuf> = "";
    /// File (PEM) of the authorities that may have signed the certificates of registries. Empty: those the system
    /// trusts, and registries on the loopback interface are spoken to without TLS.
    policy_registry_ca_file: Option<PathBuf> = "";
    /// Milliseconds that a pull or a push may take.
    policy_registry_ms_max: u64 = "60000";
    /// Milliseconds between two looks at the policy folder.
    policy_poll_ms: u64 = "250";
    /// What the policy folder comes to hold is first compared with what is in force, on live traffic: for so long, and
    /// it comes into force if at most this share of all decisions differs. Such as `10m 0.1%`. Empty: at once.
    policy_gate: Option<FolderGate> = "";
    /// Folder of the sidecar's own, in which generations of policies are kept: a restart with a broken policy folder
    /// serves the last good one, rollbacks and bypass stay in force. Of one sidecar. Empty: a restart knows nothing.
    state_dir: Option<PathBuf> = "";
    /// Generations that may be gone back to, the one in force among them.
    rollout_history_max: usize = "8";
    /// Bytes of their files that stay in memory, each file once; the oldest go first.
    rollout_history_bytes_max: usize = "268435456";
    /// Folder in which the compiled code of components is kept, so that they start without compiling: Rust in
    /// milliseconds, Python and JavaScript in tenths of a second. Nobody else may be able to write to it; it is made
    /// if it is not there. Not set: `bellwether/compiled` in the user's cache folder ($XDG_CACHE_HOME, or .cache in
    /// $HOME), if there is one. Empty: none.
    compiled_folder: Option<PathBuf> = "";
    /// Bytes that it may hold; what was used least recently goes first, at the start and as more is
    /// written.
    compiled_bytes_max: u64 = "536870912";
    /// Shifts the sidecar's clock, for staging and tests: a span such as `2h 30m` or `-3d`.
    clock_offset: ClockOffset = "0s";
    /// What is logged: error, warn, info, debug, trace, or a filter such as `info,bellwether::policy=debug`.
    log: String = "info";
    /// How it is logged.
    log_format: LogFormat = "text";
    /// Milliseconds that clients get to finish when the sidecar is told to stop.
    shutdown_grace_ms: u64 = "10000";
    /// What clients with a command in flight see when the server is lost.
    on_upstream_lost: LossChoice = "close";
    /// What happens to keys that no rule covers.
    unmatched_keys: KeyChoice = "forward";
    /// What happens to keys under a rule that are not UTF-8; they never reach a policy.
    non_utf8_keys: KeyChoice = "forward";
    /// Rules whose keys get a lifetime from scripts too: their names, separated by blanks, or `*` for all. A script's
    /// (EVAL, EVALSHA, FCALL) keys are those that it declares; one that has no lifetime when it has run is given the
    /// decision's. Empty: none.
    script_rules: Option<String> = "";
    /// Client connections at one time. Fewer where the system does not allow two open files for each, with a warning.
    clients_max: usize = "10000";
    /// Milliseconds after which a client that sends and takes nothing is disconnected. 0: never.
    client_idle_ms_max: u64 = "0";
    /// Bytes of one command.
    client_command_bytes_max: usize = "1073741824";
    /// Bytes of one argument.
    client_bulk_bytes_max: usize = "536870912";
    /// Arguments of one command.
    client_args_max: usize = "1048576";
    /// Bytes of replies that may wait for a client; one that does not read them is disconnected.
    client_output_bytes_max: usize = "603979776";
    /// Commands of one client that may wait for their replies before the sidecar reads on; at least 1.
    client_pipeline_max: usize = "16384";
    /// Bytes of a command that may still share a lane with other clients; a larger one takes a lane of its own.
    shared_command_bytes_max: usize = "65536";
    /// Bytes that may wait for one lane before clients are held up.
    lane_bytes_max: usize = "16777216";
    /// Bytes of values that the near cache keeps for rules with `near-ms`, all workers together. 0: there is none.
    near_bytes_max: usize = "67108864";
    /// Keys whose values are read into the near cache before /readyz says ready: patterns as SCAN MATCH takes them,
    /// separated by blanks, in the database of clients that SELECT none, or [[warm]] rules. Only values of rules with
    /// `near-ms` are kept. Empty: none.
    warm: WarmRules = "";
    /// Keys that are read at one time, the rules in their order.
    warm_keys_max: usize = "10000";
    /// Keys a second that are read so.
    warm_keys_per_second_max: u32 = "10000";
    /// Milliseconds that this may take. After them the sidecar is ready all the same, and says so.
    warm_ms_max: u64 = "30000";
    /// File that keeps which keys are read most, for [[warm]] rules with `top` to know after a restart. It has keys in
    /// it, and only its owner may read it. Empty: none.
    warm_counts_file: Option<PathBuf> = "";
    /// Idle pinned lanes that a worker keeps, for each protocol and database.
    idle_lanes_max: usize = "64";
    /// Keys a second that are looked at when the lifetimes of keys that are there already are decided anew. 0: the
    /// sidecar does not do it by itself after a market's sessions changed.
    retime_keys_per_second_max: u32 = "10000";
    /// Milliseconds that a connection attempt to the server may take.
    upstream_connect_ms_max: u64 = "2000";
    /// Milliseconds before the second attempt; doubled each time.
    upstream_back_off_ms_first: u64 = "20";
    /// Milliseconds between attempts at most.
    upstream_back_off_ms_max: u64 = "1000";
    /// Instructions (wasmtime's fuel) that one decision may take.
    policy_fuel_max: u64 = "10000000";
    /// Instructions that loading a policy may take.
    policy_load_fuel_max: u64 = "2000000000";
    /// Milliseconds that one call of a policy may take; a backstop, the fuel is the budget.
    policy_call_ms_max: u64 = "1000";
    /// Bytes of memory of one policy instance.
    policy_memory_bytes_max: usize = "16777216";
    /// Calls into the host that one decision may make, log lines included.
    policy_host_calls_max: u32 = "64";
    /// Bytes that a policy may hand to the host in one call.
    policy_hostcall_bytes_max: usize = "262144";
    /// Lines that one policy instance may log in a second; the rest is counted.
    policy_log_lines_per_second_max: u32 = "100";
    /// Bytes of a component.
    policy_component_bytes_max: usize = "67108864";
    /// Milliseconds that compiling a component may take. It happens in a process of its own, which is ended then. It
    /// needs `compiled_folder`; without one the sidecar compiles by itself, as long as it takes.
    policy_compile_ms_max: u64 = "300000";
    /// Bytes of memory that compiling a component may take; as with `policy_compile_ms_max`.
    policy_compile_bytes_max: u64 = "2147483648";
    /// Decisions after which a policy instance is replaced by a fresh one. 1: every decision is made by a fresh one.
    policy_instance_calls_max: u32 = "100000";
    /// Decisions that each worker remembers.
    policy_memo_entries_max: usize = "65536";
}

// === impl Source ===

impl Source {
    /// Which of two sources is the stronger. Of two variables the one that is read later wins.
    fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Verb(_) => 1,
            Self::File(_) => 2,
            Self::Variable(_) => 3,
            Self::Flag => 4,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::Verb(verb) => write!(out, "`bellwether {verb}`"),
            Self::File(path) => write!(out, "{}", path.display()),
            Self::Variable(name) => write!(out, "environment {name}"),
            Self::Flag => out.write_str("flag"),
        }
    }
}

fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

fn unknown(name: &str, source: &Source) -> String {
    let nearest = nearest(name, SETTINGS.iter().map(|setting| setting.name));
    let hint = nearest.map_or(String::new(), |near| format!("; did you mean {near}?"));
    format!("there is no setting {name} ({source}){hint} `bellwether config` lists them all")
}

/// The name that is most like `name`, if any is.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Config, Source, Texts};

    /// The configuration from a file, variables and flags, or the error.
    fn check(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)], expect: &str) {
        let load = || -> anyhow::Result<String> {
            let mut texts = Texts::defaults();
            texts.set_file(Path::new("b.toml"), file)?;
            texts.set_variables(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))?;
            for (name, value) in flags {
                texts.set(name, (*value).into(), Source::Flag)?;
            }
            let config = Config::from_texts(&texts)?;
            let listen = config.listen.map_or("off".to_owned(), |address| address.to_string());
            Ok(format!("{listen} {} {}", config.redis_host, config.workers))
        };
        assert_eq!(load().unwrap_or_else(|error| format!("{error:#}")), expect);
    }

    #[test]
    fn sources() {
        check("", &[], &[], "127.0.0.1:6380 localhost 0");
        check("workers = 2\nredis_host = \"a\"", &[], &[], "127.0.0.1:6380 a 2");
        check("redis_host = \"a\"", &[("REDIS_HOST", "b")], &[], "127.0.0.1:6380 b 0");
        check("", &[("REDIS_HOST", "b"), ("BELLWETHER_REDIS_HOST", "c")], &[], "127.0.0.1:6380 c 0");
        check("", &[("REDIS_HOST", "b")], &[("redis_host", "d")], "127.0.0.1:6380 d 0");
    }

    #[test]
    fn mistakes() {
        check(
            "worker = 2",
            &[],
            &[],
            "there is no setting worker (b.toml); did you mean workers? `bellwether config` lists them all",
        );
        check("workers = \"2\"", &[], &[], "workers in b.toml is string; it takes an integer");
        check("listen = 6380", &[], &[], "listen in b.toml is integer; it takes a string");
        check(
            "",
            &[("BELLWETHER_WORKERS", "x")],
            &[],
            "workers (environment BELLWETHER_WORKERS): \"x\" is not a whole number: invalid digit found in string",
        );
        check(
            "",
            &[("BELLWETHER_LISTENS", "x")],
            &[],
            "there is no setting listens (environment BELLWETHER_LISTENS); did you mean listen? `bellwether config` \
             lists them all",
        );
        check(
            "upstream = \"http://x\"",
            &[],
            &[],
            "upstream (b.toml): \"http://x\" is not redis://[user[:password]@]host[:port][/database], rediss://… for \
             TLS, unix:///path[?db=N], redis-sentinel://[user[:password]@]host:port[,host:port…]/NAME[/database], \
             redis-cluster://[user[:password]@]host:port[,host:port…], the same with rediss, or `embedded`: the \
             scheme is http, not unix, or redis or rediss, or one of these with -sentinel or -cluster",
        );
    }
}

//! The command line: verbs, and one flag for every setting. Parses, reads the configuration, runs the verb.

mod bypass;
mod check;
mod compile;
mod config;
mod explain;
mod fetch;
mod format;
mod market;
mod paint;
mod policy;
mod record;
mod retime;
mod rollout;
mod screen;
mod serve;
mod top;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::clock::Clock;
use crate::config::{Config, LogFormat, PolicyFolder, SETTINGS, Setting, Source, Texts};
use crate::oci::Registries;
use crate::policy::Engine;
use crate::reload::{Folder, Reloader};

/// What the program is started with.
pub struct Start {
    /// Its arguments, its own name first.
    pub args: Vec<OsString>,
    /// Its environment.
    pub variables: BTreeMap<String, String>,
    /// The system's clock, in milliseconds since 1970.
    pub system_clock: fn() -> i64,
    /// Itself, to be started for what may not go on in this process.
    pub program: &'static Path,
}

/// Why it ends.
#[derive(Debug)]
pub enum Failure {
    /// It was called wrongly, or asked for help.
    Usage(clap::Error),
    /// It failed.
    Failed(anyhow::Error),
}

/// What a verb is given.
struct Call<'a> {
    verb: &'static str,
    matches: &'a ArgMatches,
    texts: Texts,
    config: Config,
    clock: Clock,
    system_clock: fn() -> i64,
    /// Whether the environment asks for no colours: <https://no-color.org>.
    no_color: bool,
    /// Where docker keeps the passwords of registries, if it does.
    docker_file: Option<PathBuf>,
    program: &'static Path,
}

/// A verb: its name, its own arguments, and what it does.
struct Verb {
    name: &'static str,
    command: fn(Command) -> Command,
    run: fn(Call<'_>, &mut dyn Write) -> anyhow::Result<ExitCode>,
}

const VERBS: [Verb; 13] = [
    serve::SERVE,
    serve::DEV,
    check::VERB,
    explain::VERB,
    market::VERB,
    top::VERB,
    retime::VERB,
    rollout::VERB,
    bypass::VERB,
    record::VERB,
    policy::VERB,
    config::VERB,
    compile::VERB,
];

/// What `dev` sets where nobody says otherwise.
const DEV: [(&str, &str); 2] = [("upstream", "embedded"), ("policy_folder", "policies.d")];

// === impl Failure ===

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

// === impl Call ===

impl Call<'_> {
    /// What standard namespaces do with values that are not JSON: a live application must not break, someone who tries
    /// things out is told.
    fn reloader(&self) -> anyhow::Result<Reloader> {
        let json = if self.verb == "dev" { "refuse" } else { "warn" };
        let folder = match &self.config.policy_folder {
            None => Folder::new(None, json),
            Some(PolicyFolder::Folder(path)) => Folder::new(Some(path.clone()), json),
            Some(PolicyFolder::Artifact(reference)) => Folder::pinned(self.registries().folder_of(reference)?, json),
        };
        let reloader = Reloader::new(&self.config, folder, self.clock)?;
        Ok(reloader.compiled_by(self.program.to_owned(), &self.config))
    }

    /// What runs policies.
    fn engine(&self) -> anyhow::Result<Engine> {
        Ok(Engine::new(&self.config)?.compiled_by(self.program.to_owned(), &self.config))
    }

    /// The way to registries.
    fn registries(&self) -> Registries {
        Registries::of(&self.config, self.docker_file.clone())
    }

    /// `--at`, or now.
    fn at(&self) -> anyhow::Result<i64> {
        match self.matches.get_one::<String>("at") {
            None => Ok(self.clock.now()),
            Some(text) => format::instant(text),
        }
    }
}

/// Runs what the arguments say.
///
/// # Errors
/// It was called wrongly, the configuration is wrong, or the verb failed.
pub fn run(start: Start, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let matches = command().try_get_matches_from(start.args).map_err(Failure::Usage)?;
    let (name, matches) = matches.subcommand().context("no verb was given; try `bellwether --help`")?;
    let verb = VERBS.iter().find(|verb| verb.name == name).context("there is no such verb")?;
    let is_set = |name| start.variables.get(name).is_some_and(|value| !value.is_empty());
    let no_color = is_set("NO_COLOR") || start.variables.get("TERM").is_some_and(|term| term == "dumb");
    let docker_file = docker_file(&start.variables);
    // Where a verb has verbs of its own, the flags are theirs.
    let flags = matches.subcommand().map_or(matches, |(_, own)| own);
    let texts = texts(verb.name, flags, start.variables)?;
    let config = Config::from_texts(&texts)?;
    let clock = Clock::new(start.system_clock, config.clock_offset.ms);
    let system_clock = start.system_clock;
    let program = start.program;
    let call = Call { verb: verb.name, matches, texts, config, clock, system_clock, no_color, docker_file, program };
    (verb.run)(call, out).map_err(Failure::Failed)
}

/// Where docker keeps the passwords of registries, as the manual of its command line says under "Environment
/// variables" (DOCKER_CONFIG).
fn docker_file(variables: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")));
    folder.map(|folder| folder.join("config.json"))
}

/// A reader that has seen enough of the output, as `head` has, is no failure.
fn unless_unread(result: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let unread = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    };
    match result {
        Err(error) if error.chain().any(unread) => Ok(ExitCode::SUCCESS),
        result => result,
    }
}

/// The texts of all settings: flags over environment over file over what the verb sets over defaults.
fn texts(verb: &'static str, matches: &ArgMatches, variables: BTreeMap<String, String>) -> anyhow::Result<Texts> {
    let mut texts = Texts::defaults();
    if let Some(folder) = compiled_folder(&variables) {
        texts.set("compiled_folder", folder, Source::Default)?;
    }
    if verb == "dev" {
        for (name, value) in DEV {
            texts.set(name, value.to_owned(), Source::Verb("dev"))?;
        }
    }
    let file = matches.get_one::<String>("config").or_else(|| variables.get("BELLWETHER_CONFIG")).map(PathBuf::from);
    if let Some(path) = file {
        let content = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        texts.set_file(&path, &content)?;
    }
    texts.set_variables(variables.into_iter())?;
    for setting in SETTINGS {
        // Not every verb takes every setting.
        if let Ok(Some(text)) = matches.try_get_one::<String>(setting.name) {
            texts.set(setting.name, text.clone(), Source::Flag)?;
        }
    }
    Ok(texts)
}

/// Where compiled code is kept unless somebody says otherwise: in the user's cache folder, as
/// <https://specifications.freedesktop.org/basedir-spec/> says where that is.
fn compiled_folder(variables: &BTreeMap<String, String>) -> Option<String> {
    let absolute = |name| variables.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    caches.join("bellwether/compiled").into_os_string().into_string().ok()
}

fn command() -> Command {
    let root = Command::new("bellwether")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Redis sidecar whose caching rules are WebAssembly components")
        .subcommand_required(true)
        .arg_required_else_help(true);
    VERBS.iter().fold(root, |root, verb| {
        let own = (verb.command)(Command::new(verb.name));
        // A verb with verbs of its own says itself what they take.
        root.subcommand(if own.has_subcommands() { own } else { settings_args(own, |_| true) })
    })
}

/// `--config`, and a flag for every setting that the verb takes.
fn settings_args(command: Command, takes: fn(&Setting) -> bool) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("Configuration file, TOML [env: BELLWETHER_CONFIG]")
        .help_heading("Configuration")
        .action(ArgAction::Set);
    SETTINGS.iter().filter(|setting| takes(setting)).fold(command.arg(config), |command, setting| {
        let default = match setting.default {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        let takes = if setting.number { String::new() } else { format!(" [takes: {}]", setting.takes) };
        let variable = match setting.variable {
            "" => String::new(),
            variable => format!(" [env: {variable}]"),
        };
        command.arg(
            Arg::new(setting.name)
                .long(setting.name.replace('_', "-"))
                .value_name("VALUE")
                .help(format!("{}{takes}{default}{variable}", setting.docs.trim()))
                .help_heading("Configuration")
                .allow_hyphen_values(true)
                .action(ArgAction::Set),
        )
    })
}

/// The log goes to standard error, as the configuration says.
fn start_log(config: &Config) -> anyhow::Result<()> {
    use tracing_subscriber::EnvFilter;
    let filter: EnvFilter = config.log.parse().with_context(|| format!("log: {:?} is not a filter", config.log))?;
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    let started = match config.log_format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            log.with_target(false).with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
        }
    };
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}

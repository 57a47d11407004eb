//! `bellwether policy new`: a project that builds, tests and runs as it is. Its files are `host/templates`, and the
//! first policies of `examples`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Arg, builder::PossibleValuesParser};

use super::super::{Call, Verb};
use crate::policy::{Role, contract};

pub(super) const VERB: Verb = Verb {
    name: "new",
    command: |command| {
        command
            .about("Make a project of a policy, which builds, tests and runs as it is")
            .arg(
                Arg::new("name")
                    .value_name("NAME")
                    .help("The folder to make; its last part is the policy's name")
                    .required(true),
            )
            .arg(
                Arg::new("role")
                    .long("role")
                    .value_name("ROLE")
                    .help("What the policy is asked for")
                    .value_parser(PossibleValuesParser::new(ROLES.map(|(role, _)| role.interface())))
                    .default_value("ttl"),
            )
            .arg(
                Arg::new("lang")
                    .long("lang")
                    .value_name("LANGUAGE")
                    .help("What it is written in")
                    .value_parser(PossibleValuesParser::new(LANGUAGES.map(|of| of.name)))
                    .default_value("rust"),
            )
            .arg(Arg::new("sdk").long("sdk").value_name("PATH|GIT").help(
                "The SDK: its folder (policies/sdk of a checkout of Bellwether), or the address of a Git repository \
                 [default: of the checkout that the new folder stands in]",
            ))
    },
    run,
};

/// What differs from role to role.
struct Template {
    /// In each language, in the order of [`LANGUAGES`].
    code: [&'static str; 3],
    cases: &'static str,
}

/// What differs from language to language.
struct Language {
    name: &'static str,
    /// Where the policy is.
    source: &'static str,
    /// The files around it.
    files: &'static [(&'static str, &'static str)],
    ignored: &'static str,
    /// What is typed once before the first build: in the project, and in the folder that it was made from.
    install: &'static str,
    install_from_outside: &'static [&'static str],
    /// How the native unit tests are run.
    unit: &'static str,
}

const ROLES: [(Role, Template); 3] = [
    (
        Role::Ttl,
        Template {
            code: [
                include_str!("../../../templates/ttl/lib.rs"),
                include_str!("../../../../examples/first-policy-python/policy.py"),
                include_str!("../../../../examples/first-policy-js/policy.js"),
            ],
            cases: include_str!("../../../../examples/first-policy/first-policy.cases.toml"),
        },
    ),
    (
        Role::Namespaces,
        Template {
            code: [
                include_str!("../../../templates/namespaces/lib.rs"),
                include_str!("../../../templates/namespaces/policy.py"),
                include_str!("../../../templates/namespaces/policy.js"),
            ],
            cases: include_str!("../../../templates/namespaces/cases.toml"),
        },
    ),
    (
        Role::MarketHours,
        Template {
            code: [
                include_str!("../../../templates/market-hours/lib.rs"),
                include_str!("../../../templates/market-hours/policy.py"),
                include_str!("../../../templates/market-hours/policy.js"),
            ],
            cases: include_str!("../../../templates/market-hours/cases.toml"),
        },
    ),
];

const LANGUAGES: [Language; 3] = [
    Language {
        name: "rust",
        source: "src/lib.rs",
        files: &[("Cargo.toml", include_str!("../../../templates/manifest.toml"))],
        ignored: "/target\n/*.wasm\n/src/bindings.rs\n",
        install: "rustup target add wasm32-unknown-unknown\n",
        install_from_outside: &[],
        unit: "cargo test                              # the native unit tests\n",
    },
    Language {
        name: "python",
        source: "policy.py",
        files: &[
            ("pyproject.toml", include_str!("../../../templates/pyproject.toml")),
            ("requirements.txt", include_str!("../../../templates/requirements.txt")),
        ],
        ignored: "/.venv\n/*.wasm\n__pycache__\n",
        install: "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt\n",
        install_from_outside: &[
            "python3 -m venv {{folder}}/.venv",
            "{{folder}}/.venv/bin/pip install -r {{folder}}/requirements.txt",
        ],
        unit: "",
    },
    Language {
        name: "js",
        source: "policy.js",
        files: &[("package.json", include_str!("../../../templates/package.json"))],
        ignored: "/node_modules\n/*.wasm\n",
        install: "npm install                             # needs Node.js 20 or later\n",
        install_from_outside: &["npm install --prefix {{folder}}"],
        unit: "",
    },
];

/// What the examples that are templates are called.
const EXAMPLE: &str = "first-policy";
const README: &str = include_str!("../../../templates/README.md");
/// A policy's name is the name of its file, and of a crate.
const NAME_BYTES_MAX: usize = 64;
/// What Rust keeps for itself, of the words that are names otherwise.
const TAKEN: [&str; 12] = [
    "alloc",
    "bellwether-sdk",
    "bellwether_sdk",
    "build",
    "core",
    "deps",
    "examples",
    "fn",
    "mod",
    "std",
    "test",
    "use",
];

/// Where the SDK is taken from.
enum Sdk {
    /// Its folder.
    Folder(PathBuf),
    /// The address of its repository.
    Git(String),
}

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let text = |name: &str| call.matches.get_one::<String>(name).map_or("", String::as_str);
    let folder = Path::new(text("name"));
    let name = crate_name(folder)?;
    ensure_empty(folder)?;
    let found = ROLES.iter().find(|(role, _)| role.interface() == text("role"));
    let (role, template) = found.context("there is no such role")?;
    let mut languages = LANGUAGES.iter().zip(template.code);
    let (language, code) = languages.find(|(of, _)| of.name == text("lang")).context("there is no such language")?;
    let sdk = (language.name == "rust").then(|| sdk(call.matches.get_one::<String>("sdk"), folder)).transpose()?;
    let fill = |text: &str| {
        // A ttl policy is found by the name in a rule; of the others there is one of that name to be replaced.
        let mount = if *role == Role::Ttl { name } else { role.interface() };
        let text = text.replace("{{name}}", name).replace(EXAMPLE, name).replace("{{role}}", role.interface());
        let text = text.replace("{{source}}", language.source).replace("{{install}}", language.install);
        let text = text.replace("{{mount}}", mount).replace("{{unit}}", language.unit);
        text.replace("{{sdk}}", &sdk.as_ref().map(Sdk::dependency).unwrap_or_default())
    };
    let mut files = vec![
        ("README.md".to_owned(), fill(README)),
        (".gitignore".to_owned(), language.ignored.to_owned()),
        (format!("{name}.cases.toml"), template.cases.to_owned()),
        (language.source.to_owned(), fill(code)),
    ];
    files.extend(language.files.iter().map(|(name, text)| ((*name).to_owned(), fill(text))));
    files.extend(contract::WIT.iter().map(|(name, text)| (format!("wit/{name}"), (*text).to_owned())));
    files.extend(sdk.as_ref().map_or(Ok(None), Sdk::lock)?.map(|lock| ("Cargo.lock".to_owned(), lock)));
    for (file, content) in &files {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let shown = folder.display();
    writeln!(out, "{shown} is a {} policy: {shown}/{}, {shown}/{name}.cases.toml", role.interface(), language.source)?;
    let typed = ["bellwether policy build {{folder}}", "bellwether policy test {{folder}}"];
    for (index, command) in language.install_from_outside.iter().chain(&typed).enumerate() {
        let said = if index == 0 { "Now type:" } else { "and then:" };
        writeln!(out, "{said}  {}", command.replace("{{folder}}", &shown.to_string()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The policy's name, from its folder: a name that crates may have and that policy folders know.
fn crate_name(folder: &Path) -> anyhow::Result<&str> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(plain);
    ensure!(
        is_name && name.len() <= NAME_BYTES_MAX,
        "{name:?} is no name of a policy: it begins with a lower-case letter, and has up to {NAME_BYTES_MAX} \
         lower-case letters, digits, - and _"
    );
    ensure!(!TAKEN.contains(&name), "{name:?} is a name that Rust or the SDK has for something else; take another");
    Ok(name)
}

fn ensure_empty(folder: &Path) -> anyhow::Result<()> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => {
            ensure!(entries.next().is_none(), "{} is there and not empty; nothing was written", folder.display());
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot read the folder {}", folder.display())),
    }
}

/// The SDK that was named, or the one of the checkout that the new folder stands in.
fn sdk(named: Option<&String>, folder: &Path) -> anyhow::Result<Sdk> {
    let is_sdk = |folder: &Path| {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml"));
        manifest.is_ok_and(|text| text.contains("name = \"bellwether-sdk\""))
    };
    if let Some(named) = named {
        if ["https://", "http://", "ssh://", "git://", "git@", "file://"].iter().any(|way| named.starts_with(way)) {
            return Ok(Sdk::Git(named.clone()));
        }
        let path = std::fs::canonicalize(named).with_context(|| format!("cannot find the SDK at {named}"))?;
        let inside = path.join("policies/sdk");
        let found = [path, inside].into_iter().find(|path| is_sdk(path));
        return Ok(Sdk::Folder(
            found.with_context(|| format!("{named} does not hold the SDK, the crate bellwether-sdk"))?,
        ));
    }
    // The folder is not there yet; its nearest parent is.
    let above = folder
        .ancestors()
        .find_map(|of| std::fs::canonicalize(if of.as_os_str().is_empty() { Path::new(".") } else { of }).ok());
    let above = above.context("the current folder cannot be found")?;
    let found = above.ancestors().map(|of| of.join("policies/sdk")).find(|path| is_sdk(path));
    Ok(Sdk::Folder(found.context(
        "the SDK is not published yet, and this is no checkout of Bellwether: give its folder (--sdk \
         PATH/TO/bellwether/policies/sdk), or the address of the repository (--sdk https://…)",
    )?))
}

// === impl Sdk ===

impl Sdk {
    /// What stands in Cargo.toml.
    fn dependency(&self) -> String {
        let (way, place) = match self {
            Self::Folder(path) => ("path", path.display().to_string()),
            Self::Git(address) => ("git", address.clone()),
        };
        format!("{{ {way} = {} }}", toml::Value::String(place))
    }

    /// The versions that the SDK is tested with, where they are known: cargo takes over what it needs of them.
    fn lock(&self) -> anyhow::Result<Option<String>> {
        let Self::Folder(path) = self else { return Ok(None) };
        let Some(file) = path.ancestors().skip(1).map(|of| of.join("Cargo.lock")).find(|file| file.is_file()) else {
            return Ok(None);
        };
        super::read_text(&file).map(Some)
    }
}

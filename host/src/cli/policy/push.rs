//! `bellwether policy push`: a policy folder, or one component, into a registry as one artifact.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::{Arg, ArgAction};
use serde_json::json;

use super::super::{Call, Verb};
use super::{json_arg, mount};
use crate::config::Reference;
use crate::oci::artifact::{Built, File, World};
use crate::oci::signature::PrivateKey;
use crate::oci::store;
use crate::policy::{Policy, PolicySet, contract};
use crate::reload::Folder;

pub(super) const VERB: Verb = Verb {
    name: "push",
    command: |command| {
        let about = "Push a policy folder into a registry as one artifact: its components, settings and cases, as they \
                     are. The same files always have the same digest. A single FILE.wasm is pushed in the layout \
                     that tools for WebAssembly share, without the settings and cases beside it. What a sidecar would \
                     refuse to load is not pushed. A user and a password are taken from where `docker login` keeps \
                     them.";
        command
            .about("Push a policy folder or a component into a registry")
            .long_about(about)
            .arg(Arg::new("from").value_name("FOLDER|FILE").help("What is pushed").required(true))
            .arg(Arg::new("to").value_name("REFERENCE").help("oci://HOST[:PORT]/REPOSITORY:TAG").required(true))
            .arg(
                Arg::new("sign")
                    .long("sign")
                    .value_name("KEY")
                    .help("Sign it with this private key (PEM, ECDSA on P-256 or Ed25519), as cosign does"),
            )
            .arg(
                Arg::new("unchecked")
                    .long("unchecked")
                    .help("Push it whether or not this sidecar would load it")
                    .action(ArgAction::SetTrue),
            )
            .arg(json_arg())
    },
    run,
};

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let text = |name: &str| call.matches.get_one::<String>(name);
    let from = PathBuf::from(text("from").context("nothing was named to push")?);
    let to = text("to").context("no reference was named")?;
    let reference = Reference::read(to).with_context(|| format!("{to:?} is not {}", Reference::TAKES))?;
    let key = text("sign").map(|path| PrivateKey::read(Path::new(path)).context("--sign")).transpose()?;
    let unchecked = call.matches.get_flag("unchecked");
    let (built, files) =
        if from.is_dir() { set(&call, &from, unchecked)? } else { component(&call, &from, unchecked)? };
    let pushed = call.registries().push(&reference, &built, key.as_ref())?;
    let pinned = reference.pinned(&pushed.digest);
    let signed_by = pushed.signed_by.map(|key| key.to_string());
    if call.matches.get_flag("json") {
        let files: Vec<_> =
            files.iter().map(|file| json!({ "name": file.name, "bytes": file.content.len() })).collect();
        let digest = pushed.digest.as_str();
        let all = json!({ "digest": digest, "pinned": pinned.to_string(), "signed_by": signed_by, "files": files });
        writeln!(out, "{all:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{reference}")?;
    for file in &files {
        writeln!(out, "  {:<28} {:>9} bytes", file.name, file.content.len())?;
    }
    writeln!(out, "  digest     {}", pushed.digest)?;
    writeln!(out, "  signed     {}", signed_by.map_or("no".to_owned(), |key| format!("by key {key}")))?;
    writeln!(out, "To serve it, and nothing else whatever becomes of the tag:\n  policy_folder = \"{pinned}\"")?;
    Ok(ExitCode::SUCCESS)
}

/// A folder, as a sidecar would load it.
fn set(call: &Call<'_>, folder: &Path, unchecked: bool) -> anyhow::Result<(Built, Vec<File>)> {
    let files = store::files(folder)?;
    let built = Built::set(&files).with_context(|| folder.display().to_string())?;
    if !unchecked {
        let load = || {
            PolicySet::load(&call.engine()?, 1, &Folder::new(Some(folder.to_owned()), "warn").mounts()?, None)
                .map_err(anyhow::Error::from)
        };
        refused_unless(load().map(drop), folder)?;
    }
    Ok((built, files))
}

/// A component by itself.
fn component(call: &Call<'_>, path: &Path, unchecked: bool) -> anyhow::Result<(Built, Vec<File>)> {
    let name = path.file_name().and_then(|name| name.to_str()).context("no file was named")?;
    ensure!(
        name.ends_with(".wasm"),
        "{} is no component; push a component (NAME.wasm), or the folder that it is in",
        path.display()
    );
    let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let review = contract::review(&content).with_context(|| path.display().to_string())?;
    if !unchecked {
        let load = || Policy::load(&call.engine()?, &mount(path, None)?).map_err(anyhow::Error::from);
        refused_unless(load().map(drop), path)?;
    }
    let names = |items: Vec<contract::Item>| items.into_iter().map(|item| item.name).collect();
    let world = World { exports: names(review.exports), imports: names(review.imports) };
    let file = File { name: name.to_owned(), content: content.into() };
    Ok((Built::component(&file, &world)?, vec![file]))
}

fn refused_unless(loaded: anyhow::Result<()>, what: &Path) -> anyhow::Result<()> {
    match loaded {
        Ok(()) => Ok(()),
        Err(error) => bail!(
            "{:#}",
            error.context(format!(
                "{} was not pushed, since a sidecar would refuse it (--unchecked pushes it all the same)",
                what.display()
            ))
        ),
    }
}

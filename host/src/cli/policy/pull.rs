//! `bellwether policy pull`: an artifact out of a registry into a policy folder.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgAction};
use serde_json::json;

use super::super::{Call, Verb};
use super::json_arg;
use crate::config::{Digest, Reference};
use crate::oci::artifact::File;
use crate::oci::store::{Pulled, place};

pub(super) const VERB: Verb = Verb {
    name: "pull",
    command: |command| {
        let about = "Pull a policy set out of a registry, verify it, and put its files into a policy folder: a sidecar \
                     that watches the folder takes it up. Files of a set pulled there before that the new one has not \
                     are removed; what somebody else put there stays. With policy_keys_file, what is not signed by one \
                     of its keys is refused, before anything of it is read.";
        command
            .about("Pull a policy set out of a registry into a folder")
            .long_about(about)
            .arg(
                Arg::new("from")
                    .value_name("REFERENCE")
                    .help("oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]; a tag may come to name something else")
                    .required(true),
            )
            .arg(Arg::new("to").long("to").value_name("FOLDER").help("Where its files go").default_value("policies.d"))
            .arg(
                Arg::new("force")
                    .long("force")
                    .help("Overwrite files that are there and of no artifact that was pulled")
                    .action(ArgAction::SetTrue),
            )
            .arg(json_arg())
    },
    run,
};

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let from = call.matches.get_one::<String>("from").context("no reference was named")?;
    let to = call.matches.get_one::<String>("to").map(PathBuf::from).context("no folder was named")?;
    let reference = Reference::read(from).with_context(|| format!("{from:?} is not {}", Reference::TAKES))?;
    let (pulled, signer) = call.registries().pull(&reference)?;
    let Pulled { digest, files, .. } = &pulled;
    let placed = place(&to, &pulled, call.matches.get_flag("force"))?;
    let pinned = reference.pinned(digest);
    let signer = signer.map(|key| key.to_string());
    if call.matches.get_flag("json") {
        let file = |file: &File| {
            let digest = Digest::of(&file.content);
            json!({ "name": file.name, "bytes": file.content.len(), "digest": digest.as_str() })
        };
        let files = files.iter().map(file);
        let all = json!({
            "digest": digest.as_str(), "pinned": pinned.to_string(), "signed_by": signer,
            "files": files.collect::<Vec<_>>(), "removed": placed.removed, "others": placed.others,
        });
        writeln!(out, "{all:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{pinned}")?;
    match signer {
        Some(key) => writeln!(out, "  signed     by key {key}")?,
        None => writeln!(out, "  signed     not asked for (policy_keys_file)")?,
    }
    for file in files {
        writeln!(out, "  {:<28} {:>9} bytes", file.name, file.content.len())?;
    }
    for name in &placed.removed {
        writeln!(out, "  {name:<28} removed: it was of the set that was here before")?;
    }
    for name in &placed.others {
        writeln!(out, "  {name:<28} left alone: it is of no artifact, and in force with this one")?;
    }
    writeln!(out, "It is in {}.", to.display())?;
    Ok(ExitCode::SUCCESS)
}

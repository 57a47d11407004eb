//! `bellwether serve` and `bellwether dev`: the sidecar itself.

use std::io::Write;
use std::process::ExitCode;

use super::{Call, Verb, start_log};
use crate::config::Upstream;
use crate::listen::Place;
use crate::server::{self, Start};

pub(super) const SERVE: Verb = Verb {
    name: "serve",
    command: |command| {
        command.about("Run the sidecar in front of a Redis server").long_about(
            "Run the sidecar in front of a Redis server: the one that REDIS_HOST, REDIS_PORT, REDIS_DB and \
             REDIS_PASSWORD name, or --upstream. Stops on SIGTERM, after the commands in flight have been answered.",
        )
    },
    run,
};

pub(super) const DEV: Verb = Verb {
    name: "dev",
    command: |command| {
        command.about("Run the sidecar on the store inside this program, for trying things out").long_about(
            "Run the sidecar without a Redis server, on a store inside this program that forgets everything when it \
             ends. The standard policies refuse values that are not JSON, and the folder policies.d is watched.",
        )
    },
    run,
};

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    start_log(&call.config)?;
    let reloader = call.reloader()?;
    if let Some(folder) = &call.config.state_dir {
        reloader.keep_in(folder.clone())?;
    }
    let embedded = call.config.upstream == Some(Upstream::Embedded);
    let folder = reloader.folder().map(|folder| folder.display().to_string());
    let greeting = move |places: &[Place], out: &mut dyn Write| {
        places.iter().try_for_each(|place| writeln!(out, "bellwether listens on {place}"))?;
        if embedded {
            writeln!(out, "It runs on the embedded store: for trying, tests and laptops. Nothing survives its end.")?;
        }
        if let Some(folder) = folder {
            writeln!(out, "Policies in {folder}/ are taken up as they change.")?;
        }
        if let Some(first) = places.first() {
            let at = match first {
                Place::Tcp(address) => format!("-p {}", address.port()),
                Place::Tls(address) => format!("--tls -p {}", address.port()),
                Place::Unix(path) => format!("-s {}", path.display()),
            };
            writeln!(out, "Now type:  redis-cli {at} SET fyntrix:general:quote:RELIANCE '{{\"price\":2950}}'")?;
            writeln!(out, "and then:  redis-cli {at} TTL fyntrix:general:quote:RELIANCE")?;
        }
        out.flush()
    };
    let Call { config, clock, system_clock, .. } = call;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Start { config, clock, system_clock, reloader, greeting: Box::new(greeting) };
    runtime.block_on(server::run(start, out))?;
    Ok(ExitCode::SUCCESS)
}

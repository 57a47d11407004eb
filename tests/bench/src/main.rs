//! `bench-load VERB [--name value]…`: what the benchmark sends, and what stands between. It prints one line of JSON and
//! must not know what is measured: a server is an address.

mod arguments;
mod bare;
mod closed;
mod cpu;
mod delay;
mod figures;
mod keys;
mod load;
mod open;
mod template;
mod verbs;
#[path = "../../harness/wasm.rs"]
#[allow(unreachable_pub, clippy::unwrap_used, reason = "the end-to-end tests have it too")]
mod wasm;

use std::io::Write;
use std::process::ExitCode;

use arguments::Arguments;

const USAGE: &str = "\
usage: bench-load VERB [--name value]…
  closed  --to ADDRESS: each client sends as soon as it has been answered
  open    --to ADDRESS --rate N: requests go out at N a second whatever the answers do; latency from when they were due
          both: [--mix get:9,set:1] [--clients 50] [--pipeline 1] [--seconds 1] [--warm-up-seconds 0.2] [--requests N]
          [--value-bytes 256] [--keys 10000] [--zipf 0.99] [--prefix fyntrix:general:] [--namespaces N] [--seed N]
          [--cpu-of PID,PID]
          of: get set set-px mget hset hset-pexpire zadd zadd-pexpire
  fill    --to ADDRESS [--value-bytes 256] [--keys 10000] [--prefix …] [--namespaces N]: SETs every key
  hold    --to ADDRESS [--connections 1000]: connections that do nothing, until standard input ends
  delay   --listen ADDRESS --to ADDRESS [--ms 1]: a way that is so much longer, there and back together
  bare    --listen ADDRESS [--to ADDRESS] [--mix get] [--value-bytes 256] [--keys 10000] [--prefix …]: the least that a
          process between clients and a server does, for one sort of request; or answers it by itself
  odd     --of FILE --into FOLDER: a ttl component with what no compiler makes, of each kind one";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do where even this cannot be written.
            let _ = writeln!(std::io::stderr(), "bench-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut texts = std::env::args().skip(1);
    let verb = texts.next().unwrap_or_default();
    let mut arguments = Arguments::read(texts)?;
    match verb.as_str() {
        "closed" => verbs::closed(&mut arguments),
        "open" => verbs::open(&mut arguments),
        "fill" => verbs::fill(&mut arguments),
        "hold" => verbs::hold(&mut arguments),
        "delay" => verbs::delay(&mut arguments),
        "bare" => verbs::bare(&mut arguments),
        "odd" => verbs::odd(&mut arguments),
        _ => anyhow::bail!("no verb {verb:?}\n{USAGE}"),
    }
}

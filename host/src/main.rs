//! The `bellwether` program. Reads the environment and the clock, which nothing else does.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use bellwether::cli;

/// Bad usage, as `sysexits.h` numbers it.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let start = cli::Start {
        args: std::env::args_os().collect(),
        // What is not text is no setting; a value that is not is refused where it stands.
        variables: std::env::vars_os().map(|(name, value)| (lossy(&name), lossy(&value))).collect(),
        system_clock,
        // Not by its path, where there may be another version by now.
        program: Path::new("/proc/self/exe"),
    };
    match cli::run(start, &mut std::io::stdout()) {
        Ok(code) => code,
        Err(cli::Failure::Usage(error)) => {
            // Help that was asked for is the output. If nobody reads it, the exit code still says how it went.
            if !error.use_stderr() {
                drop(write!(std::io::stdout(), "{error}"));
                return ExitCode::SUCCESS;
            }
            drop(write!(std::io::stderr(), "{error}"));
            EX_USAGE.into()
        }
        Err(cli::Failure::Failed(error)) => {
            drop(writeln!(std::io::stderr(), "bellwether: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn lossy(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

/// Milliseconds since 1970-01-01T00:00:00Z.
fn system_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

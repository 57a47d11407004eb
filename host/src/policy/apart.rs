//! Compiling in a process of its own. Nothing can stop a compiler in this one, and a few kilobytes that are made for it
//! take it minutes and all the memory there is. The two processes have the folder of compiled code in common: what the
//! other has put there, this one finds.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::scope;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};

/// The program that compiles, and what it may take.
#[derive(Clone, Debug)]
pub(super) struct Apart {
    /// This program, which compiles when it is asked so.
    pub(super) program: PathBuf,
    /// How it is asked: a verb, and flags by which its engine becomes the one that asks.
    pub(super) args: Vec<OsString>,
    pub(super) bytes_max: u64,
    pub(super) time_max: Duration,
}

/// Why a component was not compiled, where nothing need be tried in another way.
#[derive(Debug)]
pub(super) struct TooMuch(String);

/// Of what it says.
const MESSAGE_BYTES_MAX: u64 = 16 * 1024;
/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(2);

// === impl Apart ===

impl Apart {
    /// Compiles a component for a kind of engine. Where no process can be started it is left to this one.
    ///
    /// # Errors
    /// What the compiler says, or [`TooMuch`].
    pub(super) fn compile(&self, kind: &str, component: &[u8]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        // What lists processes shows it by this name.
        command.arg0("bellwether").args(&self.args).arg(kind).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                tracing::warn!(%error, "no process can be started to compile in; this one compiles, without limits");
                return Ok(());
            }
        };
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let deadline = Instant::now() + self.time_max;
        let (ended, said) = scope(|scope| {
            // What it does not read it does not want.
            scope.spawn(move || drop(stdin.map(|mut stdin| stdin.write_all(component))));
            let said = scope.spawn(move || heard(stdout));
            let ended = ended(&mut child, deadline);
            (ended, said.join().unwrap_or_default())
        });
        let Some(status) = ended.context("cannot wait for the process that compiles")? else {
            let ms = self.time_max.as_millis();
            return Err(TooMuch(format!("compiling it takes more than {ms} ms (policy_compile_ms_max)")).into());
        };
        self.judge(status, said.trim())
    }

    fn judge(&self, status: ExitStatus, said: &str) -> anyhow::Result<()> {
        if status.success() {
            return Ok(());
        }
        if status.signal().is_none() {
            return Err(anyhow!("{}", if said.is_empty() { "it does not compile" } else { said }));
        }
        let bytes = self.bytes_max;
        Err(TooMuch(match status.signal().and_then(Signal::from_named_raw) {
            Some(Signal::ABORT) => {
                format!("compiling it takes more than {bytes} bytes of memory (policy_compile_bytes_max)")
            }
            Some(Signal::KILL) => format!(
                "the process that compiled it was killed, as the system does when memory is short: give it more, or \
                 let compiling take less than {bytes} bytes (policy_compile_bytes_max)"
            ),
            _ => format!("the process that compiled it ended by itself ({status})"),
        })
        .into())
    }
}

/// Waits for its end until a deadline, and then ends it. None: it was ended.
fn ended(child: &mut Child, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::park_timeout(LOOK);
    }
}

fn heard(stdout: Option<ChildStdout>) -> String {
    let mut said = Vec::new();
    // A reader that fails has heard what there was.
    drop(stdout.map(|stdout| stdout.take(MESSAGE_BYTES_MAX).read_to_end(&mut said)));
    String::from_utf8_lossy(&said).into_owned()
}

/// In the process that compiles, once it is about to: it may take so much more memory, leaves nothing behind when it
/// takes more, and ends with who started it.
///
/// # Errors
/// The system does not allow it.
pub(super) fn limit_this_process(bytes_max: u64) -> anyhow::Result<()> {
    // Engines have reserved much that they never write to, and that counts.
    let status = std::fs::read_to_string("/proc/self/status").context("cannot see the memory of this process")?;
    let data = status.lines().find_map(|line| line.strip_prefix("VmData:")?.trim().strip_suffix(" kB"));
    let taken: u64 = data.and_then(|kib| kib.trim().parse().ok()).context("the system does not say VmData")?;
    let limit = |resource, bytes| setrlimit(resource, Rlimit { current: Some(bytes), maximum: Some(bytes) });
    let all = taken.saturating_mul(1024).saturating_add(bytes_max);
    limit(Resource::Data, all).context("cannot limit the memory of this process")?;
    limit(Resource::Core, 0).context("cannot do without core dumps")?;
    // Where memory is short before the limit is reached, the system ends this process and not the sidecar. It may not
    // be asked to, and then chooses by size.
    drop(std::fs::write("/proc/self/oom_score_adj", "1000"));
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("cannot end with who started it")
}

// === impl TooMuch ===

impl std::fmt::Display for TooMuch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TooMuch {}

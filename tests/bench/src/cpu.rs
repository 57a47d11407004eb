//! The time that processes had on the processors, from the kernel's accounting. It must not know what they are.

use anyhow::Context;
use serde_json::{Map, Value, json};

/// Nanoseconds by process; between two readings, where it is a difference.
pub(crate) struct Cpu(Vec<(String, u64)>);

// === impl Cpu ===

impl Cpu {
    /// What these processes have had so far, and this one, which is called `load`.
    pub(crate) fn read(processes: &[u32]) -> anyhow::Result<Self> {
        let named = processes.iter().map(u32::to_string);
        let mut all = Vec::new();
        for (name, folder) in named.map(|id| (id.clone(), id)).chain([("load".to_owned(), "self".to_owned())]) {
            all.push((name, nanoseconds(&folder).with_context(|| format!("the CPU time of process {folder}"))?));
        }
        Ok(Self(all))
    }

    /// What they have had since an earlier reading.
    pub(crate) fn since(mut self, earlier: &Self) -> Self {
        for ((_, now), (_, before)) in self.0.iter_mut().zip(&earlier.0) {
            *now = now.saturating_sub(*before);
        }
        self
    }

    pub(crate) fn json(&self) -> Value {
        let seconds = |(name, nanoseconds): &(String, u64)| (name.clone(), json!(*nanoseconds as f64 / 1e9));
        Value::Object(self.0.iter().map(seconds).collect::<Map<_, _>>())
    }
}

/// The first number of each thread's `schedstat` is its time on a processor, to the nanosecond; `stat` counts ticks.
fn nanoseconds(process: &str) -> anyhow::Result<u64> {
    let mut sum = None;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may have ended since.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let first = text.split_whitespace().next().context("an empty schedstat")?;
        let time = first.parse::<u64>().with_context(|| format!("schedstat {text:?}"))?;
        sum = Some(sum.unwrap_or(0) + time);
    }
    sum.context("this kernel has no /proc/PID/task/TID/schedstat (CONFIG_SCHED_INFO)")
}

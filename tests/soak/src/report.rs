//! What a run showed: the verdict, and the report as Markdown and JSON. It must not change anything.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde_json::json;

use crate::clients::queues::Found;
use crate::faults::Event;
use crate::ledger::{RULES, Rule};

/// What was looked at once a second.
#[derive(Clone, Copy)]
pub struct Sample {
    pub at_ms: u64,
    pub resident_bytes: u64,
    pub files: usize,
}

/// All that is known at the end.
pub struct Report<'a> {
    pub seed: u64,
    pub on_loss: &'a str,
    pub machine: &'a str,
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub counts: BTreeMap<&'static str, u64>,
    pub errors: BTreeMap<String, u64>,
    pub events: &'a [Event],
    pub samples: &'a [Sample],
    pub found: Option<Found>,
    pub retired: usize,
    /// What the sidecar counted itself, by the name of the sample.
    pub metrics: Vec<(String, f64)>,
    pub broken: Vec<(Rule, String)>,
}

/// Memory at four times: the medians of windows of a twentieth of the run.
pub struct Memory {
    pub start: u64,
    pub quarter: u64,
    pub half: u64,
    pub end: u64,
}

/// A shorter run says nothing about memory: caches are still being filled.
pub const MEMORY_SECONDS_MIN: f64 = 600.0;
/// How much the last quarter's median may be above the second's: a twentieth, and four million bytes, which an
/// allocator keeps or gives back as it likes.
const GROWTH: (f64, f64) = (1.05, 4e6);

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// The median of the memory in a part of the run.
fn resident(samples: &[Sample], from: f64, to: f64) -> u64 {
    let place = |part: f64| ((samples.len() as f64 * part) as usize).min(samples.len());
    median(samples[place(from)..place(to)].iter().map(|sample| sample.resident_bytes).collect())
}

/// Whether memory is flat. Err: how it is not.
pub fn judge_memory(samples: &[Sample]) -> Result<(), String> {
    let (second, last) = (resident(samples, 0.25, 0.5), resident(samples, 0.75, 1.0));
    if last as f64 > second as f64 * GROWTH.0 + GROWTH.1 {
        return Err(format!("{} in the second quarter and {} in the last", mb(second), mb(last)));
    }
    Ok(())
}

fn mb(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn quantile(mut values: Vec<u64>, part: f64) -> u64 {
    values.sort_unstable();
    let place = (values.len() as f64 * part) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(0)
}

// === impl Report ===

impl Report<'_> {
    pub fn memory(&self) -> Memory {
        let at = |from, to| resident(self.samples, from, to);
        Memory { start: at(0.0, 0.05), quarter: at(0.225, 0.275), half: at(0.475, 0.525), end: at(0.95, 1.0) }
    }

    /// One line.
    pub fn verdict(&self) -> String {
        let count = |rule| self.broken.iter().filter(|(own, _)| *own == rule).count();
        let counted = |what| self.counts.get(what).copied().unwrap_or(0);
        format!(
            "{}: {:.0} s, {} commands, {} acknowledged writes, {} checked reads, {} faults; {} swapped, {} lost, \
             {} other",
            if self.broken.is_empty() { "passed" } else { "FAILED" },
            self.seconds,
            counted("commands"),
            counted("acknowledged writes"),
            counted("checked reads"),
            self.events.len(),
            count(Rule::Swapped),
            count(Rule::Lost),
            self.broken.len() - count(Rule::Swapped) - count(Rule::Lost),
        )
    }

    /// Writes `NAME.md` and `NAME.json`.
    pub fn write(&self, folder: &Path, name: &str) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{name}.md")), self.markdown()?)?;
        std::fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(&self.json())? + "\n")?;
        Ok(())
    }

    fn markdown(&self) -> anyhow::Result<String> {
        let mut text = String::from("# Soak\n\n");
        writeln!(text, "**{}**\n", self.verdict())?;
        writeln!(
            text,
            "Machine: {}. Seed {}, `on_upstream_lost = {}`, AOF with appendfsync always.",
            self.machine, self.seed, self.on_loss
        )?;
        writeln!(text, "The sidecar had a processor for {:.0} s of {:.0} s.\n", self.cpu_seconds, self.seconds)?;
        writeln!(text, "| rule | broken |\n|---|---|")?;
        for (rule, words) in RULES {
            let count = self.broken.iter().filter(|(own, _)| *own == rule).count();
            let judged = rule != Rule::Memory || self.seconds >= MEMORY_SECONDS_MIN;
            writeln!(text, "| {words} | {} |", if judged { count.to_string() } else { "not judged".to_owned() })?;
        }
        let memory = self.memory();
        writeln!(text, "\n| memory of the sidecar (RSS) | |\n|---|---|")?;
        for (when, bytes) in [("start", memory.start), ("quarter", memory.quarter), ("half", memory.half)] {
            writeln!(text, "| {when} | {} |", mb(bytes))?;
        }
        writeln!(text, "| end | {} |", mb(memory.end))?;
        let files = self.samples.iter().map(|sample| sample.files);
        let last = self.samples.last().map_or(0, |sample| sample.files);
        writeln!(text, "| open files, most and at the end | {}, {last} |", files.max().unwrap_or(0))?;
        writeln!(text, "\n| done | |\n|---|---|")?;
        for (what, count) in &self.counts {
            writeln!(text, "| {what} | {count} |")?;
        }
        writeln!(text, "| names retired after a write in doubt | {} |", self.retired)?;
        if let Some(found) = &self.found {
            writeln!(text, "| elements acknowledged | {} |", found.acknowledged)?;
            writeln!(text, "| elements still in a list at the end | {} |", found.still_there)?;
            let Found { lost, pops_lost, .. } = found;
            writeln!(text, "| elements that a pop took which was lost with its connection | {lost} in {pops_lost} |")?;
        }
        writeln!(text, "\n| the sidecar's own counters | |\n|---|---|")?;
        for (sample, value) in &self.metrics {
            writeln!(text, "| `{sample}` | {value} |")?;
        }
        writeln!(text, "\n| errors that clients were given (N: a number) | |\n|---|---|")?;
        for (error, count) in &self.errors {
            writeln!(text, "| `{}` | {count} |", error.replace('|', "\\|"))?;
        }
        self.faults(&mut text)?;
        for (rule, what) in &self.broken {
            writeln!(text, "- {rule:?}: {what}")?;
        }
        Ok(text)
    }

    fn faults(&self, text: &mut String) -> anyhow::Result<()> {
        writeln!(
            text,
            "\nMilliseconds from a fault's end until a new connection is answered a write and a read, and until every"
        )?;
        writeln!(
            text,
            "client has had two good rounds (some make one a second, or wait two seconds for an element):\n"
        )?;
        writeln!(
            text,
            "| fault | times | answered: median | most | all well: median | most |\n|---|---|---|---|---|---|"
        )?;
        let mut kinds: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        for event in self.events {
            kinds.entry(event.name).or_default().push(event);
        }
        for (name, events) in kinds {
            let of = |part: fn(&Event) -> u64| events.iter().map(|event| part(event)).collect::<Vec<_>>();
            let (answered, recovered) = (of(|event| event.answered_ms), of(|event| event.recovered_ms));
            let most = |values: &[u64]| values.iter().max().copied().unwrap_or(0);
            let most = (most(&answered), most(&recovered));
            let median = (quantile(answered, 0.5), quantile(recovered, 0.5));
            writeln!(text, "| {name} | {} | {} | {} | {} | {} |", events.len(), median.0, most.0, median.1, most.1)?;
        }
        writeln!(text)?;
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        let event = |event: &Event| {
            json!({
                "name": event.name, "at_ms": event.at_ms, "lasted_ms": event.lasted_ms, "struck": event.struck,
                "answered_ms": event.answered_ms, "recovered_ms": event.recovered_ms,
            })
        };
        let sample = |sample: &Sample| json!([sample.at_ms / 1000, sample.resident_bytes, sample.files]);
        let memory = self.memory();
        let every = (self.samples.len() / 360).max(1);
        json!({
            "verdict": self.verdict(),
            "machine": self.machine,
            "seed": self.seed,
            "on_upstream_lost": self.on_loss,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "counts": self.counts,
            "metrics": self.metrics.iter().cloned().collect::<BTreeMap<_, _>>(),
            "errors": self.errors,
            "broken": self.broken.iter().map(|(rule, what)| json!([format!("{rule:?}"), what])).collect::<Vec<_>>(),
            "resident_bytes": {
                "start": memory.start, "quarter": memory.quarter, "half": memory.half, "end": memory.end,
            },
            "samples": {
                "columns": ["second", "resident_bytes", "files"],
                "rows": self.samples.iter().step_by(every).map(sample).collect::<Vec<_>>(),
            },
            "events": self.events.iter().map(event).collect::<Vec<_>>(),
        })
    }
}

//! `--name value` pairs. It must not know which names there are: who asks for one takes it, and what is left at the end
//! is a mistake.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};

/// What was typed behind the verb.
pub(crate) struct Arguments(BTreeMap<String, String>);

// === impl Arguments ===

impl Arguments {
    /// Pairs of names and values.
    pub(crate) fn read(mut texts: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut pairs = BTreeMap::new();
        while let Some(text) = texts.next() {
            let name = text.strip_prefix("--").with_context(|| format!("{text:?} is not a --name"))?.to_owned();
            let value = texts.next().with_context(|| format!("--{name} needs a value"))?;
            if pairs.insert(name, value).is_some() {
                bail!("{text} is given twice");
            }
        }
        Ok(Self(pairs))
    }

    /// A value that may be left out.
    pub(crate) fn take<T: FromStr>(&mut self, name: &str) -> anyhow::Result<Option<T>> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => bail!("--{name} cannot be {text:?}"),
        }
    }

    /// A whole number from one, or what stands where it is left out.
    pub(crate) fn count(&mut self, name: &str, default: usize) -> anyhow::Result<usize> {
        match self.take(name)? {
            Some(0) => bail!("--{name} is at least 1"),
            given => Ok(given.unwrap_or(default)),
        }
    }

    /// A span in a unit of so many to the second.
    pub(crate) fn span(&mut self, name: &str, per_second: f64, default: f64) -> anyhow::Result<Duration> {
        let value: f64 = self.take(name)?.unwrap_or(default);
        Duration::try_from_secs_f64(value / per_second).with_context(|| format!("--{name} cannot be {value}"))
    }

    /// An address that must be there.
    pub(crate) fn address(&mut self, name: &str) -> anyhow::Result<SocketAddr> {
        self.take(name)?.with_context(|| format!("--{name} is missing: an address like 127.0.0.1:6379"))
    }

    /// Says what nobody took.
    pub(crate) fn finish(&self) -> anyhow::Result<()> {
        match self.0.keys().next() {
            Some(name) => bail!("there is no --{name} here\n{}", crate::USAGE),
            None => Ok(()),
        }
    }
}

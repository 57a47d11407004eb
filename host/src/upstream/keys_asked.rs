//! Keys that somebody is asked for before clients are: who may ask, and how listeners are told. Beside the walk over
//! keys, on the same connection.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::Keys;
use crate::lease::asked_of;

/// What is kept while somebody asks for a key, and afterwards, until others may again.
const ASKING: &str = "asking";
const ASKED: &str = "asked";

// === impl Keys ===

impl Keys {
    /// Takes the right to ask for each of these keys: whether it was got. Nobody else gets it for `once`, unless it is
    /// given back. A key that no name can stand beside is everyone's.
    ///
    /// # Errors
    /// The server does not answer as it should.
    pub async fn take_turns(&mut self, keys: &[Vec<u8>], once: Duration) -> anyhow::Result<Vec<bool>> {
        let names: Vec<_> = keys.iter().map(|key| asked_of(key)).collect();
        let mut asked = redis::pipe();
        for name in names.iter().flatten() {
            asked.cmd("SET").arg(name).arg(ASKING).arg("NX").arg("PX").arg(once.as_millis().max(1) as u64);
        }
        let count = names.iter().flatten().count();
        let got: Vec<Option<String>> = match count {
            0 => Vec::new(),
            _ => asked.query_async(&mut self.server).await.context("SET … NX")?,
        };
        ensure!(got.len() == count, "{} answers about {count} keys", got.len());
        let mut got = got.into_iter();
        Ok(names.iter().map(|name| name.is_none() || got.next().flatten().is_some()).collect())
    }

    /// The key has been asked for: nobody need wait any longer, and nobody else is to ask for what is left of the time.
    ///
    /// # Errors
    /// As [`Keys::take_turns`].
    pub async fn end_turn(&mut self, key: &[u8]) -> anyhow::Result<()> {
        let Some(name) = asked_of(key) else { return Ok(()) };
        let mut set = redis::cmd("SET");
        set.arg(name).arg(ASKED).arg("XX").arg("KEEPTTL");
        set.query_async(&mut self.server).await.context("SET … XX")
    }

    /// Whether somebody is asking for each of these keys now.
    ///
    /// # Errors
    /// As [`Keys::take_turns`].
    pub async fn are_asked_for(&mut self, keys: &[Vec<u8>]) -> anyhow::Result<Vec<bool>> {
        let names: Vec<_> = keys.iter().filter_map(|key| asked_of(key)).collect();
        if names.len() < keys.len() || names.is_empty() {
            return Ok(vec![false; keys.len()]);
        }
        let mut asked = redis::pipe();
        for name in names {
            asked.cmd("GET").arg(name);
        }
        let said: Vec<Option<String>> = asked.query_async(&mut self.server).await.context("GET")?;
        ensure!(said.len() == keys.len(), "{} answers about {} keys", said.len(), keys.len());
        Ok(said.iter().map(|said| said.as_deref() == Some(ASKING)).collect())
    }

    /// Gives the right to ask for a key back, so that another may.
    ///
    /// # Errors
    /// As [`Keys::take_turns`].
    pub async fn give_turn_back(&mut self, key: &[u8]) -> anyhow::Result<()> {
        let Some(name) = asked_of(key) else { return Ok(()) };
        redis::cmd("UNLINK").arg(name).query_async(&mut self.server).await.context("UNLINK")
    }

    /// Tells those who listen on a channel of a key: whether anybody does. Of a cluster only one node says so, and then
    /// somebody may listen at another.
    ///
    /// # Errors
    /// As [`Keys::take_turns`].
    pub async fn tell(&mut self, channel: &str, key: &[u8]) -> anyhow::Result<bool> {
        let told: u64 =
            redis::cmd("PUBLISH").arg(channel).arg(key).query_async(&mut self.server).await.context("PUBLISH")?;
        Ok(told > 0 || self.cluster)
    }
}

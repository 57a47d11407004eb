//! The policy set in force, and whether policies are in the path at all. The only place that replaces it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::policy::PolicySet;

/// What the workers serve with.
#[derive(Default)]
pub struct Published(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    sender: Option<watch::Sender<Arc<PolicySet>>>,
    active: Option<Arc<PolicySet>>,
    bypass: bool,
}

// === impl Published ===

impl Published {
    /// The workers listen, and serve with `active` unless policies are out of the path.
    pub fn open(&self, sender: watch::Sender<Arc<PolicySet>>, active: Arc<PolicySet>) -> anyhow::Result<()> {
        let mut inner = self.inner();
        inner.sender = Some(sender);
        inner.publish(active)
    }

    /// Puts a set in force; where policies are out of the path, for the time when they no longer are.
    pub fn publish(&self, set: Arc<PolicySet>) -> anyhow::Result<()> {
        self.inner().publish(set)
    }

    /// Takes the policies out of the path, or back into it. False: they are where they should be.
    pub fn set_bypass(&self, bypass: bool) -> anyhow::Result<bool> {
        let mut inner = self.inner();
        let before = std::mem::replace(&mut inner.bypass, bypass);
        if let Some(active) = inner.active.clone().filter(|_| before != bypass) {
            inner.publish(active)?;
        }
        Ok(before != bypass)
    }

    /// Whether policies are out of the path.
    pub fn bypass(&self) -> bool {
        self.inner().bypass
    }

    /// The set that decides, or would.
    pub fn active(&self) -> Option<Arc<PolicySet>> {
        self.inner().active.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inner ===

impl Inner {
    fn publish(&mut self, active: Arc<PolicySet>) -> anyhow::Result<()> {
        let set = if self.bypass { Arc::new(active.bypassed()?) } else { Arc::clone(&active) };
        self.active = Some(active);
        if let Some(sender) = &self.sender {
            sender.send_replace(set);
        }
        Ok(())
    }
}

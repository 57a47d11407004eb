//! Commands that a rule does not let through, and the words in which clients are told.

use super::{Policies, shown};
use crate::command::{Command, KeyUse, Row};
use crate::config::KeyChoice;
use crate::metrics::Outcome;
use crate::namespace::{Access, Rule, RuleId};

// === impl Policies ===

impl Policies {
    /// Why the command may not be sent: the first key that it may not touch.
    pub fn access(&self, command: &Command<'_>, row: &Row) -> Option<String> {
        let set = self.decider.set();
        if !set.rules.is_restricted() && self.unmatched == KeyChoice::Forward {
            return None;
        }
        for keys in &row.keys {
            for key in keys.positions(command).filter_map(|index| command.arg(index)) {
                let writes = keys.used() != KeyUse::Read;
                let refusal = match set.rules.find(key) {
                    None if writes && self.unmatched == KeyChoice::Refuse => Some(format!(
                        "ERR bellwether: no rule covers key \"{}\", and unmatched_keys is \"refuse\"; give it a rule",
                        shown(key)
                    )),
                    None => None,
                    Some((id, rule)) => match rule.access {
                        Access::ReadWrite => None,
                        Access::ReadOnly if !writes => None,
                        Access::ReadOnly => Some(self.refuse(id, rule, key, "only lets keys be read")),
                        Access::Denied => Some(self.refuse(id, rule, key, "does not let clients use its keys")),
                    },
                };
                if refusal.is_some() {
                    return refusal;
                }
            }
        }
        None
    }

    pub(super) fn too_large(&self, id: RuleId, rule: &Rule, key: &[u8], bytes: usize) -> Option<String> {
        let max = rule.value_bytes_max.filter(|max| bytes as u64 > *max)?;
        Some(self.refuse(id, rule, key, &format!("takes values of at most {max} bytes, and this one has {bytes}")))
    }

    pub(super) fn refuse(&self, id: RuleId, rule: &Rule, key: &[u8], why: &str) -> String {
        self.count(id, Outcome::Refused);
        format!("ERR bellwether: rule \"{}\" {why}; key \"{}\" was not touched", rule.name, shown(key))
    }
}

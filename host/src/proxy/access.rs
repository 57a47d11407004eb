//! Commands that a rule does not let through, and the words in which clients are told.

use super::{Plan, Policies, Ruling, shown};
use crate::command::{Command, Data, KeyUse, Row, SetForm};
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
        if matches!(row.name.as_ref(), "sort" | "sort_ro")
            && let Some(refusal) = self.sorted_by_others(command)
        {
            return Some(refusal);
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

    /// A SET with options that nobody knows here: the server refuses it, or is younger. Its value must fit anyway.
    pub(super) fn decide_unread<'a>(&mut self, form: SetForm, command: &Command<'a>, now: i64) -> Plan<'a> {
        match (form, command.arg(1), command.arg(2)) {
            (SetForm::Set, Some(key), Some(value)) => match self.rule_value(key, value, Data::Value, None, now) {
                Ruling::Refused(refusal) => Plan::refused(refusal),
                Ruling::Ruled(..) | Ruling::Free => Plan::as_it_came(),
            },
            _ => Plan::as_it_came(),
        }
    }

    /// SORT reads keys whose names are made of what it sorts: it is refused where some could be under a rule that
    /// denies them.
    fn sorted_by_others(&self, command: &Command<'_>) -> Option<String> {
        let set = self.decider.set();
        let denied = || set.rules.ids().filter(|(_, rule)| rule.access == Access::Denied);
        let is = |word: &[u8], name: &[u8]| word.eq_ignore_ascii_case(name);
        let words = command.rest(2).zip(command.rest(3));
        let patterns = words.filter(|(word, _)| is(word, b"BY") || is(word, b"GET")).map(|(_, pattern)| pattern);
        for pattern in patterns {
            // Without a star it is no key's name.
            let Some(star) = memchr::memchr(b'*', pattern) else { continue };
            let head = pattern.get(..star).unwrap_or_default();
            let may_be =
                |rule: &Rule| head.starts_with(rule.prefix.as_bytes()) || rule.prefix.as_bytes().starts_with(head);
            if let Some((id, rule)) = denied().find(|(_, rule)| may_be(rule)) {
                return Some(self.refuse(id, rule, pattern, "does not let clients use its keys"));
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
